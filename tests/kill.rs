//! kill -9 at random instants during a load, again and again: what was recorded
//! is not repeated, what was committed stays, and at the end the rows are right.
//!
//! `HIGHWATER_KILLS` (25) and `HIGHWATER_ROWS` (1,000,000) set the size,
//! `HIGHWATER_SEED` the instants.

use crate::kit;

use std::time::Duration;

use kit::lake::Lake;
use kit::oracle::{Check, rows};
use kit::outcome::find;
use kit::place::Place;
use kit::postgres::Database;
use kit::{Random, load_log, shop, size};
use serde_json::Value;

const TABLE: &str = "public/orders";

fn settled(lake: Lake) -> Lake {
    // Each run loads the whole table; killed merges are in `kill_merge`.
    lake.with(r#"mode = "full""#)
        .with(r#"epoch.bytes = "8MiB""#)
        .with(r#"memory = "256MiB""#)
        .with(r#"files.target = "8MiB""#)
}

/// How long an undisturbed load takes: instants are chosen within it.
fn undisturbed(database: &Database, place: Place) -> Duration {
    settled(Lake::at(database.url(), place)).run().exits(0).wall
}

fn kill_again_and_again(lake: &Lake, whole: Duration) {
    let mut random = Random::seeded();
    let kills = size("HIGHWATER_KILLS", 25);
    let mut killed = 0;
    let mut published = 0;
    // A run that ends before its instant does not count, so that the loop kills
    // as often as it says; the instants shrink with the work that is left.
    for _ in 0..kills * 4 {
        let span = u64::try_from(whole.as_micros()).unwrap();
        let instant = Duration::from_micros(random.below(span));
        let mut run = lake.start();
        std::thread::sleep(instant);
        if run.is_running() {
            let outcome = run.kill().cleanly();
            // It may have ended by itself in the instant between.
            assert!(matches!(outcome.code, None | Some(0)), "{outcome}");
            killed += u64::from(outcome.code.is_none());
        } else {
            run.wait().exits(0);
        }
        load_log::assert_no_split_repeated(lake.place(), TABLE);
        let versions = lake.place().versions(TABLE);
        assert!(
            versions.len() >= published,
            "a published version is gone: {versions:?}"
        );
        published = versions.len();
        if killed == kills {
            return;
        }
    }
    panic!("only {killed} of {kills} runs lived long enough to be killed");
}

fn finish(lake: &Lake, count: u64) {
    let report = lake.run().exits(0).report();
    load_log::assert_no_split_repeated(lake.place(), TABLE);
    let found = rows(lake, "public.orders");
    assert_eq!(found.rows(), count);
    println!(
        "orphans {}, splits resumed {}, versions {:?}",
        found.orphans(),
        find(&report, "splits_resumed").unwrap_or(&Value::Null),
        lake.place().versions(TABLE),
    );
}

#[test]
fn killed_loads_on_local_disk() {
    let count = size("HIGHWATER_ROWS", 1_000_000);
    let database = Database::create();
    shop::orders(&database, count);
    let aside = kit::scratch();
    let whole = undisturbed(&database, Place::Folder(aside.path().join("lake")));
    let lake = settled(Lake::local(database.url()));
    kill_again_and_again(&lake, whole);
    finish(&lake, count);
}

#[test]
fn killed_loads_on_s3() {
    let count = size("HIGHWATER_ROWS", 1_000_000);
    let database = Database::create();
    shop::orders(&database, count);
    let whole = undisturbed(&database, Place::s3());
    let lake = settled(Lake::s3(database.url()));
    kill_again_and_again(&lake, whole);
    finish(&lake, count);
    lake.place().server().assert_no_deletes();
}

/// A load that is killed late must continue, not begin again.
#[test]
fn a_killed_load_is_continued() {
    let count = size("HIGHWATER_ROWS", 1_000_000);
    let database = Database::create();
    shop::orders(&database, count);
    let lake = settled(Lake::local(database.url()));
    let run = lake.start();
    let recorded = load_log::wait_for_splits(lake.place(), TABLE, 2);
    run.kill();
    let report = lake.run().exits(0).report();
    assert_eq!(
        find(&report, "continued"),
        Some(&Value::Bool(true)),
        "{report:#}"
    );
    let resumed = find(&report, "splits_resumed")
        .and_then(Value::as_u64)
        .unwrap();
    assert!(
        resumed >= recorded,
        "{recorded} splits were recorded, {resumed} resumed"
    );
    load_log::assert_no_split_repeated(lake.place(), TABLE);
    rows(&lake, "public.orders");
}

/// Control arm: the check of repeated splits and the oracle must both see a
/// load that recorded a split twice and a lake that lost a file's rows.
#[test]
fn the_checks_of_this_test_can_fail() {
    let database = Database::create();
    shop::orders(&database, 1000);
    let lake = Lake::local(database.url());
    lake.run().exits(0);
    rows(&lake, "public.orders");
    database.sql("insert into orders select 1001, customer_id, status, email, note, amount, qty, price, paid, created_at, updated_at, ship_date, uid, attrs from orders where id = 1");
    assert!(
        !Check::of(&lake, "public.orders").compare().0,
        "the oracle must see a missing row"
    );
}
