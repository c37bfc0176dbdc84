//! Reads what a merge writes: touched files of the lake with their changed rows
//! replaced by what the source has now.
//!
//! To the dataflow a merge is a load like any other; only its splits are units
//! of rewriting ([`Unit`]) instead of parts of the source. Rows that have not
//! changed come from the lake, changed ones from the source by their key, in the
//! order of the key as far as the file was in it. Tables that are loaded as a
//! whole are passed on to the source's own reader.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{
    concat_batches, filter_record_batch, interleave_record_batch, take_record_batch,
};
use arrow::error::ArrowError;
use async_trait::async_trait;
use highwater::budget::{MemoryBudget, Permit};
use highwater::dataset::TableName;
use highwater::source::{
    BadRow, Emit, Reader, Readers, SourceError, SourceErrorKind, Split, TableRead,
};

use super::lake::{FileBatches, LakeTable};
use crate::transform::fingerprint::{Encoder, Fingerprint, Hash, hash_key};
use crate::transform::touched::{ChangedKeys, Unit, key_batch};

/// Rows that are fetched by key at once, at most.
const MOST_FETCHED_ROWS: usize = 2000;

/// What rows fetched at once should hold, in bytes.
const FETCHED_BYTES: u64 = 1 << 20;

/// What a merge of one table rewrites.
#[derive(Debug)]
pub struct Merge {
    /// The table's number in the run's plan.
    pub number: usize,
    /// The version that is rewritten.
    pub lake: LakeTable,
    /// What has changed.
    pub changed: Changed,
    /// The units; a split's ordinal is a unit's position.
    pub units: Vec<Unit>,
}

/// What has changed in a table.
#[derive(Debug)]
pub enum Changed {
    /// These keys.
    Keys(Arc<ChangedKeys>),
    /// These rows of a table without a key.
    Rows(Arc<ChangedRows>),
}

/// Rows of a table without a key, by hash: how many more of them there are in the
/// source (new) and in the lake (gone). The numbers count down as they are met.
#[derive(Debug, Default)]
pub struct ChangedRows {
    /// More in the source.
    pub new: Mutex<HashMap<Hash, u64>>,
    /// More in the lake.
    pub gone: Mutex<HashMap<Hash, u64>>,
    /// The source's own splits; those of the new rows come after the units.
    pub splits: Vec<Split>,
}

/// The source, with the files of tables that are merged.
pub struct MergeSnapshot {
    source: Arc<dyn Readers>,
    merges: Arc<HashMap<TableName, Merge>>,
    row_groups: MemoryBudget,
}

impl MergeSnapshot {
    /// A view of `source` in which the tables of `merges` are read unit by unit.
    #[must_use]
    pub fn new(
        source: Arc<dyn Readers>,
        merges: HashMap<TableName, Merge>,
        row_groups: MemoryBudget,
    ) -> Self {
        Self {
            source,
            merges: Arc::new(merges),
            row_groups,
        }
    }
}

#[async_trait]
impl Readers for MergeSnapshot {
    fn max_readers(&self) -> usize {
        self.source.max_readers()
    }

    async fn reader(&self) -> Result<Box<dyn Reader>, SourceError> {
        Ok(Box::new(MergeReader {
            source: self.source.reader().await?,
            merges: Arc::clone(&self.merges),
            row_groups: self.row_groups.clone(),
        }))
    }
}

struct MergeReader {
    source: Box<dyn Reader>,
    merges: Arc<HashMap<TableName, Merge>>,
    row_groups: MemoryBudget,
}

