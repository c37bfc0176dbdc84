//! Keys with their versions, rows by key, and what SQLite can say of changes.

use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use highwater::source::{
    CursorBound, Projection, Snapshot, SourceErrorKind, TAIL_COLUMN, TableOptions, TableRead,
    VERSION_COLUMN,
};

use crate::kit::{File, Got, Out, cursor, options, read_all, typed};

async fn all(file: &File, types: &[(&str, &str)]) -> TableRead {
    TableRead::all(file.table("t", typed(types)).await.unwrap(), None)
}

fn keys(read: &TableRead, tail_from: Option<&str>) -> TableRead {
    let tail_from = tail_from.map(ToOwned::to_owned);
    TableRead {
        projection: Projection::Keys { tail_from },
        ..read.clone()
    }
}

async fn batch(snapshot: &dyn Snapshot, read: &TableRead) -> (RecordBatch, Got) {
    let got = read_all(snapshot, read, 1000, 4096).await;
    (concat_batches(&read.schema(), &got.batches).unwrap(), got)
}

/// The key columns of all rows.
async fn key_columns(snapshot: &dyn Snapshot, read: &TableRead) -> RecordBatch {
    let (batch, _) = batch(snapshot, &keys(read, None)).await;
    batch
        .project(&(0..read.table.key.len()).collect::<Vec<_>>())
        .unwrap()
}

async fn fetch(snapshot: &dyn Snapshot, read: &TableRead, keys: &RecordBatch) -> Got {
    let mut out = Out::new(4096);
    let mut reader = snapshot.reader().await.unwrap();
    reader.fetch(read, keys, &mut out).await.unwrap();
    out.got
}

fn sorted(got: &Got) -> Vec<Vec<String>> {
    let mut rows = got.rows();
    rows.sort();
    rows
}

#[tokio::test]
async fn keys_with_versions_that_follow_every_column() {
    let file = File::new(
        "CREATE TABLE t (v, b TEXT, a INTEGER, day DATE, PRIMARY KEY (b, a)) WITHOUT ROWID;
         INSERT INTO t VALUES ('x' || char(0) || 'y', 'k', 1, '2024-01-01'), (CAST(x'ff' AS TEXT), 'k', 2, 'no date');",
    );
    let read = all(&file, &[("day", "date")]).await;
    let read = keys(&read, None);
    let snapshot = file.source().snapshot(1).await.unwrap();
    let (before, got) = batch(&*snapshot, &read).await;
    // What cannot be in the lake is outside of the keys, so nothing is set aside.
    assert!(got.bad.is_empty(), "{:?}", got.bad);
    let schema = before.schema();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name()).collect();
    assert_eq!(names, ["b", "a", VERSION_COLUMN, TAIL_COLUMN]);
    assert_eq!(before.column(3).as_boolean().true_count(), 0);
    drop(snapshot);
    file.writer()
        .execute_batch(
            "UPDATE t SET v = 'x' || char(0) || 'z' WHERE a = 1; UPDATE t SET v = v WHERE a = 2",
        )
        .unwrap();
    let snapshot = file.source().snapshot(1).await.unwrap();
    let (after, _) = batch(&*snapshot, &read).await;
    let version =
        |batch: &RecordBatch, row| batch.column(2).as_string::<i32>().value(row).to_owned();
    assert_ne!(
        version(&before, 0),
        version(&after, 0),
        "a change after a NUL"
    );
    assert_eq!(version(&before, 1), version(&after, 1), "the same content");
}

#[tokio::test]
async fn keys_that_the_lake_does_not_have_are_set_aside() {
    let file = File::new(
        "CREATE TABLE t (k TEXT NOT NULL PRIMARY KEY, v); INSERT INTO t VALUES ('a', 1), (CAST(x'ff' AS TEXT), 2)",
    );
    let read = keys(&all(&file, &[]).await, None);
    let snapshot = file.source().snapshot(1).await.unwrap();
    let (rows, got) = batch(&*snapshot, &read).await;
    assert_eq!((rows.num_rows(), got.bad.len()), (1, 1));
    assert_eq!(got.bad[0].column, "k");
}

