//! Objects on their way into a file: read many at once, handed out in the order of
//! keys.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use highwater::budget::{MemoryBudget, Permit};
use highwater::ledger::hex;
use highwater::store::objects::{Carry, Listed, ObjectError, ObjectErrorKind};
use highwater::telemetry::objects::ObjectTally;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;

use super::rows::{PackedRow, attributes_text};
use crate::sink::objects::BodyReader;

/// Objects that are read at once by one worker, at most.
const MOST_AHEAD: usize = 128;

/// What an object takes beside its content, in bytes. An estimate.
const OBJECT_BYTES: u64 = 16 << 10;

/// How often an object is begun anew that changes while it is read.
const MOST_CHANGES: u32 = 5;

/// A row and what pays for it.
pub(super) struct Paid {
    pub(super) row: PackedRow,
    pub(super) permit: Permit,
}

enum Coming {
    Here(Paid),
    Read(JoinHandle<Option<Paid>>),
}

/// Objects in the order in which they were asked for.
pub(super) struct Ahead {
    coming: VecDeque<Coming>,
    budget: MemoryBudget,
    reader: Arc<BodyReader>,
    tally: Arc<ObjectTally>,
    carry: Carry,
}

impl Ahead {
    /// Reads by `reader`, and holds what `budget` pays for, which is nobody else's:
    /// whoever waits for it waits for himself.
    pub(super) fn new(
        reader: Arc<BodyReader>,
        budget: MemoryBudget,
        tally: Arc<ObjectTally>,
        carry: Carry,
    ) -> Self {
        Self {
            coming: VecDeque::new(),
            budget,
            reader,
            tally,
            carry,
        }
    }

    /// Whether one more of so many bytes may be asked for now; if not, take one out
    /// first.
    pub(super) fn room(&self, bytes: u64) -> Option<Permit> {
        if self.coming.len() >= MOST_AHEAD {
            return None;
        }
        self.budget.try_take(bytes + OBJECT_BYTES)
    }

    /// Room for one, where there is none of our own to wait for.
    pub(super) async fn wait_for_room(&self, bytes: u64) -> Permit {
        self.budget.take(bytes + OBJECT_BYTES).await
    }

    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.coming.is_empty()
    }

    /// A row that is here already is the next one.
    pub(super) fn keep(&mut self, row: PackedRow, permit: Permit) {
        self.coming.push_back(Coming::Here(Paid { row, permit }));
    }

    /// An object that is to be read is the next one. Where it cannot be read, `old`
    /// stays in its place.
    pub(super) fn read(&mut self, object: Listed, permit: Permit, old: Option<PackedRow>) {
        let (reader, tally) = (Arc::clone(&self.reader), Arc::clone(&self.tally));
        let carry = self.carry;
        self.coming.push_back(Coming::Read(tokio::spawn(async move {
            let began = Instant::now();
            match read(&reader, &object, permit.bytes(), carry).await {
                Ok(row) => {
                    tally.copied(&row.object.key, row.object.bytes, began.elapsed());
                    Some(Paid { row, permit })
                }
                Err(error) if error.kind == ObjectErrorKind::Vanished => {
                    tally.vanished.add(1);
                    None
                }
                Err(error) => {
                    tally.failed(&object.key, &error.message);
                    if error.ends_the_run() {
                        tally.end(error.into());
                    }
                    old.map(|row| Paid { row, permit })
                }
            }
        })));
    }

    /// The next row, when it has come; `None` where nothing is on its way.
    pub(super) async fn next(&mut self) -> Result<Option<Paid>, ObjectError> {
        while let Some(coming) = self.coming.pop_front() {
            let row = match coming {
                Coming::Here(row) => Some(row),
                Coming::Read(task) => task.await.map_err(|error| {
                    let what = format!("a reader ended early: {error}");
                    ObjectError::new(ObjectErrorKind::Failed, "", what)
                })?,
            };
            if row.is_some() {
                return Ok(row);
            }
        }
        Ok(None)
    }
}

/// An object as it is now.
async fn read(
    reader: &BodyReader,
    listed: &Listed,
    paid_bytes: u64,
    carry: Carry,
) -> Result<PackedRow, ObjectError> {
    let mut object = listed.clone();
    for _ in 0..MOST_CHANGES {
        match reader.read(&object, None).await {
            Ok(body) => {
                return Ok(PackedRow {
                    sha256: hex(&Sha256::digest(&body.bytes)),
                    attributes: attributes_text(&carry.of(body.attributes)),
                    content: body.bytes,
                    object,
                });
            }
            Err(error) if error.kind == ObjectErrorKind::Changed => {
                object = reader.look_again(&object.key).await?;
                if object.bytes > paid_bytes {
                    let what = "it has grown while it was read; run again";
                    return Err(ObjectError::new(ObjectErrorKind::Failed, &object.key, what));
                }
            }
            Err(error) => return Err(error),
        }
    }
    let what = "it changed each time while it was read; run again when it rests";
    Err(ObjectError::new(ObjectErrorKind::Failed, &object.key, what))
}