#[async_trait]
impl Reader for MergeReader {
    async fn read(
        &mut self,
        read: &TableRead,
        split: &Split,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError> {
        let merges = Arc::clone(&self.merges);
        let Some(merge) = merges.get(&read.table.name) else {
            return self.source.read(read, split, out).await;
        };
        let ordinal = usize::try_from(split.ordinal).unwrap_or(usize::MAX);
        match (merge.units.get(ordinal), &merge.changed) {
            (Some(unit), Changed::Keys(changed)) => {
                let upserts = Upserts::new(read, merge, unit, changed, &mut *self.source)?;
                rewrite(read, merge, unit, upserts, &self.row_groups, out).await
            }
            (Some(unit), Changed::Rows(changed)) => {
                drop_gone(read, merge, unit, changed, &self.row_groups, out).await
            }
            (None, Changed::Rows(changed)) => {
                let new = changed.splits.get(ordinal - merge.units.len());
                let new = new.ok_or_else(|| unknown_unit(read))?;
                let mut out = OnlyNew::new(read, merge.number, changed, out)?;
                self.source.read(read, new, &mut out).await
            }
            (None, Changed::Keys(_)) => Err(unknown_unit(read)),
        }
    }

    async fn fetch(
        &mut self,
        read: &TableRead,
        keys: &RecordBatch,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError> {
        self.source.fetch(read, keys, out).await
    }
}

fn unknown_unit(read: &TableRead) -> SourceError {
    broken(read, "the unit is not in the plan; please report this")
}

fn broken(read: &TableRead, reason: impl std::fmt::Display) -> SourceError {
    SourceError::new(
        SourceErrorKind::Failed,
        format!("merging {}: {reason}", read.table.name),
    )
}

/// Emits the unchanged rows of a unit's files and its changed rows.
async fn rewrite(
    read: &TableRead,
    merge: &Merge,
    unit: &Unit,
    mut upserts: Upserts<'_>,
    row_groups: &MemoryBudget,
    out: &mut dyn Emit,
) -> Result<(), SourceError> {
    for file in unit.files.iter().filter_map(|&at| merge.lake.files.get(at)) {
        let schema = read.schema();
        let mut batches = FileBatches::open(read, &merge.lake, file, &schema, row_groups).await?;
        while let Some((rows, permit)) = batches.next(out).await? {
            let merged = upserts.merge(&rows, out).await?;
            emit(merged, permit, upserts.told_bytes(), out).await?;
        }
    }
    upserts.finish(out).await
}

async fn emit(
    rows: RecordBatch,
    mut permit: Permit,
    source_bytes: u64,
    out: &mut dyn Emit,
) -> Result<(), SourceError> {
    permit.shrink_to(rows.get_array_memory_size() as u64);
    out.batch(rows, permit, source_bytes).await
}

/// The changed rows of one unit, fetched a few at a time in key order.
struct Upserts<'a> {
    read: &'a TableRead,
    number: usize,
    changed: &'a ChangedKeys,
    encoder: Encoder,
    source: &'a mut dyn Reader,
    /// Positions of keys that are not fetched yet.
    left: VecDeque<usize>,
    fetch_rows: usize,
    /// Bytes that were fetched and not told of yet.
    source_bytes: u64,
    /// What was fetched last.
    fetched: RecordBatch,
    /// Its rows that are not emitted yet: their keys in order, and where they are.
    ready: VecDeque<(Box<[u8]>, usize)>,
}

impl<'a> Upserts<'a> {
    fn new(
        read: &'a TableRead,
        merge: &Merge,
        unit: &Unit,
        changed: &'a ChangedKeys,
        source: &'a mut dyn Reader,
    ) -> Result<Self, SourceError> {
        let table = &read.table;
        let row_bytes = table.estimated_bytes / table.estimated_rows.unwrap_or(1).max(1) + 1;
        let fetch_rows = usize::try_from(FETCHED_BYTES / row_bytes).unwrap_or(MOST_FETCHED_ROWS);
        Ok(Self {
            read,
            number: merge.number,
            changed,
            encoder: Encoder::new(&table.schema(), &table.key).map_err(|e| broken(read, e))?,
            source,
            left: unit.upserts.iter().copied().collect(),
            fetch_rows: fetch_rows.clamp(1, MOST_FETCHED_ROWS),
            source_bytes: 0,
            fetched: RecordBatch::new_empty(read.schema()),
            ready: VecDeque::new(),
        })
    }

    /// The rows of `lake` that have not changed, with the changed rows that come
    /// before its last one.
    async fn merge(
        &mut self,
        lake: &RecordBatch,
        out: &mut dyn Emit,
    ) -> Result<RecordBatch, SourceError> {
        let read = self.read;
        let failed = |error: ArrowError| broken(read, error);
        let keys = self.encoder.encode(lake).map_err(failed)?;
        let mut merged = Interleaving::of(lake);
        for (row, key) in keys.iter().enumerate() {
            // In a file that is not in key order a changed row comes no later
            // than the first greater one.
            while self.is_due(key.as_ref(), out).await? {
                if let Some((_, at)) = self.ready.pop_front() {
                    merged.push_fetched(&self.fetched, at);
                }
            }
            let hash = hash_key(self.number, key.as_ref());
            if !self.changed.hashes.contains(&hash) {
                merged.push_lake(row);
            }
        }
        merged.batch().map_err(failed)
    }