#[tokio::test]
async fn the_tail_begins_at_a_cursor_value() {
    let file = File::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT); CREATE INDEX i ON t (at);
         INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, NULL), (4, 'c'), (5, 'b');",
    );
    let mut read = all(&file, &[]).await;
    read.cursor = cursor("at", Some("t:a"));
    let snapshot = file.source().snapshot(1).await.unwrap();
    let (rows, _) = batch(&*snapshot, &keys(&read, Some("t:b"))).await;
    let mut marked: Vec<_> = (0..rows.num_rows())
        .map(|row| {
            (
                rows.column(0)
                    .as_primitive::<arrow::datatypes::Int64Type>()
                    .value(row),
                rows.column(2).as_boolean().value(row),
            )
        })
        .collect();
    marked.sort_unstable();
    assert_eq!(marked, [(1, false), (2, true), (4, true), (5, true)]);
    read.cursor = cursor("at", None);
    let (rows, _) = batch(&*snapshot, &keys(&read, Some("t:b"))).await;
    assert_eq!(rows.column(2).as_boolean().true_count(), 3);
    assert_eq!(rows.column(2).null_count(), 0, "NULL is not in the tail");
}

/// Declarations of the key columns, the types chosen for them, and values.
type Case = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
);

const CASES: &[Case] = &[
    (
        "k INTEGER PRIMARY KEY",
        &[],
        "(-9223372036854775808), (0), (9223372036854775807)",
    ),
    (
        "k INT NOT NULL PRIMARY KEY",
        &[],
        "(-1), (2), (9007199254740993)",
    ),
    (
        "k TEXT NOT NULL PRIMARY KEY",
        &[],
        "(''), ('it''s'), ('5'), ('05'), ('NULL'), ('a' || char(0) || 'b'), ('ß😀')",
    ),
    (
        "k TEXT NOT NULL COLLATE NOCASE PRIMARY KEY",
        &[],
        "('Abc'), ('d')",
    ),
    (
        "k TEXT NOT NULL COLLATE NOCASE, UNIQUE (k COLLATE BINARY)",
        &[],
        "('Abc'), ('abc'), ('ABC')",
    ),
    (
        "k STRING NOT NULL PRIMARY KEY",
        &[],
        "(5), ('05x'), (1.5), (9e999), ('12345678901234567890123')",
    ),
    (
        "k NUMERIC NOT NULL PRIMARY KEY",
        &[],
        "(5), (-0.5), (1e300), ('x')",
    ),
    (
        "k NOT NULL PRIMARY KEY",
        &[],
        "(5), ('5'), (x'35'), (1.5), ('''')",
    ),
    (
        "k NOT NULL PRIMARY KEY",
        &[("k", "text")],
        "(5), ('x'), (1.5), (1e300)",
    ),
    (
        "k NOT NULL PRIMARY KEY",
        &[("k", "integer")],
        "(5), ('6'), (7.0)",
    ),
    (
        "k NOT NULL PRIMARY KEY",
        &[("k", "double")],
        "(5), ('6.5'), (0.1), ('7')",
    ),
    ("k BLOB NOT NULL PRIMARY KEY", &[], "(x''), (x'00ff27')"),
    (
        "k REAL NOT NULL PRIMARY KEY",
        &[],
        "(0.1), (-1e300), (9e999), (3)",
    ),
    ("k BOOLEAN NOT NULL PRIMARY KEY", &[], "(0), (1)"),
    (
        "k DATE NOT NULL PRIMARY KEY",
        &[("k", "date")],
        "('0000-01-01'), ('2024-02-29'), ('9999-12-31')",
    ),
    (
        "k DATETIME NOT NULL PRIMARY KEY",
        &[("k", "timestamp")],
        "('2024-01-01 00:00'), ('2024-01-01T00:00:01.500000000')",
    ),
    (
        "k TEXT NOT NULL PRIMARY KEY",
        &[("k", "timestamptz")],
        "('2024-01-01 00:00Z'), ('2024-01-01T00:00:00-05:00')",
    ),
    (
        "k DECIMAL(10,2) NOT NULL PRIMARY KEY",
        &[("k", "decimal(12,3)")],
        "(5), (1.5), ('x1')",
    ),
    (
        "k TEXT NOT NULL PRIMARY KEY",
        &[("k", "decimal(12,3)")],
        "('1.50'), ('15e-2'), ('7')",
    ),
];

