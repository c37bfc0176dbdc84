//! Every type, with NULLs and extremes, from a real PostgreSQL and a real
//! SQLite, read back by readers that we did not write.

use crate::kit;

use kit::lake::Lake;
use kit::oracle::{Check, rows, rows_where};
use kit::postgres::Database;

/// One column per type; each row of values goes into all columns of its group.
const POSTGRES: &str = include_str!("fixtures/types.sql");

const SQLITE: &str = include_str!("fixtures/types-sqlite.sql");

#[test]
fn every_postgres_type_keeps_every_value() {
    let database = Database::create();
    database.sql(POSTGRES);
    let lake = Lake::local(database.url()).with(r#"include = ["t_*"]"#);
    lake.run().exits(0);
    let tables = database.sql(
        "select table_name from information_schema.tables
         where table_schema = 'public' and table_name like 't\\_%' order by 1",
    );
    assert!(tables.lines().count() >= 8, "{tables}");
    for table in tables.lines() {
        let found = rows(&lake, &format!("public.{table}"));
        assert!(found.rows() > 0, "{table} is empty");
    }
}

#[test]
fn values_without_an_equivalent_are_quarantined_with_their_keys() {
    let database = Database::create();
    database.sql(POSTGRES);
    let lake = Lake::local(database.url()).with(r#"include = ["q_*"]"#);
    let outcome = lake.run().exits(3);
    for table in ["q_dates", "q_numeric", "q_lists"] {
        let found = rows_where(&lake, &format!("public.{table}"), "fits");
        assert!(found.rows() > 0, "{table}: rows that fit are kept");
    }
    let bad = database.sql(
        "select (select count(*) from q_dates where not fits) + (select count(*) from q_numeric where not fits)
              + (select count(*) from q_lists where not fits)",
    );
    assert_eq!(outcome.number("quarantined"), bad.parse::<u64>().unwrap());
    let place = lake.place();
    let said: String = place
        .list("_highwater/quarantine")
        .iter()
        .map(|path| String::from_utf8_lossy(&place.read(path).unwrap()).into_owned())
        .collect();
    // Identity, column, value: enough to find each row again.
    for word in [
        "\"q-infinity\"",
        "\"q-nan\"",
        "\"q-matrix\"",
        "moment",
        "amount",
        "infinity",
        "NaN",
    ] {
        assert!(
            said.contains(word),
            "{word} is not in the quarantine:\n{said}"
        );
    }
}

#[test]
fn a_bad_row_stops_the_run_if_told_so() {
    let database = Database::create();
    database.sql(POSTGRES);
    let lake = Lake::local(database.url())
        .with(r#"include = ["q_numeric"]"#)
        .with(r#"on_bad_row = "fail""#);
    lake.run().exits(1).says(&["q_numeric", "amount", "NaN"]);
    assert!(
        lake.place().versions("public/q_numeric").is_empty(),
        "nothing may be published"
    );
}

#[test]
fn types_that_the_user_names() {
    let database = Database::create();
    database.sql(POSTGRES);
    let lake = Lake::local(database.url())
        .with(r#"include = ["t_numeric"]"#)
        .with(r#"tables."public.t_numeric".columns = ["id", "exact", "wide"]"#)
        .with(r#"tables."public.t_numeric".types = { exact = "text", wide = "decimal(38,10)" }"#)
        .with(r#"tables."public.t_numeric".where = "id < 5""#);
    lake.run().exits(0);
    let columns = ["id", "exact", "wide"];
    Check::of(&lake, "public.t_numeric")
        .columns(&columns)
        .filter("id < 5")
        .agree();
}

#[test]
fn sqlite_storage_classes() {
    let mut lake = Lake::local("");
    let path = lake.folder().join("types.sqlite");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(SQLITE)
        .unwrap();
    lake.set_source(format!("sqlite:{}", path.display()));
    lake.set(r#"exclude = ["q_*"]"#);
    lake.run().exits(0);
    for table in ["declared", "untyped", "moments", "no key", "without_rowid"] {
        let found = rows(&lake, table);
        assert!(found.rows() > 0, "{table} is empty");
    }
}

#[test]
fn sqlite_values_against_their_declaration_are_quarantined() {
    let mut lake = Lake::local("");
    let path = lake.folder().join("types.sqlite");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(SQLITE)
        .unwrap();
    lake.set_source(format!("sqlite:{}", path.display()));
    lake.set(r#"include = ["q_mixed"]"#);
    let outcome = lake.run().exits(3);
    assert_eq!(outcome.number("quarantined"), 2);
    rows_where(&lake, "q_mixed", "typeof(qty) in ('integer', 'null')");
}
