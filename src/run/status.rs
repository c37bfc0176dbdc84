//! What the lake holds, read from the lake alone.

use futures::{StreamExt, stream};
use object_store::ObjectStore;
use object_store::path::Path;

use super::failure::Failure;
use super::prepare::folder_table;
use super::report::{StatusReport, TableStatus};
use crate::ledger::{Ledger, LoadLog};
use crate::store::{Store, StoreError};
use crate::watermark::Mode;

/// Tables that are opened at once.
const OPENED_AT_ONCE: usize = 16;

/// Reads the state of every table in the lake.
///
/// # Errors
/// The lake cannot be listed.
pub async fn lake_status(lake: &Store) -> Result<StatusReport, Failure> {
    let folders = table_folders(lake).await?;
    let tables = stream::iter(folders)
        .map(|folder| table_status(lake, folder))
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

async fn table_status(lake: &Store, folder: String) -> TableStatus {
    let name = folder_table(&folder);
    let read = async {
        let store = lake.child(&folder);
        let ledger = Ledger::open(store.clone()).await?;
        let from = ledger.head().map_or(0, |head| head.commit);
        let load = LoadLog::open(&store, from).await?;
        Ok::<_, Failure>((ledger, load))
    };
    let (ledger, load) = match read.await {
        Ok(opened) => opened,
        Err(failure) => {
            return TableStatus {
                name,
                error: Some(failure.into()),
                ..TableStatus::default()
            };
        }
    };
    let loading = load
        .state()
        .map(|state| (state.done.len() as u64, state.begin.splits.len() as u64));
    let Some(head) = ledger.head() else {
        return TableStatus {
            name,
            loading,
            ..TableStatus::default()
        };
    };
    let mode = head.watermark.mode;
    TableStatus {
        name,
        mode: Some(mode),
        watermark: Some(head.watermark.clone()),
        version: Some(head.version),
        rows: head.rows,
        files: head.files,
        bytes: head.bytes,
        last_run: Some(head.at.clone()),
        catching_up: head.watermark.catching_up,
        at_risk: head.watermark.is_at_risk(),
        sees_deletes: match head.watermark.method {
            Some(method) => method.sees_deletes(),
            None => !head.watermark.is_at_risk(),
        },
        late_commits: match (head.watermark.method, mode) {
            (Some(method), _) => method.relies_on().to_owned(),
            (None, Mode::Append) if head.watermark.is_at_risk() => {
                "lost: a naive cursor (T6)".to_owned()
            }
            (None, _) => "seen: the whole table is read".to_owned(),
        },
        loading,
        error: None,
    }
}

/// Folders that hold a table: `name` or `schema/name`.
pub(super) async fn table_folders(lake: &Store) -> Result<Vec<String>, Failure> {
    let objects = lake.objects();
    let mut tables = Vec::new();
    for first in folders_in(lake, &*objects, None).await? {
        let below = folders_in(lake, &*objects, Some(&first)).await?;
        if is_table(&below) {
            tables.push(first.to_string());
            continue;
        }
        for second in below {
            if is_table(&folders_in(lake, &*objects, Some(&second)).await?) {
                tables.push(second.to_string());
            }
        }
    }
    tables.sort();
    Ok(tables)
}

fn is_table(folders: &[Path]) -> bool {
    let is_log = |name: &str| name == "_delta_log" || name == "_highwater";
    folders.iter().any(|folder| {
        folder
            .parts()
            .next_back()
            .is_some_and(|part| is_log(part.as_ref()))
    })
}

async fn folders_in(
    lake: &Store,
    objects: &dyn ObjectStore,
    folder: Option<&Path>,
) -> Result<Vec<Path>, Failure> {
    let listed = objects
        .list_with_delimiter(folder)
        .await
        .map_err(|error| StoreError::from_object_store(&error, &format!("list {}", lake.url())))?;
    let own = |path: &Path| {
        folder.is_none()
            && path
                .parts()
                .next()
                .is_some_and(|part| part.as_ref().starts_with('_'))
    };
    Ok(listed
        .common_prefixes
        .into_iter()
        .filter(|path| !own(path))
        .collect())
}
