//! Commits on a healthy store: what an entry holds, and who may follow whom.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Schema, TimeUnit};
use object_store::ObjectStoreExt as _;

use super::super::{ChangeKind, Ledger, LedgerError, sha256_hex};
use super::kit::{
    action, change, data_file, entry, field, folder, log_entries, open, schema, watermark,
};

#[tokio::test]
async fn a_table_and_its_data_appear_in_one_commit() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    assert!(ledger.head().is_none());
    let first = change(&store, ChangeKind::Replace, 0, &[1, 2, 3]).await;
    let head = ledger.commit(first.clone()).await.unwrap();
    assert_eq!(
        (head.version, head.commit, head.rows, head.files),
        (0, 1, 3, 1)
    );
    assert_eq!(
        Some(&head),
        ledger.head(),
        "what was promised is what the log says"
    );

    let again = open(&store).await;
    assert_eq!(again.head(), Some(&head));
    assert_eq!(
        again.head().unwrap().schema,
        schema(),
        "source types come back"
    );
    let files = again.files().await.unwrap();
    assert_eq!(
        files[0].sha256.as_deref(),
        Some(first.files[0].sha256.as_str()),
        "C7"
    );
    assert_eq!((files[0].rows(), files[0].bytes), (3, first.files[0].bytes));
    assert_eq!(files[0].stats.as_ref().unwrap()["maxValues"]["id"], 3);
}

#[tokio::test]
async fn c3_c7_an_entry_holds_both_watermarks_and_the_hash_of_the_entry_before() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    for from in 0..3 {
        ledger
            .commit(change(&store, ChangeKind::Append, from, &[from]).await)
            .await
            .unwrap();
    }
    let second = entry(&store, 1).await;
    assert_eq!(action(&second, "txn")["version"], 2);
    let record = action(&second, "domainMetadata")["configuration"]
        .as_str()
        .unwrap();
    let record: serde_json::Value = serde_json::from_str(record).unwrap();
    assert_eq!(record["from"]["bound"]["position"], "1");
    assert_eq!(record["to"]["bound"]["position"], "2");
    let path = super::super::committer::log_path(0);
    let before = store
        .objects()
        .get(&path)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(record["previous"], sha256_hex(&before), "C7: the chain");
    assert_eq!(ledger.head().unwrap().rows, 3);
}

#[tokio::test]
async fn replace_removes_what_was_there() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    let first = change(&store, ChangeKind::Replace, 0, &[1, 2]).await;
    ledger.commit(first.clone()).await.unwrap();
    let second = change(&store, ChangeKind::Replace, 1, &[7]).await;
    let head = ledger.commit(second).await.unwrap();
    assert_eq!((head.rows, head.files, head.commit), (1, 1, 2));
    let removed = entry(&store, 1).await;
    assert_eq!(
        action(&removed, "remove")["path"],
        first.files[0].path.as_str()
    );
    // C4: the file itself stays.
    store
        .objects()
        .head(&first.files[0].path.as_str().into())
        .await
        .unwrap();
    assert_eq!(open(&store).await.head(), Some(&head));
}

