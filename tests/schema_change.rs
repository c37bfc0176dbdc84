//! Columns that change between two runs and during one: never a shifted column,
//! never a silent cast, and each policy does what it says.

use crate::kit;

use kit::lake::Lake;
use kit::oracle::{Check, query, rows};
use kit::outcome::{Outcome, find};
use kit::postgres::Database;
use kit::session::Session;
use kit::{load_log, shop};
use serde_json::Value;

/// One kind of change: what is done to table `t`, and which columns the report
/// names, with the kind of change each time.
struct Change {
    name: &'static str,
    sql: &'static str,
    told: &'static [(&'static str, &'static str)],
    /// A column that the source has no more, kept as NULL under `evolve`.
    dropped: Option<&'static str>,
}

const CHANGES: &[Change] = &[
    Change {
        name: "added",
        sql: "alter table t add extra text",
        told: &[("extra", "added")],
        dropped: None,
    },
    Change {
        // Old rows get the value without being written: their xmin stays.
        name: "added_default",
        sql: "alter table t add extra int not null default 7",
        told: &[("extra", "added")],
        dropped: None,
    },
    Change {
        name: "int_to_bigint",
        sql: "alter table t alter n type bigint; update t set n = 5000000000 where id = 3",
        told: &[("n", "retyped")],
        dropped: None,
    },
    Change {
        name: "varchar_growth",
        sql: "alter table t alter short type varchar(30); update t set short = 'much longer' where id = 3",
        told: &[("short", "source_retyped")],
        dropped: None,
    },
    Change {
        name: "scale_growth",
        sql: "alter table t alter price type numeric(12,4); update t set price = 1.2345 where id = 3",
        told: &[("price", "retyped")],
        dropped: None,
    },
    Change {
        name: "text_to_int",
        sql: "alter table t alter digits type int using digits::int",
        told: &[("digits", "retyped")],
        dropped: None,
    },
    Change {
        name: "renamed",
        sql: "alter table t rename note to remark",
        told: &[("remark", "added"), ("note", "dropped")],
        dropped: Some("note"),
    },
    Change {
        name: "dropped",
        sql: "alter table t drop note",
        told: &[("note", "dropped")],
        dropped: Some("note"),
    },
    Change {
        name: "dropped_and_added",
        sql: "alter table t drop note; alter table t add note bigint; update t set note = id where id % 2 = 0",
        told: &[("note", "retyped")],
        dropped: None,
    },
    Change {
        name: "key_changed",
        sql: "alter table t drop constraint t_pkey; update t set other = id + 7; alter table t add primary key (other)",
        told: &[],
        dropped: None,
    },
    Change {
        name: "reordered",
        sql: "create table u (note text, digits text, other int, price numeric(10,2), short varchar(5), n int, id int);
              insert into u select note, digits, other, price, short, n, id from t;
              drop table t; alter table u rename to t; alter table t add constraint t_pkey primary key (id)",
        told: &[],
        dropped: None,
    },
    Change {
        // Two columns exchange their names: what is in them must follow.
        name: "exchanged",
        sql: "alter table t rename digits to x; alter table t rename note to digits; alter table t rename x to note",
        told: &[],
        dropped: None,
    },
];

fn create(database: &Database) {
    for Change { name, .. } in CHANGES {
        database.sql(&format!(
            "create table t (id int primary key, n int, short varchar(5), price numeric(10,2), digits text, note text, other int);
             insert into t select i, i * 2, 's' || i % 10, i / 4.0, i::text, 'note ' || i, -i from generate_series(1, 2000) i;
             alter table t rename to {name}; alter index t_pkey rename to {name}_pkey"
        ));
    }
    database.sql("analyze");
}

/// Applies each change to its table.
fn apply(database: &Database) {
    for Change { name, sql, .. } in CHANGES {
        database.sql(&format!(
            "alter table {name} rename to t; alter index {name}_pkey rename to t_pkey;
             {sql};
             alter table t rename to {name}; alter index t_pkey rename to {name}_pkey"
        ));
    }
}

