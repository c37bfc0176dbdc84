//! A compaction beside others who append: what it did not read stays.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use uuid::Uuid;

use super::super::{ChangeKind, LoggedFile, Rewrite, RewriteKind, Rewriter};
use super::kit::{change, data_file, folder, open, schema};

/// Which files a compaction takes the place of.
#[derive(Clone, Copy, PartialEq)]
enum Replaces {
    /// Those that it has read, whatever has been published since.
    WhatItRead,
    /// Those that are there when it publishes: "the table".
    WhatIsThere,
}

/// Rows of the table when three of them were compacted while two were appended, and
/// how many commits the compaction followed.
async fn rows_beside_an_append(replaces: Replaces) -> (u64, u64) {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    for (from, kind, ids) in [
        (0, ChangeKind::Replace, &[1, 2][..]),
        (1, ChangeKind::Append, &[3]),
    ] {
        let change = change(&store, kind, from, ids).await;
        ledger.commit(change).await.unwrap();
    }
    let mut rewriter = Rewriter::open(store.clone()).await.unwrap();
    let mut replaced = rewriter.files().await.unwrap();
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let compacted = data_file(&store, &schema(), vec![Arc::clone(&ids), ids], &[]).await;

    let appended = change(&store, ChangeKind::Append, 2, &[4, 5]).await;
    ledger.commit(appended).await.unwrap();
    if replaces == Replaces::WhatIsThere {
        rewriter = Rewriter::open(store.clone()).await.unwrap();
        replaced = rewriter.files().await.unwrap();
    }
    let rewrite = Rewrite {
        run: Uuid::now_v7(),
        removed: replaced.into_iter().map(|file| file.path).collect(),
        added: vec![compacted],
        order: None,
        kind: RewriteKind::Layout,
        partition_columns: None,
    };
    let done = rewriter.commit(&rewrite).await.unwrap();
    let after = Rewriter::open(store).await.unwrap().files().await.unwrap();
    (after.iter().map(LoggedFile::rows).sum(), done.rebased)
}

#[tokio::test]
async fn rows_that_others_append_stay() {
    assert_eq!(rows_beside_an_append(Replaces::WhatItRead).await, (5, 1));
}

/// The control arm: the same two writers lose the appended rows where the rewrite is
/// not held to what it has read.
#[tokio::test]
async fn replacing_what_is_there_would_lose_them() {
    assert_eq!(rows_beside_an_append(Replaces::WhatIsThere).await, (3, 0));
}
