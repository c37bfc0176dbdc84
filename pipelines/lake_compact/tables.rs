//! Which tables are meant: those of a lake that match, or one table by its own
//! address.

use futures::{StreamExt as _, stream};
use highwater::app::Failure;
use highwater::dataset::TableName;
use highwater::ledger::{LedgerError, LoggedFile, Rewriter};
use highwater::run::Config;
use highwater::run::lake::{Wanted, lake_tables};
use highwater::run::report::{StatusReport, TableStatus};
use highwater::store::Store;

/// Tables that are opened at once.
const OPENED_AT_ONCE: usize = 8;

/// One of them.
pub(super) struct Found {
    /// What it is called in messages.
    pub(super) name: String,
    /// Which table of the lake it is; `None` where the lake is this one table.
    pub(super) in_lake: Option<TableName>,
    /// Its folder.
    pub(super) store: Store,
}

/// Tables to lay out anew.
pub(super) struct Tables {
    /// The tables.
    pub(super) all: Vec<Found>,
    /// Whether the lake is one of ours; else it is a single table.
    pub(super) are_ours: bool,
}

impl Tables {
    /// The tables that `config` means.
    pub(super) async fn find(config: &Config, lake: &Store) -> Result<Self, Failure> {
        match Rewriter::open(lake.clone()).await {
            Err(LedgerError::NoTable { .. }) => {}
            // What else is wrong with it is told when it is compacted.
            _ => {
                let path = lake.url().path().trim_end_matches('/');
                let name = path.rsplit('/').next().unwrap_or_default().to_owned();
                return Ok(Self {
                    all: vec![Found {
                        name,
                        in_lake: None,
                        store: lake.clone(),
                    }],
                    are_ours: false,
                });
            }
        }
        let dotted = |globs: &[String]| -> Vec<String> {
            globs.iter().map(|glob| glob.replace('/', ".")).collect()
        };
        let found = lake_tables(lake, &dotted(&config.include)).await?;
        let without = Wanted::new(&dotted(&config.exclude))?;
        let excluded = |name: &str| !config.exclude.is_empty() && without.takes(name);
        let meant = found.into_iter().filter(|table| !excluded(&table.name));
        let all: Vec<Found> = meant
            .map(|table| Found {
                name: table.name,
                in_lake: Some(table.source_name),
                store: table.store,
            })
            .collect();
        if all.is_empty() {
            return Err(
                Failure::usage(format!("{} holds no table that is meant", lake.url()))
                    .hint("name a lake, or the folder of one Delta table"),
            );
        }
        Ok(Self {
            all,
            are_ours: true,
        })
    }

    /// What single tables hold.
    pub(super) async fn status(&self, lake: &Store) -> Result<StatusReport, Failure> {
        let tables = stream::iter(&self.all)
            .map(|Found { name, store, .. }| async move {
                match state(store).await {
                    Ok((version, files)) => TableStatus {
                        name: name.clone(),
                        version: Some(version),
                        rows: files.iter().map(LoggedFile::rows).sum(),
                        files: files.len() as u64,
                        bytes: files.iter().map(|file| file.bytes).sum(),
                        ..TableStatus::default()
                    },
                    Err(error) => TableStatus {
                        name: name.clone(),
                        error: Some(Failure::from(error).into()),
                        ..TableStatus::default()
                    },
                }
            })
            .buffered(OPENED_AT_ONCE)
            .collect()
            .await;
        Ok(StatusReport {
            lake: lake.url().to_string(),
            tables,
            objects: None,
            schedule: None,
            warnings: Vec::new(),
        })
    }
}

async fn state(store: &Store) -> Result<(u64, Vec<LoggedFile>), LedgerError> {
    let table = Rewriter::open(store.clone()).await?;
    Ok((table.version(), table.files().await?))
}
