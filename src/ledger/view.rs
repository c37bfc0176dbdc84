//! What the log says at one version, read through the kernel.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use delta_kernel::snapshot::{Snapshot, SnapshotRef};
use delta_kernel::table_features::ColumnMappingMode;
use delta_kernel::{Engine, KernelError};
use futures::TryStreamExt as _;
use object_store::path::Path;
use uuid::Uuid;

use super::error::LedgerError;
use super::executor::blocking;
use super::files::LoggedFile;
use super::record::{CommitRecord, FORMAT};
use super::schema::arrow_schema;
use super::{APP_ID, DOMAIN, ROOT, files};
use crate::store::{Store, StoreError};
use crate::watermark::Watermark;

/// Writer features under which our `add` actions are complete. Others (row
/// tracking, column mapping, ...) would need fields that we do not write.
const KNOWN_FEATURES: &[&str] = &[
    "domainMetadata",
    "timestampNtz",
    "appendOnly",
    "invariants",
    "deletionVectors",
    "v2Checkpoint",
    "vacuumProtocolCheck",
    "inCommitTimestamp",
    "changeDataFeed",
];

/// What rows must meet, or how values are made: nothing to somebody who only lays
/// the same rows out anew.
pub(super) const FEATURES_OF_ROWS: &[&str] =
    &["checkConstraints", "generatedColumns", "identityColumns"];

/// The newest commit of ours, and the table as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// The Delta version.
    pub version: u64,
    /// Whether another program has committed since our last commit.
    pub changed_by_others: bool,
    /// The number of our last commit: the `txn` version of our application.
    pub commit: i64,
    /// What the table equals.
    pub watermark: Watermark,
    /// The table's schema, with the source's types in the columns' metadata.
    pub schema: SchemaRef,
    /// The partition columns.
    pub partition_columns: Vec<String>,
    /// Number of rows.
    pub rows: u64,
    /// Number of data files.
    pub files: u64,
    /// Bytes of the data files.
    pub bytes: u64,
    /// The run that made our last commit.
    pub run: Uuid,
    /// When it did, by its own clock, RFC 3339 in UTC.
    pub at: String,
}

/// A head with the snapshot it was read from.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) snapshot: SnapshotRef,
    pub(super) record: CommitRecord,
    pub(super) head: Head,
}

impl View {
    /// The data files of this version.
    pub(super) async fn files(
        &self,
        engine: &Arc<dyn Engine>,
        url: String,
    ) -> Result<Vec<LoggedFile>, LedgerError> {
        let snapshot = Arc::clone(&self.snapshot);
        let engine = Arc::clone(engine);
        blocking(move || {
            let mut files = Vec::new();
            files::visit(&snapshot, engine.as_ref(), |file| files.push(file))
                .map_err(|error| kernel_error(&url, &error))?;
            Ok(files)
        })
        .await
    }

    /// What another program must not change while a run is working: the first
    /// difference from `earlier`.
    pub(super) fn changed_since(&self, earlier: &Self) -> Option<&'static str> {
        let (now, then) = (
            self.snapshot.table_configuration(),
            earlier.snapshot.table_configuration(),
        );
        if now.logical_schema() != then.logical_schema() {
            Some("columns")
        } else if self.head.partition_columns != earlier.head.partition_columns {
            Some("partition columns")
        } else if now.protocol() != then.protocol() {
            Some("protocol (table features)")
        } else if now.metadata().id() != then.metadata().id() {
            Some("identity (it was created anew)")
        } else {
            None
        }
    }
}

/// Reads the log of the table at `store`: `None` where there is none yet.
pub(super) async fn read(
    store: &Store,
    engine: &Arc<dyn Engine>,
) -> Result<Option<View>, LedgerError> {
    if !has_log(store).await? {
        return Ok(None);
    }
    let engine = Arc::clone(engine);
    let url = store.url().to_string();
    blocking(move || {
        let snapshot = Snapshot::builder_for(ROOT)
            .build(engine.as_ref())
            .map_err(|error| kernel_error(&url, &error))?;
        view(snapshot, engine.as_ref(), &url).map(Some)
    })
    .await
}

/// Reads the log of the table at `store` as it was at `version`.
pub(super) async fn read_at(
    store: &Store,
    engine: &Arc<dyn Engine>,
    version: u64,
) -> Result<View, LedgerError> {
    let engine = Arc::clone(engine);
    let url = store.url().to_string();
    blocking(move || {
        let snapshot = Snapshot::builder_for(ROOT)
            .at_version(version)
            .build(engine.as_ref())
            .map_err(|error| kernel_error(&url, &error))?;
        view(snapshot, engine.as_ref(), &url)
    })
    .await
}

