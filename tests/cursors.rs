//! Cursor columns at their worst: ties, NULLs, infinity, no index, no rights.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod kit;

use kit::lake::Lake;
use kit::oracle::rows;
use kit::outcome::{Outcome, find};
use kit::postgres::Database;

const TABLE: &str = "public.events";

/// A table whose cursor follows no clock by itself: tests stamp it.
fn events(database: &Database) {
    database.sql(
        "create table events (id int primary key, what text, at timestamptz);
         create index on events (at)",
    );
}

fn lake(source: String, method: &str) -> Lake {
    Lake::local(source)
        .with(format!(r#"method = "{method}""#))
        .with(r#"reconcile = "never""#)
        .with(r#"tables."public.events".cursor = "at""#)
}

fn method(outcome: &Outcome) -> String {
    let report = outcome.report();
    let tables = find(&report, "tables").unwrap();
    tables[0]["method"].as_str().unwrap().to_owned()
}

#[track_caller]
fn follows(lake: &Lake) -> Outcome {
    let outcome = lake.run().exits(0);
    assert_eq!(method(&outcome), "cursor");
    rows(lake, TABLE);
    outcome
}

#[test]
fn all_cursors_equal() {
    let database = Database::create();
    events(&database);
    let lake = lake(database.url(), "cursor");
    for batch in 0..5 {
        database.sql(&format!(
            "insert into events select {batch} * 1000 + i, 'same', '2024-01-01' from generate_series(1, 1000) i;
             update events set what = 'batch {batch}' where id % 100 = {batch}"
        ));
        follows(&lake);
    }
}

#[test]
fn microseconds_apart() {
    let database = Database::create();
    events(&database);
    let lake = lake(database.url(), "cursor");
    for batch in 0..5 {
        // Each batch begins at the last microsecond of the one before.
        database.sql(&format!(
            "insert into events select {batch} * 1000 + i, 'tick',
               timestamptz '2024-01-01 00:00:00.999990+00' + ({batch} * 9 + i / 100) * interval '1 microsecond'
             from generate_series(0, 999) i"
        ));
        follows(&lake);
    }
}

#[test]
fn null_cursors() {
    let database = Database::create();
    events(&database);
    database.sql("insert into events select i, 'none', null from generate_series(1, 100) i");
    let lake = lake(database.url(), "cursor");
    follows(&lake);
    database.sql("insert into events values (1000, 'first', '2024-01-01'), (1001, 'none', null)");
    follows(&lake);
    // To a value, and the other way round; changed while there is none.
    database.sql("update events set at = '2024-02-01', what = 'some' where id in (1, 2, 1001)");
    follows(&lake);
    database.sql("update events set at = null, what = 'again none' where id in (1, 1000)");
    follows(&lake);
    database.sql("update events set what = 'still none' where at is null");
    follows(&lake);
}

#[test]
fn infinite_cursors() {
    for infinity in ["infinity", "-infinity"] {
        let database = Database::create();
        events(&database);
        let lake = lake(database.url(), "cursor");
        database.sql(&format!(
            "insert into events values (1, 'ever', '{infinity}')"
        ));
        let first = lake.run().cleanly();
        println!("{infinity}: {first}");
        database.sql("insert into events values (2, 'now', now())");
        lake.run().cleanly();
        database.sql("insert into events values (3, 'later', now()); update events set what = 'late', at = now() where id = 2");
        let last = lake.run().cleanly();
        // The lake cannot hold it: it is set aside, the others are not lost.
        assert_eq!(
            last.code.filter(|code| [0, 3].contains(code)),
            last.code,
            "{last}"
        );
        kit::oracle::Check::of(&lake, TABLE)
            .filter("isfinite(at)")
            .agree();
    }
}

/// What makes a cursor useless is said, and another method is taken, unless the
/// cursor was demanded.
fn is_useless(database: &Database, source: String, why: &str) {
    lake(source.clone(), "cursor")
        .run()
        .exits(2)
        .says(&["cursor", why]);
    let auto = lake(source, "auto");
    auto.verb("plan").wait().exits(0).says(&["xid", why]);
    let outcome = auto.run().exits(0);
    assert_eq!(method(&outcome), "xid");
    database.sql(
        "insert into events values (5000, 'new', '2020-01-01'); delete from events where id = 7",
    );
    auto.run().exits(0);
    let mut as_owner = auto;
    as_owner.set_source(database.url());
    rows(&as_owner, TABLE);
}

fn some(database: &Database) {
    database.sql("insert into events select i, 'some', now() from generate_series(1, 100) i");
}

#[test]
fn without_an_index() {
    let database = Database::create();
    events(&database);
    some(&database);
    database.sql("drop index events_at_idx");
    is_useless(&database, database.url(), "index");
}

#[test]
fn without_the_right_to_see_sessions() {
    let database = Database::create();
    events(&database);
    some(&database);
    database.sql("create role reader login; grant select on events to reader");
    is_useless(&database, database.url_as("reader"), "pg_read_all_stats");
}

#[test]
fn without_a_time_zone() {
    let database = Database::create();
    events(&database);
    some(&database);
    database.sql("alter table events alter at type timestamp");
    is_useless(&database, database.url(), "timestamptz");
}
