//! Reads splits by `COPY (SELECT ...) TO STDOUT (FORMAT binary)`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use highwater::dataset::TableName;
use highwater::source::{self, Emit, Reader, SourceError, SourceErrorKind, Split, TableRead};

use super::copy::Copy;
use super::decode::{BatchShape, Rows};
use super::projection::Projection;
use super::since::Position;
use super::snapshot::{Shared, gone};
use super::wire::Session;
use super::{fetch, layout, query};

/// A reader on one snapshot, with a session of its own where the snapshot could
/// be exported.
pub(super) struct PgReader {
    snapshot: Arc<Shared>,
    session: Option<Session>,
    /// What the batches of the split read last looked like.
    shape: Option<(Alike, BatchShape)>,
}

impl PgReader {
    /// Opens a reader.
    pub(super) async fn open(snapshot: Arc<Shared>) -> Result<Self, SourceError> {
        let session = if snapshot.is_exported() {
            Some(snapshot.open().await?)
        } else {
            None
        };
        Ok(Self {
            snapshot,
            session,
            shape: None,
        })
    }
}

#[async_trait]
impl Reader for PgReader {
    async fn read(
        &mut self,
        read: &TableRead,
        split: &Split,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError> {
        self.run(read, Wanted::Split(split), out).await
    }

    /// Keys are compared by the source: under an equality that is not by the
    /// letter (`citext`, some ICU collations), rows may come whose key differs
    /// from all of `keys`; whoever minds looks again.
    async fn fetch(
        &mut self,
        read: &TableRead,
        keys: &RecordBatch,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError> {
        if keys.num_rows() == 0 {
            return Ok(());
        }
        self.run(read, Wanted::Keys(keys), out).await
    }
}

/// Which rows of a table are read.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    Split(&'a Split),
    Keys(&'a RecordBatch),
}

/// One query, and what its rows become.
struct Job {
    settings: &'static str,
    select: String,
    projection: Projection,
    /// Whose batches will look like these, where any will.
    alike: Option<Alike>,
}

/// Batches of one table, of whole rows or of keys.
type Alike = (TableName, bool);

impl Wanted<'_> {
    /// `ONLY ` where the table holds its rows itself, which a split by pages says.
    async fn only(
        self,
        session: &mut Session,
        read: &TableRead,
    ) -> Result<&'static str, SourceError> {
        match self {
            Self::Split(split) if split.start.is_some() => Ok("ONLY "),
            _ => layout::only(session, &read.table.name).await,
        }
    }

    fn job(self, read: &TableRead, only: &str, now: Position) -> Result<Job, SourceError> {
        match self {
            Self::Split(split) => {
                let projection = Projection::of(read, now, split.start.is_some())?;
                let keys = matches!(read.projection, source::Projection::Keys { .. });
                Ok(Job {
                    settings: "",
                    select: query::select(read, split, only, now, &projection.expressions)?,
                    projection,
                    alike: Some((read.table.name.clone(), keys)),
                })
            }
            Self::Keys(keys) => {
                let projection = Projection::rows(&read.table, false)?;
                Ok(Job {
                    settings: fetch::SETTINGS,
                    select: fetch::select(read, keys, only, &projection.expressions)?,
                    projection,
                    alike: None,
                })
            }
        }
    }
}

impl PgReader {
    /// Reads with a session of its own, or with the snapshot's, and puts it back
    /// only when it is at rest: a connection in the middle of a `COPY` is closed,
    /// never used again.
    async fn run(
        &mut self,
        read: &TableRead,
        wanted: Wanted<'_>,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError> {
        let snapshot = Arc::clone(&self.snapshot);
        if snapshot.is_exported() {
            let mut session = match self.session.take() {
                Some(session) => session,
                None => snapshot.open().await?,
            };
            let (outcome, at_rest) = self.run_by(&mut session, read, wanted, out).await;
            self.session = at_rest.then_some(session);
            return outcome;
        }
        let mut slot = snapshot.coordinator().await;
        let mut session = slot.take().ok_or_else(gone)?;
        let (outcome, at_rest) = self.run_by(&mut session, read, wanted, out).await;
        *slot = at_rest.then_some(session);
        outcome
    }

    /// The same; also says whether the session may be used again.
    async fn run_by(
        &mut self,
        session: &mut Session,
        read: &TableRead,
        wanted: Wanted<'_>,
        out: &mut dyn Emit,
    ) -> (Result<(), SourceError>, bool) {
        let only = match wanted.only(session, read).await {
            Ok(only) => only,
            // The table is gone, or the connection.
            Err(error) => {
                let at_rest = error.kind == SourceErrorKind::Usage;
                return (Err(error), at_rest);
            }
        };
        let job = match wanted.job(read, only, self.snapshot.position()) {
            Ok(job) => job,
            Err(error) => return (Err(error), true),
        };
        let target = usize::try_from(out.batch_bytes())
            .unwrap_or(usize::MAX)
            .min(super::copy::BATCH_LIMIT);
        let Job {
            settings,
            select,
            projection,
            alike,
        } = job;
        // A few rows by key say nothing of the batches of a table, nor they of them.
        let last = self.shape.take();
        let known = match (&alike, &last) {
            (Some(alike), Some((known, shape))) if known == alike => Some(shape.clone()),
            _ => None,
        };
        let Projection {
            decoders,
            located,
            schema,
            key,
            ..
        } = projection;
        let rows = Rows::new(schema, key, decoders, located, target, known);
        let mut copy = Copy::new(session, &read.table.name, rows, out);
        let outcome = copy.run(settings, &select).await;
        self.shape = match alike {
            Some(alike) => copy.shape().map(|shape| (alike, shape)),
            None => last,
        };
        match outcome {
            Ok(Ok(())) => (Ok(()), true),
            // Refused by the server, which has ended the COPY: back to the savepoint.
            Ok(Err(refusal)) => {
                let back = "ROLLBACK TO SAVEPOINT highwater_copy; RELEASE SAVEPOINT highwater_copy";
                let rolled_back = session.query(back).await.is_ok();
                let what = format!("reading {}", read.table.name);
                (Err(refusal.while_doing(&what)), rolled_back)
            }
            Err(error) => (Err(error), false),
        }
    }
}
