//! Reads above a cursor: closed intervals, SQLite's own order.

use highwater::source::TableRead;

use crate::kit::{File, Got, cursor, options, read_all};

async fn above(file: &File, column: &str, from: Option<&str>) -> Got {
    let read = TableRead {
        table: file.table("t", options()).await.unwrap(),
        filter: None,
        cursor: cursor(column, from),
        since: None,
        projection: Default::default(),
    };
    let snapshot = file.source().snapshot(1).await.unwrap();
    let mut got = read_all(&*snapshot, &read, 10, 1 << 20).await;
    for batch in &mut got.batches {
        *batch = batch.project(&[0]).unwrap();
    }
    got
}

fn ids(got: &Got) -> Vec<String> {
    let mut ids = got.column();
    ids.sort_unstable();
    ids
}

fn max(got: &Got) -> Option<&str> {
    got.plan.as_ref().unwrap().cursor_max.as_deref()
}

#[tokio::test]
async fn by_text_with_ties_and_nulls() {
    for index in ["", "CREATE INDEX i ON t (at);"] {
        let file = File::new(&format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, at DATETIME);
             INSERT INTO t VALUES (1, '2024-01-01'), (2, '2024-01-02'), (3, '2024-01-02'), (4, NULL);
             {index}"
        ));
        let first = above(&file, "at", None).await;
        assert_eq!(max(&first), Some("t:2024-01-02"));
        assert_eq!(
            ids(&first),
            ["1", "2", "3", "4"],
            "NULLs are read the first time"
        );
        file.writer()
            .execute_batch("INSERT INTO t VALUES (5, '2024-01-02'), (6, '2024-01-03')")
            .unwrap();
        let next = above(&file, "at", max(&first)).await;
        assert_eq!(ids(&next), ["2", "3", "5", "6"], "ties are read again");
        assert_eq!(max(&next), Some("t:2024-01-03"));
    }
}

#[tokio::test]
async fn by_rowid_and_by_real() {
    let file = File::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, r REAL);
         INSERT INTO t VALUES (-5, 0.1), (1, 0.30000000000000004), (90, 0.3);",
    );
    let got = above(&file, "id", Some("i:1")).await;
    assert_eq!(
        (ids(&got), max(&got)),
        (vec!["1".to_owned(), "90".to_owned()], Some("i:90"))
    );
    let got = above(&file, "r", Some("r:0.30000000000000004")).await;
    assert_eq!(ids(&got), ["1"]);
    assert_eq!(max(&got), Some("r:0.30000000000000004"));
}

#[tokio::test]
async fn storage_classes_are_kept_apart() {
    let file = File::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v);
         INSERT INTO t VALUES (1, 5), (2, '5'), (3, x'35'), (4, 4.5), (5, '49');",
    );
    assert_eq!(
        ids(&above(&file, "v", Some("i:5")).await),
        ["1", "2", "3", "5"]
    );
    assert_eq!(ids(&above(&file, "v", Some("t:5")).await), ["2", "3"]);
    assert_eq!(max(&above(&file, "v", None).await), Some("b:35"));
}

#[tokio::test]
async fn nothing_there() {
    let file = File::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v INT); INSERT INTO t VALUES (1, NULL);",
    );
    let got = above(&file, "v", None).await;
    assert_eq!((ids(&got), max(&got)), (vec!["1".to_owned()], None));
    let read = TableRead {
        table: file.table("t", options()).await.unwrap(),
        filter: None,
        cursor: cursor("vv", None),
        since: None,
        projection: Default::default(),
    };
    let snapshot = file.source().snapshot(1).await.unwrap();
    let error = snapshot.split(&read, 10).await.unwrap_err();
    assert!(error.message.contains("t has no column `vv`"), "{error}");
}
