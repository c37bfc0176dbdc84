//! One state of the file, seen by several connections at once (T1).

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use highwater::source::{
    CursorBound, Discovered, Reader, Readers, Selection, Snapshot, SourceError, SourceErrorKind,
    SplitPlan, TableRead,
};
use highwater::watermark::Bound;
use rusqlite::Connection;

use super::connection::{CommitsHeld, Line, Problem, begin, blocking};
use super::discover;
use super::physical::Physical;
use super::position::{self, Stamp};
use super::query::{NO_WRITERS, Query};
use super::reader::SqliteReader;
use super::split;

/// How often a snapshot that cannot hold commits off looks for a quiet moment,
/// in which its position can be known.
const QUIET_TRIES: u32 = 5;

/// The connections of a snapshot that nobody reads with now.
pub(super) type Idle = Arc<Mutex<Vec<Arc<Line>>>>;

/// A read transaction on each of some connections, all of one state.
pub(super) struct SqliteSnapshot {
    bound: Bound,
    /// Cuts tables. With only one connection it is the reader's too, and then
    /// cutting waits while a split is read.
    control: Arc<Line>,
    idle: Idle,
    readers: usize,
}

impl SqliteSnapshot {
    /// A snapshot of the database at `path` for up to `readers` readers.
    pub(super) fn take(path: &Path, readers: usize) -> Result<Self, SourceError> {
        let readers = readers.max(1);
        let control = Arc::new(Line::open(path)?);
        let in_wal = control.with(|connection| {
            begin(connection)?;
            let wal = is_wal(connection)?;
            if wal {
                connection.execute_batch("ROLLBACK")?;
            }
            Ok(wal)
        })?;
        let (lines, stamp) = if in_wal {
            begin_in_wal(path, &control, readers)?
        } else {
            // The SHARED lock that `begin` took keeps every commit off.
            (join(path, readers), Some(Stamp::of(path)))
        };
        let bound = control.with(|connection| {
            Ok(position::bound(
                connection,
                stamp.as_ref(),
                SystemTime::now(),
            )?)
        })?;
        let lines = if lines.is_empty() {
            vec![Arc::clone(&control)]
        } else {
            lines
        };
        Ok(Self {
            bound,
            control,
            readers: lines.len(),
            idle: Arc::new(Mutex::new(lines)),
        })
    }

    /// The tables as they are in this view of the file at `path`.
    pub(super) fn discover(
        &self,
        path: &Path,
        selection: &Selection,
    ) -> Result<Vec<Discovered>, SourceError> {
        self.control
            .with(|connection| discover::discover(connection, path, selection))
    }
}

fn is_wal(connection: &Connection) -> rusqlite::Result<bool> {
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    Ok(mode.eq_ignore_ascii_case("wal"))
}

/// Begins on `control`, and on more connections where commits can be held off
/// meanwhile.
fn begin_in_wal(
    path: &Path,
    control: &Line,
    readers: usize,
) -> Result<(Vec<Arc<Line>>, Option<Stamp>), SourceError> {
    let start = |connection: &Connection| begin(connection).map_err(Problem::from);
    if let Some(held) = CommitsHeld::take(path) {
        control.with(start)?;
        let lines = join(path, readers);
        let stamp = Stamp::of(path);
        drop(held);
        return Ok((lines, Some(stamp)));
    }
    for attempt in 0..QUIET_TRIES {
        if attempt > 0 {
            control.with(|connection| Ok(connection.execute_batch("ROLLBACK")?))?;
        }
        let before = Stamp::of(path);
        control.with(start)?;
        if Stamp::of(path) == before {
            return Ok((Vec::new(), Some(before)));
        }
    }
    Ok((Vec::new(), None))
}

/// More connections that see the state which is held now: as many of `readers`
/// as get a lock at all (a waiting writer lets no new reader in).
fn join(path: &Path, readers: usize) -> Vec<Arc<Line>> {
    let joined = (0..readers).map_while(|_| {
        let line = Line::open(path).and_then(|line| {
            line.with(|connection| Ok(begin(connection)?))?;
            Ok(line)
        });
        line.inspect_err(|error| tracing::info!(%error, "one reader less"))
            .ok()
    });
    joined.map(Arc::new).collect()
}

fn count(connection: &Connection, read: &TableRead) -> Result<u64, Problem> {
    let query = Query::count(&Physical::of(connection, &read.table.name)?, read)?;
    let mut statement = query.prepare(connection, read)?;
    let mut rows = query.run(&mut statement)?;
    let count: i64 = match rows.next()? {
        Some(row) => row.get(0)?,
        None => 0,
    };
    Ok(u64::try_from(count).unwrap_or(0))
}

#[async_trait]
impl Readers for SqliteSnapshot {
    fn max_readers(&self) -> usize {
        self.readers
    }

    async fn reader(&self) -> Result<Box<dyn Reader>, SourceError> {
        let free = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let line = free.ok_or_else(|| {
            SourceError::new(
                SourceErrorKind::Failed,
                format!(
                    "{}: all {} readers of this snapshot are in use",
                    self.control.path().display(),
                    self.readers
                ),
            )
        })?;
        Ok(Box::new(SqliteReader::new(line, Arc::clone(&self.idle))))
    }
}

#[async_trait]
impl Snapshot for SqliteSnapshot {
    fn bound(&self) -> &Bound {
        &self.bound
    }

    async fn split(&self, read: &TableRead, target_bytes: u64) -> Result<SplitPlan, SourceError> {
        let (control, read) = (Arc::clone(&self.control), read.clone());
        blocking(move || control.with(|connection| split::plan(connection, &read, target_bytes)))
            .await
    }

    async fn count(&self, read: &TableRead) -> Result<u64, SourceError> {
        let (control, read) = (Arc::clone(&self.control), read.clone());
        blocking(move || control.with(|connection| count(connection, &read))).await
    }

    async fn can_read_since(
        &self,
        _read: &TableRead,
        _position: &str,
    ) -> Result<Result<(), String>, SourceError> {
        Ok(Err(NO_WRITERS.to_owned()))
    }

    /// One writer at a time: what commits later was written later. That holds
    /// for values that the writing statement itself draws.
    async fn cursor_bound(
        &self,
        read: &TableRead,
        column: &str,
        _margin: Duration,
    ) -> Result<CursorBound, SourceError> {
        let (control, read, column) = (Arc::clone(&self.control), read.clone(), column.to_owned());
        blocking(move || {
            control.with(|connection| {
                let physical = Physical::of(connection, &read.table.name)?;
                physical.qualified(&read.table.name, &column)?;
                Ok(CursorBound::Unbounded)
            })
        })
        .await
    }
}
