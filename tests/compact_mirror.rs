//! `lake-compact` on a lake that `table-backup` keeps: for it nothing has happened.

use crate::kit;

use kit::lake::{Lake, Running};
use kit::oracle::{query, rows};
use kit::outcome::Outcome;
use kit::place::Place;
use kit::postgres::Database;
use kit::shop;
use serde_json::json;

fn folder(lake: &Lake) -> std::path::PathBuf {
    match lake.place() {
        Place::Folder(folder) => folder.clone(),
        Place::Bucket(..) => panic!("the lake of this test is a folder"),
    }
}

fn start(lake: &Lake, more: &[&str]) -> Running {
    kit::compact::start(&folder(lake), lake.folder(), "run", more)
}

#[track_caller]
fn compact(lake: &Lake, more: &[&str]) -> Outcome {
    start(lake, more).wait().exits(0)
}

fn method(outcome: &Outcome, table: &str) -> serde_json::Value {
    let report = outcome.report();
    let tables = report["tables"].as_array().unwrap();
    let found = tables.iter().find(|found| found["name"] == table);
    found.unwrap_or_else(|| panic!("{report:#}")).clone()
}

#[test]
fn the_next_run_goes_on_as_if_nothing_had_happened() {
    let database = Database::create();
    shop::orders(&database, 30_000);
    let lake = Lake::local(database.url())
        .with(r#"files.target = "256KiB""#)
        .with(r#"tables."public.orders".history = true"#);
    lake.run().exits(0);
    database.sql("update orders set qty = qty + 1 where id % 1000 = 0");
    lake.run().exits(0);
    let history = |lake: &Lake| {
        let sql = "select _version, _op, count(*) from h group by all order by all";
        query(lake, &[("h", "public.orders__history", None)], sql)
    };
    let told = history(&lake);

    let outcome = compact(&lake, &["--table", "public/orders", "--sort-by", "id"]);
    assert_eq!(outcome.number("rows"), 30_000);
    rows(&lake, "public.orders");
    kit::compact::asks(
        &folder(&lake).join("public/orders"),
        json!({"do": "order", "by": ["id"]}),
    );

    // Nothing new in the source: nothing new in the lake, and no comparison.
    let next = lake.run().exits(0);
    let table = method(&next, "public.orders");
    assert!(
        table.get("because").is_none_or(|because| because.is_null()),
        "{table:#}"
    );
    assert_eq!(history(&lake), told);
    lake.verb_with("verify", &["--full"]).wait().exits(0);

    database
        .sql("update orders set qty = qty + 1 where id % 500 = 0; delete from orders where id = 7");
    let next = lake.run().exits(0);
    let table = method(&next, "public.orders");
    assert_eq!(
        (&table["updated"], &table["deleted"]),
        (&json!(60), &json!(1)),
        "{table:#}"
    );
    rows(&lake, "public.orders");
    let more: Vec<_> = history(&lake).split_off(told.len());
    let counts: Vec<_> = more
        .iter()
        .map(|row| (row[1].clone(), row[2].clone()))
        .collect();
    assert_eq!(
        counts,
        [(json!("delete"), json!(1)), (json!("update"), json!(60))],
        "{more:?}"
    );
    lake.verb_with("verify", &["--full"]).wait().exits(0);
    lake.verb_with("verify", &["--against-source"])
        .wait()
        .exits(0);

    // And once more, so that a compaction follows a compaction.
    compact(&lake, &["--sort-by", "id"]);
    compact(&lake, &["--sort-by", "id desc"]);
    lake.verb_with("verify", &["--full"]).wait().exits(0);
    rows(&lake, "public.orders");
    let next = lake.run().exits(0);
    let table = method(&next, "public.orders");
    assert!(
        table.get("because").is_none_or(|because| because.is_null()),
        "{table:#}"
    );
}

#[test]
fn restore_and_prune_are_right_after_it() {
    let database = Database::create();
    shop::orders(&database, 5000);
    let lake = Lake::local(database.url())
        .with(r#"files.target = "64KiB""#)
        .with(r#"retention.age = "1s""#)
        .with("retention.versions = 1");
    lake.run().exits(0);
    compact(&lake, &["--sort-by", "id"]);
    let target = Database::create();
    lake.verb_with("restore", &["--all", "--to", &target.url()])
        .wait()
        .exits(0);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    lake.verb_with("prune", &["--unsafe-min-age", "1s"])
        .wait()
        .exits(0);
    let files = folder(&lake).join("public/orders");
    let left = std::fs::read_dir(files).unwrap().flatten();
    let data = left.filter(|entry| entry.path().extension().is_some_and(|e| e == "parquet"));
    assert_eq!(data.count(), 1, "the files that were rewritten are gone");
    rows(&lake, "public.orders");
    lake.verb_with("verify", &["--full"]).wait().exits(0);
    database.sql("delete from orders where id > 4000");
    lake.run().exits(0);
    rows(&lake, "public.orders");
}

/// A sync commits while the compaction works, again and again: both are there.
#[test]
fn a_sync_and_a_compaction_do_not_hurt_each_other() {
    let database = Database::create();
    shop::orders(&database, 40_000);
    let lake = Lake::local(database.url()).with(r#"files.target = "128KiB""#);
    lake.run().exits(0);
    let mut met = 0;
    for round in 0..4 {
        database.sql(&format!(
            "update orders set qty = qty + 1 where id % 4000 = {round};
             insert into orders select (orders).* from (
               select jsonb_populate_record(orders, jsonb_build_object('id', id + {})) as orders
               from orders where id <= 10
             ) more",
            100_000 * (round + 1)
        ));
        let order = if round % 2 == 0 { "id" } else { "id desc" };
        let compacting = start(&lake, &["--sort-by", order, "--target", "128KiB"]);
        let synced = lake.run().cleanly();
        let compacted = compacting.wait().cleanly();
        // Whoever is overtaken says so and leaves everything as it is.
        assert!(matches!(compacted.code, Some(0 | 4)), "{compacted}");
        met += usize::from(compacted.code == Some(4) || synced.code != Some(0));
        if synced.code != Some(0) {
            lake.run().exits(0);
        }
        rows(&lake, "public.orders");
        lake.verb_with("verify", &["--full"]).wait().exits(0);
    }
    println!("{met} of 4 rounds met a conflict");
}
