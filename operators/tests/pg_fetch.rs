//! Rows by key, for every type that a key may have, through its index.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    dead_code
)]

#[path = "pg/collect.rs"]
mod collect;
#[path = "pg/kept.rs"]
mod kept;
#[path = "pg/mod.rs"]
mod pg;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arrow::array::{Int32Array, RecordBatch};
use highwater::source::{Selection, SourceErrorKind, TableOptions, TableRead};
use kept::{all, fetched, ids, keys, rows, sorted, source};
use pg::Pg;

static SERVER: LazyLock<Pg> = LazyLock::new(|| Pg::start("", "", |_| {}));

/// Types of keys, with values that are hard to write.
const TYPES: &[(&str, &[&str])] = &[
    ("smallint", &["-32768", "32767"]),
    ("integer", &["-2147483648", "0"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807"]),
    ("oid", &["4294967295", "0"]),
    (
        "real",
        &["1.1", "'NaN'", "'-Infinity'", "3.4028235e38", "1e-45"],
    ),
    (
        "double precision",
        &[
            "0.1::float8 + 0.2",
            "'Infinity'",
            "1e-300",
            "5e-324",
            "'NaN'",
        ],
    ),
    ("numeric(12,2)", &["-9999999999.99", "0"]),
    (
        "numeric(38,10)",
        &["-1234567890123456789012345678.0123456789", "0.0000000001"],
    ),
    ("numeric(3,-2)", &["12345", "-99900"]),
    (
        "numeric",
        &[
            "'NaN'",
            "1.50",
            "123456789012345678901234567890123456789012345678901234567890.5",
        ],
    ),
    ("money", &["1234.56", "-0.01"]),
    ("boolean", &["true", "false"]),
    (
        "text",
        &[
            "''",
            "'it''s'",
            "E'back\\\\slash\\'quote'",
            "'{a,\"b\"},(c)'",
            "E'Gr\\u00fc\\u00dfe \\U0001F600\\n--'",
            "'NULL'",
        ],
    ),
    ("varchar(20)", &["'abc'", "'  x '"]),
    ("char(5)", &["'ab'", "''"]),
    ("name", &["'pg_class'", "'We\"ird'"]),
    ("\"char\"", &["'a'", "''''"]),
    ("bytea", &["'\\x00ff1027'", "''"]),
    (
        "uuid",
        &[
            "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
            "'00000000-0000-0000-0000-000000000000'",
        ],
    ),
    (
        "date",
        &[
            "'2024-02-29'",
            "'0001-12-31 BC'",
            "'4714-11-24 BC'",
            "'5874897-12-31'",
        ],
    ),
    ("time", &["'24:00:00'", "'01:02:03.000004'"]),
    ("timetz", &["'01:02:03+05:30'", "'23:59:59.999999-15:59'"]),
    (
        "timestamp",
        &[
            "'1999-12-31 23:59:59.999999'",
            "'4714-11-24 00:00:00 BC'",
            "'294246-12-31 23:59:59'",
        ],
    ),
    (
        "timestamp(3)",
        &["'1999-12-31 23:59:59.1239'", "'1970-01-01'"],
    ),
    (
        "timestamptz",
        &[
            "'2024-06-01 12:00:00.000001+02'",
            "'0044-03-15 12:00Z BC'",
            "'294247-01-10 04:00:54.775807Z'",
        ],
    ),
    (
        "interval",
        &["'1 year 2 mons -3 days 04:05:06.789'", "'-00:00:00.000001'"],
    ),
    ("jsonb", &["'{\"b\": 1,  \"a\":\"it''s\"}'", "'[]'"]),
    ("inet", &["'192.168.0.1/24'", "'::1'"]),
    ("cidr", &["'10.0.0.0/8'", "'2001:db8::/32'"]),
    ("macaddr", &["'08:00:2b:01:02:03'", "'ff:ff:ff:ff:ff:ff'"]),
    ("bit(3)", &["B'101'", "B'000'"]),
    ("varbit", &["B'1'", "B''"]),
    ("tsvector", &["'a b:1'", "''"]),
    ("pg_lsn", &["'16/B374D848'", "'0/0'"]),
    ("int4range", &["'[1,5)'", "'empty'"]),
    ("regclass", &["'pg_catalog.pg_class'", "0"]),
    ("mood", &["'happy'", "'very ''sad'''"]),
    ("price", &["9.99", "0"]),
    ("posint", &["1", "7"]),
    ("numbers", &["'{1,2}'", "'{}'"]),
    ("pair", &["row(1,'x y')", "row(null,'')"]),
    ("hstore", &["'a=>1'", "''"]),
    ("citext", &["'AbC'", "''"]),
    ("integer[]", &["'{1,NULL,3}'", "'{}'"]),
    (
        "text[]",
        &[
            "'{a,\"b c\",NULL,\"NULL\"}'",
            "array['\"', '\\', ',', '{}', '']",
        ],
    ),
    ("numeric(6,2)[]", &["'{1.5,-2}'", "'{}'"]),
    ("timestamptz[]", &["'{2024-01-01 00:00Z}'", "'{}'"]),
    ("bytea[]", &["array['\\x0102'::bytea]", "'{}'"]),
];

const EXTRA: &str = "CREATE EXTENSION hstore; CREATE EXTENSION citext; SET lc_monetary = 'C'; \
    CREATE TYPE mood AS ENUM ('happy', 'very ''sad'''); CREATE DOMAIN price AS numeric(10,2); \
    CREATE DOMAIN posint AS int CHECK (value > 0); CREATE DOMAIN numbers AS int[]; \
    CREATE TYPE pair AS (a int, b text);";

/// The key columns of what a read of keys gave.
fn key_columns(read: &TableRead, batch: &RecordBatch) -> RecordBatch {
    batch
        .project(&(0..read.table.key.len()).collect::<Vec<_>>())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_key_finds_its_rows() {
    let mut sql = EXTRA.to_owned();
    for (n, (name, values)) in TYPES.iter().enumerate() {
        sql.push_str(&format!("CREATE TABLE k{n} (v int, k {name} PRIMARY KEY);"));
        sql.push_str(&format!(
            "CREATE TABLE c{n} (k {name}, n int, v int, PRIMARY KEY (n, k));"
        ));
        for (row, value) in values.iter().enumerate() {
            sql.push_str(&format!(
                "INSERT INTO k{n} VALUES ({row}, ({value})::{name});"
            ));
            sql.push_str(&format!(
                "INSERT INTO c{n} VALUES (({value})::{name}, {row}, {row});"
            ));
        }
    }
    let (_client, url) = SERVER.database(&sql).await;
    let source = source(&url);
    let snapshot = source.snapshot(2).await.unwrap();
    for (n, (name, values)) in TYPES.iter().enumerate() {
        for table in [format!("k{n}"), format!("c{n}")] {
            let read = all(&source, &table).await;
            let whole = rows(&snapshot, &read).await;
            assert_eq!(whole.num_rows(), values.len(), "{name}");
            let found = key_columns(&read, &rows(&snapshot, &keys(&read, None)).await);
            assert_eq!(
                sorted(&fetched(&snapshot, &read, &found).await),
                sorted(&whole),
                "{name}"
            );
            let one = fetched(&snapshot, &read, &found.slice(1, 1)).await;
            assert_eq!(one.num_rows(), 1, "{name}: only what is asked for");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_types_find_their_rows_too() {
    let (_client, url) = SERVER
        .database(
            "CREATE TABLE t (a bigint, b numeric, c int, d numeric(10,3), v int, PRIMARY KEY (a, b, c, d)); \
             INSERT INTO t VALUES (9007199254740993, 0.12345678901234567890123, 5, 1.5, 1), (-1, 1e30, 6, -0.001, 2)",
        )
        .await;
    let types = [
        ("a", "decimal(20,2)"),
        ("b", "double"),
        ("c", "text"),
        ("d", "decimal(20,5)"),
    ];
    let types = types.map(|(column, choice)| (column.to_owned(), choice.to_owned()));
    let options = TableOptions {
        types: types.into(),
        ..Default::default()
    };
    let selection = Selection {
        tables: BTreeMap::from([("t".to_owned(), options)]),
        ..Default::default()
    };
    let source = source(&url);
    let table = collect::table(source.as_ref(), &selection, "t")
        .await
        .unwrap();
    let read = TableRead::all(table, None);
    let snapshot = source.snapshot(1).await.unwrap();
    let whole = rows(&snapshot, &read).await;
    let found = key_columns(&read, &rows(&snapshot, &keys(&read, None)).await);
    assert_eq!(
        sorted(&fetched(&snapshot, &read, &found).await),
        sorted(&whole)
    );
}

/// Key columns, and the `n`th key.
const INDEXED: &[(&str, &str, &str)] = &[
    ("k int PRIMARY KEY", "n", ""),
    ("k text PRIMARY KEY", "md5(n::text)", "ANALYZE t"),
    ("k uuid PRIMARY KEY", "md5(n::text)::uuid", ""),
    (
        "k timestamptz PRIMARY KEY",
        "'2024-01-01Z'::timestamptz + n * interval '1 s'",
        "ANALYZE t",
    ),
    ("k numeric(12,2) PRIMARY KEY", "n + 0.25", ""),
    ("k numeric PRIMARY KEY", "n + 0.125", "ANALYZE t"),
    ("k bytea PRIMARY KEY", "decode(md5(n::text), 'hex')", ""),
    ("k date PRIMARY KEY", "'0001-01-01'::date + n", ""),
    ("k posint PRIMARY KEY", "n", "ANALYZE t"),
    (
        "k varchar(40) COLLATE \"C\" PRIMARY KEY",
        "md5(n::text)",
        "",
    ),
    ("a mood, k int, PRIMARY KEY (a, k)", "'happy', n", ""),
    (
        "a int, k text, PRIMARY KEY (k, a)",
        "n % 7, md5(n::text)",
        "ANALYZE t",
    ),
    (
        "a uuid, k bigint, PRIMARY KEY (a, k)",
        "md5((n % 9)::text)::uuid, n",
        "",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_keys_of_a_large_table_are_looked_up_not_searched_for() {
    for (columns, key, then) in INDEXED {
        let (client, url) = SERVER
            .database(&format!(
                "CREATE TYPE mood AS ENUM ('happy'); CREATE DOMAIN posint AS int CHECK (value > 0); \
                 CREATE TABLE t ({columns}, v text); \
                 INSERT INTO t SELECT {key}, repeat('x', 50) FROM generate_series(1, 100000) n; {then}"
            ))
            .await;
        let source = source(&url);
        let read = all(&source, "t").await;
        let snapshot = source.snapshot(1).await.unwrap();
        let sample = TableRead {
            filter: Some("hashtext(t::text) % 100 = 0".into()),
            ..keys(&read, None)
        };
        let found = key_columns(&read, &rows(&snapshot, &sample).await);
        let found = found.slice(0, found.num_rows().min(1000));
        assert!(found.num_rows() > 500, "{columns}");
        drop(snapshot);
        // Statistics of a session arrive when it ends.
        let scans = async || -> (i64, i64) {
            let row = client
                .query_one(
                    "SELECT seq_tup_read, idx_scan FROM pg_stat_user_tables WHERE relname = 't'",
                    &[],
                )
                .await
                .unwrap();
            (row.get(0), row.get(1))
        };
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let before = scans().await;
        let snapshot = source.snapshot(1).await.unwrap();
        let whole = fetched(&snapshot, &read, &found).await;
        assert_eq!(whole.num_rows(), found.num_rows(), "{columns}");
        drop(snapshot);
        let started = Instant::now();
        while scans().await.1 == before.1 {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "{columns}: no index was used"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(
            scans().await.0,
            before.0,
            "{columns}: the table was searched"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_filters_and_children_are_minded() {
    let (_client, url) = SERVER
        .database(
            "CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id); \
             CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100); CREATE TABLE p2 PARTITION OF p DEFAULT; \
             INSERT INTO p SELECT n, n FROM generate_series(1, 300) n; \
             CREATE TABLE base (id int PRIMARY KEY, at timestamptz); CREATE INDEX ON base (at); \
             CREATE TABLE child (id int PRIMARY KEY) INHERITS (base); \
             INSERT INTO base VALUES (1, now()); INSERT INTO child VALUES (1, now()), (2, now())",
        )
        .await;
    let source = source(&url);
    let snapshot = source.snapshot(1).await.unwrap();
    let asked = |values: Vec<i32>| {
        RecordBatch::try_from_iter([("id", Arc::new(Int32Array::from(values)) as _)]).unwrap()
    };
    let read = all(&source, "p").await;
    assert_eq!(
        ids(&fetched(&snapshot, &read, &asked(vec![5, 150, 999])).await),
        [5, 150]
    );
    assert_eq!(
        fetched(&snapshot, &read, &asked(vec![])).await.num_rows(),
        0
    );
    let filtered = TableRead {
        filter: Some("v > 100 -- why".into()),
        ..read.clone()
    };
    assert_eq!(
        ids(&fetched(&snapshot, &filtered, &asked(vec![5, 150])).await),
        [150]
    );
    assert_eq!(snapshot.count(&filtered).await.unwrap(), 200);
    // A query that is refused leaves reader and snapshot usable.
    let mut reader = snapshot.reader().await.unwrap();
    let mut out = collect::Collect::new(1 << 20, 64 << 20);
    let wrong = TableRead {
        filter: Some("no_such_column = 1".into()),
        ..read.clone()
    };
    let error = reader
        .fetch(&wrong, &asked(vec![5]), &mut out)
        .await
        .unwrap_err();
    assert!(error.message.contains("no_such_column"), "{error}");
    assert!(snapshot.count(&wrong).await.is_err());
    reader
        .fetch(&read, &asked(vec![5]), &mut out)
        .await
        .unwrap();
    let two = RecordBatch::try_from_iter(
        ["a", "b"].map(|name| (name, Arc::new(Int32Array::from(vec![1])) as _)),
    )
    .unwrap();
    let error = reader.fetch(&read, &two, &mut out).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Usage);
    assert_eq!(rows(&snapshot, &read).await.num_rows(), 300);
    // Tables that inherit are tables of their own, in every way of reading.
    let base = all(&source, "base").await;
    assert_eq!(
        fetched(&snapshot, &base, &asked(vec![1, 2]))
            .await
            .num_rows(),
        1
    );
    assert_eq!(snapshot.count(&base).await.unwrap(), 1);
    assert_eq!(
        rows(&snapshot, &kept::from(&base, "at", "-infinity"))
            .await
            .num_rows(),
        1
    );
}
