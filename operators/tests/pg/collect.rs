//! A sink that keeps what readers emit.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;
use highwater::budget::{MemoryBudget, Permit};
use highwater::dataset::Table;
use highwater::source::{
    BadRow, Emit, Reader, Selection, Snapshot, Source, SourceError, SourceErrorKind, Split,
    TableRead,
};

/// Keeps batches and bad rows.
pub struct Collect {
    pub batches: Vec<RecordBatch>,
    pub bad: Vec<BadRow>,
    pub source_bytes: u64,
    pub batch_bytes: u64,
    pub stop_after: Option<usize>,
    budget: MemoryBudget,
}

impl Collect {
    pub fn new(batch_bytes: u64, budget: u64) -> Self {
        let budget = MemoryBudget::new(budget);
        Self {
            batches: vec![],
            bad: vec![],
            source_bytes: 0,
            batch_bytes,
            stop_after: None,
            budget,
        }
    }
}

#[async_trait]
impl Emit for Collect {
    async fn permit(&mut self, bytes: u64) -> Permit {
        self.budget.take(bytes).await
    }

    fn batch_bytes(&self) -> u64 {
        self.batch_bytes
    }

    async fn batch(
        &mut self,
        rows: RecordBatch,
        permit: Permit,
        source_bytes: u64,
    ) -> Result<(), SourceError> {
        if self.stop_after == Some(self.batches.len()) {
            return Err(SourceError::new(SourceErrorKind::Stopped, "enough"));
        }
        let (held, paid) = (rows.get_array_memory_size() as u64, permit.bytes());
        // The capacity is paid for, up to the slack that is not known before.
        assert!(
            held <= paid + paid / 4 + 65536,
            "{held} bytes held, {paid} paid"
        );
        self.source_bytes += source_bytes;
        self.batches.push(rows);
        Ok(())
    }

    async fn quarantine(&mut self, row: BadRow) -> Result<(), SourceError> {
        self.bad.push(row);
        Ok(())
    }
}

/// All rows of a table.
pub struct Rows {
    pub table: Table,
    pub batch: RecordBatch,
    pub bad: Vec<BadRow>,
    pub splits: usize,
}

impl Rows {
    pub fn column(&self, name: &str) -> &ArrayRef {
        self.batch
            .column_by_name(name)
            .unwrap_or_else(|| panic!("no column {name}"))
    }

    /// Values as Arrow prints them; NULL as `NULL`.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let column = self.column(name);
        (0..column.len())
            .map(|row| match column.is_null(row) {
                true => "NULL".to_owned(),
                false => array_value_to_string(column, row).unwrap(),
            })
            .collect()
    }
}

/// The table `name` (its own name), as `selection` has it.
pub async fn table(
    source: &dyn Source,
    selection: &Selection,
    name: &str,
) -> Result<Table, SourceError> {
    let found = source.discover(selection).await?;
    found
        .into_iter()
        .find(|found| found.name.name == name)
        .unwrap_or_else(|| panic!("no table {name}"))
        .table
}

/// Reads `read` by `readers` readers in turn.
pub async fn read_with(
    snapshot: &Arc<dyn Snapshot>,
    read: &TableRead,
    readers: usize,
    target_bytes: u64,
    out: &mut Collect,
) -> Result<usize, SourceError> {
    let plan = snapshot.split(read, target_bytes).await?;
    let mut open: Vec<Box<dyn Reader>> = Vec::new();
    for _ in 0..readers.min(snapshot.max_readers()) {
        open.push(snapshot.reader().await?);
    }
    for (turn, split) in plan.splits.iter().enumerate() {
        let reader = turn % open.len();
        open[reader].read(read, split, out).await?;
    }
    Ok(plan.splits.len())
}

/// The whole of one table.
pub async fn read_all(
    source: &Arc<dyn Source>,
    selection: &Selection,
    name: &str,
) -> Result<Rows, SourceError> {
    let table = table(source.as_ref(), selection, name).await?;
    let filter = selection.options(&table.name).filter;
    let read = TableRead {
        table: table.clone(),
        filter,
        cursor: None,
        since: None,
        projection: Default::default(),
    };
    let snapshot = source.snapshot(2).await?;
    let mut out = Collect::new(64 * 1024, 64 << 20);
    let splits = read_with(&snapshot, &read, 2, 256 * 1024, &mut out).await?;
    let batch = concat_batches(&table.schema(), &out.batches).unwrap();
    Ok(Rows {
        table,
        batch,
        bad: out.bad,
        splits,
    })
}

/// One whole-table split.
pub fn whole() -> Split {
    Split {
        ordinal: 0,
        start: Some(0),
        end: None,
        estimated_bytes: 0,
    }
}
