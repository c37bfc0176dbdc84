//! Serialises a log entry once, and puts it once.
//!
//! The kernel makes the actions that need its knowledge of the log (`protocol`,
//! `commitInfo`, `txn`, `domainMetadata`, `remove`); ours are added to them: the
//! `add` actions with their hashes (C7), and the table's shape where it is new
//! or changed. The bytes are made exactly once, so that an answer that was lost
//! can be recognised by comparing (C1).

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use delta_kernel::committer::{CommitMetadata, CommitResponse, Committer, PublishMetadata};
use delta_kernel::engine::arrow_utils::to_json_bytes;
use delta_kernel::{
    Engine, FileMeta, FilteredEngineData, KernelError, KernelResult, KernelResultIterator,
};
use object_store::path::Path;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::schema::Layout;
use super::seal;
use crate::store::{Patience, PutOnce, Store, StoreError, put_once};

/// What became of the entry; outlives the kernel's own result, which may hold an
/// error that happened only after the entry was published.
pub(super) type Outcome = Arc<Mutex<Option<Result<PutOnce, StoreError>>>>;

/// What of an entry is ours and not the kernel's.
#[derive(Debug)]
pub(super) struct Lines {
    /// The shape of the table after the commit.
    pub(super) layout: Layout,
    /// The `add` actions, serialised.
    pub(super) adds: Vec<String>,
}

/// Publishes one entry.
pub(super) struct LogCommitter {
    pub(super) store: Store,
    pub(super) patience: Patience,
    pub(super) runtime: Handle,
    pub(super) lines: Arc<Lines>,
    /// The commit's own id, where the entry holds a record of ours to be sealed.
    pub(super) id: Option<Uuid>,
    /// Whether the entry must say what shape the table has.
    pub(super) new_layout: bool,
    pub(super) outcome: Outcome,
}

impl Committer for LogCommitter {
    fn commit(
        &self,
        _engine: &dyn Engine,
        actions: KernelResultIterator<'_, FilteredEngineData>,
        metadata: CommitMetadata,
    ) -> KernelResult<CommitResponse> {
        let entry = self.entry(&to_json_bytes(actions)?, &metadata)?;
        let size = entry.len() as u64;
        let version = metadata.version();
        let path = log_path(version);
        let put = put_once(&self.store, &path, entry, self.patience);
        let done = self.runtime.block_on(put);
        let response = match &done {
            Ok(PutOnce::Committed) => {
                let location = metadata.published_commit_path()?;
                let file_meta = FileMeta::new(location, metadata.in_commit_timestamp(), size);
                Ok(CommitResponse::Committed { file_meta })
            }
            Ok(PutOnce::Lost { .. }) => Ok(CommitResponse::Conflict { version }),
            Err(error) => Err(KernelError::Generic(error.message.clone())),
        };
        if let Ok(mut outcome) = self.outcome.lock() {
            *outcome = Some(done);
        }
        response
    }

    fn is_catalog_committer(&self) -> bool {
        false
    }

    fn publish(&self, _engine: &dyn Engine, _metadata: PublishMetadata) -> KernelResult<()> {
        // Only catalogues publish in a second step; our entries are public at once.
        Ok(())
    }
}

impl LogCommitter {
    /// The bytes of the entry: the kernel's lines and ours.
    fn entry(&self, kernel: &[u8], metadata: &CommitMetadata) -> KernelResult<Bytes> {
        let kernel = std::str::from_utf8(kernel)
            .map_err(|error| KernelError::Generic(format!("log entry: {error}")))?;
        let mut entry = String::with_capacity(kernel.len() + 1024);
        for line in kernel.lines() {
            // The created table's shape: the kernel was given the types only.
            if line.starts_with(r#"{"metaData":"#) {
                push(
                    &mut entry,
                    &self.with_layout(serde_json::from_str(line).map_err(json)?),
                );
            } else {
                push(&mut entry, line);
            }
        }
        if self.new_layout {
            self.changed_layout(metadata, &mut entry)?;
        }
        for add in &self.lines.adds {
            push(&mut entry, add);
        }
        let Some(id) = self.id else {
            return Ok(Bytes::from(entry));
        };
        let sealed = seal::close(&entry, id)
            .ok_or_else(|| KernelError::Generic("log entry: no place for its seal".to_owned()))?;
        Ok(Bytes::from(sealed))
    }

    /// For a table that exists: its metadata with the new shape, and its
    /// protocol where the shape needs one more feature.
    fn changed_layout(&self, metadata: &CommitMetadata, entry: &mut String) -> KernelResult<()> {
        let current = metadata.protocol_metadata();
        let Some(read) = current.read_metadata() else {
            return Ok(());
        };
        if self.lines.layout.timestamp_ntz
            && let Some(protocol) = current.read_protocol()
        {
            let protocol = serde_json::to_value(protocol).map_err(json)?;
            if let Some(upgraded) = with_feature(protocol, "timestampNtz") {
                push(entry, &json!({ "protocol": upgraded }).to_string());
            }
        }
        let read = serde_json::to_value(read).map_err(json)?;
        push(entry, &self.with_layout(json!({ "metaData": read })));
        Ok(())
    }

    /// A `metaData` action with the shape of this change; the rest stays.
    fn with_layout(&self, mut line: Value) -> String {
        if let Some(action) = line.get_mut("metaData").and_then(Value::as_object_mut) {
            action.retain(|_, value| !value.is_null());
            let layout = &self.lines.layout;
            action.insert(
                "schemaString".to_owned(),
                layout.schema_string.clone().into(),
            );
            action.insert(
                "partitionColumns".to_owned(),
                layout.partition_columns.clone().into(),
            );
        }
        line.to_string()
    }
}

/// `_delta_log/N.json`, below the table's folder.
pub(super) fn log_path(version: u64) -> Path {
    Path::from_iter(["_delta_log".to_owned(), format!("{version:020}.json")])
}

fn json(error: serde_json::Error) -> KernelError {
    KernelError::Generic(format!("log entry: {error}"))
}

fn push(entry: &mut String, line: &str) {
    entry.push_str(line);
    entry.push('\n');
}

/// The protocol with one reader and writer feature more, if it has it not.
fn with_feature(mut protocol: Value, feature: &str) -> Option<Value> {
    let action = protocol.as_object_mut()?;
    let mut changed = false;
    for list in ["readerFeatures", "writerFeatures"] {
        let features = action.entry(list).or_insert_with(|| json!([]));
        let features = features.as_array_mut()?;
        if !features.iter().any(|known| known == feature) {
            features.push(feature.into());
            changed = true;
        }
    }
    action.insert("minReaderVersion".to_owned(), 3.into());
    action.insert("minWriterVersion".to_owned(), 7.into());
    changed.then_some(protocol)
}
