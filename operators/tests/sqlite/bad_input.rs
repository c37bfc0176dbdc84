//! What is not a readable database gets one clear message of the right kind.

use highwater::source::{Selection, SourceError, SourceErrorKind, TableRead};
use highwater_operators::ingest::sqlite::open;

use crate::kit::{File, Out, options};

async fn first_use(url: &str) -> SourceError {
    let source = open(url).unwrap();
    let discovered = source.discover(&Selection::default()).await.unwrap_err();
    let snapshot = source.snapshot(2).await.map(|_| ()).unwrap_err();
    assert_eq!(discovered.kind, snapshot.kind);
    assert_eq!(discovered.message, snapshot.message);
    discovered
}

#[test]
fn a_missing_file_and_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let error = open(&format!("sqlite://{}/none.db", folder.path().display()))
        .err()
        .unwrap();
    assert_eq!(error.kind, SourceErrorKind::Usage);
    assert!(error.message.contains("none.db: no such file"), "{error}");
    assert!(!folder.path().join("none.db").exists());
    let error = open(&format!("sqlite://{}", folder.path().display()))
        .err()
        .unwrap();
    assert_eq!(error.kind, SourceErrorKind::Usage);
    assert!(error.message.contains("not a file"), "{error}");
}

#[tokio::test]
async fn not_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter.txt");
    std::fs::write(
        &path,
        "Dear reader, this is not a database at all.".repeat(100),
    )
    .unwrap();
    let error = first_use(&format!("sqlite://{}", path.display())).await;
    assert_eq!(error.kind, SourceErrorKind::Usage);
    assert!(
        error.message.contains("letter.txt: not a SQLite database"),
        "{error}"
    );
}

