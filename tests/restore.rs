//! `restore`: what comes back from the lake is what went into it, and what was
//! there is replaced as a whole or not at all.

use crate::kit;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kit::lake::{Lake, Running};
use kit::oracle::python;
use kit::outcome::Outcome;
use kit::postgres::Database;
use kit::shop;
use serde_json::Value;

const POSTGRES: &str = include_str!("fixtures/types.sql");
/// The rest of `docs/types.md`.
const MORE: &str = include_str!("fixtures/types-more.sql");
const SQLITE: &str = include_str!("fixtures/types-sqlite.sql");

/// Starts `restore` with these arguments after the configuration.
fn start(lake: &Lake, arguments: &[&str]) -> Running {
    let config = lake.config();
    let config = config.to_string_lossy();
    let mut all = vec!["restore", &config, "--json"];
    all.extend(arguments);
    Running::start(&all)
}

#[track_caller]
fn restore(lake: &Lake, arguments: &[&str]) -> Outcome {
    start(lake, arguments).wait()
}

/// The one table of a restore's report.
fn reported(outcome: &Outcome) -> Value {
    let line = outcome.stdout.lines().last().unwrap();
    let report: Value = serde_json::from_str(line).unwrap();
    assert_eq!(report["event"], "restored");
    report["tables"][0].clone()
}

/// The rows that only one of two tables of one database has.
fn differences(database: &Database, left: &str, right: &str) -> String {
    database.sql(&format!(
        "select count(*) from (
           (select t::text from {left} t except all select t::text from {right} t) union all
           (select t::text from {right} t except all select t::text from {left} t)) d"
    ))
}

/// The columns of a table with their types, and its primary key.
fn shape(database: &Database, table: &str) -> String {
    let regclass = format!("'{}'::regclass", table.replace('\'', "''"));
    database.sql(&format!(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute
         where attrelid = {regclass} and attnum > 0 and not attisdropped order by attnum;
         select pg_get_constraintdef(oid) from pg_constraint where conrelid = {regclass} and contype = 'p'"
    ))
}

fn names(database: &Database, schema: &str) -> Vec<String> {
    let tables = database.sql(&format!(
        "select relname from pg_class where relnamespace = '{schema}'::regnamespace and relkind = 'r' order by 1"
    ));
    tables.lines().map(ToOwned::to_owned).collect()
}

