//! All readers of a snapshot see one state, whatever writers do meanwhile (T1).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use highwater::source::{SplitPlan, TableRead};

use crate::kit::{File, Got, options, read_all, read_split_by_split};

const TABLES: &str = "
    CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER);
    WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 3000)
    INSERT INTO t SELECT i, 0 FROM c;";

async fn whole(file: &File) -> TableRead {
    TableRead {
        table: file.table("t", options()).await.unwrap(),
        filter: None,
        cursor: None,
        since: None,
        projection: Default::default(),
    }
}

/// A thread that sets `v` of all rows to the next number, commit after commit.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Writer {
    fn start(file: &File) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, connection) = (Arc::clone(&stop), file.writer());
        let thread = std::thread::spawn(move || {
            connection.busy_timeout(Duration::from_secs(10)).unwrap();
            let mut commits = 0;
            while !stopped.load(Ordering::Relaxed) {
                connection.execute("UPDATE t SET v = v + 1", []).unwrap();
                commits += 1;
                std::thread::sleep(Duration::from_micros(300));
            }
            commits
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    fn commits(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

/// Values of `v` that a reader saw.
fn values(got: &Got) -> std::collections::BTreeSet<String> {
    got.rows().into_iter().map(|row| row[1].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_readers_of_a_wal_database_under_a_writer() {
    let file = File::new(&format!("PRAGMA journal_mode = WAL; {TABLES}"));
    let read = whole(&file).await;
    let writer = Writer::start(&file);
    let mut states = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let snapshot = file.source().snapshot(3).await.unwrap();
        assert_eq!(snapshot.max_readers(), 3);
        let plan = snapshot.split(&read, 1000).await.unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let mut reader = snapshot.reader().await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
            let got = read_split_by_split(&mut *reader, &read, &plan).await;
            assert_eq!(got.rows().len(), 3000);
            seen.extend(values(&got));
            std::mem::forget(reader); // so that the next is another connection
        }
        assert_eq!(seen.len(), 1, "readers saw {seen:?}");
        states.extend(seen);
    }
    assert!(writer.commits() > 10);
    assert!(states.len() > 1, "the writer did write meanwhile");
}

/// The control: connections that begin without the lock do see different states.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_lock_readers_differ() {
    let file = File::new(&format!("PRAGMA journal_mode = WAL; {TABLES}"));
    let writer = Writer::start(&file);
    // As long as it takes: on a busy machine the writer may not get a turn for a while.
    let began = std::time::Instant::now();
    let mut tries =
        std::iter::repeat(()).take_while(|()| began.elapsed() < Duration::from_secs(30));
    let differs = tries.any(|()| {
        let state = || {
            let connection = file.writer();
            connection.execute_batch("BEGIN").unwrap();
            let v = connection.query_row("SELECT v FROM t LIMIT 1", [], |row| row.get::<_, i64>(0));
            (connection, v.unwrap())
        };
        let (one, two) = (state(), state());
        one.1 != two.1
    });
    writer.commits();
    assert!(differs);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_a_rollback_journal_hold_commits_off() {
    let file = File::new(TABLES);
    let read = whole(&file).await;
    let snapshot = file.source().snapshot(3).await.unwrap();
    assert_eq!(snapshot.max_readers(), 3);
    let writer = file.writer();
    writer.busy_timeout(Duration::from_millis(50)).unwrap();
    assert!(writer.execute("UPDATE t SET v = 1", []).is_err());
    let got = read_all(&*snapshot, &read, 1000, 4096).await;
    assert_eq!(values(&got), ["0".to_owned()].into());
    drop(snapshot);
    writer.execute("UPDATE t SET v = 1", []).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_writer_of_a_wal_database_leaves_one_reader() {
    let file = File::new(&format!("PRAGMA journal_mode = WAL; {TABLES}"));
    let read = whole(&file).await;
    let writer = file.writer();
    writer
        .execute_batch("BEGIN IMMEDIATE; UPDATE t SET v = 1;")
        .unwrap();
    let snapshot = file.source().snapshot(3).await.unwrap();
    assert_eq!(snapshot.max_readers(), 1);
    writer.execute_batch("COMMIT").unwrap();
    let got = read_all(&*snapshot, &read, 1000, 4096).await;
    assert_eq!(values(&got), ["0".to_owned()].into());
}

#[tokio::test]
async fn reading_leaves_a_wal_where_it_is() {
    let file = File::new("PRAGMA journal_mode = WAL; CREATE TABLE t (a INT);");
    let writer = file.writer();
    writer.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    let before = std::fs::metadata(&file.path).unwrap().modified().unwrap();
    let read = TableRead {
        filter: None,
        cursor: None,
        since: None,
        projection: Default::default(),
        table: file.table("t", options()).await.unwrap(),
    };
    let snapshot = file.source().snapshot(2).await.unwrap();
    let got = read_all(&*snapshot, &read, 1, 4096).await;
    drop(snapshot);
    assert_eq!(got.column(), ["1"]);
    assert_eq!(
        std::fs::metadata(&file.path).unwrap().modified().unwrap(),
        before
    );
}

#[tokio::test]
async fn positions_are_equal_only_for_equal_contents() {
    for mode in ["DELETE", "WAL"] {
        let file = File::new(&format!("PRAGMA journal_mode = {mode}; {TABLES}"));
        let open = file.writer();
        open.execute_batch("UPDATE t SET v = 5 WHERE id = 1")
            .unwrap();
        let position = async || {
            file.source()
                .snapshot(2)
                .await
                .unwrap()
                .bound()
                .position
                .clone()
        };
        let young = position().await;
        assert_ne!(young, position().await, "too young to be told apart");
        tokio::time::sleep(Duration::from_millis(2100)).await;
        let settled = position().await;
        assert_eq!(settled, position().await, "{mode}");
        open.execute_batch("UPDATE t SET v = 6 WHERE id = 1")
            .unwrap();
        assert_ne!(settled, position().await, "{mode}");
        tokio::time::sleep(Duration::from_millis(2100)).await;
        assert_ne!(settled, position().await, "{mode}");
    }
}

#[tokio::test]
async fn splits_are_cut_in_the_snapshot() {
    let file = File::new(&format!("PRAGMA journal_mode = WAL; {TABLES}"));
    let read = whole(&file).await;
    let snapshot = file.source().snapshot(2).await.unwrap();
    let before: SplitPlan = snapshot.split(&read, 5000).await.unwrap();
    file.writer()
        .execute("INSERT INTO t VALUES (1000000, 1)", [])
        .unwrap();
    assert_eq!(snapshot.split(&read, 5000).await.unwrap(), before);
}
