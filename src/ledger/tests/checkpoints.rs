//! Checkpoints keep all that is ours, and long logs open fast.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Instant;

use object_store::ObjectStoreExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::committer::log_path;
use super::super::executor::engine;
use super::super::record::CommitRecord;
use super::super::verify::{Depth, Evidence, Share, verify_table};
use super::super::{At, ChangeKind, Ledger, LedgerError, checkpoint, seal, sha256_hex, view};
use super::kit::{change, folder, log_entries, open};
use super::readers::{READ, odd, python};
use crate::store::Store;
use crate::store::faults::{Fault, FaultyStore};

/// Writes a checkpoint of the newest version, due or not.
pub(super) async fn write_checkpoint(store: &Store) {
    let engine = engine(store);
    let view = view::read(store, &engine).await.unwrap().unwrap();
    checkpoint::write(store, &engine, &view.snapshot)
        .await
        .unwrap();
}

/// Commits so often that the last commit is due for a checkpoint.
async fn until_due(store: &Store) -> Ledger {
    let mut ledger = open(store).await;
    for from in 0..=checkpoint::EVERY as i64 {
        let next = change(store, ChangeKind::Append, from, &[from]).await;
        ledger.commit(next).await.unwrap();
    }
    ledger
}

#[tokio::test]
async fn every_so_many_commits_a_checkpoint_keeps_all_that_is_ours() {
    let (_home, store) = folder();
    let ledger = until_due(&store).await;
    let entries = log_entries(&store).await;
    let written: Vec<_> = entries
        .iter()
        .filter(|n| n.contains("checkpoint"))
        .collect();
    assert_eq!(
        written,
        [
            "00000000000000000050.checkpoint.parquet",
            "_last_checkpoint"
        ]
    );
    let before = ledger.files().await.unwrap();
    for version in 0..checkpoint::EVERY {
        store.objects().delete(&log_path(version)).await.unwrap();
    }
    let mut again = open(&store).await;
    assert_eq!(again.head(), ledger.head());
    assert_eq!(again.record(), ledger.record());
    let mut files = again.files().await.unwrap();
    let by_path = |a: &super::super::LoggedFile, b: &super::super::LoggedFile| a.path.cmp(&b.path);
    let mut before = before;
    before.sort_by(by_path);
    files.sort_by(by_path);
    assert_eq!(files, before, "C7: hashes and statistics survive");
    assert!(
        files
            .iter()
            .all(|f| f.sha256.is_some() && f.stats.is_some())
    );
    if let Some(seen) = python(&store, READ) {
        let seen: Vec<Value> = serde_json::from_str(&seen).unwrap();
        assert_eq!(seen.len(), 51);
    }
    // The hint is only a hint, and the chain goes on.
    let hint = object_store::path::Path::from("_delta_log/_last_checkpoint");
    store.objects().delete(&hint).await.unwrap();
    let next = change(&store, ChangeKind::Append, 51, &[51]).await;
    assert_eq!(again.commit(next).await.unwrap().rows, 52);
    let record = again.record().unwrap();
    let entry = store.objects().get(&log_path(50)).await.unwrap();
    let entry = entry.bytes().await.unwrap();
    assert_eq!(record.previous, Some(sha256_hex(&entry)), "C7");
}

#[tokio::test]
async fn a_checkpoint_of_odd_names_and_many_types_reads_the_same() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    ledger.commit(odd(&store, 0).await).await.unwrap();
    let before = (python(&store, READ), ledger.files().await.unwrap());
    write_checkpoint(&store).await;
    let again = open(&store).await;
    let after = (python(&store, READ), again.files().await.unwrap());
    assert_eq!(before, after);
    assert_eq!(again.head(), ledger.head());
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_written_fails_no_commit() {
    let faulty = FaultyStore::new("checkpoint.parquet", vec![], Some(Fault::ErrorBefore));
    let store = faulty.store();
    let mut ledger = until_due(&store).await;
    let tried = faulty.count("put _delta_log/00000000000000000050.checkpoint");
    assert!(tried > 0, "the test proves nothing");
    let next = change(&store, ChangeKind::Append, 51, &[51]).await;
    assert_eq!(ledger.commit(next).await.unwrap().rows, 52);
}

