//! Folders and commits of others: refused, followed or reported, never harmed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use serde_json::json;

use super::super::committer::log_path;
use super::super::{ChangeKind, Ledger, LedgerError};
use super::kit::{action, change, data_file, entry, folder, log_entries, open, schema};
use crate::store::Store;
use std::sync::Arc;

async fn put(store: &Store, path: &str, content: &str) {
    store
        .objects()
        .put(&Path::from(path), content.to_owned().into())
        .await
        .unwrap();
}

async fn put_entry(store: &Store, version: u64, lines: &[serde_json::Value]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    store
        .objects()
        .put(&log_path(version), text.into())
        .await
        .unwrap();
}

async fn refusal(store: &Store) -> LedgerError {
    Ledger::open(store.clone()).await.unwrap_err()
}

#[tokio::test]
async fn a_folder_with_other_things_is_refused_by_name() {
    let (_home, store) = folder();
    put(&store, "holiday.jpg", "x").await;
    let error = refusal(&store).await;
    assert!(matches!(&error, LedgerError::ForeignFolder { found, .. } if found == "holiday.jpg"));
    assert!(
        error.to_string().contains("choose another folder"),
        "{error}"
    );
}

#[tokio::test]
async fn a_load_of_ours_that_was_interrupted_is_no_foreign_folder() {
    let (_home, store) = folder();
    put(&store, "part-1.parquet", "orphan").await;
    put(&store, "_highwater/loads/x/00000.json", "{}").await;
    assert!(open(&store).await.head().is_none());
}

#[tokio::test]
async fn a_table_of_somebody_else_is_refused() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    ledger
        .commit(change(&store, ChangeKind::Replace, 0, &[1]).await)
        .await
        .unwrap();
    let lines = entry(&store, 0).await;
    let theirs: Vec<_> = lines
        .into_iter()
        .filter(|line| line.get("txn").is_none() && line.get("domainMetadata").is_none())
        .collect();
    put_entry(&store, 0, &theirs).await;
    let error = refusal(&store).await;
    assert!(
        matches!(error, LedgerError::NotOurs { version: 0, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_broken_log_says_so() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    ledger
        .commit(change(&store, ChangeKind::Replace, 0, &[1]).await)
        .await
        .unwrap();
    put(
        &store,
        "_delta_log/00000000000000000001.json",
        "{\"add\": {\"path\"",
    )
    .await;
    let error = refusal(&store).await;
    assert!(matches!(error, LedgerError::Damaged { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("Restore the folder's _delta_log"),
        "{error}"
    );
}

#[tokio::test]
async fn features_that_we_cannot_write_are_refused() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    ledger
        .commit(change(&store, ChangeKind::Replace, 0, &[1]).await)
        .await
        .unwrap();
    let protocol = json!({"protocol": {
        "minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["domainMetadata", "rowTracking"],
    }});
    put_entry(&store, 1, &[protocol]).await;
    let error = refusal(&store).await;
    assert!(
        matches!(&error, LedgerError::Unsupported { what, .. } if what.contains("rowTracking"))
    );
}

/// Another program rewrites the files (OPTIMIZE) while our run is working.
#[tokio::test]
async fn a_foreign_commit_in_between_is_followed() {
    for kind in [ChangeKind::Replace, ChangeKind::Append] {
        let (_home, store) = folder();
        let mut ledger = open(&store).await;
        let first = change(&store, ChangeKind::Replace, 0, &[1, 2]).await;
        ledger.commit(first.clone()).await.unwrap();
        let compacted = {
            let ids: arrow::array::ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![1, 2]));
            data_file(&store, &schema(), vec![Arc::clone(&ids), ids], &[]).await
        };
        put_entry(&store, 1, &[
            json!({"commitInfo": {"timestamp": 1, "operation": "OPTIMIZE"}}),
            json!({"remove": {"path": first.files[0].path, "dataChange": false,
                "deletionTimestamp": 1, "size": first.files[0].bytes, "partitionValues": {}}}),
            json!({"add": {"path": compacted.path, "size": compacted.bytes, "partitionValues": {},
                "modificationTime": 1, "dataChange": false, "stats": compacted.stats.to_string()}}),
        ])
        .await;
        let head = ledger
            .commit(change(&store, kind.clone(), 1, &[3]).await)
            .await
            .unwrap();
        let rows = if kind == ChangeKind::Append { 3 } else { 1 };
        assert_eq!(
            (head.version, head.commit, head.rows),
            (2, 2, rows),
            "{kind:?}"
        );
        assert_eq!(open(&store).await.head(), Some(&head));
        if kind == ChangeKind::Replace {
            let removed = entry(&store, 2).await;
            assert_eq!(action(&removed, "remove")["path"], compacted.path.as_str());
        }
    }
}

#[tokio::test]
async fn a_foreign_change_of_the_shape_stops_the_run() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    ledger
        .commit(change(&store, ChangeKind::Replace, 0, &[1]).await)
        .await
        .unwrap();
    let mut meta = action(&entry(&store, 0).await, "metaData").clone();
    meta["schemaString"] = json!(
        r#"{"type":"struct","fields":[{"name":"id","type":"long","nullable":true,"metadata":{}}]}"#
    );
    put_entry(&store, 1, &[json!({ "metaData": meta })]).await;
    let error = ledger
        .commit(change(&store, ChangeKind::Replace, 1, &[2]).await)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, LedgerError::ChangedBySomebodyElse { what, version: 1, .. } if what == "columns"),
        "{error}"
    );
    assert_eq!(log_entries(&store).await.len(), 2);
    // The next run sees the changed table and replaces it as a whole.
    let mut next = open(&store).await;
    next.commit(change(&store, ChangeKind::Replace, 1, &[2]).await)
        .await
        .unwrap();
    assert_eq!(next.head().unwrap().schema, schema());
}
