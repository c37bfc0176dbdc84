//! `mirror`: after each run the lake equals the source, and only files that hold
//! what has changed are written.

use crate::kit;

use std::collections::BTreeSet;
use std::time::Duration;

use kit::lake::Lake;
use kit::oracle::rows;
use kit::outcome::{Outcome, find};
use kit::postgres::Database;
use kit::shop;
use serde_json::Value;

/// The report of one table of a run.
fn table<'a>(report: &'a Value, name: &str) -> &'a Value {
    let tables = find(report, "tables").unwrap().as_array().unwrap();
    let found = tables.iter().find(|table| table["name"] == name);
    found.unwrap_or_else(|| panic!("no table {name} in {report:#}"))
}

/// What a run says it did to a table.
fn counts(outcome: &Outcome, name: &str) -> [u64; 3] {
    let report = outcome.report();
    let table = table(&report, name);
    ["inserted", "updated", "deleted"].map(|count| table[count].as_u64().unwrap())
}

fn outcome_of(outcome: &Outcome, name: &str) -> String {
    table(&outcome.report(), name)["outcome"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn files(lake: &Lake, table: &str) -> BTreeSet<String> {
    let all = lake.place().list(table);
    all.into_iter()
        .filter(|path| path.ends_with(".parquet"))
        .collect()
}

/// Small files, so that a change touches few of them.
fn small(database: &Database) -> Lake {
    Lake::local(database.url()).with(r#"files.target = "64KiB""#)
}

#[test]
fn changes_of_every_kind_reach_the_lake() {
    let database = Database::create();
    shop::orders(&database, 20_000);
    let lake = small(&database);
    lake.run().exits(0);
    database.sql(
        "update orders set note = 'changed' where id between 100 and 120;
         delete from orders where id between 5000 and 5010;
         insert into orders select (jsonb_populate_record(o, json_build_object('id', 30001)::jsonb)).* from orders o where id = 1;
         update orders set id = 40000 where id = 77",
    );
    let second = lake.run().exits(0);
    assert_eq!(counts(&second, "public.orders"), [2, 21, 12]);
    rows(&lake, "public.orders");
    // Nothing has changed since: nothing is written.
    let before = files(&lake, "public/orders");
    let third = lake.run().exits(0);
    assert_eq!(outcome_of(&third, "public.orders"), "unchanged");
    assert_eq!(files(&lake, "public/orders"), before);
}

#[test]
fn only_touched_files_are_rewritten() {
    let database = Database::create();
    shop::orders(&database, 40_000);
    let lake = small(&database);
    lake.run().exits(0);
    let before = files(&lake, "public/orders");
    assert!(before.len() > 8, "{before:?}");
    database.sql("update orders set note = 'changed' where id in (39990, 39991)");
    lake.run().exits(0);
    let after = files(&lake, "public/orders");
    // The old ones stay for earlier versions.
    let written = after.difference(&before).count();
    assert!((1..=2).contains(&written), "{written} files were written");
    rows(&lake, "public.orders");
}

#[test]
fn a_table_without_a_key_is_a_multiset() {
    let database = Database::create();
    database.sql(
        "create table log (at int, what text);
         insert into log select i % 100, 'x' from generate_series(1, 1000) i;
         analyze",
    );
    let lake = small(&database);
    lake.run().exits(0);
    rows(&lake, "public.log");
    database.sql(
        "insert into log select 7, 'x' from generate_series(1, 3);
         delete from log where ctid in (select ctid from log where at = 8 limit 2);
         insert into log values (null, null), (null, null)",
    );
    let second = lake.run().exits(0);
    assert_eq!(counts(&second, "public.log"), [5, 0, 2]);
    rows(&lake, "public.log");
    assert_eq!(outcome_of(&lake.run().exits(0), "public.log"), "unchanged");
}

#[test]
fn every_method_ends_in_the_same_lake() {
    let database = Database::create();
    database.sql(
        "create table stamped (id int, part text, v int, at timestamptz default now(), primary key (part, id));
         create index on stamped (at);
         insert into stamped select i, 'p' || i % 3, i, now() - interval '1 day' from generate_series(1, 5000) i;
         analyze",
    );
    for method in ["xid", "cursor", "diff"] {
        let lake = small(&database)
            .with(format!(r#"tables."public.stamped".method = "{method}""#))
            .with(r#"tables."public.stamped".cursor = "at""#);
        lake.run().exits(0);
        rows(&lake, "public.stamped");
        database.sql(
            "update stamped set v = v + 1, at = now() where id % 500 = 0;
             insert into stamped (id, part, v) select max(id) + 1, 'new', 0 from stamped",
        );
        let second = lake.run().exits(0);
        let [inserted, updated, _] = counts(&second, "public.stamped");
        // A cursor reads the rows at the watermark again.
        assert!(
            inserted == 1 && (10..=11).contains(&updated),
            "{method} {updated}"
        );
        assert_eq!(table(&second.report(), "public.stamped")["method"], method);
        rows(&lake, "public.stamped");
        // The cursor's bound stays a second below the clock; the next run moves it
        // on, and writes no file.
        std::thread::sleep(Duration::from_millis(1500));
        let before = files(&lake, "public/stamped");
        lake.run().exits(0);
        assert_eq!(files(&lake, "public/stamped"), before, "{method}");
        let fourth = lake.run().exits(0);
        assert_eq!(
            outcome_of(&fourth, "public.stamped"),
            "unchanged",
            "{method}"
        );
    }
}

#[test]
fn partitions_follow_their_rows() {
    let database = Database::create();
    shop::orders(&database, 5000);
    let lake = small(&database).with(r#"tables."public.orders".partition_by = ["status"]"#);
    lake.run().exits(0);
    database.sql("update orders set status = 'moved' where id % 1000 = 1");
    lake.run().exits(0);
    rows(&lake, "public.orders");
    database.sql("delete from orders where status = 'moved'");
    lake.run().exits(0);
    rows(&lake, "public.orders");
}

#[test]
fn sqlite_is_compared() {
    let mut lake = Lake::local("").with(r#"files.target = "64KiB""#);
    let path = lake.folder().join("shop.sqlite");
    shop::sqlite_orders(&path, 20_000);
    lake.set_source(format!("sqlite:{}", path.display()));
    lake.run().exits(0);
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch(
            "delete from orders where id % 1000 = 0; update orders set note = 'new' where id < 10",
        )
        .unwrap();
    let second = lake.run().exits(0);
    assert_eq!(counts(&second, "orders"), [0, 9, 20]);
    rows(&lake, "orders");
    assert_eq!(outcome_of(&lake.run().exits(0), "orders"), "unchanged");
}

#[test]
fn a_history_keeps_every_version_of_every_row() {
    let database = Database::create();
    database.sql(
        "create table things (id int primary key, what text);
         insert into things select i, 'first' from generate_series(1, 100) i;
         create table words (what text); insert into words values ('a'), ('a');
         analyze",
    );
    let lake = small(&database)
        .with(r#"tables."public.things".history = true"#)
        .with(r#"tables."public.words".history = true"#);
    lake.run().exits(0);
    database.sql(
        "update things set what = 'second' where id = 7;
         delete from things where id = 8;
         insert into things values (101, 'new');
         delete from words where ctid in (select ctid from words limit 1);
         insert into words values ('b')",
    );
    lake.run().exits(0);
    lake.run().exits(0);
    let told = history(&lake, "things__history", "id, what");
    assert_eq!(told.len(), 103);
    let later: Vec<&str> = told
        .iter()
        .filter(|row| row.starts_with("1 "))
        .map(String::as_str)
        .collect();
    assert_eq!(
        later,
        ["1 delete 8 first", "1 insert 101 new", "1 update 7 second"]
    );
    assert_eq!(
        history(&lake, "words__history", "what"),
        ["0 insert a", "0 insert a", "1 delete a", "1 insert b"]
    );
    rows(&lake, "public.things");
}

/// The rows of a history, sorted: version, what happened, and some columns.
fn history(lake: &Lake, table: &str, columns: &str) -> Vec<String> {
    let script = r#"
import sys, deltalake, os
table = deltalake.DeltaTable(sys.argv[1]).to_pyarrow_table()
columns = ["_version", "_op"] + sys.argv[2].split(", ")
for row in sorted(zip(*(table[c].to_pylist() for c in columns)), key=str):
    print(*row)
sys.stdout.flush()
os._exit(0)
"#;
    let place = format!("{}/public/{table}", lake.place().url());
    let output = std::process::Command::new(kit::oracle::python())
        .args(["-c", script, place.trim_start_matches("file:"), columns])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text.lines().map(str::to_owned).collect()
}

#[test]
fn verify_finds_rows_that_are_not_the_sources() {
    let database = Database::create();
    shop::orders(&database, 2000);
    let lake = small(&database);
    lake.run().exits(0);
    let verify = || {
        let config = lake.config();
        let arguments = ["verify", "--against-source", config.to_str().unwrap()];
        kit::lake::Running::start(&arguments).wait()
    };
    verify().exits(0).says(&["all equal"]);
    // Written since: no damage, and told.
    database.sql("update orders set note = 'later' where id = 5");
    verify().exits(0);
    lake.run().exits(0);
    // A lake that somebody has written to, behind the back of the method.
    spoil(&lake);
    verify()
        .exits(5)
        .says(&["differs from the source", "reconcile"]);
    let lake = lake.with(r#"reconcile = "always""#);
    lake.run().exits(0);
    rows(&lake, "public.orders");
}

/// Replaces a row of the lake as a foreign writer could: by a commit of its own
/// that keeps everything else.
fn spoil(lake: &Lake) {
    let script = r#"
import sys, os, json, glob, hashlib, pyarrow.parquet as pq, pyarrow as pa
folder = sys.argv[1]
log = sorted(glob.glob(folder + "/_delta_log/*.json"))
gone = set()
added = {}
for entry in log:
    for line in open(entry):
        action = json.loads(line)
        if "add" in action: added[action["add"]["path"]] = action["add"]
        if "remove" in action: added.pop(action["remove"]["path"], None)
path, add = sorted(added.items())[0]
table = pq.read_table(folder + "/" + path)
note = pa.array(["spoilt"] * len(table), table.schema.field("note").type)
table = table.set_column(table.schema.get_field_index("note"), "note", note)
pq.write_table(table, folder + "/foreign.parquet", coerce_timestamps="us")
bytes = open(folder + "/foreign.parquet", "rb").read()
new = dict(add, path="foreign.parquet", size=len(bytes), tags=None)
remove = {"path": path, "dataChange": True, "deletionTimestamp": add["modificationTime"]}
entry = "%s/_delta_log/%020d.json" % (folder, len(log))
with open(entry, "w") as out:
    out.write(json.dumps({"add": new}) + "\n" + json.dumps({"remove": remove}) + "\n")
"#;
    let folder = format!("{}/public/orders", lake.place().url());
    let output = std::process::Command::new(kit::oracle::python())
        .args(["-c", script, folder.trim_start_matches("file:")])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
