//! What people see of reports, as text that people can judge.

#![allow(clippy::unwrap_used)]

use chrono::TimeDelta;

use super::*;
use crate::watermark::{Bound, Cursor, Identity, Watermark};

fn committed(name: &str, rows: u64) -> TableReport {
    TableReport {
        name: name.to_owned(),
        mode: Some(Mode::Full),
        outcome: TableOutcome::Committed,
        version: Some(3),
        rows,
        source_bytes: rows * 256,
        files: 1,
        lake_bytes: rows * 73,
        splits: 4,
        ..TableReport::default()
    }
}

fn report(tables: Vec<TableReport>) -> RunReport {
    let started = DateTime::UNIX_EPOCH;
    let mut report = RunReport::new(Uuid::nil(), "table-backup", "file:lake", started, 256 << 20);
    report.tables = tables;
    report.conclude(started, started + TimeDelta::milliseconds(1_240));
    report.peak_rss_bytes = Some(61 << 20);
    report
}

#[test]
fn a_good_run() {
    let text = report(vec![
        committed("orders", 12_000),
        committed("customers", 345),
    ])
    .render(100, false);
    assert_eq!(
        text,
        "\
table      mode  outcome      rows      read    written  files  version
customers  full  committed     345  86.2 KiB   24.6 KiB      1        3
orders     full  committed  12,000   2.9 MiB  855.5 KiB      1        3

2 tables, 12,345 rows, 3 MiB read -> 880.1 KiB written in 1.2 s (memory 61 MiB of 256 MiB)
"
    );
}

#[test]
fn a_run_with_everything() {
    let refused =
        Failure::failed("permission denied for table reviews").hint("grant select on reviews");
    let mut orders = committed("shop.orders", 5_000_000);
    orders.continued = true;
    orders.splits_resumed = 3;
    orders.catching_up = true;
    orders.quarantined = 2;
    let mut events = committed("shop.events", 7);
    events.mode = Some(Mode::Append);
    events.at_risk = true;
    let unchanged = TableReport {
        outcome: TableOutcome::Unchanged,
        rows: 0,
        ..committed("shop.items", 0)
    };
    let mut report = report(vec![
        orders,
        events,
        unchanged,
        TableReport::failed("shop.reviews", refused),
    ]);
    report
        .warnings
        .push("the lake has no conditional put: only one writer is allowed".to_owned());
    report.spend("read", 3.2);
    report.spend("encode", 4.1);
    let text = report.render(100, true);
    assert_eq!(
        text,
        "\
table         mode    outcome         rows     read    written  files  version
shop.events   append  committed          7  1.8 KiB      511 B      1        3
shop.items    full    unchanged          -        -          -      -        3
shop.orders   full    committed  5,000,000  1.2 GiB  348.1 MiB      1        3
shop.reviews  -       FAILED             -        -          -      -        -

shop.events: at risk: rows that commit late with a lower cursor value are lost, as are deletes
shop.orders: continued an earlier load: 3 of 4 splits were already there
shop.orders: catching up: rows that changed during the load may be missing until the next run
shop.orders: 2 rows cannot be represented in the lake; see file:lake/_highwater/quarantine/
warning: the lake has no conditional put: only one writer is allowed
time by stage (all threads): encode 4.1 s, read 3.2 s; waited for memory 0 times, repeated 0
  requests
4 tables (1 not committed), 5,000,007 rows, 1.2 GiB read -> 348.1 MiB written in 1.2 s (memory 61
  MiB of 256 MiB)
"
    );
    assert_eq!(report.exit, Exit::Failed);
    assert_eq!(
        report.failure().unwrap().render(),
        "error: table shop.reviews: permission denied for table reviews\n  do: grant select on reviews\n"
    );
}

#[test]
fn several_failures_are_one_block() {
    let tables = vec![
        committed("a", 1),
        TableReport::failed(
            "b",
            Failure::retry("cannot reach the server").because("timed out"),
        ),
        TableReport::failed("c", Failure::retry("cannot reach the server")),
    ];
    let report = report(tables);
    assert_eq!(report.exit, Exit::Retry);
    assert_eq!(report.outcome, RunOutcome::Retry);
    assert_eq!(
        report.failure().unwrap().render(),
        "error: 2 of 3 tables were not committed\n  because: b: cannot reach the server: timed out\n  \
         because: c: cannot reach the server\n  do: run again in a while: what is done is not repeated\n"
    );
}

#[test]
fn quarantined_rows_are_an_exit_but_no_failure() {
    let mut table = committed("a", 1);
    table.quarantined = 3;
    let report = report(vec![table, committed("b", 1)]);
    assert_eq!(
        (report.exit, report.outcome),
        (Exit::Quarantined, RunOutcome::Quarantined)
    );
    assert!(report.failure().is_none());
}

#[test]
fn json_survives() {
    let failed = TableReport::failed("b", Failure::new(Exit::Overtaken, "overtaken"));
    let report = report(vec![committed("a", 1), failed]);
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<RunReport>(&json).unwrap(), report);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["exit"], 11);
    assert_eq!(value["started"], "1970-01-01T00:00:00.000Z");
    assert_eq!(value["tables"][1]["outcome"], "overtaken");
}

