//! One run in several processes: the same lake as one process makes, and when a
//! process is lost, all of them end soon, and the next run goes on.
//!
//! `HIGHWATER_CLUSTER_KILLS` (30) and `HIGHWATER_SEED` set the kills.

use crate::kit;

use std::time::Duration;

use kit::lake::{Lake, Running};
use kit::oracle::rows;
use kit::outcome::{Outcome, find};
use kit::postgres::Database;
use kit::team::{Team, hosts_file, key_file};
use kit::{Random, load_log, shop, size};
use serde_json::Value;

/// How long processes may go on after one of them is lost.
const NOTICED: Duration = Duration::from_secs(15);

/// Runs in so many processes under `cluster`.
fn run(lake: &Lake, processes: usize, workers: usize) -> Outcome {
    supervised(lake, processes, workers, "run").exits(0)
}

fn supervised(lake: &Lake, processes: usize, workers: usize, verb: &str) -> Outcome {
    let (processes, workers) = (processes.to_string(), workers.to_string());
    let config = lake.config();
    let arguments = [
        "cluster",
        &config.to_string_lossy(),
        "--verb",
        verb,
        "--processes",
        &processes,
        "--json",
        "--",
        "--workers",
        &workers,
        "--memory",
        "256MiB",
        "--progress",
        "never",
    ];
    Running::start(&arguments).wait()
}

/// Tables of every sort: wide and narrow, partitioned, with a key of several
/// columns, without a key, empty.
fn tables(database: &Database) {
    shop::orders(database, 30_000);
    database.sql(
        "create table log (at int, what text);
         insert into log select i % 700, 'x' || i % 3 from generate_series(1, 5000) i;
         create table pairs (a int, b text, v int, at timestamptz default now(), primary key (b, a));
         create index on pairs (at);
         insert into pairs select i, 'b' || i % 7, i, now() - interval '1 day' from generate_series(1, 8000) i;
         create table parts (id int, v text, primary key (id)) partition by range (id);
         create table parts_1 partition of parts for values from (0) to (2000);
         create table parts_2 partition of parts for values from (2000) to (9000);
         insert into parts select i, 'v' || i from generate_series(0, 5000) i;
         create table nothing (id int primary key);
         analyze",
    );
}

const TABLES: [&str; 5] = [
    "public.orders",
    "public.log",
    "public.pairs",
    "public.parts",
    "public.nothing",
];

fn change(database: &Database, step: u32) {
    database.sql(&format!(
        "update orders set note = 'step {step}' where id % 97 = {step};
         delete from orders where id % 1009 = {step};
         insert into log values ({step}, 'new'), ({step}, 'new'), (null, null);
         delete from log where ctid in (select ctid from log where at = {step} limit 2);
         update pairs set v = -v, at = now() where a % 50 = {step};
         insert into pairs (a, b, v) values ({step} + 100000, 'new', 0);
         update parts set v = 'step {step}' where id % 500 = {step};
         insert into nothing values ({step})"
    ));
}

fn all_agree(lake: &Lake) {
    for table in TABLES {
        rows(lake, table);
    }
}

