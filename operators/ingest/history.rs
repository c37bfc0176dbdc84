//! Reads what one version of a table changed: the rows of its history.
//!
//! A history is derived from the log alone: the files that a version added and
//! those that it removed hold, row by row, what it changed. So a history that is
//! behind, whatever interrupted it, catches up exactly.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use async_trait::async_trait;
use highwater::budget::MemoryBudget;
use highwater::dataset::{Column, Fidelity, TableName};
use highwater::source::{Emit, Reader, Readers, SourceError, SourceErrorKind, Split, TableRead};

use super::lake::{FileBatches, LakeTable};
use super::merge::not_counted;
use crate::transform::fingerprint::{Fingerprint, Hash};

/// What one version changed.
pub struct VersionChange {
    /// The number of the table that hashes were made with.
    pub number: usize,
    /// The files that the version added.
    pub added: LakeTable,
    /// The files that it removed.
    pub removed: LakeTable,
    /// Which rows of them differ.
    pub rows: ChangedVersionRows,
    /// The version.
    pub version: i64,
    /// When it became true, in microseconds since 1970 in UTC, by the source's
    /// clock.
    pub from_micros: i64,
}

/// Which rows of added and removed files differ.
pub enum ChangedVersionRows {
    /// All of them.
    All,
    /// Those with these keys.
    Keys {
        /// Keys of which the version has another row.
        added: HashSet<Hash>,
        /// Keys of which the version before has another row.
        removed: HashSet<Hash>,
    },
    /// Of a table without a key: so many of these.
    Counted {
        /// Rows that were added.
        added: Mutex<HashMap<Hash, u64>>,
        /// Rows that were removed.
        removed: Mutex<HashMap<Hash, u64>>,
    },
}

/// The columns that a history has after those of its table: what happened, when,
/// and in which version of the table.
#[must_use]
pub fn history_columns() -> [Column; 3] {
    let column = |name: &str, lake_type: DataType| Column {
        name: name.to_owned(),
        source_type: String::new(),
        lake_type,
        nullable: false,
        fidelity: Fidelity::Exact,
    };
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    [
        column("_op", DataType::Utf8),
        column("_from", time),
        column("_version", DataType::Int64),
    ]
}

/// A view of one version's changes of one table.
#[derive(Clone)]
pub struct HistorySnapshot {
    change: Arc<VersionChange>,
    row_groups: MemoryBudget,
}

impl HistorySnapshot {
    /// A view of `change`; `row_groups` pays for what is read from files.
    #[must_use]
    pub fn new(change: VersionChange, row_groups: MemoryBudget) -> Self {
        Self {
            change: Arc::new(change),
            row_groups,
        }
    }

    /// One split for each added file, then one for each removed one.
    #[must_use]
    pub fn splits(&self) -> Vec<Split> {
        let files = self.change.added.files.iter();
        let files = files.chain(&self.change.removed.files);
        (0..)
            .zip(files)
            .map(|(ordinal, file)| Split {
                ordinal,
                start: None,
                end: None,
                estimated_bytes: file.bytes,
            })
            .collect()
    }
}

fn not_here() -> SourceError {
    SourceError::new(
        SourceErrorKind::Failed,
        "a history is read as a whole; please report this",
    )
}

#[async_trait]
impl Readers for HistorySnapshot {
    fn max_readers(&self) -> usize {
        usize::MAX
    }

    async fn reader(&self) -> Result<Box<dyn Reader>, SourceError> {
        Ok(Box::new(HistoryReader(self.clone())))
    }
}

struct HistoryReader(HistorySnapshot);

/// Which of the two sets of files a row comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Added,
    Removed,
}

