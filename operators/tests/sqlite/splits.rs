//! Splits cover every row exactly once, and pages keep to what was paid.

use highwater::source::{SourceErrorKind, Split, TableRead};
use proptest::prelude::*;
use rusqlite::params;

use crate::kit::{File, Out, options, read_all};

async fn whole(file: &File, name: &str) -> TableRead {
    let table = file.table(name, options()).await.unwrap();
    TableRead {
        table,
        filter: None,
        cursor: None,
        since: None,
        projection: Default::default(),
    }
}

fn rowids() -> impl Strategy<Value = std::collections::BTreeSet<i64>> {
    let near = prop_oneof![
        any::<i64>(),
        -50i64..50,
        i64::MAX - 3..=i64::MAX,
        i64::MIN..=i64::MIN + 3,
    ];
    prop::collection::btree_set(near, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn every_row_once(rowids in rowids(), target in 1u64..400, named in any::<bool>()) {
        let key = if named { "id INTEGER PRIMARY KEY, " } else { "" };
        let file = File::new(&format!("CREATE TABLE t ({key}v INTEGER)"));
        let writer = file.writer();
        for &rowid in &rowids {
            writer.execute("INSERT INTO t (rowid, v) VALUES (?1, ?1)", params![rowid]).unwrap();
        }
        drop(writer);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let read = whole(&file, "t").await;
            let snapshot = file.source().snapshot(1).await.unwrap();
            let got = read_all(&*snapshot, &read, target, 200).await;
            let values = got.rows().into_iter().map(|row| row.last().unwrap().parse().unwrap());
            // In rowid order too: splits are in order, and rows within them.
            assert_eq!(values.collect::<Vec<i64>>(), rowids.iter().copied().collect::<Vec<_>>());
        });
    }
}

