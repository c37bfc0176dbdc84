//! What tests of changes ask of a snapshot.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::util::display::array_value_to_string;
use highwater::source::{CursorRange, Projection, Selection, Snapshot, Source, TableRead};
use highwater_operators::ingest::postgres::{PostgresOptions, open};

use crate::collect::{Collect, read_with, table};

pub fn source(url: &str) -> Arc<dyn Source> {
    open(url, PostgresOptions::default()).unwrap()
}

/// Everything of the table `name`.
pub async fn all(source: &Arc<dyn Source>, name: &str) -> TableRead {
    let table = table(source.as_ref(), &Selection::default(), name)
        .await
        .unwrap();
    TableRead::all(table, None)
}

pub fn since(read: &TableRead, position: &str) -> TableRead {
    TableRead {
        since: Some(position.to_owned()),
        ..read.clone()
    }
}

pub fn keys(read: &TableRead, tail_from: Option<&str>) -> TableRead {
    let tail_from = tail_from.map(ToOwned::to_owned);
    TableRead {
        projection: Projection::Keys { tail_from },
        ..read.clone()
    }
}

pub fn from(read: &TableRead, column: &str, from: &str) -> TableRead {
    let cursor = CursorRange {
        column: column.to_owned(),
        from: Some(from.to_owned()),
        to: None,
        nulls: false,
    };
    TableRead {
        cursor: Some(cursor),
        ..read.clone()
    }
}

/// What `read` reads of `snapshot`, in splits of a few pages.
pub async fn rows(snapshot: &Arc<dyn Snapshot>, read: &TableRead) -> RecordBatch {
    let mut out = Collect::new(64 * 1024, 64 << 20);
    read_with(snapshot, read, 2, 20_000, &mut out)
        .await
        .unwrap();
    assert!(out.bad.is_empty(), "{:?}", out.bad);
    for batch in &out.batches {
        assert_eq!(batch.schema(), read.schema());
    }
    concat_batches(&read.schema(), &out.batches).unwrap()
}

/// The rows whose key is in `keys`.
pub async fn fetched(
    snapshot: &Arc<dyn Snapshot>,
    read: &TableRead,
    keys: &RecordBatch,
) -> RecordBatch {
    let mut out = Collect::new(64 * 1024, 64 << 20);
    let mut reader = snapshot.reader().await.unwrap();
    reader.fetch(read, keys, &mut out).await.unwrap();
    concat_batches(&read.table.schema(), &out.batches).unwrap()
}

/// Rows as text, sorted.
pub fn sorted(batch: &RecordBatch) -> Vec<String> {
    let row = |row: usize| {
        let cells = batch.columns().iter().map(|column| {
            if column.is_null(row) {
                "NULL".to_owned()
            } else {
                array_value_to_string(column, row).unwrap()
            }
        });
        cells.collect::<Vec<_>>().join("|")
    };
    let mut rows: Vec<_> = (0..batch.num_rows()).map(row).collect();
    rows.sort();
    rows
}

/// The first column as numbers, sorted.
pub fn ids(batch: &RecordBatch) -> Vec<i32> {
    let mut ids: Vec<i32> = sorted(&batch.project(&[0]).unwrap())
        .iter()
        .map(|id| id.parse().unwrap())
        .collect();
    ids.sort_unstable();
    ids
}
