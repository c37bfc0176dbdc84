//! Ctrl-C and SIGTERM: the run ends cleanly, says what was committed, exits 130,
//! and the next run continues.

use crate::kit;

use std::time::Duration;

use kit::lake::Lake;
use kit::oracle::rows;
use kit::outcome::find;
use kit::postgres::Database;
use kit::{load_log, shop};
use serde_json::Value;

const TABLE: &str = "public/orders";

fn interrupted_by(signal: &str, lake: Lake) {
    let lake = lake
        .with(r#"epoch.bytes = "4MiB""#)
        .with(r#"files.target = "8MiB""#);
    let run = lake.start();
    load_log::wait_for_splits(lake.place(), TABLE, 1);
    run.signal(signal);
    let outcome = run.wait().exits(130).says(&["interrupt"]);
    assert!(outcome.wall < Duration::from_secs(60), "{outcome}");
    assert!(
        lake.place().versions(TABLE).is_empty(),
        "half a table must not be published"
    );

    let report = lake.run().exits(0).report();
    assert_eq!(
        find(&report, "continued"),
        Some(&Value::Bool(true)),
        "{report:#}"
    );
    load_log::assert_no_split_repeated(lake.place(), TABLE);
    rows(&lake, "public.orders");
}

#[test]
fn by_ctrl_c() {
    let database = Database::create();
    shop::orders(&database, 500_000);
    interrupted_by("INT", Lake::local(database.url()));
}

#[test]
fn by_sigterm_on_s3() {
    let database = Database::create();
    shop::orders(&database, 500_000);
    interrupted_by("TERM", Lake::s3(database.url()));
}

/// The table is rewritten between two runs: what was recorded belongs to
/// another layout, so the load begins anew and the rows are right.
#[test]
fn a_rewritten_table_is_loaded_anew() {
    let database = Database::create();
    shop::orders(&database, 500_000);
    let lake = Lake::local(database.url()).with(r#"epoch.bytes = "4MiB""#);
    let run = lake.start();
    load_log::wait_for_splits(lake.place(), TABLE, 1);
    run.kill();
    database.sql("delete from orders where id % 3 = 0; vacuum full orders; analyze orders");
    lake.run().exits(0);
    rows(&lake, "public.orders");
}

/// A table without a key starts over instead of continuing.
#[test]
fn a_table_without_a_key_starts_over() {
    let database = Database::create();
    shop::orders(&database, 500_000);
    database.sql("alter table orders drop constraint orders_pkey");
    let lake = Lake::local(database.url()).with(r#"epoch.bytes = "4MiB""#);
    let run = lake.start();
    std::thread::sleep(Duration::from_millis(1500));
    run.kill();
    lake.run().exits(0);
    rows(&lake, "public.orders");
}
