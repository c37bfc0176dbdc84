//! One object, from the first attempt to its outcome.

use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater::budget::MemoryBudget;
use highwater::store::objects::{Buffers, Carry, Listed, ObjectError, ObjectErrorKind, Objects};
use highwater::store::pace::{Hedges, Pace, Retries};
use highwater::telemetry::objects::ObjectTally;

use crate::ingest::objects::{Record, RecordClock};

/// How often an object is begun anew that changes while it is read.
const MOST_CHANGES: u32 = 5;

/// What an object costs beside its bytes: its task and its share of buffers of
/// connections. An estimate.
pub(super) const OBJECT_BYTES: u64 = 32 << 10;

/// Memory and slots for one sort of object. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Lane {
    /// Pays for bodies.
    pub budget: MemoryBudget,
    /// Where they are put together: those of parts are used again.
    pub buffers: Buffers,
    /// Requests to the source.
    pub read: Pace,
    /// Requests to the target.
    pub write: Pace,
}

/// How what was written is made durable and recorded.
#[derive(Debug, Clone, Copy)]
pub struct Saving {
    /// Whether it is safe from a power cut before it is recorded.
    pub durable: bool,
    /// How often it is recorded.
    pub tick: Duration,
    /// So many records are not left until the tick ends: until they are on their way, they
    /// hold memory that pays for what is found.
    pub most_unsaved: usize,
    /// What records are stamped with; `None`: nothing is recorded.
    pub clock: Option<RecordClock>,
}

/// What [`copy_objects`](super::copy_objects) needs to know; shared by all workers
/// of a process.
#[derive(Clone)]
pub struct CopyObjects {
    /// Where objects come from.
    pub source: Arc<dyn Objects>,
    /// Where they go.
    pub target: Arc<dyn Objects>,
    /// For objects that are copied as a whole.
    pub small: Lane,
    /// For parts.
    pub large: Lane,
    /// Objects of this size or more are copied in parts, in bytes.
    pub large_from_bytes: u64,
    /// What goes with the content.
    pub carry: Carry,
    /// Whether the store may copy by itself where it can.
    pub by_store: bool,
    /// How what was written is recorded.
    pub saving: Saving,
    /// Where everything is counted.
    pub tally: Arc<ObjectTally>,
    /// How requests to the source are repeated.
    pub retries: Retries,
    /// How requests to the target are.
    pub write_retries: Retries,
    /// What is late to be read is asked a second time.
    pub hedges: Option<Hedges>,
    /// Where copies run.
    pub runtime: tokio::runtime::Handle,
}

/// On which side something went wrong.
pub(super) enum Trouble {
    Source(ObjectError),
    Target(ObjectError),
    /// The parts that were read do not make up the whole; nobody knows which it was.
    Parts(ObjectError),
}

/// What became of one object.
pub(super) enum Outcome {
    /// It was copied.
    Copied(Record),
    /// It was not, and that is counted.
    Over,
    /// It has changed, and what was paid for the old one does not do.
    Again(Listed),
}

impl CopyObjects {
    /// Whether an object is copied in parts.
    pub(super) fn is_large(&self, object: &Listed) -> bool {
        !self.copies_by_store(object)
            && (object.bytes >= self.large_from_bytes
                || object.bytes > self.target.largest_put_bytes())
    }

    /// Whether the store can copy an object by itself.
    pub(super) fn copies_by_store(&self, object: &Listed) -> bool {
        let (Some(from), Some(to)) = (self.source.home(), self.target.home()) else {
            return false;
        };
        self.by_store
            && (from.endpoint == to.endpoint && from.user == to.user)
            && object.bytes <= self.target.largest_put_bytes()
    }

    /// Requests that a copy takes, by what they ask for.
    #[must_use]
    pub fn requests_of(&self, object: &Listed) -> Vec<(&'static str, u64)> {
        if self.copies_by_store(object) {
            return vec![("copy", 1)];
        }
        let parts = match self.is_large(object) {
            true => self.parts_of(object).map_or(0, |parts| parts.len() as u64),
            false => 1,
        };
        match parts {
            0 | 1 => vec![("get", 1), ("put", 1)],
            // Beside the parts, the upload is begun and completed, and the checksum
            // of the whole is asked for.
            parts => {
                let head = u64::from(self.source.keeps_checksums());
                vec![("get", parts), ("head", head), ("part", parts + 2)]
            }
        }
    }

    /// What must be paid before an object is copied as a whole, in bytes.
    pub(super) fn cost_bytes(&self, object: &Listed) -> u64 {
        match self.copies_by_store(object) {
            true => OBJECT_BYTES,
            false => OBJECT_BYTES + object.bytes,
        }
    }

    /// Copies one object, as it is now if it has changed meanwhile. `paid` is what
    /// was paid for it.
    pub(super) async fn copy(&self, mut object: Listed, paid: Option<u64>) -> Outcome {
        let began = Instant::now();
        for attempt in 1..=MOST_CHANGES {
            if self.tally.is_stopped() {
                return Outcome::Over;
            }
            let copied = match paid {
                Some(_) => self.copy_whole(&self.small, &object).await,
                None => self.copy_large(&object).await,
            };
            let trouble = match copied {
                Ok(record) => {
                    self.tally
                        .copied(&object.key, object.bytes, began.elapsed());
                    return Outcome::Copied(record);
                }
                Err(trouble) => trouble,
            };
            match &trouble {
                Trouble::Source(error) if error.kind == ObjectErrorKind::Changed => {
                    match self.look_again(&object).await {
                        Ok(now) => object = now,
                        Err(error) => return self.gave_up(&object.key, &error, true),
                    }
                }
                // Parts that were lost: the object is begun anew.
                Trouble::Target(error) if error.kind == ObjectErrorKind::Vanished => {}
                Trouble::Parts(_) if attempt < MOST_CHANGES => {}
                Trouble::Source(error) | Trouble::Parts(error) => {
                    return self.gave_up(&object.key, error, true);
                }
                Trouble::Target(error) => return self.gave_up(&object.key, error, false),
            }
            let fits = paid.is_none_or(|paid| self.cost_bytes(&object) <= paid);
            if !fits || self.is_large(&object) != paid.is_none() {
                return Outcome::Again(object);
            }
        }
        let what = "it changed each time while it was read; run again when it rests";
        self.tally.failed(&object.key, what);
        Outcome::Over
    }

    async fn look_again(&self, object: &Listed) -> Result<Listed, ObjectError> {
        let head = || self.source.head(&object.key);
        self.retries.ask(head, |_| ()).await
    }

    fn gave_up(&self, key: &str, error: &ObjectError, of_source: bool) -> Outcome {
        if of_source && error.kind == ObjectErrorKind::Vanished {
            tracing::info!("{key:?} was gone when its turn came");
            self.tally.vanished.add(1);
            return Outcome::Over;
        }
        if error.kind == ObjectErrorKind::Stopped {
            return Outcome::Over;
        }
        if error.kind == ObjectErrorKind::Impossible {
            self.tally.refused.add(1);
        }
        self.tally.failed(key, &error.message);
        if error.ends_the_run() {
            self.tally.end(error.clone().into());
        }
        Outcome::Over
    }
}
