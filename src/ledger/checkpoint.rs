//! Checkpoints of the log: opening a table must not cost what its history costs.
//!
//! A checkpoint holds what all entries up to a version amount to. The kernel says
//! what belongs into it; we encode and put it ourselves, because the kernel's own
//! way waits for reads inside a write, which our executor cannot do. It is put
//! whole and only if absent, and `_last_checkpoint` is only a hint: a reader that
//! has neither reads more entries and sees the same.

use std::sync::Arc;

use delta_kernel::checkpoint::{CheckpointWriter, LastCheckpointHintStats};
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::{Engine, KernelError, KernelResult};
use object_store::path::Path;
use object_store::{Error, PutMode, PutOptions, PutPayload};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::error::LedgerError;
use super::executor::blocking;
use super::view::kernel_error;
use crate::store::{Store, StoreError};

/// A checkpoint is written after so many entries: opening a table then reads at
/// most so many small files, a second's work at the latency of a busy store, and
/// a table that is committed to every 15 minutes gets two checkpoints a day.
pub(super) const EVERY: u64 = 50;

/// Whether a commit at the head of `snapshot` should be followed by a checkpoint:
/// at every multiple, and where an earlier one was missed.
pub(super) fn is_due(snapshot: &SnapshotRef) -> bool {
    let version = snapshot.version();
    let last = snapshot.log_segment().checkpoint_version;
    let behind = version.saturating_sub(last.unwrap_or_default());
    (version > 0 && version.is_multiple_of(EVERY) && last != Some(version)) || behind > EVERY
}

/// Writes the checkpoint of `snapshot`, and the hint that names it.
pub(super) async fn write(
    store: &Store,
    engine: &Arc<dyn Engine>,
    snapshot: &SnapshotRef,
) -> Result<(), LedgerError> {
    let url = store.url().to_string();
    let (snapshot, encoder) = (Arc::clone(snapshot), Arc::clone(engine));
    let path = path(snapshot.version());
    let (writer, bytes, stats) = blocking(move || {
        let encoded = || -> KernelResult<_> {
            let writer = snapshot.create_checkpoint_writer(encoder.as_ref())?;
            let (bytes, stats) = encode(&writer, encoder.as_ref())?;
            Ok((writer, bytes, stats))
        };
        encoded().map_err(|error| kernel_error(&url, &error))
    })
    .await?;
    put_if_absent(store, &path, bytes).await?;
    let url = store.url().to_string();
    let engine = Arc::clone(engine);
    blocking(move || {
        writer
            .finalize(engine.as_ref(), &stats)
            .map_err(|error| kernel_error(&url, &error))
    })
    .await
}

/// `_delta_log/N.checkpoint.parquet`, below the table's folder.
pub(super) fn path(version: u64) -> Path {
    Path::from_iter([
        "_delta_log".to_owned(),
        format!("{version:020}.checkpoint.parquet"),
    ])
}

fn encode(
    writer: &CheckpointWriter,
    engine: &dyn Engine,
) -> KernelResult<(Vec<u8>, LastCheckpointHintStats)> {
    let actions = writer.checkpoint_data(engine)?;
    let state = actions.state();
    let mut parquet: Option<ArrowWriter<Vec<u8>>> = None;
    for batch in actions {
        let rows = ArrowEngineData::try_from_engine_data(batch?.apply_selection_vector()?)?;
        let rows = rows.record_batch();
        let open = match parquet.take() {
            Some(open) => open,
            None => {
                let snappy = WriterProperties::builder().set_compression(Compression::SNAPPY);
                ArrowWriter::try_new(Vec::new(), rows.schema(), Some(snappy.build()))?
            }
        };
        parquet.insert(open).write(rows)?;
    }
    let nothing = || KernelError::Generic("a checkpoint without any action".to_owned());
    let bytes = parquet.ok_or_else(nothing)?.into_inner()?;
    let state = Arc::into_inner(state)
        .ok_or_else(|| KernelError::Generic("a checkpoint that is still read".to_owned()))?;
    let stats = LastCheckpointHintStats::from_reconciliation_state(state, bytes.len() as u64, 0)?;
    Ok((bytes, stats))
}

/// A checkpoint that is there already says the same.
async fn put_if_absent(store: &Store, path: &Path, bytes: Vec<u8>) -> Result<(), StoreError> {
    let create = PutOptions {
        mode: PutMode::Create,
        ..PutOptions::default()
    };
    let payload = PutPayload::from(bytes);
    match store.objects().put_opts(path, payload, create).await {
        Ok(_) | Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(()),
        Err(error) => {
            let doing = format!("write {}", store.url_of(path));
            Err(StoreError::from_object_store(&error, &doing))
        }
    }
}
