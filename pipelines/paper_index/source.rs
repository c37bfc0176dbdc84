//! Where the documents of an instance are: a place of objects, or a text column.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater::app::Failure;
use highwater::budget::MemoryBudget;
use highwater::ledger::Rewriter;
use highwater::run::Secret;
use highwater::run::config::InstanceConfig;
use highwater::store::Store;
use highwater::store::objects::{Objects, open_objects};
use highwater::store::pace::{Retries, RetryPolicy};
use highwater::watermark::{Bound, Identity};
use highwater_operators::ingest::texts::{
    SpoolError, TextColumns, TextObjects, Texts, TextsError, read_database, read_lake,
};
use uuid::Uuid;

/// Before the URL of a table of a lake.
const TABLE: &str = "table:";

/// How often a place that does not answer is asked before a run does any work, over
/// about six seconds.
const FIRST_LOOK: RetryPolicy = RetryPolicy {
    attempts: 6,
    first_pause: Duration::from_millis(200),
    longest_pause: Duration::from_secs(3),
    away_after: Duration::from_secs(60),
};

/// What has no documents: the cheapest request that needs the bucket, the credentials
/// and the permission to list.
const NOTHING: &str = "_highwater/check/";

/// Where documents are.
pub(super) enum Source {
    /// Objects of a folder or a bucket.
    Objects(Arc<dyn Objects>),
    /// Rows of a table of a lake.
    Lake(Store, TextColumns),
    /// Rows of a table of a database.
    Database {
        url: Secret,
        table: String,
        columns: TextColumns,
    },
}

/// The documents as they are now.
pub(super) struct Documents {
    pub(super) identity: Identity,
    pub(super) bound: Bound,
    /// `None` where nothing can have changed since a position that is known.
    pub(super) objects: Option<Arc<dyn Objects>>,
}

impl Source {
    /// Opens the source of the instance `name`, of which nothing is read yet.
    ///
    /// # Errors
    /// A URL or an option is not valid; the source is not there.
    pub(super) async fn open(
        name: &str,
        instance: &InstanceConfig,
        lake: &Store,
    ) -> Result<Self, Failure> {
        let url = instance.source.expose();
        let options = options(&instance.source_store);
        let columns = TextColumns {
            key: instance.key_columns.clone(),
            text: instance.text_column.clone().unwrap_or_default(),
        };
        if let Some(table) = &instance.table {
            return Ok(Self::Database {
                url: instance.source.clone(),
                table: table.clone(),
                columns,
            });
        }
        if let Some(table) = url.strip_prefix(TABLE) {
            return Ok(Self::Lake(Store::open(table, &options)?, columns));
        }
        let place = Store::open(url, &options)?;
        refuse_nested(name, &place, lake)?;
        let source: Arc<dyn Objects> = open_objects(url, &options)?;
        check(&source, &place).await?;
        Ok(Self::Objects(source))
    }

    /// Where it is, without secrets.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Objects(objects) => objects.url().to_owned(),
            Self::Lake(store, columns) => format!("{TABLE}{} ({})", store.url(), columns.text),
            Self::Database {
                url,
                table,
                columns,
            } => format!("{url} {table} ({})", columns.text),
        }
    }

    /// Whether equal positions mean equal documents.
    pub(super) fn has_positions(&self) -> bool {
        !matches!(self, Self::Objects(_))
    }

    /// The documents as they are now; `known` is the position at which they were looked
    /// at last, where that still counts. Keys of rows may take `most_bytes` of memory.
    ///
    /// # Errors
    /// They cannot be read.
    pub(super) async fn documents(
        &self,
        run: Uuid,
        known: Option<&str>,
        budget: &MemoryBudget,
        most_bytes: u64,
    ) -> Result<Documents, Failure> {
        match self {
            Self::Objects(objects) => Ok(Documents {
                identity: identity(&self.url()),
                bound: bound(run.to_string()),
                objects: Some(Arc::clone(objects)),
            }),
            Self::Lake(store, columns) => self.rows(store, columns, known, most_bytes).await,
            Self::Database {
                url,
                table,
                columns,
            } => {
                let columns = columns.clone();
                let read = read_database(url.expose(), table, columns, known, budget, most_bytes);
                let read = read.await.map_err(Failure::from)?;
                let what = format!("{}/{table}", read.identity.id);
                Ok(Documents {
                    identity: Identity {
                        id: what,
                        ..read.identity
                    },
                    bound: read.bound,
                    objects: read.texts.map(|texts| self.texts(texts)),
                })
            }
        }
    }

    async fn rows(
        &self,
        store: &Store,
        columns: &TextColumns,
        known: Option<&str>,
        most_bytes: u64,
    ) -> Result<Documents, Failure> {
        // It may be a table of others, and its log is all that is needed.
        let ledger = Rewriter::open(store.clone()).await?;
        // One that is made anew at the same place begins at version 0 again.
        let position = format!("version {} of {}", ledger.version(), ledger.table_id());
        let mut documents = Documents {
            identity: identity(&self.url()),
            bound: bound(position.clone()),
            objects: None,
        };
        if known != Some(position.as_str()) {
            let files = ledger.files().await?;
            let schema = ledger.schema()?;
            let texts = read_lake(store, &files, &schema, columns.clone(), most_bytes);
            let texts = texts.await.map_err(|error| match error {
                TextsError::Lake(error) if error.passes => Failure::retry(error.to_string()),
                TextsError::Lake(_) | TextsError::Rows(SpoolError::Disk(_)) => {
                    Failure::failed(error.to_string())
                }
                TextsError::Rows(_) => Failure::usage(error.to_string()),
            })?;
            documents.objects = Some(self.texts(texts));
        }
        Ok(documents)
    }

    fn texts(&self, texts: Texts) -> Arc<dyn Objects> {
        Arc::new(TextObjects::new(self.url(), texts))
    }
}

fn identity(url: &str) -> Identity {
    Identity {
        kind: "documents".to_owned(),
        id: url.to_owned(),
        history: String::new(),
    }
}

fn bound(position: String) -> Bound {
    Bound {
        position,
        at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
    }
}

fn options(secrets: &BTreeMap<String, Secret>) -> BTreeMap<String, String> {
    let exposed = secrets.iter();
    exposed
        .map(|(name, secret)| (name.clone(), secret.expose().to_owned()))
        .collect()
}

/// A lake inside of the source would be indexed itself, again and again.
fn refuse_nested(name: &str, source: &Store, lake: &Store) -> Result<(), Failure> {
    let slash = |store: &Store| format!("{}/", store.url().as_str().trim_end_matches('/'));
    let (from, to) = (slash(source), slash(lake));
    if from.starts_with(&to) || to.starts_with(&from) {
        let what =
            format!("instance `{name}`: {from} and the lake {to} are one inside of the other");
        return Err(Failure::usage(what).hint("put the lake beside the documents"));
    }
    Ok(())
}

/// Looks at the source before a run does any work.
async fn check(source: &Arc<dyn Objects>, place: &Store) -> Result<(), Failure> {
    match place.folder() {
        Some(folder) if !folder.is_dir() => {
            let what = format!(
                "the source {} is not a folder that is there",
                folder.display()
            );
            Err(Failure::usage(what)
                .hint("correct the path; an empty source would look as if all was deleted"))
        }
        Some(_) => Ok(()),
        None if source.home().is_none() => Ok(place.check().await?),
        None => {
            let retries = Retries::new(FIRST_LOOK);
            retries.ask(|| source.names_below(NOTHING), |_| ()).await?;
            Ok(())
        }
    }
}
