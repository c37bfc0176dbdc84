//! What was written since, by `xmin` (T2) and by a cursor (T3), against a real
//! server with transactions that are open, prepared, nested and rolled back.

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

use std::sync::LazyLock;
use std::time::Duration;

use arrow::array::AsArray;
use highwater::source::{CursorBound, SourceErrorKind, TAIL_COLUMN, TableRead, VERSION_COLUMN};
use kept::{all, from, ids, keys, rows, since, source};
use pg::Pg;

static SERVER: LazyLock<Pg> =
    LazyLock::new(|| Pg::start("max_prepared_transactions = 5", "", |_| {}));

const LATE: &str =
    "CREATE TABLE t (id int PRIMARY KEY, at timestamptz DEFAULT now()); CREATE INDEX ON t (at);";

/// Ids of the rows whose tail mark is set.
fn tail(batch: &arrow::array::RecordBatch) -> Vec<i32> {
    let marks = batch.column_by_name(TAIL_COLUMN).unwrap().as_boolean();
    let marked = arrow::compute::filter_record_batch(batch, marks).unwrap();
    ids(&marked)
}

#[tokio::test(flavor = "multi_thread")]
async fn xid_finds_what_was_open_nested_or_updated_and_nothing_rolled_back() {
    let (writer, url) = SERVER
        .database(
            "CREATE TABLE t (id int PRIMARY KEY, v text); \
             INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 300) n",
        )
        .await;
    let database = url.rsplit('/').next().unwrap();
    let open = [
        SERVER.client(database).await,
        SERVER.client(database).await,
        SERVER.client(database).await,
    ];
    for (client, sql) in open.iter().zip([
        "BEGIN; INSERT INTO t VALUES (1000)",
        "BEGIN; SAVEPOINT a; INSERT INTO t VALUES (1001); SAVEPOINT b; INSERT INTO t VALUES (1002)",
        "BEGIN; INSERT INTO t VALUES (1003)",
    ]) {
        client.batch_execute(sql).await.unwrap();
    }
    writer
        .batch_execute("INSERT INTO t VALUES (900)")
        .await
        .unwrap();
    let source = source(&url);
    let read = all(&source, "t").await;
    let first = source.snapshot(1).await.unwrap().bound().position.clone();
    for (client, sql) in open.iter().zip(["COMMIT", "RELEASE b; COMMIT", "ROLLBACK"]) {
        client.batch_execute(sql).await.unwrap();
    }
    writer
        .batch_execute(
            "UPDATE t SET v = 'new' WHERE id = 5; DELETE FROM t WHERE id = 6; \
             BEGIN; SAVEPOINT a; UPDATE t SET v = 'sub' WHERE id = 200; RELEASE a; \
             SAVEPOINT c; INSERT INTO t VALUES (1004); ROLLBACK TO c; INSERT INTO t VALUES (1005); COMMIT",
        )
        .await
        .unwrap();
    let snapshot = source.snapshot(2).await.unwrap();
    assert_eq!(
        snapshot.can_read_since(&read, &first).await.unwrap(),
        Ok(())
    );
    // Row 900 was seen, but by a transaction after the oldest open one: again.
    let wanted = [5, 200, 900, 1000, 1001, 1002, 1005];
    assert_eq!(ids(&rows(&snapshot, &since(&read, &first)).await), wanted);
    let keyed = rows(&snapshot, &keys(&since(&read, &first), None)).await;
    assert_eq!((ids(&keyed), tail(&keyed)), (wanted.to_vec(), vec![]));
    let filtered = TableRead {
        filter: Some("id < 1000".into()),
        ..since(&read, &first)
    };
    assert_eq!(ids(&rows(&snapshot, &filtered).await), [5, 200, 900]);
    assert_eq!(snapshot.count(&filtered).await.unwrap(), 300);
    assert_eq!(snapshot.count(&read).await.unwrap(), 304);
    // Control arm: "after the newest transaction that was seen" loses the open ones.
    let xmax = first.split(':').nth(1).unwrap();
    let naive = rows(&snapshot, &since(&read, &format!("{xmax}:{xmax}:"))).await;
    assert_eq!(ids(&naive), [5, 200, 1005]);
    // Nothing was written since this snapshot.
    let now = snapshot.bound().position.clone();
    assert_eq!(rows(&snapshot, &since(&read, &now)).await.num_rows(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_carry_the_version_and_the_tail() {
    let (writer, url) = SERVER
        .database("CREATE TABLE t (b int, a int, v date, PRIMARY KEY (a, b)); INSERT INTO t VALUES (1, 10, 'infinity'), (2, 10, now()), (1, 20, now())")
        .await;
    let open = SERVER.client(url.rsplit('/').next().unwrap()).await;
    open.batch_execute("BEGIN; INSERT INTO t VALUES (9, 9, NULL)")
        .await
        .unwrap();
    writer
        .batch_execute("INSERT INTO t VALUES (3, 30, now())")
        .await
        .unwrap();
    let source = source(&url);
    let read = all(&source, "t").await;
    let snapshot = source.snapshot(1).await.unwrap();
    let position = snapshot.bound().position.clone();
    // A date that the lake does not have is no reason to set a key aside.
    let batch = rows(&snapshot, &keys(&read, Some(&position))).await;
    let schema = batch.schema();
    let names: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    assert_eq!(names, ["a", "b", VERSION_COLUMN, TAIL_COLUMN]);
    assert_eq!(batch.num_rows(), 4);
    assert_eq!(tail(&batch), [30], "only what the next run reads again");
    let version = |batch: &arrow::array::RecordBatch, a: &str| {
        let row = (0..batch.num_rows())
            .find(|&row| {
                arrow::util::display::array_value_to_string(batch.column(0), row).unwrap() == a
            })
            .unwrap();
        batch.column(2).as_string::<i32>().value(row).to_owned()
    };
    let before = version(&batch, "20");
    writer
        .batch_execute("UPDATE t SET v = v WHERE a = 20")
        .await
        .unwrap();
    open.batch_execute("COMMIT").await.unwrap();
    let snapshot = source.snapshot(1).await.unwrap();
    let batch = rows(&snapshot, &keys(&read, None)).await;
    assert_ne!(version(&batch, "20"), before);
    let again = rows(&snapshot, &since(&read, &position)).await;
    let found = kept::sorted(&again.project(&[1]).unwrap());
    assert_eq!(found, ["20", "30", "9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_lake_does_not_have_is_set_aside() {
    let (_client, url) = SERVER
        .database("CREATE TABLE t (day date PRIMARY KEY); INSERT INTO t VALUES ('infinity'), ('2024-01-01')")
        .await;
    let source = source(&url);
    let read = keys(&all(&source, "t").await, None);
    let snapshot = source.snapshot(1).await.unwrap();
    let mut out = collect::Collect::new(1 << 20, 64 << 20);
    collect::read_with(&snapshot, &read, 1, 1 << 20, &mut out)
        .await
        .unwrap();
    assert_eq!(out.batches[0].num_rows(), 1);
    assert_eq!(out.bad[0].key["day"].as_deref(), Some("infinity"));
}

#[tokio::test(flavor = "multi_thread")]
async fn xid_through_partitions_until_one_comes_from_elsewhere() {
    let (writer, url) = SERVER
        .database(
            "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); \
             CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100); INSERT INTO p VALUES (1), (2); \
             CREATE TABLE p2 (id int PRIMARY KEY); INSERT INTO p2 VALUES (101)",
        )
        .await;
    let source = source(&url);
    let read = all(&source, "p").await;
    let first = source.snapshot(1).await.unwrap().bound().position.clone();
    // A new partition is new as a whole.
    writer
        .batch_execute("UPDATE p SET id = 3 WHERE id = 2; CREATE TABLE p3 PARTITION OF p FOR VALUES FROM (200) TO (300); INSERT INTO p VALUES (201); ANALYZE p")
        .await
        .unwrap();
    writer.batch_execute("VACUUM (FREEZE) p1").await.unwrap();
    let snapshot = source.snapshot(2).await.unwrap();
    assert_eq!(
        snapshot.can_read_since(&read, &first).await.unwrap(),
        Ok(())
    );
    assert_eq!(ids(&rows(&snapshot, &since(&read, &first)).await), [3, 201]);
    let second = snapshot.bound().position.clone();
    drop(snapshot);
    writer
        .batch_execute("ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200)")
        .await
        .unwrap();
    let snapshot = source.snapshot(1).await.unwrap();
    let reason = snapshot
        .can_read_since(&read, &second)
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        reason.contains("p2") && reason.contains("altered"),
        "{reason}"
    );
    // Control arm: without that look, row 101 is lost.
    assert_eq!(rows(&snapshot, &since(&read, &second)).await.num_rows(), 0);
    assert_eq!(snapshot.count(&read).await.unwrap(), 4);
    let third = snapshot.bound().position.clone();
    drop(snapshot);
    let snapshot = source.snapshot(1).await.unwrap();
    assert_eq!(
        snapshot.can_read_since(&read, &third).await.unwrap(),
        Ok(())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn xid_is_refused_where_it_would_lose_rows() {
    let (writer, url) = SERVER
        .database(
            "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE s (id int PRIMARY KEY); INSERT INTO s VALUES (7); \
             CREATE VIEW v AS SELECT * FROM t; CREATE MATERIALIZED VIEW m AS SELECT * FROM t",
        )
        .await;
    let source = source(&url);
    let read = all(&source, "t").await;
    let snapshot = source.snapshot(1).await.unwrap();
    let position = snapshot.bound().position.clone();
    let named = |name: &str| {
        let mut read = read.clone();
        read.table.name.name = name.to_owned();
        read
    };
    let xmax: u64 = position.split(':').nth(1).unwrap().parse().unwrap();
    let ahead = format!("{xmax}:{}:", xmax + 1);
    for (name, position, wanted) in [
        ("v", position.as_str(), "is a view"),
        ("m", position.as_str(), "materialized view"),
        ("gone", position.as_str(), "not there any more"),
        ("t", ahead.as_str(), "set back"),
    ] {
        let answer = snapshot
            .can_read_since(&named(name), position)
            .await
            .unwrap();
        assert!(
            answer.clone().unwrap_err().contains(wanted),
            "{name}: {answer:?}"
        );
    }
    let error = snapshot
        .can_read_since(&read, "schema_version=1")
        .await
        .unwrap_err();
    assert!(
        error.message.contains("not a PostgreSQL snapshot"),
        "{error}"
    );
    drop(snapshot);
    // Another table by the same name, whose rows are older than the watermark.
    writer
        .batch_execute("ALTER TABLE t RENAME TO old; ALTER TABLE s RENAME TO t")
        .await
        .unwrap();
    let snapshot = source.snapshot(1).await.unwrap();
    let answer = snapshot.can_read_since(&read, &position).await.unwrap();
    assert!(answer.unwrap_err().contains("altered"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_waits_for_the_transaction_that_is_open_and_names_it() {
    let (writer, url) = SERVER.database(LATE).await;
    let database = url.rsplit('/').next().unwrap();
    let late = SERVER.client(database).await;
    late.batch_execute("SET application_name = 'slow import'; BEGIN; INSERT INTO t VALUES (1)")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    writer
        .batch_execute("INSERT INTO t VALUES (2)")
        .await
        .unwrap();
    let source = source(&url);
    let read = all(&source, "t").await;
    let snapshot = source.snapshot(1).await.unwrap();
    let bound = snapshot
        .cursor_bound(&read, "at", Duration::from_millis(10))
        .await
        .unwrap();
    let CursorBound::Below { value, held_by } = bound else {
        panic!("{bound:?}")
    };
    let holder = held_by.unwrap();
    assert!(
        holder.contains("slow import") && holder.contains("user postgres") && holder.contains(" s"),
        "{holder}"
    );
    let naive = snapshot
        .split(&from(&read, "at", "-infinity"), 1 << 20)
        .await
        .unwrap()
        .cursor_max
        .unwrap();
    // The tail is what the next run reads again.
    let marked = rows(
        &snapshot,
        &keys(&from(&read, "at", "-infinity"), Some(&value)),
    )
    .await;
    assert_eq!((ids(&marked), tail(&marked)), (vec![2], vec![2]));
    drop(snapshot);
    late.batch_execute("COMMIT").await.unwrap();
    let snapshot = source.snapshot(1).await.unwrap();
    assert_eq!(
        ids(&rows(&snapshot, &from(&read, "at", &value)).await),
        [1, 2]
    );
    // Control arm: the greatest value seen, as everybody takes it, loses row 1.
    assert_eq!(ids(&rows(&snapshot, &from(&read, "at", &naive)).await), [2]);
    // Nobody is open now: nothing but the margin holds it back.
    let bound = snapshot
        .cursor_bound(&read, "at", Duration::from_secs(60))
        .await
        .unwrap();
    let CursorBound::Below {
        value,
        held_by: None,
    } = bound
    else {
        panic!("{bound:?}")
    };
    let age: f64 = writer
        .query_one(
            "SELECT extract(epoch FROM clock_timestamp() - $1::text::timestamptz)::float8",
            &[&value],
        )
        .await
        .unwrap()
        .get(0);
    assert!((60.0..70.0).contains(&age), "{age}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_is_below_what_a_coarse_column_rounds_to() {
    let (writer, url) = SERVER
        .database("CREATE TABLE t (id int PRIMARY KEY, at timestamptz(0) DEFAULT now()); CREATE INDEX ON t (at)")
        .await;
    let source = source(&url);
    let read = all(&source, "t").await;
    let snapshot = source.snapshot(1).await.unwrap();
    let bound = snapshot
        .cursor_bound(&read, "at", Duration::ZERO)
        .await
        .unwrap();
    let CursorBound::Below { value, .. } = bound else {
        panic!("{bound:?}")
    };
    let age: f64 = writer
        .query_one(
            "SELECT extract(epoch FROM clock_timestamp() - $1::text::timestamptz(0))::float8",
            &[&value],
        )
        .await
        .unwrap()
        .get(0);
    assert!(
        age > 1.5,
        "a second for its rounding, one that is always kept: {age}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_holds_the_cursor_where_it_is() {
    let (writer, url) = SERVER.database(LATE).await;
    writer
        .batch_execute("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'two phases'")
        .await
        .unwrap();
    let source = source(&url);
    let read = all(&source, "t").await;
    let snapshot = source.snapshot(1).await.unwrap();
    let bound = snapshot
        .cursor_bound(&read, "at", Duration::ZERO)
        .await
        .unwrap();
    let CursorBound::Held { by } = bound else {
        panic!("{bound:?}")
    };
    assert!(by.contains("two phases") && by.contains("postgres"), "{by}");
    // For `xmin` it is one more transaction that was not finished.
    let first = snapshot.bound().position.clone();
    writer
        .batch_execute("COMMIT PREPARED 'two phases'")
        .await
        .unwrap();
    let snapshot = source.snapshot(1).await.unwrap();
    assert_eq!(ids(&rows(&snapshot, &since(&read, &first)).await), [1]);
    // It was observed before the snapshot, so it is not asked for again.
    let bound = snapshot
        .cursor_bound(&read, "at", Duration::ZERO)
        .await
        .unwrap();
    assert!(
        matches!(bound, CursorBound::Below { held_by: None, .. }),
        "{bound:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_cannot_be_trusted_says_why() {
    let (writer, url) = SERVER
        .database(&format!(
            "{LATE} ALTER TABLE t ADD local timestamp, ADD n int, ADD bare timestamptz; CREATE INDEX ON t (local); \
             CREATE INDEX ON t (n, at); CREATE INDEX ON t (bare) WHERE bare IS NOT NULL; \
             DROP ROLE IF EXISTS blind; CREATE ROLE blind LOGIN; GRANT SELECT ON t TO blind"
        ))
        .await;
    let unknown = async |url: &str, column: &str| {
        let source = source(url);
        let read = all(&source, "t").await;
        let snapshot = source.snapshot(1).await.unwrap();
        match snapshot
            .cursor_bound(&read, column, Duration::ZERO)
            .await
            .unwrap()
        {
            CursorBound::Unknown { reason } => reason,
            other => panic!("{column}: {other:?}"),
        }
    };
    for (column, wanted) in [
        ("local", "make it timestamptz"),
        ("n", "integer"),
        ("bare", "no index"),
    ] {
        let reason = unknown(&url, column).await;
        assert!(reason.contains(wanted), "{reason}");
    }
    let blind = url.replace("postgres@", "blind@");
    let reason = unknown(&blind, "at").await;
    assert!(reason.contains("GRANT pg_read_all_stats"), "{reason}");
    writer
        .batch_execute("GRANT pg_read_all_stats TO blind")
        .await
        .unwrap();
    let source = source(&blind);
    let read = all(&source, "t").await;
    let snapshot = source.snapshot(1).await.unwrap();
    let bound = snapshot
        .cursor_bound(&read, "at", Duration::ZERO)
        .await
        .unwrap();
    assert!(matches!(bound, CursorBound::Below { .. }), "{bound:?}");
    let error = snapshot
        .cursor_bound(&read, "att", Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Usage);
    // A session that hides its transactions.
    writer
        .batch_execute("SET track_activities = off; BEGIN; INSERT INTO t VALUES (1)")
        .await
        .unwrap();
    let reason = unknown(&url, "at").await;
    assert!(reason.contains("track_activities"), "{reason}");
}
