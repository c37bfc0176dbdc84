//! What the tests of the ledger share: small files and small changes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use uuid::Uuid;

use super::super::{Change, ChangeKind, DataFile, Ledger, delta_stats, sha256_hex};
use crate::dataset::SOURCE_TYPE;
use crate::store::{Patience, Store};
use crate::watermark::{Bound, Identity, Mode, Watermark};

pub(super) const QUICK: Patience = Patience {
    deadline: Duration::from_millis(300),
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(20),
};

/// A folder that is removed at the end, and its store.
pub(super) fn folder() -> (tempfile::TempDir, Store) {
    let home = tempfile::tempdir().unwrap();
    let url = format!("file:{}/lake", home.path().display());
    let store = Store::open(&url, &BTreeMap::new()).unwrap().child("orders");
    (home, store)
}

pub(super) async fn open(store: &Store) -> Ledger {
    Ledger::open(store.clone())
        .await
        .unwrap()
        .with_patience(QUICK)
}

pub(super) fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
        .with_metadata([(SOURCE_TYPE.to_owned(), format!("source type of {name}"))])
}

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("id", DataType::Int64),
        field("n", DataType::Int64),
    ]))
}

pub(super) fn watermark(position: i64) -> Watermark {
    let source = Identity {
        kind: "test".to_owned(),
        id: "1".to_owned(),
        history: String::new(),
    };
    let bound = Bound {
        position: position.to_string(),
        at: "2026-01-01T00:00:00Z".to_owned(),
    };
    Watermark::new(source, Mode::Full, bound)
}

/// Writes one durable file of the columns in `schema` that are not partitions.
pub(super) async fn data_file(
    store: &Store,
    schema: &Schema,
    columns: Vec<ArrayRef>,
    partition: &[(&str, Option<&str>)],
) -> DataFile {
    let kept: Vec<_> = schema
        .fields()
        .iter()
        .filter(|field| !partition.iter().any(|(name, _)| name == field.name()))
        .cloned()
        .collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(kept)), columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let meta = writer.finish().unwrap();
    drop(writer);
    // Polars takes partition values from paths, not from the log: Hive's form.
    let folders: String = partition
        .iter()
        .map(|(name, value)| format!("{name}={}/", value.unwrap_or("__HIVE_DEFAULT_PARTITION__")))
        .collect();
    let path = format!("{folders}part-{}.parquet", Uuid::now_v7());
    store
        .objects()
        .put(&Path::from(path.as_str()), bytes.clone().into())
        .await
        .unwrap();
    DataFile {
        path,
        rows: batch.num_rows() as u64,
        bytes: bytes.len() as u64,
        sha256: sha256_hex(&bytes),
        partition: partition
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)))
            .collect(),
        stats: delta_stats(schema, &meta),
    }
}

/// A change of two columns that writes the rows `ids`.
pub(super) async fn change(store: &Store, kind: ChangeKind, from: i64, ids: &[i64]) -> Change {
    let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    let file = data_file(store, &schema(), vec![Arc::clone(&ids), ids], &[]).await;
    Change {
        run: Uuid::now_v7(),
        schema: schema(),
        partition_columns: Vec::new(),
        kind,
        files: vec![file],
        watermark: watermark(from + 1),
        from,
    }
}

/// Names of all log entries, in order.
pub(super) async fn log_entries(store: &Store) -> Vec<String> {
    use futures::TryStreamExt as _;
    let listing = store.objects().list(Some(&Path::from("_delta_log")));
    let mut names: Vec<String> = listing
        .map_ok(|object| object.location.filename().unwrap().to_owned())
        .try_collect()
        .await
        .unwrap();
    names.sort();
    names
}

pub(super) async fn entry(store: &Store, version: u64) -> Vec<serde_json::Value> {
    let path = super::super::committer::log_path(version);
    let bytes = store
        .objects()
        .get(&path)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    let text = std::str::from_utf8(&bytes).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The one action of a kind in an entry.
pub(super) fn action<'a>(entry: &'a [serde_json::Value], kind: &str) -> &'a serde_json::Value {
    let mut found = entry.iter().filter_map(|line| line.get(kind));
    let action = found
        .next()
        .unwrap_or_else(|| panic!("no {kind} in {entry:?}"));
    assert!(found.next().is_none(), "more than one {kind}");
    action
}
