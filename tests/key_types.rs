//! Keys of every type: the statistics of files must never hide the file that
//! holds a changed key, be its values long, big, negative, or no numbers at all.

use crate::kit;

use kit::lake::Lake;
use kit::oracle::{Check, rows};
use kit::postgres::Database;

/// A table for each expression of `i` (1 to 3000) that makes a key, with its type.
const KEYS: &[(&str, &str, &str)] = &[
    ("big", "bigint", "9223372036854770000 + i"),
    ("negative", "bigint", "-9223372036854775808 + i"),
    ("small", "smallint", "i - 1500"),
    (
        "long_text",
        "text",
        "repeat('same ', 60) || to_char(i, 'FM00000')",
    ),
    (
        "odd_text",
        "text",
        "chr(1 + i % 127) || chr(12000 + i) || chr(127999 + i % 700) || i",
    ),
    ("collated", "varchar(20) collate \"C\"", "reverse(i::text)"),
    ("padded", "char(12)", "'x' || i"),
    ("uuid", "uuid", "md5(i::text)::uuid"),
    (
        "bytes",
        "bytea",
        "decode(repeat('ff', 40) || md5(i::text), 'hex')",
    ),
    (
        "zeros",
        "bytea",
        "decode(repeat('00', i % 60), 'hex') || i::text::bytea",
    ),
    (
        "exact",
        "numeric(38,5)",
        "(i - 1500) * 1234567890123456789012345.00001",
    ),
    ("unbounded", "numeric", "(i - 1500) / 7.0"),
    ("double", "double precision", "(i - 1500) / 7.0 + 1e15"),
    ("day", "date", "date '0001-01-01' + i * 365"),
    (
        "moment",
        "timestamptz",
        "timestamptz '2024-01-01 00:00:00+00' + i * interval '1 microsecond'",
    ),
    (
        "old_moment",
        "timestamp",
        "timestamp '1500-01-01 00:00:00' + i * interval '1 microsecond'",
    ),
    ("hour", "time", "time '00:00:00' + i * interval '7 seconds'"),
    ("address", "inet", "inet '10.0.0.0' + i"),
];

fn create(database: &Database) {
    for (name, kind, key) in KEYS {
        database.sql(&format!(
            "create table {name} (n int, k {kind}, note text, primary key (k));
             insert into {name} select i, {key}, md5(i::text) || md5((i + 1)::text) || md5((i + 2)::text) from generate_series(1, 3000) i"
        ));
    }
    database.sql("analyze");
}

fn change(database: &Database) {
    for (name, _, key) in KEYS {
        database.sql(&format!(
            "update {name} set note = 'changed' where n % 601 = 7;
             delete from {name} where n % 701 = 9;
             delete from {name} where n in (1, 3000);
             insert into {name} select i, {key}, 'back' from generate_series(1, 1) i"
        ));
    }
}

fn every_key(method: &str) {
    let database = Database::create();
    create(&database);
    let lake = Lake::local(database.url())
        .with(r#"files.target = "64KiB""#)
        .with(format!(r#"method = "{method}""#));
    lake.run().exits(0);
    change(&database);
    lake.run().exits(0);
    let mut wrong = Vec::new();
    for (name, _, _) in KEYS {
        let (agree, found) = Check::of(&lake, &format!("public.{name}")).compare();
        if !agree {
            wrong.push(format!("{name}: {found:#}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn by_xid() {
    every_key("xid");
}

#[test]
fn by_comparison() {
    every_key("diff");
}

/// Values that are equal to the server but not the same, and keys of several
/// columns.
#[test]
fn composite_and_odd_numbers() {
    let database = Database::create();
    database.sql(
        "create table pairs (a text, b bigint, c date, v int, primary key (b, a, c));
         insert into pairs select chr(65 + i % 26), i / 26, date '2024-01-01' + i % 3, i from generate_series(1, 3000) i;
         create table reals (k double precision primary key, v int);
         insert into reals values ('NaN', 1), ('-0', 2), ('Infinity', 3), ('-Infinity', 4), (1e-310, 5);
         insert into reals select i * 1e300, i from generate_series(1, 3000) i;
         create table scales (k numeric primary key, v int);
         insert into scales select (i || '.' || repeat('0', i % 4))::numeric, i from generate_series(1, 500) i;
         analyze",
    );
    for method in ["xid", "diff"] {
        let lake = Lake::local(database.url())
            .with(r#"files.target = "64KiB""#)
            .with(format!(r#"method = "{method}""#));
        lake.run().exits(0);
        database.sql(
            "update pairs set v = -v where b % 20 = 3; delete from pairs where b = 50 and a < 'F'; update pairs set a = lower(a) where b = 70;
             update reals set v = v + 100 where v < 10 or v > 100; delete from reals where v = 77;
             update reals set k = '0' where k = 0; update reals set k = 5 where k = 'NaN'; insert into reals values ('NaN', 9);
             update scales set k = trim_scale(k) where v % 50 = 3; update scales set v = v + 1000 where v % 100 = 50",
        );
        lake.run().exits(0);
        for table in ["pairs", "reals", "scales"] {
            rows(&lake, &format!("public.{table}"));
        }
        database.sql("update reals set k = '-0' where k = 0; delete from reals where k = 5");
        lake.run().exits(0);
        rows(&lake, "public.reals");
    }
}
