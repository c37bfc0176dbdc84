//! `full`: a reader sees the old table until the new one is there, whole.

use crate::kit;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use kit::lake::Lake;
use kit::oracle::{python, rows};
use kit::postgres::Database;
use kit::shop;

/// Counts the rows of the table again and again, until its input ends.
const READER: &str = r#"
import sys, threading, deltalake, os
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
while True:
    last = stop.is_set()
    table = deltalake.DeltaTable(sys.argv[1])
    ids = table.to_pyarrow_table(columns=["id"])["id"]
    print(table.version(), len(ids), flush=True)
    if last: break
# Not by way of the interpreter's end: threads of the readers may outlive it.
os._exit(0)
"#;

fn full(source: impl Into<String>) -> Lake {
    Lake::local(source).with(r#"mode = "full""#)
}

#[test]
fn readers_see_the_old_table_or_the_new_one() {
    let database = Database::create();
    shop::orders(&database, 100_000);
    let lake = full(database.url()).with(r#"epoch.bytes = "4MiB""#);
    lake.run().exits(0);
    database.sql("delete from orders where id <= 40000");

    let table = format!("{}/public/orders", lake.place().url());
    let mut reader = Command::new(python())
        .args(["-c", READER, table.trim_start_matches("file:")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    let mut seen = vec![lines.next().unwrap().unwrap()];
    lake.run().exits(0);
    drop(reader.stdin.take());
    seen.extend(lines.map(Result::unwrap));
    assert!(reader.wait().unwrap().success());

    assert!(
        seen.iter()
            .all(|line| line == "0 100000" || line == "1 60000"),
        "{seen:?}"
    );
    assert_eq!(seen.first().unwrap(), "0 100000");
    assert_eq!(seen.last().unwrap(), "1 60000");
    rows(&lake, "public.orders");
}

#[test]
fn the_schema_follows_the_source_when_the_table_is_replaced() {
    let database = Database::create();
    shop::orders(&database, 1000);
    let lake = full(database.url());
    lake.run().exits(0);
    database.sql(
        "alter table orders add column extra text default 'x', drop column note, alter column qty type text",
    );
    lake.run().exits(0);
    rows(&lake, "public.orders");
}

#[test]
fn an_empty_table_is_a_table() {
    let database = Database::create();
    shop::orders(&database, 10);
    let lake = full(database.url());
    database.sql("create table nothing (id int primary key, words text)");
    lake.run().exits(0);
    assert_eq!(rows(&lake, "public.nothing").rows(), 0);
    // And a table that becomes empty becomes empty in the lake.
    database.sql("delete from orders");
    lake.run().exits(0);
    assert_eq!(rows(&lake, "public.orders").rows(), 0);
}

#[test]
fn earlier_versions_stay_readable() {
    let database = Database::create();
    shop::orders(&database, 1000);
    let lake = full(database.url());
    lake.run().exits(0);
    database.sql("delete from orders where id > 10");
    lake.run().exits(0);
    let table = format!("{}/public/orders", lake.place().url());
    let count = "import sys, deltalake\nprint(len(deltalake.DeltaTable(sys.argv[1], version=0).to_pyarrow_table()))";
    let output = Command::new(python())
        .args(["-c", count, table.trim_start_matches("file:")])
        .output();
    let output = output.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "1000",
        "{output:?}"
    );
}

#[test]
fn sqlite_is_replaced_too() {
    let mut lake = full("");
    let path = lake.folder().join("shop.sqlite");
    shop::sqlite_orders(&path, 20_000);
    lake.set_source(format!("sqlite:{}", path.display()));
    lake.run().exits(0);
    assert_eq!(rows(&lake, "orders").rows(), 20_000);
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch("delete from orders where id % 2 = 0; update orders set note = 'new'")
        .unwrap();
    lake.run().exits(0);
    assert_eq!(rows(&lake, "orders").rows(), 10_000);
}