#[tokio::test]
async fn earlier_versions_and_times_are_opened() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    let mut heads = Vec::new();
    for from in 0..6 {
        let next = change(&store, ChangeKind::Append, from, &[from]).await;
        heads.push(ledger.commit(next).await.unwrap());
        if from == 2 {
            write_checkpoint(&store).await;
        }
    }
    for head in &heads {
        let at = At::Version(head.version);
        let past = Ledger::open_at(store.clone(), at).await.unwrap();
        assert_eq!(past.head(), head);
        assert_eq!(past.files().await.unwrap().len() as u64, head.files);
    }
    // Times of the store (C5): entries a minute apart.
    let log = store.folder().unwrap().join("_delta_log");
    let base = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for version in 0..6_u32 {
        let file = std::fs::File::open(log.join(format!("{version:020}.json"))).unwrap();
        file.set_modified(base + std::time::Duration::from_secs(60) * version)
            .unwrap();
    }
    for (seconds, version) in [(0, 0), (59, 0), (61, 1), (200, 3), (4000, 5)] {
        let time =
            base + std::time::Duration::from_secs(seconds) + std::time::Duration::from_millis(5);
        let past = Ledger::open_at(store.clone(), At::Time(time.into())).await;
        assert_eq!(past.unwrap().head().version, version, "{seconds} s");
    }
    for at in [
        At::Version(6),
        At::Time((base - std::time::Duration::from_secs(60)).into()),
    ] {
        let error = Ledger::open_at(store.clone(), at).await.unwrap_err();
        assert!(
            matches!(error, LedgerError::NoSuchVersion { .. }),
            "{error}"
        );
    }
}

/// Continues a log to `version` with entries in the shape of the last one, each
/// with a file of its own that is not there: for what only reads the log.
fn continue_log(store: &Store, to: u64) {
    let log = store.folder().unwrap().join("_delta_log");
    let name = |version: u64| log.join(format!("{version:020}.json"));
    let mut last = std::fs::read_to_string(name(1)).unwrap();
    for version in 2..=to {
        let id = Uuid::now_v7();
        let previous = sha256_hex(last.as_bytes());
        let mut entry = String::new();
        for line in last.lines() {
            let mut line: Value = serde_json::from_str(line).unwrap();
            if let Some(txn) = line.get_mut("txn") {
                txn["version"] = json!(version + 1);
            } else if let Some(domain) = line.get_mut("domainMetadata") {
                let text = domain["configuration"].as_str().unwrap();
                let mut record: CommitRecord = serde_json::from_str(text).unwrap();
                record.id = id;
                record.commit = version as i64 + 1;
                record.from = Some(record.to.clone());
                record.to.bound.position = record.commit.to_string();
                record.previous = Some(previous.clone());
                record.seal = Some(seal::blank(id));
                domain["configuration"] = serde_json::to_string(&record).unwrap().into();
            } else if let Some(add) = line.get_mut("add") {
                add["path"] = format!("part-{id}.parquet").into();
            }
            entry += &format!("{line}\n");
        }
        last = seal::close(&entry, id).unwrap();
        std::fs::write(name(version), &last).unwrap();
    }
}

/// A table of 10,000 commits opens fast; the time is printed, not asserted: it is
/// the machine's. `cargo nextest run --workspace --no-capture -E
/// 'test(ten_thousand_commits)'`.
#[tokio::test]
async fn a_table_of_ten_thousand_commits_opens() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    for from in 0..2 {
        let next = change(&store, ChangeKind::Append, from, &[from]).await;
        ledger.commit(next).await.unwrap();
    }
    continue_log(&store, 9_998);
    let begin = Instant::now();
    let mut ledger = open(&store).await;
    println!(
        "10,000 commits without a checkpoint open in {:?}",
        begin.elapsed()
    );
    let next = change(&store, ChangeKind::Append, 9_999, &[7]).await;
    let head = ledger.commit(next).await.unwrap();
    assert_eq!(
        (head.version, head.commit, head.files),
        (9_999, 10_000, 10_000)
    );
    let begin = Instant::now();
    let again = open(&store).await;
    println!(
        "10,000 commits with a checkpoint open in {:?}",
        begin.elapsed()
    );
    assert_eq!(again.head(), Some(&head));
    let depth = Depth {
        share: Share::NONE,
        seed: 0,
        full: false,
    };
    let begin = Instant::now();
    let checked = verify_table(&store, &Evidence::default(), depth)
        .await
        .unwrap();
    println!("10,000 entries are verified in {:?}", begin.elapsed());
    assert_eq!(checked.entries, 10_000);
    // Only the three real files are there.
    assert_eq!(checked.damage().count(), 9_997);
    let missing = super::super::verify::FindingKind::FileMissing;
    assert!(checked.damage().all(|found| found.kind == missing));
}