#[tokio::test]
async fn c3_of_two_runs_one_wins_and_the_other_is_overtaken() {
    let (_home, store) = folder();
    open(&store)
        .await
        .commit(change(&store, ChangeKind::Replace, 0, &[1]).await)
        .await
        .unwrap();
    let (mut one, mut two) = (open(&store).await, open(&store).await);
    let (a, b) = (
        change(&store, ChangeKind::Replace, 1, &[2]).await,
        change(&store, ChangeKind::Replace, 1, &[3]).await,
    );
    let (first, second) = tokio::join!(one.commit(a.clone()), two.commit(b.clone()));
    let (winner, lost) = match (first, second) {
        (Ok(_), Err(error)) => (a.run, error),
        (Err(error), Ok(_)) => (b.run, error),
        other => panic!("exactly one must win: {other:?}"),
    };
    assert!(
        matches!(lost, LedgerError::Overtaken { by_run, .. } if by_run == winner),
        "{lost}"
    );
    assert_eq!(log_entries(&store).await.len(), 2);
    // C4: the files of the one that lost are still there.
    for file in [&a.files[0], &b.files[0]] {
        store
            .objects()
            .head(&file.path.as_str().into())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn c3_two_runs_that_create_one_table() {
    let (_home, store) = folder();
    let (mut one, mut two) = (open(&store).await, open(&store).await);
    let a = change(&store, ChangeKind::Replace, 0, &[1]).await;
    let b = change(&store, ChangeKind::Replace, 0, &[2]).await;
    let results = tokio::join!(one.commit(a), two.commit(b));
    let results = [results.0, results.1];
    assert_eq!(
        results.iter().filter(|result| result.is_ok()).count(),
        1,
        "{results:?}"
    );
    let overtaken = |r: &Result<_, LedgerError>| matches!(r, Err(LedgerError::Overtaken { .. }));
    assert_eq!(
        results.iter().filter(|result| overtaken(result)).count(),
        1,
        "{results:?}"
    );
}

#[tokio::test]
async fn c7_a_log_that_went_back_is_noticed() {
    let (home, store) = folder();
    let mut ledger = open(&store).await;
    ledger
        .commit(change(&store, ChangeKind::Replace, 0, &[1]).await)
        .await
        .unwrap();
    ledger
        .commit(change(&store, ChangeKind::Append, 1, &[2]).await)
        .await
        .unwrap();
    let newest = home
        .path()
        .join("lake/orders/_delta_log/00000000000000000001.json");
    std::fs::remove_file(newest).unwrap();
    let next = change(&store, ChangeKind::Append, 2, &[3]).await;
    let error = ledger.commit(next).await.unwrap_err();
    assert!(
        matches!(error, LedgerError::RolledBack { expected: 2, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn replace_takes_a_new_shape_in_the_same_commit() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    ledger
        .commit(change(&store, ChangeKind::Replace, 0, &[1, 2]).await)
        .await
        .unwrap();
    let id = action(&entry(&store, 0).await, "metaData")["id"].clone();

    let ntz = DataType::Timestamp(TimeUnit::Microsecond, None);
    let new = Schema::new(vec![
        field("id", DataType::Utf8),
        field("at, when", ntz),
        field("day", DataType::Utf8),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["x"])),
        Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![5])),
    ];
    let mut next = change(&store, ChangeKind::Replace, 1, &[9]).await;
    next.files = vec![data_file(&store, &new, columns, &[("day", Some("2026-01-01"))]).await];
    next.schema = Arc::new(new);
    next.partition_columns = vec!["day".to_owned()];
    let head = ledger.commit(next.clone()).await.unwrap();
    assert_eq!(head.schema, next.schema);
    assert_eq!(open(&store).await.head(), Some(&head));

    let log = entry(&store, 1).await;
    assert_eq!(action(&log, "metaData")["id"], id, "the same table");
    assert_eq!(action(&log, "metaData")["partitionColumns"][0], "day");
    let features = action(&log, "protocol")["readerFeatures"].to_string();
    assert!(features.contains("timestampNtz"), "{features}");
    // The shape stays: the next commit needs no metaData.
    next.from = 2;
    ledger.commit(next).await.unwrap();
    assert!(
        entry(&store, 2)
            .await
            .iter()
            .all(|line| line.get("metaData").is_none())
    );
}

#[tokio::test]
async fn append_takes_new_columns_and_nothing_else() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    ledger
        .commit(change(&store, ChangeKind::Append, 0, &[1]).await)
        .await
        .unwrap();
    let mut next = change(&store, ChangeKind::Append, 1, &[2]).await;
    next.schema = Arc::new(Schema::new(vec![
        field("id", DataType::Utf8),
        field("n", DataType::Int64),
    ]));
    let error = ledger.commit(next.clone()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`id` changed from long to string"),
        "{error}"
    );
    next.schema = Arc::new(Schema::new(vec![field("id", DataType::Int64)]));
    let error = ledger.commit(next.clone()).await.unwrap_err();
    assert!(error.to_string().contains("`n` is missing"), "{error}");
    let wider = ["id", "n", "new"].map(|name| field(name, DataType::Int64));
    next.schema = Arc::new(Schema::new(wider.to_vec()));
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![2]));
    let columns = vec![Arc::clone(&ids), Arc::clone(&ids), ids];
    next.files = vec![data_file(&store, &next.schema, columns, &[]).await];
    let head = ledger.commit(next).await.unwrap();
    assert_eq!((head.rows, head.schema.fields().len()), (2, 3));
}

#[tokio::test]
async fn an_empty_source_makes_an_empty_table() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    let mut none = change(&store, ChangeKind::Replace, 0, &[1]).await;
    none.files.clear();
    let head = ledger.commit(none).await.unwrap();
    assert_eq!((head.rows, head.files), (0, 0));
    assert_eq!(open(&store).await.head().unwrap().watermark, watermark(1));
}

#[tokio::test]
async fn files_outside_the_table_are_refused() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    for path in ["../x.parquet", "/etc/x", "s3://other/x", ""] {
        let mut bad = change(&store, ChangeKind::Replace, 0, &[1]).await;
        bad.files[0].path = path.to_owned();
        let error = ledger.commit(bad).await.unwrap_err();
        assert!(matches!(error, LedgerError::Invalid(_)), "{path}: {error}");
    }
    assert!(log_entries(&store).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_worker_thread_is_enough() {
    let (_home, store) = folder();
    let mut ledger = Ledger::open(store.clone()).await.unwrap();
    ledger
        .commit(change(&store, ChangeKind::Replace, 0, &[1]).await)
        .await
        .unwrap();
    assert_eq!(open(&store).await.head().unwrap().rows, 1);
}
