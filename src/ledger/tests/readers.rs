//! Tables read back by readers that we did not write: `deltalake` and `polars`
//! for Python. Set `HIGHWATER_PYTHON` to an interpreter that has both (and
//! `pyarrow`); without it these tests say that they were skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Schema, TimeUnit};
use object_store::ObjectStoreExt as _;

use super::super::{Change, ChangeKind};
use super::kit::{change, data_file, field, folder, open};

/// Runs `script` with the table's folder as its argument; `None` if skipped.
pub(super) fn python(store: &crate::store::Store, script: &str) -> Option<String> {
    let Some(interpreter) = std::env::var_os("HIGHWATER_PYTHON") else {
        eprintln!("skipped: HIGHWATER_PYTHON is not set");
        return None;
    };
    let folder = store.folder().unwrap();
    let done = Command::new(interpreter)
        .arg("-c")
        .arg(script)
        .arg(folder)
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(done.status.success(), "{out}\n{err}");
    Some(out.trim().to_owned())
}

/// Prints what each reader sees, sorted: all must print the same.
pub(super) const READ: &str = r#"
import sys, json, pyarrow as pa, deltalake, polars as pl
root = sys.argv[1]
table = deltalake.DeltaTable(root)
def show(rows): return json.dumps(sorted(rows, key=str), default=str, ensure_ascii=False)
seen = {
  "pyarrow": show(table.to_pyarrow_table().to_pylist()),
  "datafusion": show(pa.table(deltalake.QueryBuilder().register("t", table).execute("select * from t")).to_pylist()),
  "polars": show(pl.read_delta(root).to_dicts()),
}
import collections
same = {k: sorted(v) for k, v in seen.items()}
assert len({json.dumps(sorted([sorted(r.items(), key=str) for r in json.loads(v)], key=str)) for v in seen.values()}) == 1, seen
print(seen["pyarrow"])
"#;

#[tokio::test]
async fn readers_see_each_commit_whole() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    ledger
        .commit(change(&store, ChangeKind::Replace, 0, &[1, 2]).await)
        .await
        .unwrap();
    ledger
        .commit(change(&store, ChangeKind::Append, 1, &[3]).await)
        .await
        .unwrap();
    let Some(seen) = python(&store, READ) else {
        return;
    };
    assert_eq!(
        seen,
        r#"[{"id": 1, "n": 1}, {"id": 2, "n": 2}, {"id": 3, "n": 3}]"#
    );
    ledger
        .commit(change(&store, ChangeKind::Replace, 2, &[7]).await)
        .await
        .unwrap();
    assert_eq!(python(&store, READ).unwrap(), r#"[{"id": 7, "n": 7}]"#);
}

/// Every sign that Parquet, Delta or shells find odd.
const ODD: [&str; 7] = [
    "a b",
    "c,d;e",
    "x{y}(z)=",
    "tab\tnew\nline",
    "quote\"'`",
    "p\u{fc}nkt.dot",
    "%41/\\",
];