#[test]
fn a_plan() {
    let column = |name: &str, source: &str, lake: &str, note: &str| ColumnPlan {
        name: name.into(),
        source_type: source.into(),
        lake_type: lake.into(),
        note: note.into(),
    };
    let orders = TablePlan {
        name: "public.orders".into(),
        mode: Some(Mode::Full),
        action: "first load".into(),
        splits: 18,
        estimated_rows: Some(5_000_000),
        estimated_bytes: 1_155_049_280,
        key: vec!["id".into()],
        columns: vec![
            column("id", "bigint", "long", ""),
            column("amount", "numeric(12,2)", "decimal(12,2)", "set aside: NaN"),
            column(
                "took",
                "interval",
                "string",
                "as text: months and days have no fixed length, so no lake type is exact",
            ),
        ],
        partition_by: vec!["month(created_at)".into()],
        ..TablePlan::default()
    };
    let log = TablePlan {
        name: "public.log".into(),
        mode: Some(Mode::Full),
        splits: 1,
        columns: vec![column("line", "text", "string", "")],
        warnings: vec!["no key: a killed load starts over".into()],
        ..TablePlan::default()
    };
    let secret = TablePlan {
        name: "public.wages".into(),
        mode: Some(Mode::Full),
        error: Some(Failure::failed("permission denied").into()),
        ..TablePlan::default()
    };
    let plan = PlanReport {
        pipeline: "table-backup".into(),
        source: "postgres://ann:***@db/shop".into(),
        lake: "s3://bucket/lake".into(),
        tables: vec![log, orders, secret],
        objects: None,
        documents: Vec::new(),
        memory: MemoryPlan {
            limit_bytes: 256 << 20,
            origin: "from --memory".into(),
            fixed_bytes: 52 << 20,
            budget_bytes: 204 << 20,
            workers: 2,
        },
        warnings: vec![],
    };
    let text = plan.render(100);
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
    assert_eq!(
        text,
        "\
postgres://ann:***@db/shop -> s3://bucket/lake

public.log: full; rows unknown; 0 B in 1 split; no key
  column  source type  lake type
  line    text         string
  ! no key: a killed load starts over

public.orders: full; first load; about 5,000,000 rows; 1.1 GiB in 18 splits; key id; partitioned by
  month(created_at)
  column  source type    lake type      note
  id      bigint         long
  amount  numeric(12,2)  decimal(12,2)  set aside: NaN
  took    interval       string         as text: months and days have no fixed length, so no lake t…

public.wages: full
  ! cannot be read: permission denied

memory 256 MiB (from --memory): 52 MiB fixed, 204 MiB for data; 2 workers
3 tables, about 5,000,000 rows, 1.1 GiB to read in 19 splits; 1 table cannot be read
"
    );
}

#[test]
fn lake_types_in_the_words_of_delta() {
    use arrow::datatypes::{DataType, Field, TimeUnit};
    let list = DataType::List(Field::new("item", DataType::Utf8, true).into());
    for (arrow, delta) in [
        (DataType::Int64, "long"),
        (DataType::Decimal128(12, 2), "decimal(12,2)"),
        (
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            "timestamp",
        ),
        (
            DataType::Timestamp(TimeUnit::Microsecond, None),
            "timestamp_ntz",
        ),
        (list, "array<string>"),
    ] {
        assert_eq!(lake_type_name(&arrow), delta);
    }
}

#[test]
fn a_status() {
    let watermark = |cursor| {
        let source = Identity {
            kind: "postgres".into(),
            id: "7/shop".into(),
            history: "1".into(),
        };
        let bound = Bound {
            position: "740:740:".into(),
            at: "2026-11-21T07:33:09.123Z".into(),
        };
        Watermark {
            cursor,
            ..Watermark::new(source, Mode::Full, bound)
        }
    };
    let cursor = Cursor {
        column: "updated_at".into(),
        value: Some("2026-11-20 23:59:59.123456+00".into()),
    };
    let orders = TableStatus {
        name: "public.orders".into(),
        mode: Some(Mode::Full),
        watermark: Some(watermark(None)),
        version: Some(12),
        rows: 5_000_000,
        files: 18,
        bytes: 220 << 20,
        last_run: Some("2026-11-21T07:33:12.000Z".into()),
        sees_deletes: true,
        catching_up: true,
        ..TableStatus::default()
    };
    let events = TableStatus {
        name: "public.events".into(),
        mode: Some(Mode::Append),
        watermark: Some(watermark(Some(cursor))),
        at_risk: true,
        sees_deletes: false,
        ..TableStatus {
            version: Some(4),
            rows: 12,
            files: 2,
            bytes: 4096,
            ..orders.clone()
        }
    };
    let events = TableStatus {
        catching_up: false,
        ..events
    };
    let items = TableStatus {
        name: "public.items".into(),
        mode: Some(Mode::Full),
        loading: Some((30, 40)),
        ..TableStatus::default()
    };
    let status = StatusReport {
        lake: "file:lake".into(),
        tables: vec![events, items, orders],
        objects: None,
        schedule: None,
        warnings: vec![],
    };
    let text = status.render(100);
    println!("{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
    assert!(
        text.contains("public.items: a load is not complete (30 of 40 splits)"),
        "{text}"
    );
    assert!(
        text.contains("deletes are not seen by each run in: public.events"),
        "{text}"
    );
    assert!(
        text.ends_with("3 tables, 5,000,012 rows, 220 MiB in 20 files at file:lake\n"),
        "{text}"
    );
    let json = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<StatusReport>(&json).unwrap(), status);
}