/// Load, merge by every method, a load instead of a merge, nothing to do: with any
/// number of processes and threads.
fn same_lake(processes: usize, workers: usize) {
    let database = Database::create();
    tables(&database);
    let lake = Lake::local(database.url())
        .with(r#"files.target = "256KiB""#)
        .with(r#"epoch.bytes = "2MiB""#)
        .with(r#"tables."public.orders".method = "xid""#)
        .with(r#"tables."public.parts".method = "diff""#)
        .with(r#"tables."public.parts".history = true"#)
        .with(r#"tables."public.pairs".method = "cursor""#)
        .with(r#"tables."public.pairs".cursor = "at""#);
    let report = run(&lake, processes, workers).report();
    let shares = find(&report, "splits_by_process").and_then(Value::as_array);
    assert_eq!(shares.map_or(1, Vec::len), processes, "{report:#}");
    change(&database, 1);
    run(&lake, processes, workers);
    all_agree(&lake);
    change(&database, 2);
    database.sql("update orders set qty = qty + 1");
    run(&lake, processes, workers);
    all_agree(&lake);
    run(&lake, processes, workers);
    let verified = supervised(&lake, processes, workers, "verify").exits(0);
    let report: Value = serde_json::from_str(&verified.stdout).unwrap();
    let tables = report["tables"].as_array().unwrap();
    let compared = tables
        .iter()
        .filter(|table| table["against_source"].is_object());
    assert_eq!(compared.clone().count(), TABLES.len(), "{report:#}");
    for table in compared {
        assert_eq!(table["against_source"]["differing"], 0, "{report:#}");
    }
}

#[test]
fn one_process_with_one_worker() {
    same_lake(1, 1);
}

#[test]
fn one_process_with_two_workers() {
    same_lake(1, 2);
}

#[test]
fn two_processes_with_one_worker() {
    same_lake(2, 1);
}

#[test]
fn two_processes_with_two_workers() {
    same_lake(2, 2);
}

#[test]
fn three_processes_with_one_worker() {
    same_lake(3, 1);
}

/// Both processes of a load read, and each table's rows arrive once.
#[test]
fn splits_go_to_every_process() {
    let database = Database::create();
    shop::orders(&database, 200_000);
    let lake = Lake::local(database.url()).with(r#"epoch.bytes = "4MiB""#);
    let report = run(&lake, 2, 1).report();
    let shares = find(&report, "splits_by_process").unwrap().clone();
    let shares: Vec<u64> = serde_json::from_value(shares).unwrap();
    println!("splits by process: {shares:?}");
    assert!(shares.iter().all(|&splits| splits > 0), "{shares:?}");
    rows(&lake, "public.orders");
}

/// A SQLite file is read by the first process; the lake is the same.
#[test]
fn a_source_that_cannot_be_shared() {
    let folder = kit::scratch();
    let file = folder.path().join("shop.sqlite");
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection
        .execute_batch(
            "create table t (id integer primary key, v text);
             with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000)
             insert into t select i, 'v' || i from n;",
        )
        .unwrap();
    let lake = Lake::local(format!("sqlite:{}", file.display()));
    run(&lake, 2, 1);
    rows(&lake, "t");
    connection
        .execute_batch("update t set v = 'new' where id % 100 = 0; delete from t where id = 7")
        .unwrap();
    run(&lake, 2, 1);
    rows(&lake, "t");
}

/// What every process but the first has to say when one is lost.
#[track_caller]
fn tells_of(outcome: Outcome, process: usize) {
    let outcome = outcome.exits(4);
    let said = outcome
        .stderr
        .lines()
        .filter(|line| line.contains("exit_error"));
    let said: Vec<&str> = said.collect();
    assert_eq!(said.len(), 1, "{outcome}");
    assert!(
        said[0].contains(&format!("process {process} at")),
        "{outcome}"
    );
    assert!(!outcome.stderr.contains("panicked"), "{outcome}");
}

fn loading(database: &Database) -> Lake {
    Lake::local(database.url())
        .with(r#"epoch.bytes = "2MiB""#)
        .with(r#"files.target = "2MiB""#)
        .with(r#"memory = "256MiB""#)
        .with("workers = 1")
}

/// kill -9 of each process at random moments.
#[test]
fn a_process_is_killed() {
    let database = Database::create();
    shop::orders(&database, 200_000);
    let whole = {
        let lake = loading(&database);
        run(&lake, 3, 1).wall
    };
    let lake = loading(&database);
    let mut random = Random::seeded();
    for kill in 0..size("HIGHWATER_CLUSTER_KILLS", 30) {
        let victim = usize::try_from(kill % 3).unwrap();
        let span = u64::try_from(whole.as_micros()).unwrap();
        // Who is killed before all have met is waited for as long as this.
        let mut team = Team::start(&lake, "run", 3, &["--join-timeout", "10s"]);
        std::thread::sleep(Duration::from_micros(random.below(span)));
        if !team.process(victim).is_running() {
            for outcome in team.wait() {
                outcome.exits(0);
            }
            continue;
        }
        println!("kill {kill}: process {victim}");
        team.take(victim).kill();
        let outcomes = team.wait_within(NOTICED);
        // The victim may have done its part already, or the others not yet have met: then
        // who waits longest is left by the one that has said so.
        let unmet = |outcome: &Outcome| outcome.stderr.contains("the run is not complete");
        let met = !outcomes.iter().any(unmet);
        for outcome in outcomes {
            if outcome.code != Some(0) && met {
                assert_eq!(outcome.code, Some(4), "{outcome}");
                assert!(
                    outcome.stderr.contains(&format!("process {victim}")),
                    "{outcome}"
                );
            }
            assert!(!outcome.stderr.contains("panicked"), "{outcome}");
        }
    }
    run(&lake, 3, 1);
    load_log::assert_no_split_repeated(lake.place(), "public/orders");
    rows(&lake, "public.orders");
}

/// Starts a load in three processes and stops when it has begun.
fn begun(lake: &Lake) -> Team {
    let team = Team::start(lake, "run", 3, &[]);
    load_log::wait_for_splits(lake.place(), "public/orders", 1);
    team
}

#[test]
fn a_process_freezes() {
    let database = Database::create();
    shop::orders(&database, 400_000);
    for frozen in [2, 0] {
        let lake = loading(&database);
        let mut team = begun(&lake);
        let frozen_process = team.take(frozen);
        frozen_process.signal("STOP");
        for outcome in team.wait_within(NOTICED) {
            tells_of(outcome, frozen);
        }
        // Thawed, it must not go on as if nothing had happened.
        frozen_process.signal("CONT");
        frozen_process.wait().exits(4);
        run(&lake, 3, 1);
        rows(&lake, "public.orders");
    }
}

/// The supervisor starts all processes again, and they go on from the last
/// commit.
#[test]
fn the_supervisor_starts_again() {
    let database = Database::create();
    shop::orders(&database, 400_000);
    let lake = loading(&database);
    let config = lake.config();
    let arguments = [
        "cluster",
        &config.to_string_lossy(),
        "--processes",
        "2",
        "--",
        "--workers",
        "1",
    ];
    let supervisor = Running::start(&arguments);
    load_log::wait_for_splits(lake.place(), "public/orders", 1);
    let children = kit::team::children(supervisor.id());
    assert_eq!(children.len(), 2, "{children:?}");
    kit::team::kill(children[1]);
    let outcome = supervisor.wait().exits(0);
    assert!(
        outcome
            .stderr
            .contains("starting all again, 1 of at most 5"),
        "{outcome}"
    );
    load_log::assert_no_split_repeated(lake.place(), "public/orders");
    rows(&lake, "public.orders");
}

/// Whoever asks any process to end ends the run in order.
#[test]
fn a_follower_is_asked_to_stop() {
    let database = Database::create();
    shop::orders(&database, 400_000);
    let lake = loading(&database);
    let mut team = begun(&lake);
    team.process(1).signal("TERM");
    for outcome in team.wait_within(Duration::from_secs(30)) {
        assert_eq!(outcome.code, Some(130), "{outcome}");
    }
    run(&lake, 3, 1);
    rows(&lake, "public.orders");
}

#[test]
fn a_stranger_is_refused() {
    let database = Database::create();
    shop::orders(&database, 1000);
    let lake = loading(&database);
    let hosts = hosts_file(lake.folder(), 2);
    let (key, other) = (
        key_file(lake.folder(), "key"),
        key_file(lake.folder(), "other"),
    );
    let leader = Team::member(&lake, "run", 0, &hosts, &key, &[]);
    let stranger = Team::member(&lake, "run", 1, &hosts, &other, &[])
        .wait()
        .exits(2);
    assert!(stranger.stderr.contains("same key"), "{stranger}");
    // Another job with the right key.
    let elsewhere = Lake::local(database.url()).with("workers = 1");
    let wrong = Team::member(&elsewhere, "run", 1, &hosts, &key, &[])
        .wait()
        .exits(2);
    assert!(wrong.stderr.contains("refuses this one"), "{wrong}");
    let member = Team::member(&lake, "run", 1, &hosts, &key, &[]);
    member.wait().exits(0);
    let leader = leader.wait().exits(0);
    assert!(leader.stderr.contains("refused"), "{leader}");
    rows(&lake, "public.orders");
}

#[test]
fn a_process_that_never_comes() {
    let database = Database::create();
    shop::orders(&database, 10);
    let lake = loading(&database);
    let hosts = hosts_file(lake.folder(), 2);
    let key = key_file(lake.folder(), "key");
    let short = ["--join-timeout", "2s"];
    let leader = Team::member(&lake, "run", 0, &hosts, &key, &short);
    let leader = leader.wait().exits(4);
    assert!(leader.stderr.contains("process 1"), "{leader}");
}

/// Processes that keep a schedule together.
#[test]
fn a_schedule_in_two_processes() {
    let database = Database::create();
    shop::orders(&database, 2000);
    let lake = loading(&database).with(r#"schedule.every = "2s""#);
    let mut team = Team::start(&lake, "schedule", 2, &[]);
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while lake.place().versions("public/orders").is_empty() {
        assert!(std::time::Instant::now() < deadline, "no run was made");
        std::thread::sleep(Duration::from_millis(100));
    }
    database.sql("update orders set note = 'x' where id < 10");
    while lake.place().versions("public/orders").len() < 2 {
        assert!(
            std::time::Instant::now() < deadline,
            "no second run was made"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    team.process(0).signal("TERM");
    std::thread::sleep(Duration::from_secs(1));
    team.process(1).signal("TERM");
    for outcome in team.wait_within(Duration::from_secs(60)) {
        assert!(matches!(outcome.code, Some(0 | 130)), "{outcome}");
    }
    rows(&lake, "public.orders");
}