#[tokio::test]
async fn one_split_without_rowid_and_where_its_names_are_taken() {
    for sql in [
        "CREATE TABLE t (a TEXT PRIMARY KEY, b INT) WITHOUT ROWID;",
        "CREATE TABLE t (rowid TEXT, _rowid_ TEXT, oid INT);",
    ] {
        let file = File::new(sql);
        let writer = file.writer();
        let columns = if sql.contains("oid INT") {
            "rowid, oid"
        } else {
            "a, b"
        };
        for n in 0..500 {
            let insert = format!("INSERT INTO t ({columns}) VALUES (?1, ?2)");
            writer
                .execute(&insert, params![format!("key {n:03}"), n])
                .unwrap();
        }
        let read = whole(&file, "t").await;
        assert_eq!(read.table.estimated_rows, Some(500));
        let snapshot = file.source().snapshot(2).await.unwrap();
        let got = read_all(&*snapshot, &read, 100, 1000).await;
        assert_eq!(got.plan.as_ref().unwrap().splits.len(), 1);
        assert_eq!(got.rows().len(), 500);
        assert!(got.batches.len() > 10);
        let mut last: Vec<i64> = got
            .rows()
            .iter()
            .map(|row| row.last().unwrap().parse().unwrap())
            .collect();
        last.sort_unstable();
        assert_eq!(last, (0..500).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_column_called_rowid_is_not_the_rowid() {
    let file = File::new(
        "CREATE TABLE t (rowid TEXT);
         INSERT INTO t (_rowid_, rowid) VALUES (5, 'b'), (-5, 'a'), (900, 'c');",
    );
    let read = whole(&file, "t").await;
    let snapshot = file.source().snapshot(1).await.unwrap();
    let got = read_all(&*snapshot, &read, 1, 1 << 20).await;
    assert_eq!(got.column(), ["a", "b", "c"]);
    assert!(got.plan.unwrap().splits.len() > 1);
}

#[tokio::test]
async fn an_empty_table_has_one_split_and_no_batch() {
    let file = File::new("CREATE TABLE t (a INT)");
    let read = whole(&file, "t").await;
    assert_eq!(
        (read.table.estimated_rows, read.table.estimated_bytes),
        (Some(0), 0)
    );
    let snapshot = file.source().snapshot(1).await.unwrap();
    let got = read_all(&*snapshot, &read, 1 << 20, 1 << 20).await;
    let plan = got.plan.unwrap();
    assert_eq!(
        plan.splits,
        [Split {
            ordinal: 0,
            start: None,
            end: None,
            estimated_bytes: 0
        }]
    );
    assert!(got.batches.is_empty());
}

/// `Out` itself asserts that each batch is covered by its permit.
#[tokio::test]
async fn rows_much_larger_than_a_batch_are_paid_for() {
    let file = File::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB);
         INSERT INTO t VALUES (1, zeroblob(10)), (2, zeroblob(3000000)), (3, zeroblob(10)),
                              (4, zeroblob(2000000)), (5, zeroblob(2000000));",
    );
    let read = whole(&file, "t").await;
    let snapshot = file.source().snapshot(1).await.unwrap();
    let got = read_all(&*snapshot, &read, 1 << 30, 10_000).await;
    let rows: Vec<_> = got.batches.iter().map(|batch| batch.num_rows()).collect();
    assert_eq!(rows, [1, 1, 1, 1, 1]);
    assert_eq!(got.source_bytes, 7_000_020 + 5 * 8);
}

#[tokio::test]
async fn stopping_ends_promptly_and_the_reader_can_be_used_again() {
    let file = File::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT);
         WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 20000)
         INSERT INTO t SELECT i, 'some text ' || i FROM c;",
    );
    let read = whole(&file, "t").await;
    let snapshot = file.source().snapshot(1).await.unwrap();
    let plan = snapshot.split(&read, 1 << 30).await.unwrap();
    let mut reader = snapshot.reader().await.unwrap();
    assert!(snapshot.reader().await.is_err(), "there is only one");
    let mut out = Out::new(2000);
    out.stop_after = 3;
    let stopped = reader
        .read(&read, &plan.splits[0], &mut out)
        .await
        .unwrap_err();
    assert_eq!(stopped.kind, SourceErrorKind::Stopped);
    // Dropped in the middle of a read: the next one starts from the beginning.
    {
        let mut out = Out::new(100);
        let cut = reader.read(&read, &plan.splits[0], &mut out);
        let _ = tokio::time::timeout(std::time::Duration::from_millis(20), cut).await;
    }
    let mut out = Out::new(1 << 20);
    reader.read(&read, &plan.splits[0], &mut out).await.unwrap();
    assert_eq!(out.got.rows().len(), 20_000);
    drop(reader);
    snapshot.reader().await.unwrap();
}

#[tokio::test]
async fn a_search_without_end_is_interrupted() {
    let file = File::new("CREATE TABLE t (a INT); INSERT INTO t VALUES (1);");
    let mut read = whole(&file, "t").await;
    read.filter = Some(
        "(WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c)
          SELECT count(*) FROM c) > 0 -- for ever"
            .to_owned(),
    );
    let snapshot = file.source().snapshot(1).await.unwrap();
    let split = Split {
        ordinal: 0,
        start: None,
        end: None,
        estimated_bytes: 0,
    };
    let mut reader = snapshot.reader().await.unwrap();
    let mut out = Out::new(1000);
    let endless = reader.read(&read, &split, &mut out);
    let cut = tokio::time::timeout(std::time::Duration::from_millis(100), endless).await;
    assert!(cut.is_err());
    read.filter = Some("a = 1".to_owned());
    reader.read(&read, &split, &mut out).await.unwrap();
    assert_eq!(out.got.column(), ["1"]);
}

#[tokio::test]
async fn the_layout_changes_with_the_schema_and_with_vacuum() {
    let file = File::new("CREATE TABLE t (a INT); INSERT INTO t VALUES (1);");
    let read = whole(&file, "t").await;
    let mut seen = Vec::new();
    for change in [
        "",
        "INSERT INTO t VALUES (2)",
        "VACUUM",
        "CREATE TABLE u (a)",
    ] {
        file.writer().execute_batch(change).unwrap();
        let snapshot = file.source().snapshot(1).await.unwrap();
        seen.push(snapshot.split(&read, 1).await.unwrap().layout);
    }
    assert_eq!(seen[0], seen[1]);
    assert_ne!(seen[1], seen[2]);
    assert_ne!(seen[2], seen[3]);
}