#[tokio::test]
async fn every_type_of_key_finds_its_rows() {
    for (columns, types, values) in CASES {
        for suffix in ["", " WITHOUT ROWID"] {
            if !suffix.is_empty() && !columns.contains("PRIMARY KEY") {
                continue;
            }
            let file = File::new(&format!(
                "CREATE TABLE t (v INT DEFAULT 7, {columns}){suffix}; INSERT INTO t (k) VALUES {values};"
            ));
            let read = all(&file, types).await;
            let snapshot = file.source().snapshot(1).await.unwrap();
            let whole = read_all(&*snapshot, &read, 1000, 4096).await;
            let found = key_columns(&*snapshot, &read).await;
            assert_eq!(whole.rows().len(), found.num_rows(), "{columns}");
            assert!(found.num_rows() >= 2, "{columns}");
            assert_eq!(
                sorted(&fetch(&*snapshot, &read, &found).await),
                sorted(&whole),
                "{columns} {types:?}"
            );
            for row in 0..found.num_rows() {
                let one = fetch(&*snapshot, &read, &found.slice(row, 1)).await;
                assert_eq!(
                    one.rows().len(),
                    1,
                    "{columns} {types:?}: only what is asked for"
                );
            }
        }
    }
}

#[tokio::test]
async fn many_keys_of_two_columns_with_a_condition_and_bad_rows() {
    let file = File::new(
        "CREATE TABLE t (v INT, a TEXT, b INT, PRIMARY KEY (b, a)) WITHOUT ROWID;
         WITH RECURSIVE n(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < 20000)
         INSERT INTO t SELECT CASE WHEN n = 15 THEN 'bad' ELSE n END, 'k' || (n % 100), n / 100 FROM n;",
    );
    let mut read = all(&file, &[]).await;
    let snapshot = file.source().snapshot(2).await.unwrap();
    let found = key_columns(&*snapshot, &read).await;
    assert_eq!(found.num_rows(), 20_000);
    let got = fetch(&*snapshot, &read, &found.slice(0, 3000)).await;
    assert_eq!((got.rows().len(), got.bad.len()), (2999, 1));
    assert!(got.batches.len() > 1, "in pages as a split is");
    assert_eq!(got.bad[0].key["a"].as_deref(), Some("k15"));
    read.filter = Some("v % 2 = 0 -- even".to_owned());
    let even = fetch(&*snapshot, &read, &found.slice(0, 3000)).await.rows();
    assert!((1400..1600).contains(&even.len()), "{}", even.len());
    assert_eq!(snapshot.count(&read).await.unwrap(), 10_001);
    // 'bad' % 2 is 0 for SQLite, which is why one more is counted.
    read.filter = Some("nothing = 1".to_owned());
    let mut reader = snapshot.reader().await.unwrap();
    let error = reader
        .fetch(&read, &found.slice(0, 1), &mut Out::new(4096))
        .await
        .unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Usage, "{error}");
    read.filter = None;
    let mut out = Out::new(4096);
    out.stop_after = 1;
    let error = reader.fetch(&read, &found, &mut out).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Stopped);
    let one = found.project(&[0]).unwrap();
    let error = reader
        .fetch(&read, &one, &mut Out::new(4096))
        .await
        .unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Usage);
}

#[tokio::test]
async fn writers_are_not_known_and_need_not_be() {
    let file = File::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT); INSERT INTO t VALUES (1, 'a')",
    );
    let read = all(&file, &[]).await;
    let snapshot = file.source().snapshot(1).await.unwrap();
    let position = snapshot.bound().position.clone();
    let reason = snapshot
        .can_read_since(&read, &position)
        .await
        .unwrap()
        .unwrap_err();
    assert!(reason.contains("does not keep who wrote a row"), "{reason}");
    let since = TableRead {
        since: Some(position),
        ..read.clone()
    };
    let plan = snapshot.split(&read, 1000).await.unwrap();
    let mut reader = snapshot.reader().await.unwrap();
    let error = reader
        .read(&since, &plan.splits[0], &mut Out::new(4096))
        .await
        .unwrap_err();
    assert!(
        error.message.contains("does not keep"),
        "never all rows for some: {error}"
    );
    let bound = snapshot
        .cursor_bound(&read, "at", Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(bound, CursorBound::Unbounded);
    assert!(
        snapshot
            .cursor_bound(&read, "att", Duration::ZERO)
            .await
            .is_err()
    );
    let options = TableOptions {
        filter: Some("id > 1".into()),
        ..options()
    };
    assert_eq!(
        snapshot
            .count(&TableRead {
                filter: options.filter,
                ..read
            })
            .await
            .unwrap(),
        0
    );
}
