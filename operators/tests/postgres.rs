//! The PostgreSQL source against a real server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

#[path = "pg/collect.rs"]
mod collect;
#[path = "pg/mod.rs"]
mod pg;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::compute::concat_batches;
use arrow::datatypes::DataType;
use collect::{Collect, read_all, read_with, table, whole};
use highwater::dataset::Fidelity;
use highwater::source::{CursorRange, Selection, Source, SourceErrorKind, TableOptions, TableRead};
use highwater_operators::ingest::postgres::{PostgresOptions, open};
use pg::Pg;

static SERVER: LazyLock<Pg> = LazyLock::new(|| {
    Pg::start(
        "max_prepared_transactions = 5",
        "host all locked 127.0.0.1/32 scram-sha-256",
        |_| {},
    )
});

fn source(url: &str) -> Arc<dyn Source> {
    open(url, PostgresOptions::default()).unwrap()
}

fn options(name: &str, options: TableOptions) -> Selection {
    Selection {
        tables: BTreeMap::from([(name.to_owned(), options)]),
        ..Default::default()
    }
}

fn types(pairs: &[(&str, &str)]) -> TableOptions {
    let types = pairs
        .iter()
        .map(|(column, choice)| ((*column).to_owned(), (*choice).to_owned()))
        .collect();
    TableOptions {
        types,
        ..Default::default()
    }
}

