//! Reads one PostgreSQL table with N readers and throws the rows away: what the
//! source costs by itself.
//!
//! ```text
//! cargo run --release -p highwater-operators --example pg_drain -- \
//!     postgres://postgres@127.0.0.1:5432/bench orders 2
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use arrow::array::RecordBatch;
use async_trait::async_trait;
use highwater::budget::{MemoryBudget, Permit};
use highwater::source::{BadRow, Emit, Selection, Snapshot, SourceError, Split, TableRead};
use highwater_operators::ingest::postgres::{PostgresOptions, open};

/// The memory that batches may hold.
const BUDGET_BYTES: u64 = 64 << 20;
/// The size of a batch.
const BATCH_BYTES: u64 = 4 << 20;
/// The size of a split.
const SPLIT_BYTES: u64 = 32 << 20;

/// Counts and drops.
struct Drain {
    budget: MemoryBudget,
    rows: u64,
    source_bytes: u64,
    arrow_bytes: u64,
    bad: u64,
}

#[async_trait]
impl Emit for Drain {
    async fn permit(&mut self, bytes: u64) -> Permit {
        self.budget.take(bytes).await
    }

    fn batch_bytes(&self) -> u64 {
        BATCH_BYTES
    }

    async fn batch(
        &mut self,
        rows: RecordBatch,
        _permit: Permit,
        source_bytes: u64,
    ) -> Result<(), SourceError> {
        self.rows += rows.num_rows() as u64;
        self.arrow_bytes += rows.get_array_memory_size() as u64;
        self.source_bytes += source_bytes;
        Ok(())
    }

    async fn quarantine(&mut self, _row: BadRow) -> Result<(), SourceError> {
        self.bad += 1;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, table, rest @ ..] = arguments.as_slice() else {
        bail!("usage: pg_drain URL TABLE [READERS]");
    };
    let readers: usize = rest.first().map_or(Ok(1), |text| text.parse())?;
    let source = open(url, PostgresOptions::default())?;
    let selection = Selection {
        include: vec![table.clone()],
        ..Default::default()
    };
    let found = source
        .discover(&selection)
        .await?
        .pop()
        .context("no such table")?
        .table?;
    let read = Arc::new(TableRead {
        table: found,
        filter: None,
        cursor: None,
        since: None,
        projection: Default::default(),
    });
    let snapshot = source.snapshot(readers).await?;
    let plan = snapshot.split(&read, SPLIT_BYTES).await?;
    let splits = Arc::new(Mutex::new(VecDeque::from(plan.splits)));
    let budget = MemoryBudget::new(BUDGET_BYTES);

    let started = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..snapshot.max_readers() {
        let (snapshot, read) = (Arc::clone(&snapshot), Arc::clone(&read));
        let (splits, budget) = (Arc::clone(&splits), budget.clone());
        tasks.push(tokio::spawn(drain(snapshot, read, splits, budget)));
    }
    let mut sum = (0, 0, 0, 0);
    for task in tasks {
        let drained = task.await??;
        sum.0 += drained.rows;
        sum.1 += drained.source_bytes;
        sum.2 += drained.arrow_bytes;
        sum.3 += drained.bad;
    }
    let seconds = started.elapsed().as_secs_f64();
    let (rows, source_bytes, arrow_bytes, bad) = sum;
    println!(
        "{rows} rows, {source_bytes} bytes of COPY, {arrow_bytes} bytes of Arrow, {bad} bad, {seconds:.2} s: {:.2} M rows/s, {:.0} MB/s",
        rows as f64 / seconds / 1e6,
        source_bytes as f64 / seconds / 1e6,
    );
    Ok(())
}

async fn drain(
    snapshot: Arc<dyn Snapshot>,
    read: Arc<TableRead>,
    splits: Arc<Mutex<VecDeque<Split>>>,
    budget: MemoryBudget,
) -> Result<Drain, SourceError> {
    let mut reader = snapshot.reader().await?;
    let mut out = Drain {
        budget,
        rows: 0,
        source_bytes: 0,
        arrow_bytes: 0,
        bad: 0,
    };
    let next = || {
        splits
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    while let Some(split) = next() {
        reader.read(&read, &split, &mut out).await?;
    }
    Ok(out)
}
