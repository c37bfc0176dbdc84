//! One consistent view for all readers: an exported snapshot (T1).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use highwater::dataset::TableName;
use highwater::source::{
    CursorBound, Discovered, Reader, Readers, Selection, Snapshot, SourceError, SourceErrorKind,
    SplitPlan, TableRead,
};
use highwater::watermark::Bound;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::catalog;
use super::connect::{connect, connect_to};
use super::layout::{self, Layout};
use super::quote;
use super::reader::PgReader;
use super::since::{self, Position};
use super::url::{Endpoint, Target};
use super::wire::Session;
use super::writers::{self, Observed};

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The SQLSTATE of a lock that somebody else has, or waits for.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// A snapshot of one database. The session that took it stays open as long as
/// this value, or any reader of it, lives.
pub(super) struct PgSnapshot(Arc<Shared>);

/// What the snapshot and its readers share.
pub(super) struct Shared {
    target: Target,
    /// `None` after its connection had to be closed in the middle of a read.
    coordinator: Mutex<Option<Session>>,
    /// The snapshot's name at the server; absent where it could not be exported.
    exported: Option<String>,
    endpoint: Endpoint,
    bound: Bound,
    /// What each session locks.
    lock: Option<String>,
    /// The bound's position, as it orders transactions.
    position: Position,
    /// Who was writing before the snapshot was taken.
    writers: Observed,
    readers: usize,
}

/// An exported snapshot, as another process joins it: by its own login, at the
/// very server.
#[derive(Serialize, Deserialize)]
struct Joining {
    exported: String,
    endpoint: Endpoint,
    bound: Bound,
    lock: Option<String>,
}

impl PgSnapshot {
    /// The snapshot that another process has exported, for up to `readers`.
    pub(super) fn join(target: &Target, shared: &str, readers: usize) -> Result<Self, SourceError> {
        let joining: Joining = serde_json::from_str(shared).map_err(|error| {
            let what = "another process speaks of the snapshot in a way that is not understood";
            SourceError::new(SourceErrorKind::Failed, what).caused_by(error)
        })?;
        Ok(Self(Arc::new(Shared {
            target: target.clone(),
            coordinator: Mutex::new(None),
            exported: Some(joining.exported),
            endpoint: joining.endpoint,
            lock: joining.lock,
            position: Position::parse(&joining.bound.position)?,
            bound: joining.bound,
            writers: Err("the snapshot was taken by another process".to_owned()),
            readers: readers.max(1),
        })))
    }

    /// Takes a snapshot.
    pub(super) async fn take(
        target: &Target,
        tables: &[TableName],
        readers: usize,
    ) -> Result<Self, SourceError> {
        let mut session = connect(target).await?;
        // Before: who ends between the two is seen by the snapshot (T3).
        let writers = writers::observe(&mut session).await?;
        let lock = lock(&mut session, tables).await?;
        let begin = match &lock {
            Some(lock) => format!("{BEGIN}; {lock}"),
            None => BEGIN.to_owned(),
        };
        session.query(&begin).await?;
        // Not under a savepoint: subtransactions cannot export.
        let exported = match session.try_query("SELECT pg_export_snapshot()").await? {
            Ok(results) => Some(results.text(0, 0, 0)?.to_owned()),
            Err(refusal) => {
                tracing::warn!(reason = %refusal.message, "the server does not export its snapshot: one reader only");
                session.query("ROLLBACK").await?;
                session.query(&begin).await?;
                None
            }
        };
        let seen = session
            .query(
                "SELECT pg_current_snapshot()::text, \
                 to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
            )
            .await?;
        let bound = Bound {
            position: seen.text(0, 0, 0)?.to_owned(),
            at: seen.text(0, 0, 1)?.to_owned(),
        };
        let endpoint = session.place().endpoint().clone();
        let readers = if exported.is_some() {
            readers.max(1)
        } else {
            1
        };
        Ok(Self(Arc::new(Shared {
            target: target.clone(),
            coordinator: Mutex::new(Some(session)),
            exported,
            endpoint,
            lock,
            position: Position::parse(&bound.position)?,
            bound,
            writers,
            readers,
        })))
    }

    /// The tables as they are in this view. By its own session: asking for the
    /// size of a table waits for whoever waits to alter it, and he waits for the
    /// session that keeps it from being altered.
    pub(super) async fn discover(
        &self,
        selection: &Selection,
    ) -> Result<Vec<Discovered>, SourceError> {
        let mut guard = self.0.coordinator().await;
        catalog::discover_within(guard.as_mut().ok_or_else(gone)?, selection).await
    }
}

