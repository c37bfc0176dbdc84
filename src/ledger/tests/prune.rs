//! C4: what retention keeps stays, whatever the history; what is left over goes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::super::prune::{Keep, PruneOutcome, plan::Plan, prune_table};
use super::super::verify::Evidence;
use super::super::{At, ChangeKind, Epoch, Ledger, LedgerError, LoadLog, sha256_hex};
use super::checkpoints::write_checkpoint;
use super::kit::{change, folder, open};
use super::loads;
use super::readers::python;
use super::verify::{ALL, random, report, verify};
use crate::store::Store;

const DAY: Duration = Duration::from_secs(86_400);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn keep(days: u32, versions: u64) -> Keep {
    Keep::new(DAY * days, versions, WEEK)
}

async fn prune(store: &Store, keep: &Keep, dry_run: bool) -> PruneOutcome {
    let now = Utc::now() + TimeDelta::seconds(1);
    prune_table(store, &Evidence::default(), keep, now, dry_run)
        .await
        .unwrap()
}

/// Makes a file of the table as old as it is said to be.
fn age(store: &Store, path: &str, days: f64) {
    let path = store.folder().unwrap().join(path);
    let file = fs::File::open(path).unwrap();
    let modified = SystemTime::now() - Duration::from_secs_f64(days * 86_400.0);
    file.set_modified(modified).unwrap();
}

fn entry(version: u64) -> String {
    format!("_delta_log/{version:020}.json")
}

/// Everything below the table's folder.
fn listing(store: &Store) -> BTreeSet<String> {
    fn walk(folder: &std::path::Path, home: &std::path::Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, home, found);
            } else {
                let relative = path.strip_prefix(home).unwrap();
                found.insert(relative.to_string_lossy().into_owned());
            }
        }
    }
    let (home, mut found) = (store.folder().unwrap(), BTreeSet::new());
    walk(home, home, &mut found);
    found
}

/// A data file that no commit knows, so many days old.
async fn orphan(store: &Store, days: f64) -> String {
    let left = change(store, ChangeKind::Append, 0, &[1]).await;
    let path = left.files[0].path.clone();
    age(store, &path, days);
    path
}

/// A history: the newest version, and when each version was committed.
struct History {
    ages: Vec<f64>,
    checkpoints: Vec<u64>,
}

/// Random commits of all kinds, some with checkpoints, files and entries up to 60
/// days old.
async fn history(store: &Store, random: &mut fastrand::Rng) -> History {
    let mut ledger = open(store).await;
    let commits = random.i64(1..12);
    let mut ages: Vec<f64> = (0..commits).map(|_| random.f64() * 60.0).collect();
    ages.sort_by(|a, b| b.total_cmp(a));
    if random.u8(..4) == 0 {
        // A log that was copied: its times do not grow.
        random.shuffle(&mut ages);
    }
    let mut checkpoints = Vec::new();
    for from in 0..commits {
        let files = ledger.files().await.unwrap();
        let removed = files.iter().filter(|_| random.bool());
        let removed: Vec<String> = removed.map(|file| file.path.clone()).collect();
        let kind = match random.u8(..4) {
            0 => ChangeKind::Replace,
            1 if from > 0 => ChangeKind::Merge { removed },
            _ => ChangeKind::Append,
        };
        let next = change(store, kind, from, &[from, random.i64(..)]).await;
        // A file is never younger than the entry that names it.
        age(store, &next.files[0].path, ages[from as usize] + 0.01);
        ledger.commit(next).await.unwrap();
        if random.u8(..4) == 0 {
            write_checkpoint(store).await;
            checkpoints.push(from as u64);
        }
    }
    for (version, days) in ages.iter().enumerate() {
        age(store, &entry(version as u64), *days);
    }
    History { ages, checkpoints }
}

/// The versions that must be readable, by the words of the configuration: young,
/// or among the newest.
fn must_stay(history: &History, keep: &Keep) -> Vec<u64> {
    let days = keep.age.as_secs_f64() / 86_400.0;
    let newest = history.ages.len() as u64;
    let ages = history.ages.iter().enumerate();
    ages.map(|(version, age)| (version as u64, *age))
        .filter(|(version, age)| *age < days || version + keep.versions.max(1) >= newest)
        .map(|(version, _)| version)
        .collect()
}

/// Opens each version and reads each of its files.
async fn assert_readable(store: &Store, versions: &[u64]) {
    for version in versions {
        let past = Ledger::open_at(store.clone(), At::Version(*version)).await;
        let past = past.unwrap_or_else(|error| panic!("version {version}: {error}"));
        for file in past.files().await.unwrap() {
            let bytes = fs::read(store.folder().unwrap().join(&file.path));
            let bytes =
                bytes.unwrap_or_else(|_| panic!("version {version}: {} is gone", file.path));
            assert_eq!(Some(sha256_hex(&bytes)), file.sha256);
        }
    }
}

