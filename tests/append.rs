//! `append`: rows at or above the cursor; ties are neither lost nor doubled.

use crate::kit;

use kit::lake::Lake;
use kit::oracle::{Check, rows};
use kit::postgres::Database;

const EVENTS: &str = "
    create table events (id int primary key, at timestamptz, what text);
    insert into events
      select i, timestamptz '2024-01-01 00:00:00.000001+00' + (i / 10) * interval '1 second', 'first'
      from generate_series(1, 1000) i;
    analyze;";

fn append(database: &Database) -> Lake {
    Lake::local(database.url())
        .with(r#"tables."public.events".mode = "append""#)
        .with(r#"tables."public.events".cursor = "at""#)
        .with(r#"tables."public.events".at_risk = true"#)
}

#[test]
fn ties_at_the_cursor_are_neither_lost_nor_doubled() {
    let database = Database::create();
    database.sql(EVENTS);
    let lake = append(&database);
    lake.run().exits(0);
    assert_eq!(rows(&lake, "public.events").rows(), 1000);
    // More rows with exactly the greatest cursor that was committed, and later ones.
    database.sql(
        "insert into events select 2000 + i, (select max(at) from events), 'tie' from generate_series(1, 50) i;
         insert into events select 3000 + i, (select max(at) from events) + i * interval '1 microsecond', 'later'
         from generate_series(1, 500) i;",
    );
    lake.run().exits(0).says(&["risk"]);
    assert_eq!(rows(&lake, "public.events").rows(), 1550);
    // Nothing new: nothing doubled, and no file either.
    let outcome = lake.run().exits(0);
    assert_eq!(outcome.number("files"), 0, "{outcome}");
    assert_eq!(rows(&lake, "public.events").rows(), 1550);
}

#[test]
fn all_cursors_equal() {
    let database = Database::create();
    database.sql("create table events (id int primary key, at timestamptz, what text)");
    let lake = append(&database);
    for batch in 0..4 {
        database.sql(&format!(
            "insert into events select {batch} * 100 + i, '2024-01-01', 'same' from generate_series(1, 100) i"
        ));
        lake.run().exits(0);
        assert_eq!(rows(&lake, "public.events").rows(), (batch + 1) * 100);
    }
}

#[test]
fn a_naive_cursor_needs_consent() {
    let database = Database::create();
    database.sql(EVENTS);
    let lake = Lake::local(database.url())
        .with(r#"tables."public.events".mode = "append""#)
        .with(r#"tables."public.events".cursor = "at""#);
    lake.run().exits(2).says(&["events", "at_risk"]);
    let lake = Lake::local(database.url()).with(r#"mode = "append""#);
    lake.run().exits(2).says(&["cursor"]);
}

/// Control arm: the risk that `at_risk` accepts is real. A row that commits
/// late, below the watermark, is lost by this mode.
#[test]
fn a_late_commit_is_lost_as_the_report_warns() {
    let database = Database::create();
    database.sql(EVENTS);
    let lake = append(&database);
    lake.run().exits(0);
    database.sql("insert into events values (9999, '2023-12-31', 'late')");
    lake.run().exits(0).says(&["risk"]);
    let (agree, found) = Check::of(&lake, "public.events").compare();
    assert!(!agree, "the oracle must see the lost row: {found:#}");
}

#[test]
fn another_source_is_not_continued() {
    let database = Database::create();
    database.sql(EVENTS);
    let mut lake = append(&database);
    lake.run().exits(0);
    // The same table in another database: its rows are not ours to append (T7).
    let stranger = Database::create();
    stranger.sql(EVENTS);
    lake.set_source(stranger.url());
    let outcome = lake.run().cleanly();
    assert!(matches!(outcome.code, Some(1 | 2 | 6)), "{outcome}");
    lake.set_source(database.url());
    rows(&lake, "public.events");
}

#[test]
fn sqlite_appends_by_a_key() {
    let mut lake = Lake::local("");
    let path = lake.folder().join("shop.sqlite");
    kit::shop::sqlite_orders(&path, 1000);
    lake.set_source(format!("sqlite:{}", path.display()));
    lake.set(r#"tables.orders.mode = "append""#);
    lake.set(r#"tables.orders.cursor = "id""#);
    lake.set("tables.orders.at_risk = true");
    lake.run().exits(0);
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch(
            "insert into orders select id + 1000, status, note, amount, qty, body from orders",
        )
        .unwrap();
    lake.run().exits(0);
    assert_eq!(rows(&lake, "orders").rows(), 2000);
}