fn report_of<'a>(report: &'a Value, name: &str) -> &'a Value {
    let tables = find(report, "tables").unwrap().as_array().unwrap();
    let name = format!("public.{name}");
    tables.iter().find(|table| table["name"] == *name).unwrap()
}

/// The report names every change of every table.
#[track_caller]
fn tells_all(outcome: &Outcome) {
    let report = outcome.report();
    for change in CHANGES {
        let table = report_of(&report, change.name);
        let columns = table["columns"].as_array().cloned().unwrap_or_default();
        let told: Vec<(&str, &str)> = columns
            .iter()
            .map(|c| (c["column"].as_str().unwrap(), c["change"].as_str().unwrap()))
            .collect();
        assert_eq!(told, change.told, "{}: {table:#}", change.name);
    }
}

fn changed_under(policy: &str) -> (Database, Lake, Outcome) {
    let database = Database::create();
    create(&database);
    let lake = Lake::local(database.url()).with(format!(r#"schema = "{policy}""#));
    lake.run().exits(0);
    apply(&database);
    let second = lake.run().cleanly();
    (database, lake, second)
}

/// Every table agrees with its source; all disagreements are told at once.
#[track_caller]
fn all_agree(lake: &Lake, keeps_dropped: bool) {
    let mut wrong = Vec::new();
    for change in CHANGES {
        let table = format!("public.{}", change.name);
        let dropped = change.dropped.filter(|_| keeps_dropped);
        let check = Check::of(lake, &table).derived(usize::from(dropped.is_some()));
        let (agree, found) = check.compare();
        if !agree {
            wrong.push(format!("{table}: {found:#}"));
        }
        if let Some(column) = dropped {
            // Not `where ... is not null`: `deltalake` prunes files by statistics that
            // a column without any does not have.
            let sql = format!("select count({column}) from t");
            let left = query(lake, &[("t", &table, None)], &sql);
            assert_eq!(left[0][0], 0, "{table}.{column} is not NULL everywhere");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The lake follows once more, after an ordinary change.
#[track_caller]
fn goes_on(database: &Database, lake: &Lake, keeps_dropped: bool) {
    for Change { name, .. } in CHANGES {
        database.sql(&format!(
            "update {name} set n = 1 where id < 5; delete from {name} where id = 100"
        ));
    }
    let third = lake.run().exits(0);
    for Change { name, .. } in CHANGES {
        let report = third.report();
        assert!(
            report_of(&report, name).get("columns").is_none(),
            "{report:#}"
        );
    }
    all_agree(lake, keeps_dropped);
}

#[test]
fn evolve() {
    let (database, lake, second) = changed_under("evolve");
    let second = second.exits(0);
    tells_all(&second);
    all_agree(&lake, true);
    goes_on(&database, &lake, true);
}

#[test]
fn rewrite() {
    let (database, lake, second) = changed_under("rewrite");
    let second = second.exits(0);
    tells_all(&second);
    all_agree(&lake, false);
    goes_on(&database, &lake, false);
}

#[test]
fn freeze() {
    let (_database, lake, second) = changed_under("freeze");
    let second = second.exits(6);
    let report = second.report();
    for change in CHANGES {
        let versions = lake.place().versions(&format!("public/{}", change.name));
        let table = report_of(&report, change.name);
        if change.told.is_empty() {
            // Not a change of columns: the table goes on.
            assert!(table["outcome"] != "failed", "{table:#}");
            rows(&lake, &format!("public.{}", change.name));
        } else {
            assert_eq!(versions, [0], "{} was touched", change.name);
            assert_eq!(table["error"]["exit"], 6, "{table:#}");
        }
    }
}

/// What tells states of `orders` apart: its rows, and which column has what.
const STATE: &str = "select count(*), count(case when note like '%@%' then 1 end),
  count(case when email like '%@%' then 1 end) from orders";

fn state_of_source(database: &Database) -> String {
    database.sql(STATE)
}

fn state_of_lake(lake: &Lake) -> String {
    let lines = query(lake, &[("orders", "public.orders", None)], STATE);
    let numbers: Vec<String> = lines[0].iter().map(Value::to_string).collect();
    numbers.join("|")
}

/// Changes a table that may be locked; a run that waits for somebody who waits
/// for it must not wait for ever.
fn alter(database: &Database, change: &str) {
    let session = Session::open(database);
    session.run("set lock_timeout = '20s'");
    session.run(change);
}

/// Changes the table when the load of a first run has begun. Whatever that run
/// publishes is one state of the source, as it was before or after.
fn during_a_load(change: &str) {
    let database = Database::create();
    shop::orders(&database, 300_000);
    let before = state_of_source(&database);
    let lake = Lake::local(database.url())
        .with(r#"epoch.bytes = "1MiB""#)
        .with(r#"files.target = "1MiB""#);
    let run = lake.start();
    load_log::wait_for_splits(lake.place(), "public/orders", 1);
    alter(&database, change);
    let outcome = run.wait().cleanly();
    println!("{change}: code {:?}", outcome.code);
    assert!(matches!(outcome.code, Some(0 | 1 | 4 | 6)), "{outcome}");
    if outcome.code == Some(0) {
        let (after, published) = (state_of_source(&database), state_of_lake(&lake));
        assert!(
            [&before, &after].contains(&&published),
            "{published} was published, which is neither {before} nor {after}"
        );
    }
    lake.run().exits(0);
    rows(&lake, "public.orders");
}

#[test]
fn retyped_during_a_load() {
    during_a_load("alter table orders alter qty type bigint");
}

#[test]
fn swapped_during_a_load() {
    during_a_load(
        "begin; alter table orders rename note to x; alter table orders rename email to note; alter table orders rename x to email; commit",
    );
}

#[test]
fn truncated_during_a_load() {
    during_a_load("truncate orders");
}

/// Somebody wants to alter a table that the run has not come to yet: neither
/// waits for the other for ever.
#[test]
fn altered_before_it_is_read() {
    let database = Database::create();
    shop::orders(&database, 300_000);
    database.sql("create table zz (id int primary key); insert into zz select generate_series(1, 1000); analyze");
    let lake = Lake::local(database.url()).with(r#"epoch.bytes = "1MiB""#);
    let run = lake.start();
    load_log::wait_for_splits(lake.place(), "public/orders", 1);
    alter(&database, "alter table zz alter id type bigint");
    let outcome = run.wait().cleanly();
    assert!(matches!(outcome.code, Some(0 | 4)), "{outcome}");
    lake.run().exits(0);
    rows(&lake, "public.orders");
    rows(&lake, "public.zz");
}

/// The same between the snapshot and the readers of a merge: a table that a
/// rewriting ALTER makes look empty to the snapshot must not be emptied.
#[test]
fn rewritten_during_a_merge() {
    for change in [
        "alter table orders alter qty type bigint",
        "truncate orders",
    ] {
        let database = Database::create();
        shop::orders(&database, 100_000);
        let lake = Lake::local(database.url())
            .with(r#"files.target = "1MiB""#)
            .with(r#"method = "diff""#);
        let whole = lake.run().exits(0).wall;
        let truncates = change.starts_with("truncate");
        for part in 1..=if truncates { 1 } else { 4 } {
            database.sql(&format!(
                "alter table orders alter qty type int;
                 update orders set note = 'part {part}' where id % 50 = {part}"
            ));
            let before = state_of_source(&database);
            let run = lake.start();
            std::thread::sleep(whole / 6 * part);
            alter(&database, change);
            let outcome = run.wait().cleanly();
            println!("{change} after {part}/6: code {:?}", outcome.code);
            assert!(matches!(outcome.code, Some(0 | 1 | 4 | 6)), "{outcome}");
            let (after, published) = (state_of_source(&database), state_of_lake(&lake));
            assert!(
                [&before, &after].contains(&&published),
                "{published} was published, which is neither {before} nor {after}; {outcome}"
            );
        }
        lake.run().exits(0);
        rows(&lake, "public.orders");
    }
}
