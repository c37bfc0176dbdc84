//! A database file that lives as long as its test, and all that a read gives.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;
use highwater::budget::{MemoryBudget, Permit};
use highwater::dataset::Table;
use highwater::source::{
    BadRow, CursorRange, Emit, Reader, Selection, Snapshot, Source, SourceError, SourceErrorKind,
    SplitPlan, TableOptions, TableRead,
};
use rusqlite::Connection;

pub struct File {
    _folder: tempfile::TempDir,
    pub path: PathBuf,
}

impl File {
    /// A database made by `sql`.
    pub fn new(sql: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.sqlite");
        let file = Self {
            _folder: folder,
            path,
        };
        file.writer().execute_batch(sql).unwrap();
        file
    }

    pub fn writer(&self) -> Connection {
        Connection::open(&self.path).unwrap()
    }

    pub fn url(&self) -> String {
        format!("sqlite://{}", self.path.display())
    }

    pub fn source(&self) -> Arc<dyn Source> {
        highwater_operators::ingest::sqlite::open(&self.url()).unwrap()
    }

    pub async fn table(&self, name: &str, options: TableOptions) -> Result<Table, SourceError> {
        let mut selection = Selection {
            include: vec![name.to_owned()],
            ..Selection::default()
        };
        selection.tables.insert(name.to_owned(), options);
        let mut found = self.source().discover(&selection).await.unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0).table
    }

    /// Everything of one table, through one snapshot.
    pub async fn read(&self, name: &str, options: TableOptions) -> Got {
        let filter = options.filter.clone();
        let table = self.table(name, options).await.unwrap();
        let read = TableRead {
            table,
            filter,
            cursor: None,
            since: None,
            projection: Default::default(),
        };
        let snapshot = self.source().snapshot(1).await.unwrap();
        read_all(&*snapshot, &read, u64::MAX, 1 << 20).await
    }
}

/// What a read gave.
#[derive(Default)]
pub struct Got {
    pub batches: Vec<RecordBatch>,
    pub bad: Vec<BadRow>,
    pub source_bytes: u64,
    pub plan: Option<SplitPlan>,
}

impl Got {
    /// The rows as text, NULL as `null`.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for batch in &self.batches {
            for row in 0..batch.num_rows() {
                let cell = |column: &Arc<dyn arrow::array::Array>| {
                    if column.is_null(row) {
                        "null".to_owned()
                    } else {
                        array_value_to_string(column, row).unwrap()
                    }
                };
                rows.push(batch.columns().iter().map(cell).collect());
            }
        }
        rows
    }

    /// The only column as text.
    pub fn column(&self) -> Vec<String> {
        self.rows().into_iter().map(|row| row[0].clone()).collect()
    }
}

pub async fn read_all(
    snapshot: &dyn Snapshot,
    read: &TableRead,
    target_bytes: u64,
    batch_bytes: u64,
) -> Got {
    let plan = snapshot.split(read, target_bytes).await.unwrap();
    let mut reader = snapshot.reader().await.unwrap();
    let mut read = read.clone();
    if let Some(cursor) = &mut read.cursor {
        cursor.to.clone_from(&plan.cursor_max);
    }
    let mut out = Out::new(batch_bytes);
    for split in &plan.splits {
        reader.read(&read, split, &mut out).await.unwrap();
    }
    let mut got = out.got;
    got.plan = Some(plan);
    got
}

pub async fn read_split_by_split(
    reader: &mut dyn Reader,
    read: &TableRead,
    plan: &SplitPlan,
) -> Got {
    let mut out = Out::new(4096);
    for split in &plan.splits {
        reader.read(read, split, &mut out).await.unwrap();
    }
    out.got
}

/// Collects, and watches that every batch is paid for.
pub struct Out {
    pub got: Got,
    pub budget: MemoryBudget,
    pub batch_bytes: u64,
    /// Answer "the run is over" after so many batches.
    pub stop_after: usize,
}

impl Out {
    pub fn new(batch_bytes: u64) -> Self {
        Self {
            got: Got::default(),
            budget: MemoryBudget::new(1 << 30),
            batch_bytes,
            stop_after: usize::MAX,
        }
    }
}

#[async_trait]
impl Emit for Out {
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
        assert!(rows.num_rows() > 0);
        // Small buffers are padded to 64 bytes; that is what the slack is for.
        let padding = 256 * rows.num_columns() as u64 + 4096;
        let held = rows.get_array_memory_size() as u64;
        assert!(
            held <= permit.bytes() + padding,
            "{held} bytes held, {} paid",
            permit.bytes()
        );
        if self.got.batches.len() >= self.stop_after {
            return Err(SourceError::new(SourceErrorKind::Stopped, "enough"));
        }
        self.got.batches.push(rows);
        self.got.source_bytes += source_bytes;
        Ok(())
    }

    async fn quarantine(&mut self, row: BadRow) -> Result<(), SourceError> {
        self.got.bad.push(row);
        Ok(())
    }
}

pub fn options() -> TableOptions {
    TableOptions::default()
}

/// Options that name types.
pub fn typed(types: &[(&str, &str)]) -> TableOptions {
    let types = types
        .iter()
        .map(|&(column, name)| (column.to_owned(), name.to_owned()));
    TableOptions {
        types: types.collect(),
        ..TableOptions::default()
    }
}

pub fn cursor(column: &str, from: Option<&str>) -> Option<CursorRange> {
    Some(CursorRange {
        column: column.to_owned(),
        from: from.map(ToOwned::to_owned),
        to: None,
        nulls: false,
    })
}