#[tokio::test]
async fn c4_what_a_retained_version_references_stays_in_any_history() {
    let mut random = random();
    let (mut gone, mut logs) = (0, 0);
    for number in 0..60 {
        let (_home, store) = folder();
        let history = history(&store, &mut random).await;
        let (old, young) = (orphan(&store, 30.0).await, orphan(&store, 6.9).await);
        let keep = keep(random.u32(0..40), random.u64(0..4));
        let must = must_stay(&history, &keep);
        let dry = prune(&store, &keep, true).await;
        let outcome = prune(&store, &keep, false).await;
        assert_eq!(dry, outcome, "a dry run says what a prune does");
        println!(
            "{number}: {keep:?} keeps {must:?} of {:?}: {outcome:?}",
            history.ages
        );
        assert_readable(&store, &must).await;
        let there = listing(&store);
        assert!(!there.contains(&old) && there.contains(&young));
        let evidence = Evidence::default();
        let checked = verify(&store, &evidence, ALL).await;
        assert_eq!(checked.damage().next(), None, "{checked:?}");
        // A second prune has nothing left to do.
        let again = prune(&store, &keep, false).await;
        assert_eq!((again.data.files, again.log.files), (0, 0), "{again:?}");
        // And the table goes on.
        let mut ledger = open(&store).await;
        let from = ledger.head().unwrap().commit;
        let next = change(&store, ChangeKind::Append, from, &[1]).await;
        ledger.commit(next).await.unwrap();
        gone += outcome.data.files - 1;
        logs += outcome.log.files;
        assert!(outcome.log.files == 0 || !history.checkpoints.is_empty());
    }
    assert!(gone > 50 && logs > 30, "it proves little: {gone}, {logs}");
}

/// A crash after any number of removals: what is retained stays readable, nothing
/// is called damage, and the next prune completes.
#[tokio::test]
async fn a_prune_that_is_killed_breaks_nothing_that_is_retained() {
    let mut random = random();
    for _ in 0..20 {
        let (_home, store) = folder();
        let history = history(&store, &mut random).await;
        let keep = keep(random.u32(0..20), random.u64(0..3));
        let must = must_stay(&history, &keep);
        let now = Utc::now() + TimeDelta::seconds(1);
        let plan = Plan::make(&store, &Evidence::default(), &keep, now).await;
        let plan = plan.unwrap().unwrap();
        let mut removed: Vec<String> = plan.log.iter().map(ToString::to_string).collect();
        random.shuffle(&mut removed);
        let mut data: Vec<String> = plan.data.iter().map(ToString::to_string).collect();
        random.shuffle(&mut data);
        removed.append(&mut data);
        let note = serde_json::to_string(&plan.pruned).unwrap();
        let home = store.folder().unwrap();
        fs::create_dir_all(home.join("_highwater")).unwrap();
        fs::write(home.join("_highwater/pruned.json"), note).unwrap();
        for path in &removed[..random.usize(..=removed.len())] {
            fs::remove_file(home.join(path)).unwrap();
        }
        assert_readable(&store, &must).await;
        let checked = verify(&store, &Evidence::default(), ALL).await;
        assert_eq!(checked.damage().next(), None, "{checked:?}");
        prune(&store, &keep, false).await;
        assert_readable(&store, &must).await;
        assert!(removed.iter().all(|path| !home.join(path).exists()));
    }
}

#[tokio::test]
async fn a_dry_run_removes_nothing() {
    let (_home, store) = folder();
    history(&store, &mut random()).await;
    orphan(&store, 40.0).await;
    let before = listing(&store);
    let outcome = prune(&store, &keep(0, 1), true).await;
    assert!(outcome.data.files > 0, "the test proves nothing");
    assert_eq!(listing(&store), before);
}

/// The file that an open load names, twenty days old: the next run would publish
/// it.
async fn open_load(store: &Store, from: i64) -> String {
    let mut log = LoadLog::open(store, from).await.unwrap();
    let writer = loads::writer();
    log.begin(loads::begin(&writer)).await.unwrap();
    let loaded = change(store, ChangeKind::Append, from, &[7]).await;
    let epoch = Epoch {
        run: writer.run,
        splits: vec![1],
        files: loaded.files.clone(),
        quarantined: 0,
    };
    log.epoch(epoch).await.unwrap();
    age(store, &loaded.files[0].path, 20.0);
    loaded.files[0].path.clone()
}

#[tokio::test]
async fn c4_files_of_an_open_load_stay_and_those_of_a_load_that_is_over_go() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    let next = change(&store, ChangeKind::Replace, 0, &[1]).await;
    ledger.commit(next).await.unwrap();
    let over = open_load(&store, 0).await;
    for number in 0..2 {
        let log = format!("_highwater/loads/{:020}/{number:05}.json", 0);
        age(&store, &log, 20.0);
    }
    let running = open_load(&store, 1).await;
    let outcome = prune(&store, &keep(0, 1), false).await;
    let there = listing(&store);
    assert!(there.contains(&running), "C4: {outcome:?}");
    assert!(!there.contains(&over), "{outcome:?}");
    assert_eq!((outcome.data.files, outcome.loads.files), (1, 2));
    assert!(
        !there
            .iter()
            .any(|path| path.starts_with("_highwater/loads/00000000000000000000/"))
    );
    assert!(LoadLog::open(&store, 1).await.unwrap().state().is_some());
}

