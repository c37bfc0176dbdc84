//! Changes that are too big to be merged are loaded, and what a load that was
//! continued under a later snapshot got wrong is healed by the next run.

use crate::kit;

use kit::lake::Lake;
use kit::oracle::rows;
use kit::outcome::{Outcome, find};
use kit::postgres::Database;
use kit::{load_log, shop};
use serde_json::Value;

fn because(outcome: &Outcome) -> String {
    let report = outcome.report();
    let said = find(&report, "because").and_then(Value::as_str);
    said.unwrap_or_default().to_owned()
}

#[test]
fn much_of_a_table() {
    for method in ["xid", "diff"] {
        let database = Database::create();
        shop::orders(&database, 30_000);
        let lake = Lake::local(database.url())
            .with(r#"include = ["orders"]"#)
            .with(r#"files.target = "64KiB""#)
            .with(format!(r#"method = "{method}""#));
        lake.run().exits(0);
        database.sql("create table kept as select * from orders limit 100");
        database.sql(
            "update orders set note = 'changed' where id % 5 < 2; delete from orders where id % 7 = 0",
        );
        let outcome = lake.run().exits(0);
        assert!(because(&outcome).contains("changed"), "{outcome}");
        rows(&lake, "public.orders");
        // Just below: merged.
        database.sql("update orders set note = 'again' where id % 10 = 1");
        let outcome = lake.run().exits(0);
        assert!(!because(&outcome).contains("much"), "{outcome}");
        rows(&lake, "public.orders");
        // And all of it gone.
        database.sql("delete from orders");
        lake.run().exits(0);
        assert_eq!(rows(&lake, "public.orders").rows(), 0);
        database.sql("insert into orders select * from kept");
        lake.run().exits(0);
        assert_eq!(rows(&lake, "public.orders").rows(), 100);
    }
}

/// Less than a third of the table, but more keys than there is memory for.
#[test]
fn more_keys_than_fit() {
    for method in ["xid", "diff"] {
        let database = Database::create();
        database.sql(
            "create table wide_keys (id text primary key, v int);
             insert into wide_keys select repeat(md5(i::text), 8) || i, i from generate_series(1, 300000) i;
             analyze",
        );
        let lake = Lake::local(database.url())
            .with(r#"memory = "128MiB""#)
            .with(format!(r#"method = "{method}""#));
        lake.run().exits(0);
        database.sql("update wide_keys set v = -1 where v % 4 = 0");
        let outcome = lake.run().exits(0);
        println!("{method}: {}", because(&outcome));
        rows(&lake, "public.wide_keys");
    }
}

/// Less than a third of the table, but more deletes than there is memory for:
/// they must not be forgotten.
#[test]
fn more_deletes_than_fit() {
    let database = Database::create();
    database.sql(
        "create table narrow (id int primary key);
         insert into narrow select i from generate_series(1, 1200000) i;
         analyze",
    );
    let lake = Lake::local(database.url()).with(r#"memory = "128MiB""#);
    lake.run().exits(0);
    database.sql("delete from narrow where id % 10 < 3");
    let outcome = lake.run().exits(0);
    println!("{}", because(&outcome));
    rows(&lake, "public.narrow");
}

/// A load that is killed and continued while rows move: they may be missing or
/// doubled, the commit says so, and the next run heals it.
#[test]
fn a_continued_load_is_healed() {
    for method in ["xid", "diff"] {
        let database = Database::create();
        shop::orders(&database, 200_000);
        let lake = Lake::local(database.url())
            .with(r#"epoch.bytes = "1MiB""#)
            .with(r#"files.target = "1MiB""#)
            .with(format!(r#"method = "{method}""#));
        let run = lake.start();
        load_log::wait_for_splits(lake.place(), "public/orders", 2);
        run.kill();
        // Rows that were read move behind what is still to be read, and back.
        database.sql(
            "delete from orders where id > 180000;
             vacuum (truncate off) orders;
             update orders set note = 'moved' where id between 1 and 3000;
             delete from orders where id between 3001 and 3100;
             insert into orders select (jsonb_populate_record(o, json_build_object('id', 500000 + id)::jsonb)).* from orders o where id < 50",
        );
        let outcome = lake.run().exits(0);
        assert_eq!(
            find(&outcome.report(), "catching_up"),
            Some(&Value::Bool(true)),
            "{outcome}"
        );
        let doubled = kit::oracle::query(
            &lake,
            &[("orders", "public.orders", None)],
            "select count(*) - count(distinct id) from orders",
        );
        println!("{method}: {doubled:?} rows are doubled");
        database.sql("update orders set note = 'later' where id % 1000 = 0");
        let outcome = lake.run().exits(0);
        // A table that is always compared needs no reason to be.
        let said = because(&outcome);
        assert!(method == "diff" || said.contains("continued"), "{outcome}");
        rows(&lake, "public.orders");
    }
}