#[tokio::test]
async fn readers_see_odd_names_types_and_a_new_shape() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    ledger
        .commit(change(&store, ChangeKind::Replace, 0, &[1]).await)
        .await
        .unwrap();
    ledger.commit(odd(&store, 1).await).await.unwrap();
    let Some(seen) = python(&store, READ) else {
        return;
    };
    assert!(
        seen.contains(r#""a b": 0"#) && seen.contains("-12345678901234567890.123456789"),
        "{seen}"
    );
    assert!(
        seen.contains(r#""day": "2026-01-01""#) && seen.contains(r#""day": null"#),
        "{seen}"
    );
    let types = python(
        &store,
        r#"
import sys, deltalake
print({f.name: f.metadata.get("highwater.source_type") for f in deltalake.DeltaTable(sys.argv[1]).schema().fields})
"#,
    );
    assert!(types.unwrap().contains("'a b': 'source type of a b'"));
    let skipped = python(
        &store,
        r#"
import sys, polars as pl, datetime as dt, decimal
t = pl.scan_delta(sys.argv[1])
for low, high in [("price", decimal.Decimal("-1")), ("float", 0.5), ("date", dt.date(1970, 1, 2)), ("text", "n")]:
    every = pl.read_delta(sys.argv[1]).filter(pl.col(low) > high).height
    assert t.filter(pl.col(low) > high).collect().height == every, low
at = dt.datetime(2023, 11, 14, 22, 13, 20, 123455)
assert t.filter(pl.col("ntz") > at).collect().height == 2
assert t.filter(pl.col("utc") > at.replace(tzinfo=dt.timezone.utc)).collect().height == 2
import deltalake, pyarrow as pa
d = deltalake.DeltaTable(sys.argv[1])
q = pa.table(deltalake.QueryBuilder().register("t", d).execute("select * from t where ntz > timestamp '2023-11-14 22:13:20.123455' and price < -1 and date < date '1970-01-02' and float < 0.5"))
assert q.num_rows == 2, q
print("ok")
"#,
    );
    assert_eq!(skipped.unwrap(), "ok");
}

/// A change of many types and odd names, partitioned by `day`.
pub(super) async fn odd(store: &crate::store::Store, from: i64) -> Change {
    let micro =
        |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    let mut fields: Vec<_> = ODD
        .iter()
        .map(|name| field(name, DataType::Int64))
        .collect();
    fields.extend([
        field("price", DataType::Decimal128(38, 9)),
        field("float", DataType::Float64),
        field("date", DataType::Date32),
        field("text", DataType::Utf8),
        field("utc", micro(Some("UTC"))),
        field("ntz", micro(None)),
        field("day", DataType::Utf8),
    ]);
    let schema = Arc::new(Schema::new(fields));
    let mut columns: Vec<ArrayRef> = (0..ODD.len())
        .map(|_| Arc::new(Int64Array::from(vec![0])) as ArrayRef)
        .collect();
    let price = Decimal128Array::from(vec![-12_345_678_901_234_567_890_123_456_789_i128]);
    let at = vec![1_700_000_000_123_456];
    columns.extend([
        Arc::new(price.with_precision_and_scale(38, 9).unwrap()) as ArrayRef,
        Arc::new(Float64Array::from(vec![-0.25])),
        Arc::new(Date32Array::from(vec![0])),
        Arc::new(StringArray::from(vec!["m".repeat(50)])),
        Arc::new(TimestampMicrosecondArray::from(at.clone()).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from(at)),
    ]);
    let mut files = Vec::new();
    for day in [Some("2026-01-01"), None] {
        files.push(data_file(store, &schema, columns.clone(), &[("day", day)]).await);
    }
    let mut change = change(store, ChangeKind::Replace, from, &[1]).await;
    change.partition_columns = vec!["day".to_owned()];
    change.schema = schema;
    change.files = files;
    change
}

#[tokio::test]
async fn odd_names_can_be_created_too() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    let head = ledger.commit(odd(&store, 0).await).await.unwrap();
    assert_eq!(open(&store).await.head(), Some(&head));
    if let Some(seen) = python(&store, READ) {
        assert!(seen.contains(r#""a b": 0"#), "{seen}");
    }
}

/// `deltalake` refuses to write to tables with domain metadata (1.6), so it can
/// never come in between; its checkpoints must keep all that is ours.
#[tokio::test]
async fn a_checkpoint_of_deltalake_keeps_watermark_and_hashes() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    for from in 0..3 {
        let next = change(&store, ChangeKind::Append, from, &[from]).await;
        ledger.commit(next).await.unwrap();
    }
    let script = r#"
import sys, pyarrow as pa, deltalake
try:
    deltalake.write_deltalake(sys.argv[1], pa.table({"id": [50], "n": [50]}), mode="append")
    print("written")
except Exception as error:
    print(error)
deltalake.DeltaTable(sys.argv[1]).create_checkpoint()
"#;
    let Some(said) = python(&store, script) else {
        return;
    };
    assert!(said.contains("DomainMetadata"), "{said}");
    // Only the checkpoint is left to read from.
    for version in 0..2 {
        let entry = super::super::committer::log_path(version);
        store.objects().delete(&entry).await.unwrap();
    }
    let mut again = open(&store).await;
    assert_eq!(again.head(), ledger.head());
    let files = again.files().await.unwrap();
    assert!(
        files.iter().all(|file| file.sha256.is_some()),
        "C7: {files:?}"
    );
    let next = change(&store, ChangeKind::Replace, 3, &[7]).await;
    assert_eq!(again.commit(next).await.unwrap().rows, 1);
    assert_eq!(python(&store, READ).unwrap(), r#"[{"id": 7, "n": 7}]"#);
}