/// Every type: its values as SQL, the lake type, and what is read.
const SCALARS: &[(&str, &[&str], &str, &[&str])] = &[
    (
        "smallint",
        &["-32768", "32767"],
        "Int16",
        &["-32768", "32767"],
    ),
    (
        "integer",
        &["-2147483648", "0"],
        "Int32",
        &["-2147483648", "0"],
    ),
    (
        "bigint",
        &["-9223372036854775808", "9223372036854775807"],
        "Int64",
        &["-9223372036854775808", "9223372036854775807"],
    ),
    ("oid", &["4294967295", "0"], "Int64", &["4294967295", "0"]),
    ("real", &["1.5", "'NaN'"], "Float32", &["1.5", "NaN"]),
    (
        "double precision",
        &["'-Infinity'", "1e-300"],
        "Float64",
        &["-inf", "1e-300"],
    ),
    (
        "numeric(12,2)",
        &["-9999999999.99", "0"],
        "Decimal128(12, 2)",
        &["-9999999999.99", "0.00"],
    ),
    (
        "numeric(38,10)",
        &["-1234567890123456789012345678.0123456789", "0.0000000001"],
        "Decimal128(38, 10)",
        &["-1234567890123456789012345678.0123456789", "0.0000000001"],
    ),
    (
        "numeric(3,-2)",
        &["12345", "-99900"],
        "Decimal128(5, 0)",
        &["12300", "-99900"],
    ),
    (
        "numeric(2,5)",
        &["0.00012", "-0.00099"],
        "Decimal128(5, 5)",
        &["0.00012", "-0.00099"],
    ),
    (
        "numeric",
        &[
            "'NaN'",
            "123456789012345678901234567890123456789012345678901234567890.5",
        ],
        "Utf8",
        &[
            "NaN",
            "123456789012345678901234567890123456789012345678901234567890.5",
        ],
    ),
    (
        "numeric(50,3)",
        &[
            "1.5",
            "'-99999999999999999999999999999999999999999999999.999'",
        ],
        "Utf8",
        &[
            "1.500",
            "-99999999999999999999999999999999999999999999999.999",
        ],
    ),
    (
        "money",
        &["1234.56", "-0.01"],
        "Utf8",
        &["$1,234.56", "-$0.01"],
    ),
    ("boolean", &["true", "false"], "Boolean", &["true", "false"]),
    (
        "text",
        &["''", "E'Gr\\u00fc\\u00dfe \\U0001F600\\n'"],
        "Utf8",
        &["", "Grüße \u{1F600}\n"],
    ),
    (
        "varchar(20)",
        &["'abc'", "'  x '"],
        "Utf8",
        &["abc", "  x "],
    ),
    ("char(5)", &["'ab'", "''"], "Utf8", &["ab   ", "     "]),
    ("name", &["'pg_class'", "'x'"], "Utf8", &["pg_class", "x"]),
    ("\"char\"", &["'a'", "'z'"], "Utf8", &["a", "z"]),
    ("bytea", &["'\\x00ff10'", "''"], "Binary", &["00ff10", ""]),
    (
        "uuid",
        &[
            "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
            "'00000000-0000-0000-0000-000000000000'",
        ],
        "Utf8",
        &[
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "00000000-0000-0000-0000-000000000000",
        ],
    ),
    (
        "date",
        &["'2024-02-29'", "'1969-12-31'"],
        "Date32",
        &["2024-02-29", "1969-12-31"],
    ),
    (
        "time",
        &["'24:00:00'", "'01:02:03.000004'"],
        "Utf8",
        &["24:00:00", "01:02:03.000004"],
    ),
    (
        "timetz",
        &["'01:02:03+05:30'", "'23:59:59.999999-15:59'"],
        "Utf8",
        &["01:02:03+05:30", "23:59:59.999999-15:59"],
    ),
    (
        "timestamp",
        &["'1999-12-31 23:59:59.999999'", "'1900-01-01 00:00:00'"],
        "Timestamp(µs)",
        &["1999-12-31T23:59:59.999999", "1900-01-01T00:00:00"],
    ),
    (
        "timestamp(3)",
        &["'1999-12-31 23:59:59.1239'", "'1970-01-01'"],
        "Timestamp(µs)",
        &["1999-12-31T23:59:59.124", "1970-01-01T00:00:00"],
    ),
    (
        "timestamptz",
        &["'2024-06-01 12:00:00+02'", "'1970-01-01 00:00:00Z'"],
        "Timestamp(µs, \"UTC\")",
        &["2024-06-01T10:00:00Z", "1970-01-01T00:00:00Z"],
    ),
    (
        "interval",
        &["'1 year 2 mons -3 days 04:05:06.789'", "'-00:00:00.000001'"],
        "Utf8",
        &["1 year 2 mons -3 days +04:05:06.789", "-00:00:00.000001"],
    ),
    (
        "json",
        &["'{\"b\": 1,  \"a\":2}'", "'null'"],
        "Utf8",
        &["{\"b\": 1,  \"a\":2}", "null"],
    ),
    (
        "jsonb",
        &["'{\"b\": 1,  \"a\":2}'", "'[]'"],
        "Utf8",
        &["{\"a\": 2, \"b\": 1}", "[]"],
    ),
    (
        "xml",
        &["'<a>1</a>'", "'<b/>'"],
        "Utf8",
        &["<a>1</a>", "<b/>"],
    ),
    (
        "inet",
        &["'192.168.0.1/24'", "'::1'"],
        "Utf8",
        &["192.168.0.1/24", "::1/128"],
    ),
    (
        "cidr",
        &["'10.0.0.0/8'", "'2001:db8::/32'"],
        "Utf8",
        &["10.0.0.0/8", "2001:db8::/32"],
    ),
    (
        "macaddr",
        &["'08:00:2b:01:02:03'", "'ff:ff:ff:ff:ff:ff'"],
        "Utf8",
        &["08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff"],
    ),
    ("bit(3)", &["B'101'", "B'000'"], "Utf8", &["101", "000"]),
    ("varbit", &["B'1'", "B''"], "Utf8", &["1", ""]),
    (
        "point",
        &["'(1.5,-2)'", "'(0,0)'"],
        "Utf8",
        &["(1.5,-2)", "(0,0)"],
    ),
    ("tsvector", &["'a b:1'", "''"], "Utf8", &["'a' 'b':1", ""]),
    (
        "pg_lsn",
        &["'16/B374D848'", "'0/0'"],
        "Utf8",
        &["16/B374D848", "0/0"],
    ),
    (
        "int4range",
        &["'[1,5)'", "'empty'"],
        "Utf8",
        &["[1,5)", "empty"],
    ),
    (
        "int4multirange",
        &["'{[1,2),[5,7)}'", "'{}'"],
        "Utf8",
        &["{[1,2),[5,7)}", "{}"],
    ),
    (
        "regclass",
        &["'pg_catalog.pg_class'", "0"],
        "Utf8",
        &["pg_class", "-"],
    ),
    (
        "mood",
        &["'happy'", "'very sad'"],
        "Utf8",
        &["happy", "very sad"],
    ),
    (
        "price",
        &["9.99", "0"],
        "Decimal128(10, 2)",
        &["9.99", "0.00"],
    ),
    ("posint", &["1", "7"], "Int32", &["1", "7"]),
    (
        "numbers",
        &["'{1,2}'", "'{}'"],
        "List(Int32, field: 'element')",
        &["[1, 2]", "[]"],
    ),
    (
        "pair",
        &["row(1,'x y')", "row(null,'')"],
        "Utf8",
        &["(1,\"x y\")", "(,\"\")"],
    ),
    ("hstore", &["'a=>1'", "''"], "Utf8", &["\"a\"=>\"1\"", ""]),
    ("citext", &["'AbC'", "''"], "Utf8", &["AbC", ""]),
    (
        "integer[]",
        &["'{1,NULL,3}'", "'{}'"],
        "List(Int32, field: 'element')",
        &["[1, , 3]", "[]"],
    ),
    (
        "text[]",
        &["'{a,\"b c\",NULL}'", "'{\"\"}'"],
        "List(Utf8, field: 'element')",
        &["[a, b c, ]", "[]"],
    ),
    (
        "numeric(6,2)[]",
        &["'{1.5,-2}'", "'{}'"],
        "List(Decimal128(6, 2), field: 'element')",
        &["[1.50, -2.00]", "[]"],
    ),
    (
        "timestamptz[]",
        &["'{2024-01-01 00:00Z}'", "'{}'"],
        "List(Timestamp(µs, \"UTC\"), field: 'element')",
        &["[2024-01-01T00:00:00Z]", "[]"],
    ),
    (
        "uuid[]",
        &["'{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}'", "'{}'"],
        "List(Utf8, field: 'element')",
        &["[a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11]", "[]"],
    ),
    (
        "jsonb[]",
        &["array['{\"a\":1}'::jsonb]", "'{}'"],
        "List(Utf8, field: 'element')",
        &["[{\"a\": 1}]", "[]"],
    ),
    (
        "interval[]",
        &["'{1 day,00:01}'", "'{}'"],
        "List(Utf8, field: 'element')",
        &["[1 day, 00:01:00]", "[]"],
    ),
    (
        "mood[]",
        &["'{happy}'", "'{}'"],
        "List(Utf8, field: 'element')",
        &["[happy]", "[]"],
    ),
    (
        "posint[]",
        &["'{1,2}'", "'{}'"],
        "List(Int32, field: 'element')",
        &["[1, 2]", "[]"],
    ),
    (
        "pair[]",
        &["array[row(1,'x')::pair]", "'{}'"],
        "List(Utf8, field: 'element')",
        &["[(1,x)]", "[]"],
    ),
    (
        "bytea[]",
        &["array['\\x0102'::bytea]", "'{}'"],
        "List(Binary, field: 'element')",
        &["[0102]", "[]"],
    ),
];

