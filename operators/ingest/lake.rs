//! Tables of the lake as a source: each data file of the log is a split.
//!
//! A view of the lake is one version of each table, so it never changes while
//! it is read. Row groups are paid for from a budget of their own: a reader that
//! holds one and waits for room for its batches must not wait for another
//! reader that does the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use highwater::budget::{MemoryBudget, Permit};
use highwater::dataset::TableName;
use highwater::ledger::LoggedFile;
use highwater::source::{Emit, Reader, Readers, SourceError, SourceErrorKind, Split, TableRead};
use highwater::store::Store;

use crate::lake::{LakeReadError, TableFile};

/// One version of one table.
#[derive(Debug, Clone)]
pub struct LakeTable {
    /// The table's folder.
    pub folder: Store,
    /// Its files.
    pub files: Vec<LoggedFile>,
}

impl LakeTable {
    /// One split for each file.
    #[must_use]
    pub fn splits(&self) -> Vec<Split> {
        (0..)
            .zip(&self.files)
            .map(|(ordinal, file)| Split {
                ordinal,
                start: None,
                end: None,
                estimated_bytes: file.bytes,
            })
            .collect()
    }
}

/// One version of each of several tables of a lake.
#[derive(Clone)]
pub struct LakeSnapshot {
    tables: Arc<BTreeMap<TableName, LakeTable>>,
    row_groups: MemoryBudget,
}

impl LakeSnapshot {
    /// A view of `tables`; `row_groups` pays for what is read from files before
    /// it becomes batches.
    #[must_use]
    pub fn new(tables: BTreeMap<TableName, LakeTable>, row_groups: MemoryBudget) -> Self {
        Self {
            tables: Arc::new(tables),
            row_groups,
        }
    }

    fn table(&self, name: &TableName) -> Result<&LakeTable, SourceError> {
        self.tables.get(name).ok_or_else(|| {
            SourceError::new(
                SourceErrorKind::Failed,
                format!("table {name} is not among those of the lake; please report this"),
            )
        })
    }
}

#[async_trait]
impl Readers for LakeSnapshot {
    fn max_readers(&self) -> usize {
        usize::MAX
    }

    async fn reader(&self) -> Result<Box<dyn Reader>, SourceError> {
        Ok(Box::new(LakeReader {
            snapshot: self.clone(),
        }))
    }
}

/// Reads files of the lake.
struct LakeReader {
    snapshot: LakeSnapshot,
}

#[async_trait]
impl Reader for LakeReader {
    async fn read(
        &mut self,
        read: &TableRead,
        split: &Split,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError> {
        let table = self.snapshot.table(&read.table.name)?;
        let ordinal = usize::try_from(split.ordinal).unwrap_or(usize::MAX);
        let Some(file) = table.files.get(ordinal) else {
            return Err(SourceError::new(
                SourceErrorKind::Failed,
                "the lake has no such file; please report this",
            ));
        };
        let row_groups = &self.snapshot.row_groups;
        let mut batches = FileBatches::open(read, table, file, &read.schema(), row_groups).await?;
        while let Some((rows, permit)) = batches.next(out).await? {
            out.batch(rows, permit, batches.read_bytes()).await?;
        }
        Ok(())
    }
}

/// The rows of one file, a batch at a time, each paid for before it is decoded.
pub(super) struct FileBatches<'a> {
    name: &'a TableName,
    row_groups: &'a MemoryBudget,
    file: TableFile,
    next_group: usize,
    open: Option<OpenGroup>,
    read_bytes: u64,
}

/// A row group that is being decoded, and what pays for its bytes.
struct OpenGroup {
    rows: BoxStream<'static, Result<RecordBatch, LakeReadError>>,
    _paid: Permit,
}

impl<'a> FileBatches<'a> {
    /// Opens `file` of `table` in the columns of `wanted`.
    pub(super) async fn open(
        read: &'a TableRead,
        table: &LakeTable,
        file: &LoggedFile,
        wanted: &SchemaRef,
        row_groups: &'a MemoryBudget,
    ) -> Result<Self, SourceError> {
        let name = &read.table.name;
        let file = TableFile::open(table.folder.objects(), file, wanted).await;
        let file = file.map_err(|error| source_error(name, error))?;
        Ok(Self::of(name, file, row_groups))
    }

    /// The rows of a file that is open.
    pub(super) fn of(name: &'a TableName, file: TableFile, row_groups: &'a MemoryBudget) -> Self {
        Self {
            name,
            row_groups,
            file,
            next_group: 0,
            open: None,
            read_bytes: 0,
        }
    }

    /// The next rows and what pays for them; `None` at the end of the file.
    pub(super) async fn next(
        &mut self,
        out: &mut dyn Emit,
    ) -> Result<Option<(RecordBatch, Permit)>, SourceError> {
        loop {
            let Some(open) = &mut self.open else {
                if self.next_group >= self.file.row_groups() {
                    return Ok(None);
                }
                self.open_group(out.batch_bytes()).await?;
                continue;
            };
            let mut permit = out.permit(out.batch_bytes()).await;
            let Some(batch) = open.rows.next().await else {
                self.open = None;
                continue;
            };
            let batch = batch.map_err(|error| source_error(self.name, error))?;
            permit.shrink_to(batch.get_array_memory_size() as u64);
            return Ok(Some((batch, permit)));
        }
    }

    async fn open_group(&mut self, batch_bytes: u64) -> Result<(), SourceError> {
        let group = self.next_group;
        self.next_group += 1;
        let bytes = self.file.compressed_bytes(group);
        let paid = self.row_groups.take(bytes).await;
        let batch_rows = self.file.batch_rows(group, batch_bytes);
        let rows = self.file.rows(group, batch_rows);
        self.open = Some(OpenGroup {
            rows: rows
                .map_err(|error| source_error(self.name, error))?
                .boxed(),
            _paid: paid,
        });
        self.read_bytes += bytes;
        Ok(())
    }

    /// Bytes read since this was last asked.
    pub(super) fn read_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.read_bytes)
    }
}

/// What a file that cannot be read means for the table.
pub(crate) fn source_error(name: &TableName, error: LakeReadError) -> SourceError {
    let kind = if error.passes {
        SourceErrorKind::Unavailable
    } else {
        SourceErrorKind::Failed
    };
    SourceError::new(kind, format!("table {name}: {error}"))
}