#[tokio::test]
async fn control_arm_a_prune_that_is_blind_to_loads_loses_a_file() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    let next = change(&store, ChangeKind::Replace, 0, &[1]).await;
    ledger.commit(next).await.unwrap();
    let running = open_load(&store, 1).await;
    let blind = Keep {
        blind_to_loads: true,
        ..keep(0, 1)
    };
    prune(&store, &blind, false).await;
    assert!(
        !listing(&store).contains(&running),
        "the test proves nothing"
    );
}

#[tokio::test]
async fn what_is_not_ours_is_never_touched() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    let next = change(&store, ChangeKind::Replace, 0, &[1]).await;
    ledger.commit(next).await.unwrap();
    let id = Uuid::now_v7();
    let foreign = [
        "notes.txt".to_owned(),
        format!("part-00000-{id}-c000.snappy.parquet"),
        // A table of its own below this one.
        format!("lines/part-{id}.parquet"),
        entry(0).replace("_delta_log", "lines/_delta_log"),
    ];
    let home = store.folder().unwrap();
    for path in &foreign {
        fs::create_dir_all(home.join(path).parent().unwrap()).unwrap();
        fs::write(home.join(path), "x").unwrap();
        age(&store, path, 99.0);
    }
    // An upload that a killed run left, and one that may be under way.
    for (name, days) in [("old", 9.0), ("new", 1.0)] {
        let path = format!("day={name}/part-{id}.parquet#1");
        fs::create_dir_all(home.join(&path).parent().unwrap()).unwrap();
        fs::write(home.join(&path), "x").unwrap();
        age(&store, &path, days);
    }
    let outcome = prune(&store, &keep(0, 1), false).await;
    let there = listing(&store);
    assert!(foreign.iter().all(|path| there.contains(path)), "{there:?}");
    assert_eq!(
        (outcome.foreign.files, outcome.staged.files),
        (4, 1),
        "{outcome:?}"
    );
    assert!(outcome.foreign_names.contains(&"notes.txt".to_owned()));
    assert!(there.contains(&format!("day=new/part-{id}.parquet#1")));
}

/// Commits that the log lost may be put back; their files are not leftovers.
#[tokio::test]
async fn a_log_that_went_back_is_not_pruned() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    let mut reports = Vec::new();
    for from in 0..3 {
        let next = change(&store, ChangeKind::Append, from, &[from]).await;
        age(&store, &next.files[0].path, 30.0);
        ledger.commit(next).await.unwrap();
        reports.push(report(&ledger));
    }
    fs::remove_file(store.folder().unwrap().join(entry(2))).unwrap();
    let before = listing(&store);
    let evidence = Evidence::of(&reports, "orders");
    let now: DateTime<Utc> = Utc::now() + TimeDelta::seconds(1);
    let error = prune_table(&store, &evidence, &keep(0, 1), now, false).await;
    assert!(
        matches!(error, Err(LedgerError::NotPruned { .. })),
        "{error:?}"
    );
    assert_eq!(listing(&store), before);
}

#[tokio::test]
async fn retained_versions_are_read_by_others() {
    let (_home, store) = folder();
    let mut ledger = open(&store).await;
    let mut rows = BTreeMap::new();
    for from in 0..9 {
        let kind = match from % 3 {
            0 => ChangeKind::Replace,
            _ => ChangeKind::Append,
        };
        let next = change(&store, kind, from, &[from, from + 100]).await;
        age(&store, &next.files[0].path, 40.0);
        let head = ledger.commit(next).await.unwrap();
        rows.insert(head.version, head.rows);
        age(&store, &entry(head.version), 40.0);
        if from == 3 || from == 5 {
            write_checkpoint(&store).await;
        }
    }
    let outcome = prune(&store, &keep(30, 3), false).await;
    assert_eq!(outcome.oldest_retained, Some(6));
    assert!(
        outcome.log.files >= 6 && outcome.data.files >= 3,
        "{outcome:?}"
    );
    let script = r#"
import sys, deltalake, polars as pl
for version in range(6, 9):
    table = deltalake.DeltaTable(sys.argv[1], version=version)
    rows = table.to_pyarrow_table().num_rows
    assert pl.read_delta(sys.argv[1], version=version).height == rows
    print(rows)
"#;
    if let Some(said) = python(&store, script) {
        let expected: Vec<String> = (6..9).map(|v| rows[&v].to_string()).collect();
        assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    }
}