    /// Whether the next changed row has a key below `key`, or this very one.
    async fn is_due(&mut self, key: &[u8], out: &mut dyn Emit) -> Result<bool, SourceError> {
        loop {
            if let Some((next, _)) = self.ready.front() {
                return Ok(next.as_ref() <= key);
            }
            let next = self
                .left
                .front()
                .and_then(|&at| self.changed.upserts.get(at));
            if next.is_none_or(|next| next.as_ref() > key) {
                return Ok(false);
            }
            self.fetch(out).await?;
        }
    }

    fn told_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.source_bytes)
    }

    /// Emits what is left when the files are over.
    async fn finish(mut self, out: &mut dyn Emit) -> Result<(), SourceError> {
        loop {
            let rows = self.ready.drain(..);
            let rows = rows.map(|(_, at)| u32::try_from(at).unwrap_or(u32::MAX));
            let rows = UInt32Array::from_iter_values(rows);
            if !rows.is_empty() {
                let rows = take_record_batch(&self.fetched, &rows)
                    .map_err(|error| broken(self.read, error))?;
                let permit = out.permit(rows.get_array_memory_size() as u64).await;
                emit(rows, permit, self.told_bytes(), out).await?;
            }
            if self.left.is_empty() {
                return Ok(());
            }
            self.fetch(out).await?;
        }
    }

    /// Fetches the next few rows. A key that the source does not return was not
    /// representable: its row is quarantined, and goes from the lake.
    async fn fetch(&mut self, out: &mut dyn Emit) -> Result<(), SourceError> {
        let read = self.read;
        let failed = |error: ArrowError| broken(read, error);
        let count = self.left.len().min(self.fetch_rows);
        let wanted: Vec<&[u8]> = self
            .left
            .drain(..count)
            .filter_map(|at| self.changed.upserts.get(at))
            .map(AsRef::as_ref)
            .collect();
        let keys = key_batch(&read.table, wanted.iter().copied()).map_err(failed)?;
        let mut fetched = Fetched::new(out);
        self.source.fetch(read, &keys, &mut fetched).await?;
        self.source_bytes += fetched.source_bytes;
        self.fetched = concat_batches(&read.schema(), &fetched.batches).map_err(failed)?;
        let keys = self.encoder.encode(&self.fetched).map_err(failed)?;
        let mut found: Vec<(Box<[u8]>, usize)> = keys
            .iter()
            .enumerate()
            // Where the source's equality is looser than ours (case-insensitive
            // text), it returns rows of other keys too.
            .filter(|(_, key)| wanted.binary_search(&key.as_ref()).is_ok())
            .map(|(row, key)| (key.as_ref().into(), row))
            .collect();
        found.sort_unstable();
        self.ready = found.into();
        Ok(())
    }
}

/// Rows of one batch of the lake and of fetched batches, in the order in which
/// they are to be written.
struct Interleaving<'a> {
    lake: &'a RecordBatch,
    fetched: Vec<RecordBatch>,
    /// Which batch (the lake's is the first), and which of its rows.
    rows: Vec<(usize, usize)>,
}

impl<'a> Interleaving<'a> {
    fn of(lake: &'a RecordBatch) -> Self {
        Self {
            lake,
            fetched: Vec::new(),
            rows: Vec::with_capacity(lake.num_rows()),
        }
    }

    fn push_lake(&mut self, row: usize) {
        self.rows.push((0, row));
    }

    fn push_fetched(&mut self, batch: &RecordBatch, row: usize) {
        let known = self.fetched.last().is_some_and(|last| {
            let same = last.columns().first().zip(batch.columns().first());
            same.is_some_and(|(last, batch)| Arc::ptr_eq(last, batch))
        });
        if !known {
            self.fetched.push(batch.clone());
        }
        self.rows.push((self.fetched.len(), row));
    }

