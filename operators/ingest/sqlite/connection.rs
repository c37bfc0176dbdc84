//! Read-only connections, and SQLite's errors in the user's words.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use highwater::source::{SourceError, SourceErrorKind};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags};

/// How long a connection waits for a lock that another process holds.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// How long the snapshot waits for the write lock that joins its readers.
const WRITE_LOCK_WAIT: Duration = Duration::from_secs(3);

/// Header read-back errors that mean: a crashed writer left work to be undone.
const READONLY_ROLLBACK: i32 = rusqlite::ffi::SQLITE_READONLY_ROLLBACK;
const READONLY_RECOVERY: i32 = rusqlite::ffi::SQLITE_READONLY_RECOVERY;

/// One connection, usable from any thread, one at a time.
pub(super) struct Line {
    path: PathBuf,
    connection: Mutex<Connection>,
    interrupt: InterruptHandle,
}

impl Line {
    /// Opens `path` read-only.
    pub(super) fn open(path: &Path) -> Result<Self, SourceError> {
        let connection = connect(path).map_err(|error| said(path, error))?;
        let interrupt = connection.get_interrupt_handle();
        Ok(Self {
            path: path.to_owned(),
            connection: Mutex::new(connection),
            interrupt,
        })
    }

    /// The connection; waits while another thread uses it.
    pub(super) fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the statement that runs on this connection now, if any.
    pub(super) fn interrupt(&self) {
        self.interrupt.interrupt();
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on the connection and says its errors in the user's words.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Problem>,
    ) -> Result<T, SourceError> {
        work(&self.lock()).map_err(|problem| problem.at(&self.path))
    }
}

/// What can go wrong while a connection is used: SQLite's error, or ours.
#[derive(Debug)]
pub(super) enum Problem {
    /// SQLite's.
    Sqlite(rusqlite::Error),
    /// Ours, ready to be shown.
    Said(SourceError),
}

impl Problem {
    /// The error to show, for the database at `path`.
    pub(super) fn at(self, path: &Path) -> SourceError {
        match self {
            Self::Sqlite(error) => said(path, error),
            Self::Said(error) => error,
        }
    }
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<SourceError> for Problem {
    fn from(error: SourceError) -> Self {
        Self::Said(error)
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(LOCK_WAIT)?;
    // Otherwise a column that has vanished would be read as a string literal:
    // `"gone"` is 'gone' under SQLite's oldest misfeature.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    Ok(connection)
}

/// Begins a read transaction and reads, so that the state is fixed from here on.
pub(super) fn begin(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN")?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
}

/// The write lock of a WAL database: while it lives nobody can commit. Nothing
/// is written through it.
pub(super) struct CommitsHeld {
    // Closing the connection rolls the empty transaction back.
    _writer: Connection,
}

impl CommitsHeld {
    /// Takes the lock; `None` where that is not possible.
    pub(super) fn take(path: &Path) -> Option<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let taken = Connection::open_with_flags(path, flags).and_then(|writer| {
            writer.busy_timeout(WRITE_LOCK_WAIT)?;
            // Closing must not move the WAL into the file: we only read.
            writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            writer.execute_batch("BEGIN IMMEDIATE")?;
            Ok(Self { _writer: writer })
        });
        taken
            .inspect_err(|error| {
                tracing::info!(
                    database = %path.display(), %error,
                    "cannot hold commits off for a moment: reading with one connection"
                );
            })
            .ok()
    }
}

/// SQLite's `error` at the database `path`, in the user's words.
pub(super) fn said(path: &Path, error: rusqlite::Error) -> SourceError {
    use SourceErrorKind::{Failed, Refused, Stopped, Unavailable, Usage};
    let (kind, what) = match (error.sqlite_error_code(), extended(&error)) {
        (_, READONLY_ROLLBACK | READONLY_RECOVERY) => (
            Unavailable,
            "a writer died in the middle of a transaction, which must be undone before the file \
             can be read. Open it once with a program that may write to it (`sqlite3 FILE \
             'PRAGMA integrity_check'`)"
                .to_owned(),
        ),
        (Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked), _) => (
            Unavailable,
            format!(
                "locked by another process for more than {} s. Try again when its write has ended",
                LOCK_WAIT.as_secs()
            ),
        ),
        (Some(ErrorCode::NotADatabase), _) => (
            Usage,
            "not a SQLite database (or an encrypted one). Check the path in the URL".to_owned(),
        ),
        (Some(ErrorCode::CannotOpen), _) => (
            Refused,
            "cannot be opened. Check that this user may read the file, and, if it is in WAL \
             mode, write to its folder (SQLite needs the -shm file there)"
                .to_owned(),
        ),
        (
            Some(
                ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::AuthorizationForStatementDenied,
            ),
            _,
        ) => (
            Refused,
            format!("refused: {error}. Check the file's permissions"),
        ),
        (Some(ErrorCode::DatabaseCorrupt), _) => (
            Failed,
            "the file is damaged. `PRAGMA integrity_check` says where; `.recover` of the sqlite3 \
             shell saves what can be saved"
                .to_owned(),
        ),
        (Some(ErrorCode::OperationInterrupted), _) => (Stopped, "reading was stopped".to_owned()),
        _ => (Failed, error.to_string()),
    };
    SourceError::new(kind, format!("{}: {what}", path.display())).caused_by(error)
}

fn extended(error: &rusqlite::Error) -> i32 {
    error.sqlite_error().map_or(0, |error| error.extended_code)
}

/// Runs blocking `work` off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|died| Err(thread_died(died)))
}

/// A reading thread ended without an answer: a defect of this program.
pub(super) fn thread_died(
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> SourceError {
    SourceError::new(
        SourceErrorKind::Failed,
        "a SQLite reading thread died, which is a defect of this program: please report it",
    )
    .caused_by(cause)
}