/// What keeps tables from being altered or truncated. A statement that rewrites
/// a table makes it look empty to snapshots taken before it, so the locks come
/// first: `LOCK TABLE` takes no snapshot. Only what can be locked and may be read
/// is named; for the rest reading itself finds out.
async fn lock(session: &mut Session, tables: &[TableName]) -> Result<Option<String>, SourceError> {
    if tables.is_empty() {
        return Ok(None);
    }
    let names = tables.iter().map(quote::table);
    let names: Vec<String> = names.map(|name| quote::literal(&name)).collect();
    let found = session
        .query(&format!(
            "SELECT string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid) FROM pg_class c \
             WHERE c.oid IN (SELECT to_regclass(name) FROM unnest(ARRAY[{}]) name) \
             AND c.relkind IN ('r', 'p') AND has_table_privilege(c.oid, 'SELECT')",
            names.join(", ")
        ))
        .await?;
    let found = found.value(0, 0, 0);
    Ok(found.map(|names| format!("LOCK TABLE {names} IN ACCESS SHARE MODE")))
}

impl Shared {
    /// Whether each reader has a session of its own.
    pub(super) fn is_exported(&self) -> bool {
        self.exported.is_some()
    }

    /// Where the snapshot stands among transactions.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// A new session that sees the snapshot.
    pub(super) async fn open(&self) -> Result<Session, SourceError> {
        let Some(name) = &self.exported else {
            return Err(gone());
        };
        // The very server: a snapshot means nothing to another one.
        let mut session = connect_to(&self.target, &self.endpoint).await?;
        let join = format!("{BEGIN}; SET TRANSACTION SNAPSHOT {}", quote::literal(name));
        // Whoever waits to alter a table waits for the session that took the
        // snapshot, and whoever comes later waits for him: without NOWAIT all of
        // them would wait for each other, and the server could not see it.
        let join = match &self.lock {
            Some(lock) => format!("{join}; {lock} NOWAIT"),
            None => join,
        };
        match session.try_query(&join).await? {
            Ok(_) => Ok(session),
            Err(refusal) if refusal.code == LOCK_NOT_AVAILABLE => {
                let mut error = refusal.while_doing("another session waits to alter a table");
                error.kind = SourceErrorKind::Unavailable;
                Err(error)
            }
            Err(refusal) => {
                let place = session.place();
                let what =
                    format!("PostgreSQL at {place} does not know the run's snapshot any more");
                let mut error = refusal.while_doing(&what);
                error.kind = SourceErrorKind::Unavailable;
                Err(error)
            }
        }
    }

    /// The session that took the snapshot, for one query or one read.
    pub(super) async fn coordinator(&self) -> tokio::sync::MutexGuard<'_, Option<Session>> {
        self.coordinator.lock().await
    }
}

/// The snapshot's own session is closed.
pub(super) fn gone() -> SourceError {
    SourceError::new(
        SourceErrorKind::Unavailable,
        "the session that held the snapshot is closed; run again",
    )
}

#[async_trait]
impl Readers for PgSnapshot {
    fn max_readers(&self) -> usize {
        self.0.readers
    }

    fn share(&self) -> Option<String> {
        let joining = Joining {
            exported: self.0.exported.clone()?,
            endpoint: self.0.endpoint.clone(),
            bound: self.0.bound.clone(),
            lock: self.0.lock.clone(),
        };
        serde_json::to_string(&joining).ok()
    }

    async fn reader(&self) -> Result<Box<dyn Reader>, SourceError> {
        Ok(Box::new(PgReader::open(Arc::clone(&self.0)).await?))
    }
}

#[async_trait]
impl Snapshot for PgSnapshot {
    fn bound(&self) -> &Bound {
        &self.0.bound
    }

    async fn split(&self, read: &TableRead, target_bytes: u64) -> Result<SplitPlan, SourceError> {
        let mut guard = self.0.coordinator().await;
        let session = guard.as_mut().ok_or_else(gone)?;
        let layout = Layout::of(session, read).await?;
        let cursor_max = match &read.cursor {
            None => None,
            Some(cursor) => layout::cursor_max(session, read, cursor).await?,
        };
        Ok(SplitPlan {
            splits: layout.splits(target_bytes),
            cursor_max,
            layout: layout.token,
        })
    }

    async fn count(&self, read: &TableRead) -> Result<u64, SourceError> {
        let mut guard = self.0.coordinator().await;
        layout::count(guard.as_mut().ok_or_else(gone)?, read).await
    }

    async fn can_read_since(
        &self,
        read: &TableRead,
        position: &str,
    ) -> Result<Result<(), String>, SourceError> {
        let mut guard = self.0.coordinator().await;
        let session = guard.as_mut().ok_or_else(gone)?;
        let refusal = since::refusal(session, read, position, self.0.position).await?;
        Ok(refusal.map_or(Ok(()), Err))
    }

    async fn cursor_bound(
        &self,
        read: &TableRead,
        column: &str,
        margin: Duration,
    ) -> Result<CursorBound, SourceError> {
        let mut guard = self.0.coordinator().await;
        let session = guard.as_mut().ok_or_else(gone)?;
        writers::cursor_bound(session, read, column, margin, &self.0.writers).await
    }
}