#[test]
fn every_type_of_postgres_comes_back() {
    let database = Database::create();
    database.sql(POSTGRES);
    database.sql(MORE);
    let lake = Lake::local(database.url()).with(r#"include = ["t_*"]"#);
    lake.run().exits(0);
    let tables = names(&database, "public");
    let tables = tables.iter().filter(|name| name.starts_with("t_"));
    let mut restored = 0;
    for table in tables {
        let (from, to) = (format!("public.{table}"), format!("restored.{table}"));
        let outcome = restore(&lake, &[&from, "--to", &database.url(), "--as", &to]).exits(0);
        let report = reported(&outcome);
        assert_eq!(report["inexact"], serde_json::json!([]), "{report:#}");
        let quoted = format!("\"{}\"", table.replace('"', "\"\""));
        let (left, right) = (format!("public.{quoted}"), format!("restored.{quoted}"));
        assert_eq!(differences(&database, &left, &right), "0", "{table}");
        assert_eq!(shape(&database, &left), shape(&database, &right), "{table}");
        restored += 1;
    }
    assert!(restored >= 11, "{restored}");
    // Control arm: one changed value is seen by this test itself.
    database.sql("update restored.t_floats set single = 0.25 where id = 1");
    assert_eq!(
        differences(&database, "public.t_floats", "restored.t_floats"),
        "2"
    );
}

#[test]
fn types_that_the_target_lacks_become_text_and_are_told() {
    let database = Database::create();
    database.sql(POSTGRES);
    let lake = Lake::local(database.url()).with(r#"include = ["t_user_types"]"#);
    lake.run().exits(0);
    let target = Database::create();
    let outcome = restore(&lake, &["t_user_types", "--to", &target.url()]).exits(0);
    let inexact = reported(&outcome)["inexact"].to_string();
    for name in ["mood", "price", "email", "pair"] {
        assert!(inexact.contains(name), "{name}: {inexact}");
    }
    let texts = "select id, m, p, e, c, r, tr, mr from public.t_user_types order by id";
    assert_eq!(target.sql(texts), database.sql(texts));
    let types = target.sql(
        "select string_agg(format_type(atttypid, atttypmod), ' ' order by attnum) from pg_attribute
         where attrelid = 'public.t_user_types'::regclass and attnum > 0",
    );
    assert_eq!(
        types,
        "integer text numeric(10,2) text text int4range tstzrange nummultirange"
    );
}

/// Every value of a table as its literal with its storage class, and what the
/// columns declare.
fn literals(path: &Path, table: &str) -> (Vec<String>, Vec<String>) {
    let database = rusqlite::Connection::open(path).unwrap();
    let mut columns = database
        .prepare("select name, type from pragma_table_info(?1)")
        .unwrap();
    let columns: Vec<(String, String)> = columns
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let cells = columns
        .iter()
        .map(|(name, _)| format!("typeof(\"{name}\") || ' ' || quote(\"{name}\")"));
    let row = cells.collect::<Vec<_>>().join(" || ', ' || ");
    let mut rows = database
        .prepare(&format!("select {row} from \"{table}\" order by 1"))
        .unwrap();
    let rows = rows.query_map([], |row| row.get(0)).unwrap();
    let rows = rows.map(Result::unwrap).collect();
    (
        rows,
        columns.into_iter().map(|(_, declared)| declared).collect(),
    )
}

#[test]
fn every_value_of_sqlite_comes_back_in_its_storage_class() {
    let mut lake = Lake::local("");
    let path = lake.folder().join("types.sqlite");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(SQLITE)
        .unwrap();
    lake.set_source(format!("sqlite:{}", path.display()));
    lake.set(r#"exclude = ["q_*"]"#);
    lake.run().exits(0);
    let target = lake.folder().join("restored.sqlite");
    let url = format!("sqlite:{}", target.display());
    restore(&lake, &["--all", "--to", &url]).exits(0);
    for table in ["declared", "untyped", "moments", "no key", "without_rowid"] {
        let source = literals(&path, table);
        assert!(!source.0.is_empty());
        assert_eq!(literals(&target, table), source, "{table}");
    }
    // A table that is there stays, unless told otherwise.
    restore(&lake, &["declared", "--to", &url]).exits(2).says(&[
        "declared",
        "exists already",
        "--replace",
    ]);
    let database = rusqlite::Connection::open(&target).unwrap();
    database.execute_batch("delete from declared").unwrap();
    restore(&lake, &["declared", "--to", &url, "--replace"]).exits(0);
    assert_eq!(literals(&target, "declared"), literals(&path, "declared"));
    // Its triggers go with it; views that read it stay.
    database
        .execute_batch(
            "create trigger spoil after insert on declared begin select 1; end;
             create view seen as select id from declared;",
        )
        .unwrap();
    restore(&lake, &["declared", "--to", &url, "--replace"]).exits(0);
    assert_eq!(literals(&target, "declared"), literals(&path, "declared"));
}

#[test]
fn from_one_kind_of_database_into_the_other() {
    let database = Database::create();
    shop::orders(&database, 500);
    let lake = Lake::local(database.url());
    lake.run().exits(0);
    let path = lake.folder().join("orders.sqlite");
    let url = format!("sqlite:{}", path.display());
    restore(&lake, &["orders", "--to", &url]).exits(0);
    let (rows, _) = literals(&path, "orders");
    assert_eq!(rows.len(), 500);
    // SQLite stores NaN as NULL: refused, and nothing is left.
    database
        .sql("create table nan (id int primary key, x float8); insert into nan values (1, 'NaN')");
    lake.run().exits(0);
    restore(&lake, &["nan", "--to", &url])
        .exits(1)
        .says(&["NaN"]);
    let tables: String = rusqlite::Connection::open(&path)
        .unwrap()
        .query_row(
            "select group_concat(name) from sqlite_schema where type = 'table'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(tables, "orders");

    let mut lake = Lake::local("");
    let path = lake.folder().join("shop.sqlite");
    shop::sqlite_orders(&path, 500);
    lake.set_source(format!("sqlite:{}", path.display()));
    lake.run().exits(0);
    restore(
        &lake,
        &["orders", "--to", &database.url(), "--as", "from_sqlite"],
    )
    .exits(0);
    let found = database.sql("select count(*), sum(qty), sum(amount) from from_sqlite");
    let there = rusqlite::Connection::open(&path).unwrap();
    let wanted: String = there
        .query_row(
            "select count(*) || '|' || sum(qty) || '|' || format('%g', sum(amount)) from orders",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(found, wanted);
}

#[test]
fn an_earlier_version_and_an_earlier_time() {
    let database = Database::create();
    database.sql("create table t (id int primary key, v text); insert into t values (1, 'one')");
    let lake = Lake::local(database.url());
    lake.run().exits(0);
    std::thread::sleep(Duration::from_millis(1100));
    let between = database.sql(
        "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",
    );
    std::thread::sleep(Duration::from_millis(1100));
    database.sql("update t set v = 'two'; insert into t values (2, 'new')");
    lake.run().exits(0);
    let to = database.url();
    let read = |table: &str| database.sql(&format!("select * from {table} order by id"));
    restore(&lake, &["t", "--to", &to, "--as", "now"]).exits(0);
    assert_eq!(read("now"), "1|two\n2|new");
    restore(&lake, &["t", "--to", &to, "--as", "v0", "--version", "0"]).exits(0);
    assert_eq!(read("v0"), "1|one");
    restore(
        &lake,
        &["t", "--to", &to, "--as", "earlier", "--at", &between],
    )
    .exits(0);
    assert_eq!(read("earlier"), "1|one");
    restore(&lake, &["t", "--to", &to, "--as", "x", "--version", "9"]).exits(2);
    restore(&lake, &["t", "--to", &to, "--as", "x", "--at", "yesterday"]).exits(2);
    assert_eq!(database.sql("select to_regclass('x') is null"), "t");
}

/// Lets every table that is created have a trigger that runs `body` for each row.
fn interfere(database: &Database, body: &str) {
    database.sql(&format!(
        "create function each_row() returns trigger language plpgsql as $$ begin {body} return new; end $$;
         create function on_create() returns event_trigger language plpgsql as $$
         declare made record;
         begin
           for made in select * from pg_event_trigger_ddl_commands() where command_tag = 'CREATE TABLE' loop
             execute format('create trigger each_row before insert on %s for each row execute function each_row()', made.object_identity);
           end loop;
         end $$;
         create event trigger on_create on ddl_command_end when tag in ('CREATE TABLE') execute function on_create()"
    ));
}

/// A lake with `t`, and a target that holds another `t`.
fn lake_and_target() -> (Lake, Database, Database) {
    let database = Database::create();
    database.sql(
        "create table t (id int primary key, v text);
         insert into t select i, 'row ' || i from generate_series(1, 5000) i",
    );
    let lake = Lake::local(database.url());
    lake.run().exits(0);
    let target = Database::create();
    target.sql("create table t (old text); insert into t values ('old')");
    (lake, database, target)
}

/// The target's own table is there and nothing else.
#[track_caller]
fn untouched(target: &Database) {
    assert_eq!(target.sql("select * from t"), "old");
    assert_eq!(names(target, "public"), ["t"]);
}

#[test]
fn a_table_that_is_there_stays_or_is_replaced_as_a_whole() {
    let (lake, database, target) = lake_and_target();
    let to = target.url();
    restore(&lake, &["t", "--to", &to])
        .exits(2)
        .says(&["public.t", "exists already", "--replace"]);
    untouched(&target);
    target.sql("create view v as select old from t");
    restore(&lake, &["t", "--to", &to, "--replace"])
        .exits(1)
        .says(&["view v"]);
    assert_eq!(target.sql("drop view v; select * from t"), "old");
    let outcome = restore(&lake, &["t", "--to", &to, "--replace"]).exits(0);
    assert_eq!(reported(&outcome)["rows"], 5000);
    assert_eq!(shape(&target, "public.t"), shape(&database, "public.t"));
    assert_eq!(names(&target, "public"), ["t"]);
    assert_eq!(
        target.sql(
            "select conname from pg_constraint where conrelid = 't'::regclass and contype = 'p'"
        ),
        "t_pkey"
    );
}

#[test]
fn a_failure_in_the_middle_leaves_the_old_table() {
    let (lake, _, target) = lake_and_target();
    interfere(&target, "if new.id = 3000 then raise 'enough'; end if;");
    restore(&lake, &["t", "--to", &target.url(), "--replace"])
        .exits(1)
        .says(&["enough"]);
    untouched(&target);
}

#[test]
fn a_killed_restore_leaves_the_old_table() {
    let (lake, _, target) = lake_and_target();
    interfere(&target, "perform pg_sleep(0.01);");
    let running = start(&lake, &["t", "--to", &target.url(), "--replace"]);
    let busy = "select count(*) from pg_stat_activity
                where datname = current_database() and query like 'COPY%highwater_restore%'";
    let since = Instant::now();
    while target.sql(busy) == "0" {
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "no COPY was seen"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(running.kill().code, None);
    // The server notices when it has used up what it was sent.
    target.sql(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()",
    );
    untouched(&target);
}

#[test]
fn a_target_that_changes_a_row_is_noticed() {
    let (lake, _, target) = lake_and_target();
    interfere(&target, "if new.id = 17 then new.v := 'other'; end if;");
    restore(&lake, &["t", "--to", &target.url(), "--replace"])
        .exits(5)
        .says(&["differs", "5000 rows"]);
    untouched(&target);
    // One that loses a row, too.
    target.sql(
        "create or replace function each_row() returns trigger language plpgsql as
         $$ begin if new.id = 17 then return null; end if; return new; end $$",
    );
    restore(&lake, &["t", "--to", &target.url(), "--replace"])
        .exits(5)
        .says(&["differs", "4999 rows"]);
    untouched(&target);
    // Control arm: the same without interference is equal.
    target.sql("drop event trigger on_create");
    restore(&lake, &["t", "--to", &target.url(), "--replace"]).exits(0);
    assert_eq!(target.sql("select v from t where id = 17"), "row 17");
}

/// Prints the rows of a file, one a line, each value in PostgreSQL's text.
const READ_FILE: &str = r#"
import sys, duckdb, polars
path = sys.argv[1]
if path.endswith(".parquet"):
    seen = polars.read_parquet(path)
    rows = duckdb.sql("select * from seen order by id").fetchall()
else:
    rows = duckdb.sql(f"""select * from read_csv('{path}', header=true, all_varchar=true, quote='"', escape='"',
      delim=',', allow_quoted_nulls=false, nullstr='') order by id::int""").fetchall()
for row in rows:
    print([None if value is None else str(value) for value in row])
"#;

#[test]
fn files_are_read_by_others() {
    let database = Database::create();
    database.sql(
        r#"create table "Odd name" (id int primary key, txt text, amount numeric(12,2), day date);
           insert into "Odd name" values (1, 'plain', 1.50, '2024-02-29'), (2, '', -0.01, '1969-12-31'),
             (3, null, null, null), (4, E'quote " comma , line \n return \r\n end', 9999999999.99, '9999-12-31'),
             (5, 'NULL', 0, '0001-01-01'), (6, E'Gr\u00FC\u00DFe', 1, '2000-01-01')"#,
    );
    let lake = Lake::local(database.url());
    lake.run().exits(0);
    let folder = lake.folder().join("out");
    let to = folder.to_string_lossy().into_owned();
    let wanted = [
        "['1', 'plain', '1.50', '2024-02-29']",
        "['2', '', '-0.01', '1969-12-31']",
        "['3', None, None, None]",
        r#"['4', 'quote " comma , line \n return \r\n end', '9999999999.99', '9999-12-31']"#,
        "['5', 'NULL', '0.00', '0001-01-01']",
        "['6', 'Grüße', '1.00', '2000-01-01']",
    ];
    for format in ["parquet", "csv"] {
        restore(&lake, &["--all", "--to", &to, "--format", format]).exits(0);
        let file = folder.join(format!("public/Odd~20name.{format}"));
        let read = Command::new(python())
            .args(["-c", READ_FILE])
            .arg(&file)
            .output()
            .unwrap();
        let problem = String::from_utf8_lossy(&read.stderr);
        assert!(read.status.success(), "{problem}");
        let found = String::from_utf8(read.stdout).unwrap();
        assert_eq!(found.lines().collect::<Vec<_>>(), wanted, "{format}");

        std::fs::write(&file, "mine").unwrap();
        restore(&lake, &["--all", "--to", &to, "--format", format])
            .exits(2)
            .says(&["exists already"]);
        assert_eq!(std::fs::read(&file).unwrap(), b"mine");
        restore(
            &lake,
            &["--all", "--to", &to, "--format", format, "--replace"],
        )
        .exits(0);
        assert_ne!(std::fs::read(&file).unwrap(), b"mine");
    }
    let left = std::fs::read_dir(folder.join("public")).unwrap().count();
    assert_eq!(left, 2, "nothing temporary stays");
}

#[test]
fn what_is_asked_must_make_sense() {
    let (lake, _, target) = lake_and_target();
    let to = target.url();
    restore(&lake, &["--to", &to]).exits(2);
    restore(&lake, &["nothing", "--to", &to]).exits(2);
    restore(&lake, &["t", "--to", "folder"])
        .exits(2)
        .says(&["--format"]);
    restore(&lake, &["t", "--to", &to, "--format", "csv"]).exits(2);
    restore(&lake, &["t", "--to", "mysql://x/y"]).exits(2);
    let locked = target.url_as(&format!("locked:{}", kit::outcome::CANARY));
    restore(&lake, &["t", "--to", &locked]);
    untouched(&target);
}