#[tokio::test]
async fn an_empty_file_is_a_database_without_tables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.db");
    std::fs::write(&path, "").unwrap();
    let source = open(&format!("sqlite://{}", path.display())).unwrap();
    assert!(
        source
            .discover(&Selection::default())
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_locked_database() {
    let file = File::new("CREATE TABLE t (a INT)");
    let writer = file.writer();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let error = first_use(&file.url()).await;
    assert_eq!(error.kind, SourceErrorKind::Unavailable);
    assert!(
        error.message.contains("locked by another process"),
        "{error}"
    );
    writer.execute_batch("ROLLBACK").unwrap();
    assert_eq!(
        file.source()
            .discover(&Selection::default())
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_damaged_file() {
    let file = File::new(
        "CREATE TABLE t (a TEXT);
         WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 5000)
         INSERT INTO t SELECT 'row ' || i FROM c;",
    );
    let table = file.table("t", options()).await.unwrap();
    let mut bytes = std::fs::read(&file.path).unwrap();
    let length = bytes.len();
    bytes[8192..length - 4096].fill(0x5a);
    std::fs::write(&file.path, bytes).unwrap();
    let read = TableRead {
        table,
        filter: None,
        cursor: None,
        since: None,
        projection: Default::default(),
    };
    let snapshot = file.source().snapshot(1).await.unwrap();
    let split = highwater::source::Split {
        ordinal: 0,
        start: None,
        end: None,
        estimated_bytes: 0,
    };
    let mut reader = snapshot.reader().await.unwrap();
    let error = reader
        .read(&read, &split, &mut Out::new(1000))
        .await
        .unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Failed);
    assert!(error.message.contains("damaged"), "{error}");
}

#[tokio::test]
async fn a_column_that_goes_after_planning_is_not_read_as_its_own_name() {
    let file = File::new("CREATE TABLE t (a INT, b TEXT); INSERT INTO t VALUES (1, 'x');");
    let read = TableRead {
        table: file.table("t", options()).await.unwrap(),
        filter: None,
        cursor: None,
        since: None,
        projection: Default::default(),
    };
    file.writer()
        .execute_batch("ALTER TABLE t DROP COLUMN b")
        .unwrap();
    let snapshot = file.source().snapshot(1).await.unwrap();
    let split = highwater::source::Split {
        ordinal: 0,
        start: None,
        end: None,
        estimated_bytes: 0,
    };
    let mut reader = snapshot.reader().await.unwrap();
    let error = reader
        .read(&read, &split, &mut Out::new(1000))
        .await
        .unwrap_err();
    assert!(error.message.contains("no column `b`"), "{error}");
    file.writer().execute_batch("DROP TABLE t").unwrap_err(); // held off by the snapshot
}

#[tokio::test]
async fn identity_survives_restart_and_change_but_not_another_file() {
    let file = File::new("PRAGMA application_id = 7; CREATE TABLE t (a INT);");
    let identity = file.source().identity().await.unwrap();
    assert_eq!(identity.kind, "sqlite");
    assert!(
        identity.id.ends_with("test.sqlite?application_id=7"),
        "{}",
        identity.id
    );
    file.writer()
        .execute_batch("CREATE TABLE u (a INT); VACUUM; PRAGMA user_version = 3;")
        .unwrap();
    assert_eq!(file.source().identity().await.unwrap(), identity);
    let other = File::new("PRAGMA application_id = 7; CREATE TABLE t (a INT);");
    assert_ne!(other.source().identity().await.unwrap(), identity);
}

/// Run as root, which may do everything, these two say nothing.
#[cfg(unix)]
#[tokio::test]
async fn no_permission() {
    use std::os::unix::fs::PermissionsExt;
    let file = File::new("CREATE TABLE t (a INT)");
    std::fs::set_permissions(&file.path, PermissionsExt::from_mode(0o000)).unwrap();
    if std::fs::read(&file.path).is_ok() {
        return;
    }
    let error = first_use(&file.url()).await;
    assert_eq!(error.kind, SourceErrorKind::Refused);
    assert!(
        error.message.contains("this user may read the file"),
        "{error}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn a_wal_database_that_may_only_be_read_has_one_reader() {
    use std::os::unix::fs::PermissionsExt;
    let file = File::new("CREATE TABLE t (a INT); PRAGMA journal_mode = WAL;");
    let writer = file.writer();
    writer.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    std::fs::set_permissions(&file.path, PermissionsExt::from_mode(0o444)).unwrap();
    if std::fs::OpenOptions::new()
        .write(true)
        .open(&file.path)
        .is_ok()
    {
        return;
    }
    let snapshot = file.source().snapshot(3).await.unwrap();
    assert_eq!(snapshot.max_readers(), 1);
    assert_eq!(file.read("t", options()).await.column(), ["1"]);
}

#[tokio::test]
async fn a_writer_that_died_in_the_middle() {
    let file = File::new(
        "CREATE TABLE t (a TEXT);
         WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 20000)
         INSERT INTO t SELECT 'row ' || i FROM c;",
    );
    let writer = file.writer();
    // With a small cache pages reach the file before the commit.
    writer
        .execute_batch("PRAGMA cache_size = 2; BEGIN; UPDATE t SET a = a || '!'")
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.sqlite");
    std::fs::copy(&file.path, &copy).unwrap();
    let journal = file.path.with_file_name("test.sqlite-journal");
    std::fs::copy(journal, folder.path().join("copy.sqlite-journal")).unwrap();
    let error = first_use(&format!("sqlite://{}", copy.display())).await;
    assert_eq!(error.kind, SourceErrorKind::Unavailable);
    assert!(error.message.contains("a writer died"), "{error}");
    // What the message advises helps.
    rusqlite::Connection::open(&copy)
        .unwrap()
        .query_row("PRAGMA integrity_check", [], |_| Ok(()))
        .unwrap();
    let source = open(&format!("sqlite://{}", copy.display())).unwrap();
    assert_eq!(
        source.discover(&Selection::default()).await.unwrap().len(),
        1
    );
}