pub(super) async fn has_log(store: &Store) -> Result<bool, LedgerError> {
    let mut listing = store.objects().list(Some(&Path::from("_delta_log")));
    let listed = |error: &object_store::Error| {
        StoreError::from_object_store(error, &format!("list {}", store.url()))
    };
    while let Some(object) = listing.try_next().await.map_err(|error| listed(&error))? {
        let name = object.location.filename().unwrap_or_default();
        if name.ends_with(".json") || name.ends_with(".parquet") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// An empty folder is a table to come, and so is one in which an earlier load of
/// ours was interrupted; anything else belongs to somebody.
pub(super) async fn refuse_foreign(store: &Store) -> Result<(), LedgerError> {
    let found = store
        .objects()
        .list_with_delimiter(None)
        .await
        .map_err(|error| {
            LedgerError::from(StoreError::from_object_store(
                &error,
                &format!("list {}", store.url()),
            ))
        })?;
    let folders = found.common_prefixes.iter().filter_map(Path::filename);
    let objects = found
        .objects
        .iter()
        .filter_map(|object| object.location.filename());
    let mut names = folders
        .clone()
        .chain(objects)
        .filter(|name| !name.starts_with('.'));
    if folders.clone().any(|name| name == "_highwater") {
        return Ok(());
    }
    match names.find(|name| *name != "_delta_log") {
        None => Ok(()),
        Some(found) => Err(LedgerError::ForeignFolder {
            url: store.url().to_string(),
            found: found.to_owned(),
        }),
    }
}

pub(super) fn view(
    snapshot: SnapshotRef,
    engine: &dyn Engine,
    url: &str,
) -> Result<View, LedgerError> {
    let failed = |error: KernelError| kernel_error(url, &error);
    let version = snapshot.version();
    let commit = snapshot
        .get_app_id_version(APP_ID, engine)
        .map_err(failed)?;
    let record = snapshot
        .get_domain_metadata(DOMAIN, engine)
        .map_err(failed)?;
    let Some(record) = record else {
        return Err(LedgerError::NotOurs {
            url: url.to_owned(),
            version,
        });
    };
    let record = parse_record(&record, commit, url)?;
    let commit = record.commit;
    check_features(&snapshot, &[], url)?;
    let mut head = Head {
        version,
        changed_by_others: record.version != version,
        commit,
        watermark: record.to.clone(),
        schema: Arc::new(arrow_schema(&snapshot.schema())?),
        partition_columns: snapshot
            .table_configuration()
            .logical_partition_columns()
            .to_vec(),
        rows: 0,
        files: 0,
        bytes: 0,
        run: record.run,
        at: record.at.clone(),
    };
    files::visit(&snapshot, engine, |file| {
        head.rows += file.rows();
        head.files += 1;
        head.bytes += file.bytes;
    })
    .map_err(failed)?;
    Ok(View {
        snapshot,
        record,
        head,
    })
}

fn parse_record(text: &str, commit: Option<i64>, url: &str) -> Result<CommitRecord, LedgerError> {
    let damaged = |what: String| LedgerError::Damaged {
        url: url.to_owned(),
        what,
    };
    let record: CommitRecord = serde_json::from_str(text)
        .map_err(|error| damaged(format!("the watermark record: {error}")))?;
    if !(1..=FORMAT).contains(&record.format) {
        let what = format!(
            "the watermark record has form {}, this program knows 1 to {FORMAT}; use a newer program",
            record.format
        );
        return Err(damaged(what));
    }
    // A retention of transactions, set by another program, may hide ours.
    if let Some(commit) = commit.filter(|commit| *commit != record.commit) {
        let what = format!(
            "its txn says commit {commit}, its watermark says {}",
            record.commit
        );
        return Err(damaged(what));
    }
    Ok(record)
}

/// Refuses a table that needs more than we write; `also` is known too.
pub(super) fn check_features(
    snapshot: &SnapshotRef,
    also: &[&str],
    url: &str,
) -> Result<(), LedgerError> {
    let configuration = snapshot.table_configuration();
    let unsupported = |what: String| {
        Err(LedgerError::Unsupported {
            url: url.to_owned(),
            what,
        })
    };
    if configuration.column_mapping_mode() != ColumnMappingMode::None {
        return unsupported("column mapping".to_owned());
    }
    let features = configuration
        .protocol()
        .writer_features()
        .unwrap_or_default();
    match features.iter().find(|named| {
        !KNOWN_FEATURES
            .iter()
            .chain(also)
            .any(|known| *known == named.as_ref())
    }) {
        Some(feature) => unsupported(format!("the table feature `{feature}`")),
        None => Ok(()),
    }
}

/// What a failure of the kernel means for the table at `url`.
pub(super) fn kernel_error(url: &str, error: &KernelError) -> LedgerError {
    match error {
        KernelError::Backtraced { source, .. } => kernel_error(url, source),
        KernelError::ObjectStore(error) => {
            StoreError::from_object_store(error, &format!("read the log of {url}")).into()
        }
        KernelError::Unsupported(what) => LedgerError::Unsupported {
            url: url.to_owned(),
            what: what.clone(),
        },
        other => LedgerError::Damaged {
            url: url.to_owned(),
            what: other.to_string(),
        },
    }
}
