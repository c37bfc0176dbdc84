//! Documents on their way into a file: read, made text and cut many at once, handed out
//! in the order of keys.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use highwater::budget::{MemoryBudget, Permit};
use highwater::store::objects::{ObjectError, ObjectErrorKind};
use tokio::task::JoinHandle;

/// Documents that are on their way at once of one worker, at most: more than there are
/// processes that read them, so that none of these waits for a store.
const MOST_AHEAD: usize = 16;

/// The rows of a document and what pays for them.
pub(super) struct Paid {
    pub(super) rows: Vec<RecordBatch>,
    pub(super) permit: Permit,
    /// Bytes read from the source for them.
    pub(super) source_bytes: u64,
}

enum Coming {
    Here(Paid),
    Prepared(JoinHandle<Option<Paid>>),
}

/// Documents in the order in which they were asked for.
pub(super) struct Ahead {
    coming: VecDeque<Coming>,
    budget: MemoryBudget,
}

impl Ahead {
    /// Holds what `budget` pays for, which is nobody else's: whoever waits for it waits
    /// for himself.
    pub(super) fn new(budget: MemoryBudget) -> Self {
        Self {
            coming: VecDeque::new(),
            budget,
        }
    }

    /// Whether one more of so many bytes may begin now; if not, take one out first.
    pub(super) fn room(&self, bytes: u64) -> Option<Permit> {
        match self.coming.len() {
            0..MOST_AHEAD => self.budget.try_take(bytes),
            _ => None,
        }
    }

    /// Room for one, where there is none of our own to wait for.
    pub(super) async fn wait_for_room(&self, bytes: u64) -> Permit {
        self.budget.take(bytes).await
    }

    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.coming.is_empty()
    }

    /// Rows that are here already are the next ones.
    pub(super) fn keep(&mut self, rows: Vec<RecordBatch>, permit: Permit) {
        self.coming.push_back(Coming::Here(Paid {
            rows,
            permit,
            source_bytes: 0,
        }));
    }

    /// A document that is to be prepared is the next one.
    pub(super) fn prepare(&mut self, work: impl Future<Output = Option<Paid>> + Send + 'static) {
        self.coming.push_back(Coming::Prepared(tokio::spawn(work)));
    }

    /// The next rows, when they have come; `None` where nothing is on its way.
    ///
    /// # Errors
    /// The task ended early: an error of ours.
    pub(super) async fn next(&mut self) -> Result<Option<Paid>, ObjectError> {
        while let Some(coming) = self.coming.pop_front() {
            let rows = match coming {
                Coming::Here(rows) => Some(rows),
                Coming::Prepared(task) => task.await.map_err(|error| {
                    let what = format!("a reader ended early: {error}");
                    ObjectError::new(ObjectErrorKind::Failed, "", what)
                })?,
            };
            if rows.is_some() {
                return Ok(rows);
            }
        }
        Ok(None)
    }
}
