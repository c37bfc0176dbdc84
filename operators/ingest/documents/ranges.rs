//! [`DocumentRanges`]: ranges of the table as they are to be.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use async_trait::async_trait;
use highwater::budget::{MemoryBudget, Permit};
use highwater::source::{Emit, Reader, Readers, SourceError, SourceErrorKind, Split, TableRead};
use highwater::store::objects::ObjectError;

use super::find::Piece;
use super::merge::{Merge, Step};
use super::prepare::Preparing;
use super::rows::{chunks_schema, rows_bytes, without_vector};
use super::{ChunkTally, DocumentSides};
use crate::ingest::ahead::{Ahead, Next};

/// Documents that are on their way at once of one worker, at most: more than there are
/// processes that read them, so that none of these waits for a store.
const MOST_AHEAD: usize = 16;

/// Rows of the table decoded at once.
const ROWS_AT_ONCE: usize = 256;

/// How often it is looked whether the run is asked to end while nothing comes.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Chunks without a vector that go to the model together, at least: a window in which
/// texts of like length find each other.
const WINDOW_CHUNKS: usize = 256;

/// What is read, and how; shared by all workers of a process.
pub struct RangePlan {
    /// Both sides.
    pub sides: DocumentSides,
    /// How documents become rows.
    pub preparing: Arc<Preparing>,
    /// The pieces, by the ordinals of the splits.
    pub pieces: Vec<Piece>,
    /// What each worker may hold of documents on their way, in bytes.
    pub ahead_bytes: u64,
    /// What the vector of a chunk takes, in bytes.
    pub vector_bytes: u64,
    /// Where chunks are counted.
    pub chunks: Arc<ChunkTally>,
}

/// Readers of ranges.
#[derive(Clone)]
pub struct DocumentRanges(pub Arc<RangePlan>);

#[async_trait]
impl Readers for DocumentRanges {
    fn max_readers(&self) -> usize {
        usize::MAX
    }

    async fn reader(&self) -> Result<Box<dyn Reader>, SourceError> {
        Ok(Box::new(RangeReader(Arc::clone(&self.0))))
    }
}

struct RangeReader(Arc<RangePlan>);

#[async_trait]
impl Reader for RangeReader {
    async fn read(
        &mut self,
        _read: &TableRead,
        split: &Split,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError> {
        let plan = &self.0;
        let piece = usize::try_from(split.ordinal).ok();
        let Some(piece) = piece.and_then(|ordinal| plan.pieces.get(ordinal)) else {
            let what = format!("there is no piece {}; please report this", split.ordinal);
            return Err(SourceError::new(SourceErrorKind::Failed, what));
        };
        plan.rewrite(piece, out).await
    }
}

impl RangePlan {
    /// Emits the rows of a piece as they are to be.
    async fn rewrite(&self, piece: &Piece, out: &mut dyn Emit) -> Result<(), SourceError> {
        let told = |error: ObjectError| self.failed(error);
        let wanted = chunks_schema();
        let merge = Merge::new(
            &self.sides,
            piece.of,
            piece.range.clone(),
            &wanted,
            ROWS_AT_ONCE,
        );
        let mut merge = merge.await.map_err(told)?;
        let mut ahead = Ahead::new(MOST_AHEAD, MemoryBudget::new(self.ahead_bytes));
        let mut rows = Outgoing::default();
        while let Some(step) = merge.next().await.map_err(told)? {
            if self.sides.tally.is_stopped() {
                return Err(interrupted());
            }
            let bytes = match &step {
                Step::Same(old) => old.bytes(),
                Step::Read(object, old) => {
                    let old = old.as_ref().map_or(0, super::old::OldDocument::bytes);
                    self.preparing.bytes(&self.sides, object) + old
                }
                Step::Goes(old) => {
                    self.sides.tally.deleted.add(1);
                    let key = &old.state.object.key;
                    self.chunks.count(key, |of| of.deleted += 1);
                    continue;
                }
            };
            let permit = loop {
                match self.unless_stopped(ahead.room(bytes)).await? {
                    Next::Room(permit) => break permit,
                    Next::First(paid) => rows.push(paid, self.vector_bytes, out).await?,
                    Next::Nothing => rows.flush(out).await?,
                }
            };
            match step {
                Step::Same(old) => ahead.keep(Paid {
                    rows: old.rows,
                    permit,
                    source_bytes: 0,
                }),
                Step::Read(object, old) => ahead.begin(Arc::clone(&self.preparing).prepare(
                    self.sides.clone(),
                    Arc::clone(&self.chunks),
                    object,
                    old,
                    permit,
                )),
                Step::Goes(_) => {}
            }
        }
        while let Some(paid) = self.unless_stopped(ahead.next()).await? {
            rows.push(paid, self.vector_bytes, out).await?;
        }
        if self.sides.tally.is_stopped() {
            // A document may be missing for a reason that is none of its own.
            return Err(interrupted());
        }
        rows.flush(out).await
    }

    /// What comes, unless the run is asked to end before: a document may take minutes, and
    /// nobody who gave up waits for it.
    async fn unless_stopped<T>(
        &self,
        coming: impl Future<Output = Result<T, ObjectError>>,
    ) -> Result<T, SourceError> {
        let stopped = async {
            while !self.sides.tally.is_stopped() {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        };
        tokio::select! {
            biased;
            come = coming => come.map_err(|error| self.failed(error)),
            () = stopped => Err(interrupted()),
        }
    }

    fn failed(&self, error: ObjectError) -> SourceError {
        let kind = match error.passes() {
            true => SourceErrorKind::Unavailable,
            false => SourceErrorKind::Failed,
        };
        let what = error.message.clone();
        self.sides.tally.end(error.into());
        SourceError::new(kind, what)
    }
}

fn interrupted() -> SourceError {
    let what = "interrupted; what was published before is complete";
    SourceError::new(SourceErrorKind::Unavailable, what)
}

/// The rows of a document and what pays for them.
pub(super) struct Paid {
    pub(super) rows: Vec<RecordBatch>,
    pub(super) permit: Permit,
    /// Bytes read from the source for them.
    pub(super) source_bytes: u64,
}

/// Rows that wait until they are a batch. A batch holds whole documents, so that a file
/// does.
#[derive(Default)]
struct Outgoing {
    rows: Vec<RecordBatch>,
    permits: Vec<Permit>,
    bytes: u64,
    source_bytes: u64,
    without_vector: usize,
}

impl Outgoing {
    async fn push(
        &mut self,
        paid: Paid,
        vector_bytes: u64,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError> {
        for rows in &paid.rows {
            let to_come = without_vector(rows);
            self.bytes += rows_bytes(rows) + to_come as u64 * vector_bytes;
            self.without_vector += to_come;
        }
        self.rows.extend(paid.rows);
        self.permits.push(paid.permit);
        self.source_bytes += paid.source_bytes;
        if self.bytes >= out.batch_bytes() || self.without_vector >= WINDOW_CHUNKS {
            return self.flush(out).await;
        }
        Ok(())
    }

    async fn flush(&mut self, out: &mut dyn Emit) -> Result<(), SourceError> {
        let Outgoing {
            rows,
            permits,
            bytes,
            source_bytes,
            ..
        } = std::mem::take(self);
        if rows.is_empty() {
            return Ok(());
        }
        let permit = out.permit(bytes).await;
        let batch = concat_batches(&chunks_schema(), &rows).map_err(|error| {
            let what = format!("chunks do not make a batch: {error}");
            SourceError::new(SourceErrorKind::Failed, what)
        })?;
        drop((rows, permits));
        out.batch(batch, permit, source_bytes).await
    }
}