const TYPES: &str = "CREATE EXTENSION hstore; CREATE EXTENSION citext; \
    CREATE TYPE mood AS ENUM ('happy', 'very sad'); CREATE DOMAIN price AS numeric(10,2); \
    CREATE DOMAIN posint AS int CHECK (value > 0); CREATE DOMAIN numbers AS int[]; \
    CREATE TYPE pair AS (a int, b text);";

#[tokio::test(flavor = "multi_thread")]
async fn every_type_comes_back() {
    let columns: Vec<String> = SCALARS
        .iter()
        .enumerate()
        .map(|(n, (name, ..))| format!("c{n} {name}"))
        .collect();
    let row = |which: usize| {
        let values: Vec<String> = SCALARS
            .iter()
            .map(|(name, values, ..)| format!("({})::{name}", values[which]))
            .collect();
        values.join(", ")
    };
    let nulls = vec!["NULL"; SCALARS.len()].join(", ");
    let sql = format!(
        "SET lc_monetary = 'C'; {TYPES} CREATE TABLE t (id int PRIMARY KEY, {}); \
         INSERT INTO t SELECT 1, {}; INSERT INTO t SELECT 2, {}; INSERT INTO t VALUES (3, {nulls})",
        columns.join(", "),
        row(0),
        row(1),
    );
    let (_client, url) = SERVER.database(&sql).await;
    let rows = read_all(&source(&url), &Selection::default(), "t")
        .await
        .unwrap();
    assert!(rows.bad.is_empty(), "{:?}", rows.bad);
    assert_eq!(rows.batch.num_rows(), 3);
    for (n, (name, _, lake_type, wanted)) in SCALARS.iter().enumerate() {
        let column = rows
            .table
            .columns
            .iter()
            .find(|column| column.name == format!("c{n}"))
            .unwrap();
        assert_eq!(column.lake_type.to_string(), *lake_type, "{name}");
        let found = rows.texts(&column.name);
        let wanted: Vec<String> = wanted
            .iter()
            .map(|&text| text.to_owned())
            .chain(["NULL".to_owned()])
            .collect();
        // money's symbol follows the locale of the server.
        let plain = |texts: &[String]| {
            texts
                .iter()
                .map(|text| {
                    if *name == "money" {
                        text.replace(['$', ','], "")
                    } else {
                        text.clone()
                    }
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(plain(&found), plain(&wanted), "{name}");
    }
    let spelled = |n: usize| rows.table.columns[n + 1].source_type.as_str();
    assert_eq!(
        (spelled(6), spelled(24)),
        ("numeric(12,2)", "timestamp without time zone")
    );
    assert_eq!(rows.table.key, [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn far_dates_are_kept_and_impossible_ones_set_aside() {
    let (_client, url) = SERVER
        .database(
            "CREATE TABLE t (k text PRIMARY KEY, d date, ts timestamp, tz timestamptz, n numeric(12,2), a int[]); \
             INSERT INTO t VALUES \
             ('bc', '4714-11-24 BC', '4714-11-24 BC', '4714-11-24 00:00:00Z BC', 1, '{1}'), \
             ('far', '5874897-12-31', '294246-12-31 23:59:59.999999', '294246-12-31 23:59:59.999999Z', 2, '{}'), \
             ('d+', 'infinity', now(), now(), 0, null), ('d-', '-infinity', now(), now(), 0, null), \
             ('ts+', now(), 'infinity', now(), 0, null), ('tz-', now(), now(), '-infinity', 0, null), \
             ('late', now(), '294276-12-31 23:59:59.999999', now(), 0, null), \
             ('nan', now(), now(), now(), 'NaN', null), ('2d', null, null, null, null, '{{1,2},{3,4}}'), \
             ('0d', null, null, null, null, '[0:1]={1,2}'), ('null', null, null, null, null, null)",
        )
        .await;
    let rows = read_all(&source(&url), &Selection::default(), "t")
        .await
        .unwrap();
    assert_eq!(rows.texts("k"), ["bc", "far", "null"]);
    let days = |row: usize| rows.column("d").to_data().buffers()[0].typed_data::<i32>()[row];
    assert_eq!((days(0), days(1)), (-2_440_588, 2_145_042_905));
    let micros = |column: &str, row: usize| {
        rows.column(column).to_data().buffers()[0].typed_data::<i64>()[row]
    };
    assert_eq!(micros("ts", 0), -2_440_588 * 86_400_000_000);
    assert_eq!(micros("tz", 1), 9_223_371_244_799_999_999);
    let mut bad: Vec<_> = rows
        .bad
        .iter()
        .map(|bad| {
            (
                bad.key["k"].clone().unwrap(),
                bad.column.as_str(),
                bad.value.as_str(),
            )
        })
        .collect();
    bad.sort();
    let wanted = [
        ("0d", "a", "array [0:1]"),
        ("2d", "a", "array of 2 x 2 elements"),
        ("d+", "d", "infinity"),
        ("d-", "d", "-infinity"),
        ("late", "ts", "294276-12-31 23:59:59.999999"),
        ("nan", "n", "NaN"),
        ("ts+", "ts", "infinity"),
        ("tz-", "tz", "-infinity"),
    ];
    assert_eq!(
        bad,
        wanted.map(|(key, column, value)| (key.to_owned(), column, value))
    );
    // All of it as text: nothing is set aside.
    let text = types(&[
        ("d", "text"),
        ("ts", "text"),
        ("tz", "string"),
        ("n", "text"),
        ("a", "text"),
    ]);
    let rows = read_all(&source(&url), &options("t", text), "t")
        .await
        .unwrap();
    assert_eq!((rows.batch.num_rows(), rows.bad.len()), (11, 0));
    assert!(rows.texts("a").contains(&"[0:1]={1,2}".to_owned()));
    assert!(rows.texts("tz").contains(&"-infinity".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_types_are_exact_or_refused() {
    let (_client, url) = SERVER
        .database(
            "CREATE TABLE t (id bigint, n numeric, s text); INSERT INTO t VALUES (1, 12.345, 'a'), \
             (2, 1e30, 'b'), (3, 0.0000001, 'c'), (4, 'Infinity', 'd'), (99999, -0.5, 'e')",
        )
        .await;
    let rows = read_all(
        &source(&url),
        &options(
            "t",
            types(&[("n", "decimal(12,3)"), ("id", "decimal(4,0)")]),
        ),
        "t",
    )
    .await
    .unwrap();
    assert_eq!(rows.texts("n"), ["12.345"]);
    let mut bad: Vec<_> = rows
        .bad
        .iter()
        .map(|bad| {
            (
                bad.column.as_str(),
                bad.value.as_str(),
                bad.key["ctid"].as_deref().unwrap(),
            )
        })
        .collect();
    bad.sort();
    assert_eq!(
        bad,
        [
            ("id", "99999", "(0,5)"),
            ("n", "0.0000001", "(0,3)"),
            ("n", "1000000000000000000000000000000", "(0,2)"),
            ("n", "Infinity", "(0,4)"),
        ]
    );
    let rows = read_all(
        &source(&url),
        &options("t", types(&[("n", "double"), ("id", "double")])),
        "t",
    )
    .await
    .unwrap();
    assert_eq!(rows.texts("n"), ["12.345", "1e30", "1e-7", "inf", "-0.5"]);
    assert_eq!(rows.table.columns[0].lake_type, DataType::Float64);
    for (column, choice, wanted) in [
        ("s", "decimal(10,2)", "text cannot become decimal(10,2)"),
        ("n", "blob", "\"blob\" is not a type that can be chosen"),
        ("m", "text", "t has no column \"m\"; did you mean"),
    ] {
        let error = table(
            source(&url).as_ref(),
            &options("t", types(&[(column, choice)])),
            "t",
        )
        .await
        .unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Usage);
        assert!(error.message.contains(wanted), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn splits_cover_every_row_once_and_readers_share_one_state() {
    let (writer, url) = SERVER
        .database(
            "CREATE TABLE t (id int PRIMARY KEY, v text); \
             INSERT INTO t SELECT n, repeat('x', n % 100) FROM generate_series(1, 60000) n; \
             DELETE FROM t WHERE id % 7 = 0; ANALYZE t",
        )
        .await;
    let source = source(&url);
    let found = table(source.as_ref(), &Selection::default(), "t")
        .await
        .unwrap();
    assert!(
        found.estimated_rows.unwrap().abs_diff(51_429) < 5_000,
        "{:?}",
        found.estimated_rows
    );
    let read = TableRead {
        table: found.clone(),
        filter: None,
        cursor: None,
        since: None,
        projection: Default::default(),
    };
    let snapshot = source.snapshot(3).await.unwrap();
    assert_eq!(snapshot.max_readers(), 3);
    assert!(snapshot.bound().at.ends_with('Z') && snapshot.bound().position.contains(':'));
    let mut first = Collect::new(256 * 1024, 64 << 20);
    let splits = read_with(&snapshot, &read, 1, 300_000, &mut first)
        .await
        .unwrap();
    assert!(splits > 5, "{splits}");
    // A writer commits in between; later readers must not see it.
    writer.batch_execute("DELETE FROM t WHERE id < 30000; INSERT INTO t SELECT n, 'new' FROM generate_series(70000, 90000) n; UPDATE t SET v = 'y' WHERE id = 59999").await.unwrap();
    let mut second = Collect::new(100 * 1024, 64 << 20);
    read_with(&snapshot, &read, 3, 500_000, &mut second)
        .await
        .unwrap();
    let sorted = |out: &Collect| {
        let all = concat_batches(&found.schema(), &out.batches).unwrap();
        let ids =
            all.column(0).to_data().buffers()[0].typed_data::<i32>()[..all.num_rows()].to_vec();
        let mut ids = ids;
        ids.sort_unstable();
        ids
    };
    let wanted: Vec<i32> = (1..=60_000).filter(|id| id % 7 != 0).collect();
    assert_eq!(sorted(&first), wanted);
    assert_eq!(sorted(&second), wanted);
    // The layout token follows a rewrite of the table.
    let before = snapshot.split(&read, 1 << 20).await.unwrap().layout;
    drop(snapshot);
    writer.batch_execute("VACUUM FULL t").await.unwrap();
    let snapshot = source.snapshot(1).await.unwrap();
    assert_ne!(snapshot.split(&read, 1 << 20).await.unwrap().layout, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_filters_and_columns() {
    let (_client, url) = SERVER
        .database(
            "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, secret text, twice int GENERATED ALWAYS AS (id * 2) STORED, gone int); \
             ALTER TABLE t DROP COLUMN gone; \
             INSERT INTO t SELECT n, '2024-01-01'::timestamptz + n * interval '1 s', 's' FROM generate_series(1, 1000) n; \
             UPDATE t SET at = NULL WHERE id = 7",
        )
        .await;
    let source = source(&url);
    let selection = options(
        "t",
        TableOptions {
            exclude_columns: vec!["secret".into()],
            ..Default::default()
        },
    );
    let table = table(source.as_ref(), &selection, "t").await.unwrap();
    let names: Vec<_> = table
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    assert_eq!(names, ["id", "at", "twice"]);
    let snapshot = source.snapshot(1).await.unwrap();
    let cursor = |from: Option<&str>, to: Option<&str>| {
        Some(CursorRange {
            column: "at".into(),
            from: from.map(Into::into),
            to: to.map(Into::into),
            nulls: false,
        })
    };
    let filter = Some("id <> 500 OR id = 500 -- all".to_owned());
    let mut read = TableRead {
        table,
        filter,
        cursor: cursor(None, None),
        since: None,
        projection: Default::default(),
    };
    let plan = snapshot.split(&read, 1 << 20).await.unwrap();
    let max = plan.cursor_max.unwrap();
    assert_eq!(max, "2024-01-01 00:16:40+00");
    for (from, to, wanted) in [
        (None, Some(max.as_str()), 1000),
        (Some("2024-01-01 00:16:30+00"), Some(max.as_str()), 11),
        (Some(max.as_str()), None, 1),
    ] {
        read.cursor = cursor(from, to);
        let mut out = Collect::new(1 << 20, 64 << 20);
        read_with(&snapshot, &read, 1, 1 << 20, &mut out)
            .await
            .unwrap();
        assert_eq!(
            out.batches
                .iter()
                .map(|batch| batch.num_rows())
                .sum::<usize>(),
            wanted,
            "{from:?}..{to:?}"
        );
    }
    // A filter that the server refuses leaves reader and snapshot usable.
    read.cursor = None;
    let good = TableRead {
        filter: None,
        ..read.clone()
    };
    read.filter = Some("no_such_column = 1".into());
    let mut reader = snapshot.reader().await.unwrap();
    let mut out = Collect::new(1 << 20, 64 << 20);
    let error = reader.read(&read, &whole(), &mut out).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Usage);
    assert!(error.message.contains("no_such_column"), "{error}");
    reader.read(&good, &whole(), &mut out).await.unwrap();
    assert_eq!(out.batches[0].num_rows(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_every_kind() {
    let (client, url) = SERVER
        .database(
            "CREATE TABLE parts (id int, day date, PRIMARY KEY (day, id)) PARTITION BY RANGE (day); \
             CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2024-01-01') TO ('2024-02-01'); \
             CREATE TABLE parts_2 PARTITION OF parts DEFAULT; \
             INSERT INTO parts SELECT n, '2024-01-01'::date + n FROM generate_series(0, 99) n; \
             CREATE SCHEMA \"Odd.Schema\"; \
             CREATE TABLE \"Odd.Schema\".\"We\"\"ird Täble\" (\"Säule 'x'\" int NOT NULL UNIQUE, \"sel\"\"ect\" text); \
             INSERT INTO \"Odd.Schema\".\"We\"\"ird Täble\" VALUES (1, 'a'), (2, NULL); \
             CREATE TABLE empty (id int PRIMARY KEY); CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; \
             CREATE TABLE parent (id int); CREATE TABLE child (extra int) INHERITS (parent); \
             INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 3); \
             CREATE TEMP TABLE passing (id int); CREATE VIEW looks AS SELECT 1 AS one; \
             CREATE TABLE keys (a int NOT NULL, b int, c int NOT NULL); CREATE UNIQUE INDEX ON keys (b); \
             CREATE UNIQUE INDEX ON keys (a) WHERE c > 0; CREATE UNIQUE INDEX ON keys ((a + 1)); CREATE UNIQUE INDEX ON keys (c, a)",
        )
        .await;
    let source = source(&url);
    let found = source.discover(&Selection::default()).await.unwrap();
    let names: Vec<String> = found.iter().map(|found| found.name.to_string()).collect();
    assert_eq!(
        names,
        [
            "Odd.Schema.We\"ird Täble",
            "public.child",
            "public.empty",
            "public.keys",
            "public.nothing",
            "public.parent",
            "public.parts"
        ]
    );
    assert!(
        found[4]
            .table
            .as_ref()
            .is_err_and(|error| error.message.contains("no column"))
    );
    let keys = found[3].table.as_ref().unwrap();
    assert_eq!(keys.key_names().collect::<Vec<_>>(), ["c", "a"]);
    let odd = read_all(&source, &Selection::default(), "We\"ird Täble")
        .await
        .unwrap();
    assert_eq!(odd.texts("Säule 'x'"), ["1", "2"]);
    assert_eq!(odd.texts("sel\"ect"), ["a", "NULL"]);
    assert_eq!(odd.table.key, [0]);
    let parts = read_all(&source, &Selection::default(), "parts")
        .await
        .unwrap();
    assert_eq!((parts.batch.num_rows(), parts.splits), (100, 1));
    assert_eq!(parts.table.key_names().collect::<Vec<_>>(), ["day", "id"]);
    assert_eq!(
        read_all(&source, &Selection::default(), "empty")
            .await
            .unwrap()
            .batch
            .num_rows(),
        0
    );
    assert_eq!(
        read_all(&source, &Selection::default(), "parent")
            .await
            .unwrap()
            .texts("id"),
        ["1"]
    );
    assert_eq!(
        read_all(&source, &Selection::default(), "child")
            .await
            .unwrap()
            .texts("extra"),
        ["3"]
    );
    // Names that are not there.
    let selection = Selection {
        include: vec!["part".into(), "empty".into(), "zzz*".into()],
        ..Default::default()
    };
    let found = source.discover(&selection).await.unwrap();
    assert_eq!(found.len(), 2);
    let error = found
        .iter()
        .find(|found| found.name.name == "part")
        .unwrap()
        .table
        .as_ref()
        .unwrap_err();
    assert!(error.message.contains("did you mean \"parts\"?"), "{error}");
    // A table that is dropped between plan and read.
    let gone = table(source.as_ref(), &Selection::default(), "empty")
        .await
        .unwrap();
    client.batch_execute("DROP TABLE empty").await.unwrap();
    let read = TableRead {
        table: gone,
        filter: None,
        cursor: None,
        since: None,
        projection: Default::default(),
    };
    let snapshot = source.snapshot(1).await.unwrap();
    let error = snapshot.split(&read, 1).await.unwrap_err();
    assert!(error.message.contains("dropped or renamed"), "{error}");
    let mut out = Collect::new(1 << 20, 1 << 26);
    let error = snapshot
        .reader()
        .await
        .unwrap()
        .read(&read, &whole(), &mut out)
        .await
        .unwrap_err();
    assert!(error.message.contains("dropped or renamed"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_permissions_and_addresses_that_fail_say_so() {
    let (client, url) = SERVER
        .database(
            "CREATE TABLE open (id int); CREATE TABLE closed (id int); CREATE TABLE half (id int, pay int); \
             CREATE TABLE rls (id int); ALTER TABLE rls ENABLE ROW LEVEL SECURITY; \
             DROP ROLE IF EXISTS locked; CREATE ROLE locked LOGIN PASSWORD 's3cret'; \
             GRANT SELECT ON open, rls TO locked; GRANT SELECT (id) ON half TO locked; \
             INSERT INTO half VALUES (1, 2); INSERT INTO rls VALUES (1)",
        )
        .await;
    let port = SERVER.port;
    let database = url.rsplit('/').next().unwrap();
    let at = |user: &str, database: &str, port: u16| {
        format!("postgres://{user}@127.0.0.1:{port}/{database}")
    };
    for (url, kind, wanted) in [
        (
            at("locked:s3cret2", database, port),
            SourceErrorKind::Refused,
            "password authentication failed",
        ),
        (
            at("locked", database, port),
            SourceErrorKind::Refused,
            "asks for a password",
        ),
        (
            at("postgres", "nowhere", port),
            SourceErrorKind::Usage,
            "\"nowhere\" does not exist",
        ),
        (
            at("postgres", database, 1),
            SourceErrorKind::Unavailable,
            "cannot be reached",
        ),
        (
            format!("{}?sslmode=require", at("postgres", database, port)),
            SourceErrorKind::Refused,
            "does not offer TLS",
        ),
        (
            format!("postgres:///{database}?host=/nonexistent&user=u"),
            SourceErrorKind::Unavailable,
            "/nonexistent/.s.PGSQL.5432",
        ),
    ] {
        let error = source(&url).identity().await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(wanted), "{error}");
        assert!(!error.message.contains("s3cret"), "{error}");
        assert!(
            error.message.contains(&format!(
                "127.0.0.1:{}",
                if wanted == "cannot be reached" {
                    1
                } else {
                    port
                }
            )) || wanted.starts_with('/'),
            "{error}"
        );
    }
    let source_of_locked = source(&at("locked:s3cret", database, port));
    let found = source_of_locked
        .discover(&Selection::default())
        .await
        .unwrap();
    let refused: Vec<_> = found
        .iter()
        .filter(|found| found.table.is_err())
        .map(|found| found.name.name.as_str())
        .collect();
    assert_eq!(refused, ["closed", "half"]);
    assert!(found.iter().all(|found| {
        found
            .table
            .as_ref()
            .map_or_else(|error| error.kind == SourceErrorKind::Refused, |_| true)
    }));
    let half = options(
        "half",
        TableOptions {
            columns: vec!["id".into()],
            ..Default::default()
        },
    );
    assert_eq!(
        read_all(&source_of_locked, &half, "half")
            .await
            .unwrap()
            .texts("id"),
        ["1"]
    );
    let Err(error) = read_all(&source_of_locked, &Selection::default(), "rls").await else {
        panic!()
    };
    assert!(
        error.kind == SourceErrorKind::Refused && error.message.contains("row-level security"),
        "{error}"
    );
    // A Unix socket, and identity.
    let socket = format!(
        "postgresql:///{database}?host={}&port={port}&user=postgres",
        SERVER.folder.display()
    );
    let identity = source(&socket).identity().await.unwrap();
    assert_eq!(identity, source(&url).identity().await.unwrap());
    assert!(
        identity.id.ends_with(&format!("/{database}")) && identity.history == "1",
        "{identity:?}"
    );
    drop(client);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_reader_closes_its_connection_and_can_go_on() {
    let (client, url) = SERVER
        .database("CREATE TABLE t AS SELECT n AS id, repeat('x', 500) AS v FROM generate_series(1, 100000) n")
        .await;
    let source = source(&url);
    let table = table(source.as_ref(), &Selection::default(), "t")
        .await
        .unwrap();
    let read = TableRead {
        table,
        filter: None,
        cursor: None,
        since: None,
        projection: Default::default(),
    };
    let snapshot = source.snapshot(1).await.unwrap();
    let mut reader = snapshot.reader().await.unwrap();
    let mut out = Collect::new(256 * 1024, 64 << 20);
    out.stop_after = Some(2);
    assert_eq!(
        reader
            .read(&read, &whole(), &mut out)
            .await
            .unwrap_err()
            .kind,
        SourceErrorKind::Stopped
    );
    for _ in 0..50 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let active = client
            .query_one("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%COPY%' AND state = 'active' AND pid <> pg_backend_pid() AND datname = current_database()", &[])
            .await.unwrap().get::<_, i64>(0);
        if active == 0 {
            break;
        }
    }
    // On a new connection, the same snapshot.
    client.batch_execute("DELETE FROM t").await.unwrap();
    out.stop_after = None;
    out.batches.clear();
    reader.read(&read, &whole(), &mut out).await.unwrap();
    assert_eq!(
        out.batches
            .iter()
            .map(|batch| batch.num_rows())
            .sum::<usize>(),
        100_000
    );
    // The server dies in the middle.
    client.batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()").await.unwrap();
    let error = reader.read(&read, &whole(), &mut out).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Unavailable, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_are_read_alone_or_refused_by_name() {
    let (_client, url) = SERVER
        .database(
            "CREATE TABLE t (id int PRIMARY KEY, small text, big text); \
             INSERT INTO t VALUES (1, 'a', 'b'), (2, 'c', repeat('x', 5000000)), (3, 'd', 'e')",
        )
        .await;
    let source = source(&url);
    let rows = read_all(&source, &Selection::default(), "t").await.unwrap();
    assert_eq!(rows.texts("small"), ["a", "c", "d"]);
    assert_eq!(rows.texts("big")[1].len(), 5_000_000);
    let table = table(source.as_ref(), &Selection::default(), "t")
        .await
        .unwrap();
    let read = TableRead {
        table,
        filter: None,
        cursor: None,
        since: None,
        projection: Default::default(),
    };
    let snapshot = source.snapshot(1).await.unwrap();
    let mut out = Collect::new(64 * 1024, 8 << 20);
    let error = snapshot
        .reader()
        .await
        .unwrap()
        .read(&read, &whole(), &mut out)
        .await
        .unwrap_err();
    assert!(
        error.message.contains("column big") && error.message.contains("--memory"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_not_utf8_is_set_aside() {
    let client = SERVER.client("postgres").await;
    client
        .batch_execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        .await
        .unwrap();
    let inside = SERVER.client("ascii").await;
    inside
        .batch_execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'good'), (2, convert_from('\\xff41', 'SQL_ASCII')), (3, 'also')")
        .await
        .unwrap();
    let rows = read_all(&source(&SERVER.url("ascii")), &Selection::default(), "t")
        .await
        .unwrap();
    assert_eq!(rows.texts("v"), ["good", "also"]);
    assert_eq!(
        (rows.bad[0].key["id"].as_deref(), rows.bad[0].value.as_str()),
        (Some("2"), "\\xffA")
    );
    drop((client, inside));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_is_said() {
    let (_client, url) = SERVER
        .database("CREATE TABLE t (a int, b numeric(12,2), c numeric, d int[], e timetz)")
        .await;
    let table = table(source(&url).as_ref(), &Selection::default(), "t")
        .await
        .unwrap();
    let said: Vec<&Fidelity> = table
        .columns
        .iter()
        .map(|column| &column.fidelity)
        .collect();
    assert!(matches!(said[0], Fidelity::Exact));
    assert!(matches!(said[1], Fidelity::Partial(text) if text == "NaN"));
    assert!(matches!(said[2], Fidelity::Text(text) if text.contains("decimal(")));
    assert!(matches!(said[3], Fidelity::Partial(text) if text.contains("dimension")));
    assert!(matches!(said[4], Fidelity::Text(text) if text.contains("timetz")));
}
