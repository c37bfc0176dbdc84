//! `verify` finds every corruption, and nothing where there is none (C7).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::prune::{Keep, prune_table};
use super::super::verify::{Checked, Depth, Evidence, FindingKind, Share, verify_table};
use super::super::{ChangeKind, Ledger, PastRun, PastRunTable};
use super::checkpoints::write_checkpoint;
use super::kit::{change, folder, open};
use crate::store::Store;

pub(super) const ALL: Depth = Depth {
    share: Share::ALL,
    seed: 0,
    full: false,
};
const FULL: Depth = Depth { full: true, ..ALL };

/// Random numbers whose seed is printed and can be given.
pub(super) fn random() -> fastrand::Rng {
    let given = std::env::var("HIGHWATER_SEED").ok();
    let seed = given.map_or(20_261_121, |seed| seed.parse().unwrap());
    println!("HIGHWATER_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

pub(super) async fn verify(store: &Store, evidence: &Evidence, depth: Depth) -> Checked {
    verify_table(store, evidence, depth).await.unwrap()
}

/// The report that the run of the ledger's last commit would have written.
pub(super) fn report(ledger: &Ledger) -> PastRun {
    let head = ledger.head().unwrap();
    PastRun {
        path: format!("_highwater/runs/{}.json", head.run),
        run: head.run,
        elapsed_seconds: 1.0,
        tables: vec![PastRunTable {
            name: "orders".to_owned(),
            outcome: "committed".to_owned(),
            version: Some(head.version),
        }],
    }
}

/// A table of twelve commits of all kinds, a checkpoint among them.
async fn table(store: &Store, random: &mut fastrand::Rng) -> Evidence {
    let mut ledger = open(store).await;
    let mut reports = Vec::new();
    for from in 0..12 {
        let kind = match from {
            0 | 3 => ChangeKind::Replace,
            7 => ChangeKind::Merge {
                removed: vec![ledger.files().await.unwrap()[0].path.clone()],
            },
            _ => ChangeKind::Append,
        };
        // Sizes repeat, so that swapped files are not always told by them.
        let ids: Vec<i64> = (0..20 + from % 2 * 5).map(|_| random.i64(..)).collect();
        let next = change(store, kind, from, &ids).await;
        ledger.commit(next).await.unwrap();
        reports.push(report(&ledger));
        if from == 6 {
            write_checkpoint(store).await;
        }
    }
    Evidence::of(&reports, "orders")
}

fn copy(from: &FsPath, to: &FsPath) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn flip(path: &FsPath, random: &mut fastrand::Rng) -> String {
    let mut bytes = fs::read(path).unwrap();
    let (at, bit) = (random.usize(..bytes.len()), random.u8(..8));
    bytes[at] ^= 1 << bit;
    fs::write(path, bytes).unwrap();
    format!("bit {bit} of byte {at} of {}", path.display())
}

/// Does one sort of damage, and says what.
fn corrupt(
    sort: usize,
    files: &[PathBuf],
    entries: &[PathBuf],
    random: &mut fastrand::Rng,
) -> String {
    let file = &files[random.usize(..files.len())];
    match sort {
        0 => flip(file, random),
        1 => {
            let bytes = fs::read(file).unwrap();
            let left = random.usize(..bytes.len());
            fs::write(file, &bytes[..left]).unwrap();
            format!("{} cut to {left}", file.display())
        }
        2 => {
            fs::remove_file(file).unwrap();
            format!("{} deleted", file.display())
        }
        3 => {
            let others: Vec<_> = files.iter().filter(|other| *other != file).collect();
            let other = others[random.usize(..others.len())];
            let (a, b) = (fs::read(file).unwrap(), fs::read(other).unwrap());
            fs::write(file, b).unwrap();
            fs::write(other, a).unwrap();
            format!("{} and {} swapped", file.display(), other.display())
        }
        4 => {
            let kept = random.usize(..entries.len());
            for entry in &entries[kept..] {
                fs::remove_file(entry).unwrap();
            }
            format!("rolled back to {kept} entries")
        }
        5 => flip(&entries[random.usize(..entries.len())], random),
        6 => {
            let entry = &entries[random.usize(..entries.len() - 1)];
            fs::remove_file(entry).unwrap();
            format!("{} deleted", entry.display())
        }
        // The newest entry has no successor that knows it: its seal does.
        _ => flip(&entries[entries.len() - 1], random),
    }
}

#[tokio::test]
async fn c7_every_one_of_200_corruptions_is_found() {
    let mut random = random();
    let (home, store) = folder();
    let evidence = table(&store, &mut random).await;
    let clean = verify(&store, &evidence, FULL).await;
    assert_eq!(clean.findings, [], "nothing is damaged yet");
    assert_eq!((clean.entries, clean.version), (12, Some(11)));
    assert_eq!(clean.hashed_files, clean.files);
    let live = open(&store).await.files().await.unwrap();
    for number in 0..200 {
        let lake = home.path().join(format!("damaged-{number}"));
        let damaged = lake.join("orders");
        copy(store.folder().unwrap(), &damaged);
        let files: Vec<_> = live.iter().map(|file| damaged.join(&file.path)).collect();
        let entry = |version: u64| damaged.join(format!("_delta_log/{version:020}.json"));
        let entries: Vec<_> = (0..12).map(entry).collect();
        let done = corrupt(number % 8, &files, &entries, &mut random);
        let url = format!("file:{}", lake.display());
        let lake = Store::open(&url, &Default::default()).unwrap();
        let checked = verify(&lake.child("orders"), &evidence, ALL).await;
        assert!(checked.damage().next().is_some(), "not found: {done}");
        for found in checked.damage() {
            assert!(found.advice.is_some(), "no advice: {found:?}");
        }
    }
}

/// The control arm: without the evidence outside of the log, a log that lost its
/// last entries is a good log.
#[tokio::test]
async fn control_arm_a_shorter_log_is_good_by_itself() {
    let (_home, store) = folder();
    let evidence = table(&store, &mut random()).await;
    for version in 8..12 {
        let path = super::super::committer::log_path(version);
        object_store::ObjectStoreExt::delete(&store.objects(), &path)
            .await
            .unwrap();
    }
    let blind = verify(&store, &Evidence::default(), ALL).await;
    assert_eq!(blind.findings, [], "the test proves nothing");
    let found = verify(&store, &evidence, ALL).await;
    assert_eq!(found.findings[0].kind, FindingKind::RolledBack, "{found:?}");
    // And when another run has committed in the place of the lost ones.
    let mut ledger = open(&store).await;
    for from in 8..12 {
        let next = change(&store, ChangeKind::Append, from, &[from]).await;
        ledger.commit(next).await.unwrap();
    }
    let blind = verify(&store, &Evidence::default(), ALL).await;
    assert_eq!(blind.findings, [], "the test proves nothing");
    let found = verify(&store, &evidence, ALL).await;
    assert_eq!(found.findings[0].kind, FindingKind::RolledBack, "{found:?}");
}

#[tokio::test]
async fn a_table_that_was_created_anew_is_noted_not_blamed() {
    let (_home, store) = folder();
    let evidence = table(&store, &mut random()).await;
    fs::remove_dir_all(store.folder().unwrap()).unwrap();
    let gone = verify(&store, &evidence, ALL).await;
    assert_eq!(gone.findings[0].kind, FindingKind::RolledBack);
    let mut ledger = open(&store).await;
    let next = change(&store, ChangeKind::Replace, 0, &[1]).await;
    ledger.commit(next).await.unwrap();
    let anew = verify(&store, &evidence, ALL).await;
    assert_eq!(anew.damage().next(), None, "{anew:?}");
    assert_eq!(anew.findings[0].kind, FindingKind::Note);
}

#[tokio::test]
async fn a_statistic_that_hides_rows_is_found_by_a_full_read() {
    for (part, value) in [
        ("/numRecords", 2),
        ("/maxValues/id", 8),
        ("/minValues/n", -4),
        ("/nullCount/n", 1),
    ] {
        let (_home, store) = folder();
        let mut ledger = open(&store).await;
        let mut next = change(&store, ChangeKind::Replace, 0, &[-5, 0, 9]).await;
        *next.files[0].stats.pointer_mut(part).unwrap() = value.into();
        if part == "/numRecords" {
            next.files[0].rows = 2;
        }
        ledger.commit(next).await.unwrap();
        let shallow = verify(&store, &Evidence::default(), ALL).await;
        assert_eq!(shallow.findings, [], "the content is as it was written");
        let full = verify(&store, &Evidence::default(), FULL).await;
        assert_eq!(full.findings.len(), 1, "{part}: {full:?}");
        assert_eq!(full.findings[0].kind, FindingKind::FileRows);
        assert_eq!(full.decoded_rows, 3);
    }
}

#[tokio::test]
async fn shares_of_consecutive_days_cover_every_file() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    let mut next = change(&store, ChangeKind::Replace, 0, &[0]).await;
    for id in 1..30 {
        let more = change(&store, ChangeKind::Replace, 0, &[id]).await;
        next.files.extend(more.files);
    }
    ledger.commit(next).await.unwrap();
    let files = ledger.files().await.unwrap();
    let file = store.folder().unwrap().join(&files[17].path);
    flip(&file, &mut random());
    let (mut found, mut hashed) = (0, 0);
    for seed in 100..107 {
        let share = "1/7".parse().unwrap();
        let depth = Depth { share, seed, ..ALL };
        let checked = verify(&store, &Evidence::default(), depth).await;
        found += checked.damage().count();
        hashed += checked.hashed_files;
    }
    assert_eq!((found, hashed), (1, 30), "each file once in seven days");
}

/// Commits and prunes go on while a table is verified: no damage is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_and_prunes_meanwhile_are_no_damage() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    let next = change(&store, ChangeKind::Replace, 0, &[0]).await;
    ledger.commit(next).await.unwrap();
    let commits = Arc::new(AtomicU32::new(0));
    let (writing, counted) = (store.clone(), Arc::clone(&commits));
    let writer = tokio::spawn(async move {
        for from in 1..=30 {
            let next = change(&writing, ChangeKind::Replace, from, &[from]).await;
            ledger.commit(next).await.unwrap();
            let none = std::time::Duration::ZERO;
            let keep = Keep::new(none, 1, none);
            let now = chrono::Utc::now() + chrono::TimeDelta::seconds(1);
            prune_table(&writing, &Evidence::default(), &keep, now, false)
                .await
                .unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut looks = 0;
    while commits.load(Ordering::Relaxed) < 30 && !writer.is_finished() {
        let checked = verify(&store, &Evidence::default(), ALL).await;
        assert_eq!(checked.damage().next(), None, "{checked:?}");
        looks += 1;
    }
    writer.await.unwrap();
    println!("{looks} looks during 30 commits and prunes");
    assert!(looks > 5, "the test proves nothing");
}
