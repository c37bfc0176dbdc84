//! The daemon for real, with seconds: it runs when runs are due, is killed and
//! started again, doubled, frozen, told to stop; and at no time is work done
//! twice or a row wrong.

use crate::kit;

use std::path::Path;
use std::time::{Duration, Instant};

use kit::lake::{Lake, Running};
use kit::load_log;
use kit::oracle::rows;
use kit::outcome::Outcome;
use kit::place::Place;
use kit::shop;
use serde_json::Value;

const LEASE: &str = "_highwater/lease.json";
/// Enough for a run that can be caught in its middle.
const MANY: u64 = 600_000;

fn source(folder: &Path, count: u64) -> String {
    let path = folder.join("shop.sqlite");
    shop::sqlite_orders(&path, count);
    format!("sqlite:{}", path.display())
}

/// Runs that are over soon, every other second.
fn often(source: &str, place: Place) -> Lake {
    Lake::at(source, place)
        .with(r#"mode = "full""#)
        .with(r#"schedule.every = "2s""#)
}

/// A run that takes a while and records what it has done. Its turns are seldom;
/// all that were due since 2020 were missed.
fn seldom(folder: &Path) -> Lake {
    let lake = Lake::at(source(folder, MANY), Place::Folder(folder.join("lake")))
        .with(r#"mode = "full""#)
        .with(r#"schedule.every = "6h""#)
        .with(r#"epoch.bytes = "1MiB""#)
        .with(r#"files.target = "2MiB""#);
    lake.place()
        .write(LEASE, br#"{"done": "2020-01-01T00:00:00Z"}"#);
    lake
}

/// What the daemon said, a line for each run.
fn lines(outcome: &Outcome) -> Vec<Value> {
    let lines = outcome.stdout.lines();
    let lines = lines.map(|line| serde_json::from_str(line).expect("a line of JSON"));
    lines
        .inspect(|line: &Value| assert_eq!(line["event"], "run"))
        .collect()
}

/// The lines of turns where something was run.
fn runs(outcome: &Outcome) -> Vec<Value> {
    let lines = lines(outcome).into_iter();
    lines.filter(|line| !line["run"].is_null()).collect()
}

fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while Instant::now() < until {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{what}: waited in vain");
}

fn wait_for_versions(place: &Place, count: usize) {
    wait_until("versions", || place.versions("orders").len() >= count);
}

fn stop(daemon: Running) -> Outcome {
    daemon.signal("TERM");
    daemon.wait().exits(0)
}

/// Milliseconds from start to end of a run.
fn span(line: &Value) -> (i64, i64) {
    let started: chrono::DateTime<chrono::Utc> = line["started"].as_str().unwrap().parse().unwrap();
    let start = started.timestamp_millis();
    let took = line["seconds"].as_f64().unwrap() * 1e3;
    (start, start + took as i64)
}

/// Why these runs are not one after the other, each for a turn of its own.
fn doubled(runs: &[Value]) -> Option<String> {
    let mut runs: Vec<&Value> = runs.iter().collect();
    runs.sort_by_key(|line| span(line));
    runs.windows(2).find_map(|pair| {
        let same = pair[0]["due"] == pair[1]["due"];
        let overlap = span(pair[0]).1 > span(pair[1]).0;
        (same || overlap).then(|| format!("{} and {}", pair[0], pair[1]))
    })
}

#[test]
fn runs_every_other_second_and_says_so() {
    let folder = kit::scratch();
    let lake = often(
        &source(folder.path(), 1000),
        Place::Folder(folder.path().join("lake")),
    );
    let daemon = lake.verb("schedule");
    wait_for_versions(lake.place(), 3);
    let outcome = stop(daemon);
    let told = runs(&outcome);
    assert!(told.len() >= 3, "{outcome}");
    assert_eq!(doubled(&told), None, "{outcome}");
    for line in &told {
        assert_eq!(
            (&line["exit"], &line["tables"]),
            (&0.into(), &1.into()),
            "{line}"
        );
        let due: chrono::DateTime<chrono::Utc> = line["due"].as_str().unwrap().parse().unwrap();
        assert_eq!(due.timestamp_millis() % 2000, 0, "{line}");
        assert!(line["next"].as_str() > line["due"].as_str(), "{line}");
    }
    rows(&lake, "orders");
    // What it did and what comes next stands in the lake.
    let status = lake.verb("status").wait().exits(0);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    let last = told.last().unwrap();
    assert_eq!(status["schedule"]["schedule"], "every 2s");
    assert_eq!(status["schedule"]["last"]["run"], last["run"], "{status}");
    assert_eq!(status["schedule"]["next"], last["next"], "{status}");
    // Started again, it goes on where it was.
    let versions = lake.place().versions("orders").len();
    let daemon = lake.verb("schedule");
    wait_for_versions(lake.place(), versions + 1);
    let again = runs(&stop(daemon));
    assert_eq!(doubled(&[told, again].concat()), None);
}

#[test]
fn idle_it_ends_at_once() {
    let folder = kit::scratch();
    let lake = seldom(folder.path());
    lake.place().write(LEASE, b"{}");
    for signal in ["TERM", "INT"] {
        let daemon = lake.verb("schedule");
        std::thread::sleep(Duration::from_millis(700));
        let asked = Instant::now();
        daemon.signal(signal);
        let outcome = daemon.wait().exits(0);
        assert!(asked.elapsed() < Duration::from_secs(2), "{outcome}");
        assert_eq!(outcome.stdout, "");
    }
}

#[test]
fn in_a_run_it_ends_cleanly_and_the_next_one_goes_on() {
    let folder = kit::scratch();
    let lake = seldom(folder.path());
    let daemon = lake.verb("schedule");
    load_log::wait_for_splits(lake.place(), "orders", 1);
    let asked = Instant::now();
    let outcome = stop(daemon);
    assert!(asked.elapsed() < Duration::from_secs(30), "{outcome}");
    assert_eq!(runs(&outcome)[0]["exit"], 130, "{outcome}");
    assert!(
        lake.place().versions("orders").is_empty(),
        "it was not in the middle"
    );
    // The lease was given back and the turn is still to be done.
    let daemon = lake.verb("schedule");
    wait_for_versions(lake.place(), 1);
    let outcome = stop(daemon);
    assert_eq!(runs(&outcome)[0]["exit"], 0, "{outcome}");
    load_log::assert_no_split_repeated(lake.place(), "orders");
    rows(&lake, "orders");
}

#[test]
fn a_run_that_outlasts_its_grace_is_abandoned() {
    let folder = kit::scratch();
    let lake = seldom(folder.path()).with(r#"schedule.grace = "1ms""#);
    let daemon = lake.verb("schedule");
    load_log::wait_for_splits(lake.place(), "orders", 1);
    daemon.signal("TERM");
    let outcome = daemon.wait().exits(130).says(&["abandoned"]);
    assert_eq!(outcome.stdout, "", "the run has not ended");
    lake.run().exits(0);
    load_log::assert_no_split_repeated(lake.place(), "orders");
    rows(&lake, "orders");
}

#[test]
fn killed_in_a_run_and_started_again() {
    let folder = kit::scratch();
    let lake = seldom(folder.path());
    let daemon = lake.verb("schedule");
    load_log::wait_for_splits(lake.place(), "orders", 1);
    daemon.kill();
    let daemon = lake.verb("schedule");
    wait_for_versions(lake.place(), 1);
    wait_until("the lease", || {
        lake.place().json(LEASE)[0]["holder"].is_null()
    });
    let outcome = stop(daemon);
    let told = lines(&outcome);
    // Told once that the dead one seems to live; then the turn is made up for.
    let held = told
        .iter()
        .filter(|line| line["held_by"].is_string())
        .count();
    assert_eq!((held, told.len()), (1, 2), "{outcome}");
    assert_eq!(
        (&told[0]["exit"], &told[1]["exit"]),
        (&11.into(), &0.into())
    );
    load_log::assert_no_split_repeated(lake.place(), "orders");
    rows(&lake, "orders");
}

fn two_at_once(place: &Place, source: &str) {
    let daemons = [(); 2].map(|()| often(source, place.clone()));
    let [one, other] = [0, 1].map(|which| daemons[which].verb("schedule"));
    wait_for_versions(place, 5);
    let outcomes = [stop(one), stop(other)];
    let told: Vec<Value> = outcomes.iter().flat_map(runs).collect();
    for line in &told {
        assert!(line["exit"] == 0 || line["exit"] == 130, "{line}");
    }
    assert!(told.len() >= 5);
    assert_eq!(doubled(&told), None, "{}\n{}", outcomes[0], outcomes[1]);
    assert_eq!(
        place.versions("orders").len(),
        told.iter().filter(|line| line["exit"] == 0).count()
    );
    rows(&daemons[0], "orders");
}

#[test]
fn two_at_once_share_the_turns_of_a_folder() {
    let folder = kit::scratch();
    let source = source(folder.path(), 50_000);
    two_at_once(&Place::Folder(folder.path().join("lake")), &source);
}

#[test]
fn two_at_once_share_the_turns_of_a_bucket() {
    let folder = kit::scratch();
    let source = source(folder.path(), 50_000);
    let place = Place::s3();
    two_at_once(&place, &source);
    place.server().assert_no_deletes();
}

/// Control arm: two that know nothing of each other do double their turns, and
/// the check sees it.
#[test]
fn control_arm_without_a_common_lease_turns_are_doubled() {
    let folder = kit::scratch();
    let source = source(folder.path(), 1000);
    let lakes =
        ["one", "other"].map(|name| often(&source, Place::Folder(folder.path().join(name))));
    let [one, other] = [0, 1].map(|which| lakes[which].verb("schedule"));
    for lake in &lakes {
        wait_for_versions(lake.place(), 3);
    }
    let told: Vec<Value> = [stop(one), stop(other)].iter().flat_map(runs).collect();
    assert!(
        doubled(&told).is_some(),
        "the check proves nothing: {told:?}"
    );
}

/// One is frozen in its run until it is taken for dead, and thawed after the
/// other has committed: it commits nothing.
#[test]
fn frozen_past_its_lease_and_thawed() {
    let folder = kit::scratch();
    let lake = seldom(folder.path());
    let frozen = lake.verb("schedule");
    load_log::wait_for_splits(lake.place(), "orders", 1);
    frozen.signal("STOP");
    let other = lake.verb("schedule");
    wait_for_versions(lake.place(), 1);
    wait_until("the lease", || {
        lake.place().json(LEASE)[0]["holder"].is_null()
    });
    frozen.signal("CONT");
    let note = lake.place().json(LEASE);
    std::thread::sleep(Duration::from_secs(3));
    let outcomes = [stop(frozen), stop(other)];
    let exits = outcomes
        .each_ref()
        .map(|outcome| runs(outcome)[0]["exit"].clone());
    assert_eq!(exits, [11, 0], "{}\n{}", outcomes[0], outcomes[1]);
    assert_eq!(lake.place().versions("orders").len(), 1);
    assert_eq!(
        lake.place().json(LEASE),
        note,
        "it must not touch another's lease"
    );
    rows(&lake, "orders");
}

#[test]
fn missed_turns_are_made_up_for_or_skipped() {
    let folder = kit::scratch();
    let small = source(folder.path(), 1000);
    for (missed, count) in [("once", 1), ("skip", 0)] {
        let place = Place::Folder(folder.path().join(missed));
        let lake = Lake::at(&small, place)
            .with(r#"mode = "full""#)
            .with(r#"schedule.every = "6h""#)
            .with(format!("schedule.missed = {missed:?}"));
        lake.place()
            .write(LEASE, br#"{"done": "2020-01-01T00:00:00Z"}"#);
        let daemon = lake.verb("schedule");
        std::thread::sleep(Duration::from_secs(4));
        let outcome = stop(daemon);
        assert_eq!(lines(&outcome).len(), count, "{outcome}");
        assert_eq!(lake.place().versions("orders").len(), count);
    }
}

#[test]
fn once_now_runs_under_the_lease_and_exits_as_run_does() {
    let folder = kit::scratch();
    let small = source(folder.path(), 1000);
    let lake = Lake::at(small, Place::Folder(folder.path().join("lake"))).with(r#"mode = "full""#);
    let once = || {
        let config = lake.config();
        Running::start(&["schedule", &config.to_string_lossy(), "--once-now"]).wait()
    };
    let outcome = once().exits(0);
    assert_eq!(
        (runs(&outcome).len(), lake.place().versions("orders").len()),
        (1, 1)
    );
    let holder =
        r#"{"holder": {"host": "attic", "pid": 7, "run": "00000000-0000-0000-0000-000000000000"}}"#;
    lake.place().write(LEASE, holder.as_bytes());
    let outcome = once().exits(11).says(&["held by process 7 on attic"]);
    assert_eq!(lines(&outcome)[0]["exit"], 11);
    // Its holder is dead: by the store's clock, not by this machine's (C5).
    let file = std::fs::File::options()
        .append(true)
        .open(folder.path().join("lake").join(LEASE))
        .unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(60))
        .unwrap();
    once().exits(0);
    assert_eq!(lake.place().versions("orders").len(), 2);
}

#[test]
fn what_cannot_work_is_exit_2() {
    let folder = kit::scratch();
    let small = source(folder.path(), 10);
    let lake = Lake::at(small, Place::Folder(folder.path().join("lake")));
    lake.verb("schedule")
        .wait()
        .exits(2)
        .says(&["no schedule", "every ="]);
    let lake = lake.with(r#"schedule.cron = "0 25 * * *""#);
    lake.verb("schedule").wait().exits(2).says(&["0 25 * * *"]);
}