    fn batch(self) -> Result<RecordBatch, ArrowError> {
        if self.fetched.is_empty() && self.rows.len() == self.lake.num_rows() {
            return Ok(self.lake.clone());
        }
        let batches: Vec<&RecordBatch> = std::iter::once(self.lake).chain(&self.fetched).collect();
        interleave_record_batch(&batches, &self.rows)
    }
}

/// Gathers the rows of one fetch. They are few by number and were paid for with
/// the batch that they are merged into.
struct Fetched<'a> {
    out: &'a mut dyn Emit,
    batches: Vec<RecordBatch>,
    source_bytes: u64,
}

impl<'a> Fetched<'a> {
    fn new(out: &'a mut dyn Emit) -> Self {
        Self {
            out,
            batches: Vec::new(),
            source_bytes: 0,
        }
    }
}

#[async_trait]
impl Emit for Fetched<'_> {
    async fn permit(&mut self, _bytes: u64) -> Permit {
        Permit::free()
    }

    fn batch_bytes(&self) -> u64 {
        self.out.batch_bytes()
    }

    async fn batch(
        &mut self,
        rows: RecordBatch,
        _permit: Permit,
        source_bytes: u64,
    ) -> Result<(), SourceError> {
        self.source_bytes += source_bytes;
        self.batches.push(rows);
        Ok(())
    }

    async fn quarantine(&mut self, row: BadRow) -> Result<(), SourceError> {
        self.out.quarantine(row).await
    }
}

/// Of a table without a key: emits a unit's files without the rows that are gone.
async fn drop_gone(
    read: &TableRead,
    merge: &Merge,
    unit: &Unit,
    changed: &ChangedRows,
    row_groups: &MemoryBudget,
    out: &mut dyn Emit,
) -> Result<(), SourceError> {
    let print = Fingerprint::new(merge.number, &read.schema(), &[]).map_err(|e| broken(read, e))?;
    for file in unit.files.iter().filter_map(|&at| merge.lake.files.get(at)) {
        let schema = read.schema();
        let mut batches = FileBatches::open(read, &merge.lake, file, &schema, row_groups).await?;
        while let Some((rows, permit)) = batches.next(out).await? {
            let stay = not_counted(&print, &rows, &changed.gone)
                .and_then(|stay| filter_record_batch(&rows, &stay))
                .map_err(|error| broken(read, error))?;
            emit(stay, permit, 0, out).await?;
        }
    }
    Ok(())
}

/// Counts rows down, and tells which were not counted.
pub(super) fn not_counted(
    print: &Fingerprint,
    rows: &RecordBatch,
    counts: &Mutex<HashMap<Hash, u64>>,
) -> Result<BooleanArray, ArrowError> {
    let hashes = print.keys(rows)?;
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(hashes
        .into_iter()
        .map(|hash| match counts.get_mut(&hash) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Some(false)
            }
            _ => Some(true),
        })
        .collect())
}

/// Of a table without a key: lets only the rows through that are new.
struct OnlyNew<'a> {
    print: Fingerprint,
    read: &'a TableRead,
    changed: &'a ChangedRows,
    out: &'a mut dyn Emit,
}

impl<'a> OnlyNew<'a> {
    fn new(
        read: &'a TableRead,
        number: usize,
        changed: &'a ChangedRows,
        out: &'a mut dyn Emit,
    ) -> Result<Self, SourceError> {
        let print = Fingerprint::new(number, &read.schema(), &[]);
        Ok(Self {
            print: print.map_err(|error| broken(read, error))?,
            read,
            changed,
            out,
        })
    }
}

#[async_trait]
impl Emit for OnlyNew<'_> {
    async fn permit(&mut self, bytes: u64) -> Permit {
        self.out.permit(bytes).await
    }

    fn batch_bytes(&self) -> u64 {
        self.out.batch_bytes()
    }

    async fn batch(
        &mut self,
        rows: RecordBatch,
        permit: Permit,
        source_bytes: u64,
    ) -> Result<(), SourceError> {
        let new = not_counted(&self.print, &rows, &self.changed.new)
            .and_then(|known| arrow::compute::not(&known))
            .and_then(|new| filter_record_batch(&rows, &new))
            .map_err(|error| broken(self.read, error))?;
        self.out.batch(new, permit, source_bytes).await
    }

    async fn quarantine(&mut self, _row: BadRow) -> Result<(), SourceError> {
        // The comparison has read the same rows and set this one aside.
        Ok(())
    }
}