#[async_trait]
impl Reader for HistoryReader {
    async fn read(
        &mut self,
        read: &TableRead,
        split: &Split,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError> {
        let change = &self.0.change;
        let ordinal = usize::try_from(split.ordinal).unwrap_or(usize::MAX);
        let added = change.added.files.len();
        let (side, lake, at) = if ordinal < added {
            (Side::Added, &change.added, ordinal)
        } else {
            (Side::Removed, &change.removed, ordinal - added)
        };
        let file = lake.files.get(at).ok_or_else(not_here)?;
        let rows =
            VersionRows::new(change, read).map_err(|error| broken(&read.table.name, error))?;
        let name = &read.table.name;
        let row_groups = &self.0.row_groups;
        let mut batches = FileBatches::open(read, lake, file, &rows.plain, row_groups).await?;
        while let Some((batch, mut permit)) = batches.next(out).await? {
            let told = rows
                .tell(&batch, side)
                .map_err(|error| broken(name, error))?;
            permit.shrink_to(told.get_array_memory_size() as u64);
            out.batch(told, permit, 0).await?;
        }
        Ok(())
    }
}

fn broken(name: &TableName, error: impl std::fmt::Display) -> SourceError {
    SourceError::new(
        SourceErrorKind::Failed,
        format!("reading what changed for {name}: {error}"),
    )
}

/// Turns rows of files into rows of the history.
struct VersionRows<'a> {
    change: &'a VersionChange,
    print: Fingerprint,
    /// The table's own columns.
    plain: SchemaRef,
    /// With the columns of the history.
    told: SchemaRef,
}

impl<'a> VersionRows<'a> {
    fn new(change: &'a VersionChange, read: &TableRead) -> Result<Self, ArrowError> {
        let told = read.schema();
        let own: Vec<usize> = (0..told.fields().len() - history_columns().len()).collect();
        let plain: SchemaRef = told.project(&own)?.into();
        Ok(Self {
            change,
            print: Fingerprint::new(change.number, &plain, &read.table.key)?,
            plain,
            told,
        })
    }

    /// The changed rows of a batch, with what happened to them. A changed row is
    /// told once, as it is after the change; a deleted one as it was.
    fn tell(&self, batch: &RecordBatch, side: Side) -> Result<RecordBatch, ArrowError> {
        let (changed, ops) = self.judge(batch, side)?;
        let rows = filter_record_batch(batch, &changed)?;
        let chosen = ops
            .into_iter()
            .zip(&changed)
            .filter(|(_, changed)| *changed == Some(true));
        let ops: StringArray = chosen.map(|(op, _)| Some(op)).collect();
        let count = rows.num_rows();
        let from = TimestampMicrosecondArray::from(vec![self.change.from_micros; count]);
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        columns.push(Arc::new(ops));
        columns.push(Arc::new(from.with_timezone("UTC")));
        columns.push(Arc::new(Int64Array::from(vec![self.change.version; count])));
        RecordBatch::try_new(Arc::clone(&self.told), columns)
    }

    fn judge(
        &self,
        batch: &RecordBatch,
        side: Side,
    ) -> Result<(BooleanArray, Vec<&'static str>), ArrowError> {
        let plain = match side {
            Side::Added => "insert",
            Side::Removed => "delete",
        };
        let all = |op| vec![op; batch.num_rows()];
        match &self.change.rows {
            ChangedVersionRows::All => Ok((vec![true; batch.num_rows()].into(), all(plain))),
            ChangedVersionRows::Counted { added, removed } => {
                let counts = match side {
                    Side::Added => added,
                    Side::Removed => removed,
                };
                let rest = not_counted(&self.print, batch, counts)?;
                Ok((arrow::compute::not(&rest)?, all(plain)))
            }
            ChangedVersionRows::Keys { added, removed } => {
                let keys = self.print.keys(batch)?;
                let told = keys.iter().map(|key| match side {
                    Side::Added => Some(added.contains(key)),
                    // What has another row in the version is told from there.
                    Side::Removed => Some(removed.contains(key) && !added.contains(key)),
                });
                let ops = keys.iter().map(|key| match side {
                    Side::Added if removed.contains(key) => "update",
                    _ => plain,
                });
                Ok((told.collect(), ops.collect()))
            }
        }
    }
}
