//! The load log: continued, fenced, started over, and read with suspicion.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use serde_json::json;
use uuid::Uuid;

use super::super::{Attempt, Begin, DataFile, Epoch, LoadError, LoadLog, Writer};
use super::kit::{QUICK, folder, watermark};
use crate::dataset::{Table, TableName};
use crate::source::{Split, TableRead};
use crate::store::Store;
use crate::store::faults::{Fault, FaultyStore};

pub(super) fn writer() -> Writer {
    Writer {
        run: Uuid::now_v7(),
        host: "here".to_owned(),
        pid: 7,
    }
}

pub(super) fn begin(writer: &Writer) -> Begin {
    let split = |ordinal| Split {
        ordinal,
        start: None,
        end: None,
        estimated_bytes: 1,
    };
    Begin {
        writer: writer.clone(),
        identity: watermark(1).source,
        bound: watermark(1).bound,
        read: TableRead {
            table: Table {
                name: TableName {
                    schema: None,
                    name: "orders".to_owned(),
                },
                columns: Vec::new(),
                key: Vec::new(),
                estimated_rows: None,
                estimated_bytes: 0,
            },
            filter: None,
            cursor: None,
            since: None,
            projection: Default::default(),
        },
        partition_columns: Vec::new(),
        splits: (0..4).map(split).collect(),
        cursor_max: None,
        layout: "1".to_owned(),
    }
}

fn epoch(writer: &Writer, splits: &[u32]) -> Epoch {
    let file = DataFile {
        path: format!("part-{}.parquet", Uuid::now_v7()),
        rows: 1,
        bytes: 2,
        sha256: "00".to_owned(),
        partition: Default::default(),
        stats: json!({"numRecords": 1, "maxValues": {"price": 1.5}}),
    };
    Epoch {
        run: writer.run,
        splits: splits.to_vec(),
        files: vec![file],
        quarantined: 1,
    }
}

async fn open(store: &Store) -> LoadLog {
    LoadLog::open(store, 0).await.unwrap().with_patience(QUICK)
}

#[tokio::test]
async fn a_killed_load_continues_and_repeats_nothing() {
    let (_home, store) = folder();
    let (one, two) = (writer(), writer());
    let mut log = open(&store).await;
    assert!(log.state().is_none());
    log.begin(begin(&one)).await.unwrap();
    log.epoch(epoch(&one, &[2, 0])).await.unwrap();
    drop(log);

    let mut log = open(&store).await;
    let state = log.state().unwrap().clone();
    assert_eq!(
        state
            .remaining()
            .map(|split| split.ordinal)
            .collect::<Vec<_>>(),
        [1, 3]
    );
    assert_eq!(
        (state.files.len(), state.quarantined, state.attempts),
        (1, 1, 1)
    );
    assert!(!state.mixed_bounds);
    let bound = watermark(5).bound;
    log.resume(Attempt {
        writer: two.clone(),
        bound: bound.clone(),
    })
    .await
    .unwrap();
    log.epoch(epoch(&two, &[1, 3])).await.unwrap();

    let log = open(&store).await;
    let state = log.state().unwrap();
    assert_eq!(state.remaining().count(), 0);
    assert_eq!(
        (state.attempts, &state.writer, &state.bound),
        (2, &two, &bound)
    );
    assert!(state.mixed_bounds, "the load saw two states of the source");
    assert!(
        LoadLog::open(&store, 1).await.unwrap().state().is_none(),
        "another load"
    );
}

#[tokio::test]
async fn a_run_that_was_taken_over_is_fenced() {
    let (_home, store) = folder();
    let (one, two) = (writer(), writer());
    let mut frozen = open(&store).await;
    frozen.begin(begin(&one)).await.unwrap();
    let mut other = open(&store).await;
    other
        .resume(Attempt {
            writer: two.clone(),
            bound: watermark(1).bound,
        })
        .await
        .unwrap();
    let error = frozen.epoch(epoch(&one, &[0])).await.unwrap_err();
    assert!(
        matches!(&error, LoadError::Overtaken { by_run, pid: 7, .. } if *by_run == two.run),
        "{error}"
    );
    other.epoch(epoch(&two, &[0])).await.unwrap();
    // Two that begin at once: one begins.
    let (mut a, mut b) = (
        LoadLog::open(&store, 9).await.unwrap(),
        LoadLog::open(&store, 9).await.unwrap(),
    );
    let begun = tokio::join!(a.begin(begin(&one)), b.begin(begin(&two)));
    assert!(begun.0.is_ok() != begun.1.is_ok(), "{begun:?}");
}

#[tokio::test]
async fn starting_over_forgets_epochs_and_deletes_nothing() {
    let faulty = FaultyStore::new("_highwater", vec![], Some(Fault::LostAfter));
    let store = faulty.store();
    let one = writer();
    let mut log = open(&store).await;
    log.begin(begin(&one)).await.unwrap();
    log.epoch(epoch(&one, &[0, 1])).await.unwrap();
    log.start_over(one.clone(), "the table was rewritten")
        .await
        .unwrap();
    assert!(log.state().is_none());
    log.begin(begin(&one)).await.unwrap();
    log.epoch(epoch(&one, &[0])).await.unwrap();
    assert_eq!(open(&store).await.state().unwrap().done.len(), 1);
    assert_eq!(faulty.count("delete"), 0, "C4");
    assert_eq!(
        faulty.count("put"),
        5,
        "every lost answer was recognised (C1)"
    );
}

#[tokio::test]
async fn steps_out_of_order_are_refused_before_they_are_written() {
    let (_home, store) = folder();
    let one = writer();
    let mut log = open(&store).await;
    assert!(matches!(
        log.epoch(epoch(&one, &[0])).await,
        Err(LoadError::Order(_))
    ));
    log.begin(begin(&one)).await.unwrap();
    assert!(matches!(
        log.epoch(epoch(&one, &[9])).await,
        Err(LoadError::Order(_))
    ));
    log.epoch(epoch(&one, &[0])).await.unwrap();
    let twice = log.epoch(epoch(&one, &[0])).await.unwrap_err();
    assert!(
        twice.to_string().contains("split 0 is recorded twice"),
        "{twice}"
    );
    assert_eq!(open(&store).await.state().unwrap().epochs, 1);
}

#[tokio::test]
async fn unreadable_entries_are_named() {
    let (_home, store) = folder();
    let one = writer();
    open(&store).await.begin(begin(&one)).await.unwrap();
    let put = |number: u32, text: &'static str| {
        let path = Path::from(format!("_highwater/loads/{:020}/{number:05}.json", 0));
        let objects = store.objects();
        async move { objects.put(&path, text.into()).await.unwrap() }
    };
    put(2, r#"{"format":1}"#).await;
    let error = LoadLog::open(&store, 0).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("00001.json should come before it"),
        "{error}"
    );
    put(1, r#"{"format":99}"#).await;
    let error = LoadLog::open(&store, 0).await.unwrap_err();
    assert!(error.to_string().contains("form 99"), "{error}");
}
