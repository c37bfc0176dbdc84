//! [`Fresh`]: new vectors of a worker on their way into the table, in epochs of a clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater::batch::Batch;
use highwater::budget::Permit;
use highwater::flow::Epoch;
use timely::dataflow::operators::Capability;

use super::cache::{Hash, Vector, VectorCache};
use super::rows::vector_rows;

/// New vectors that leave together.
const VECTORS_OF_A_BATCH: usize = 256;

/// How soon a worker that waits sees that an epoch ends because others have made much.
const LOOK_FOR_AN_END: Duration = Duration::from_millis(100);

/// New vectors on their way out.
pub(super) struct Fresh {
    capability: Option<Capability<Epoch>>,
    vectors: Vec<(Hash, Vector)>,
    cache: Arc<VectorCache>,
    began: Instant,
    tick: Duration,
}

impl Fresh {
    /// None are on their way yet. An epoch lasts a `tick` at most.
    pub(super) fn new(
        cache: Arc<VectorCache>,
        tick: Duration,
        capability: Option<Capability<Epoch>>,
    ) -> Self {
        Self {
            capability,
            vectors: Vec::new(),
            cache,
            began: Instant::now(),
            tick: tick.max(Duration::from_millis(1)),
        }
    }

    /// One was made.
    pub(super) fn push(&mut self, hash: Hash, vector: Vector) {
        self.vectors.push((hash, vector));
    }

    /// How long until the epoch may be over. Also a worker that has nothing to do has to
    /// end it: what the others have made is kept only when all have.
    pub(super) fn left_of_tick(&self) -> Option<Duration> {
        let left = self.left_of(self.tick).min(self.left_of(LOOK_FOR_AN_END));
        self.capability.is_some().then_some(left)
    }

    /// How long until a whole number of such times has passed, and a little more. Whoever
    /// asks twice is woken once.
    fn left_of(&self, time: Duration) -> Duration {
        let into = self.began.elapsed().as_nanos() % time.as_nanos();
        let into = Duration::from_nanos(u64::try_from(into).unwrap_or(0));
        time.saturating_sub(into) + Duration::from_millis(1)
    }

    /// The epoch that it is now: it grows by the clock, and by what was made.
    fn epoch(&self) -> Epoch {
        let ticks = self.began.elapsed().as_nanos() / self.tick.as_nanos();
        let ticks = Epoch::try_from(ticks).unwrap_or(Epoch::MAX);
        ticks.saturating_add(self.cache.early_ends())
    }

    /// Lets go what is enough for a batch, and all of it where the epoch or the run is
    /// over.
    pub(super) fn leave(&mut self, is_over: bool, mut give: impl FnMut(&Capability<Epoch>, Batch)) {
        let now = self.epoch();
        let Some(capability) = &mut self.capability else {
            return;
        };
        let next = now > *capability.time();
        if self.vectors.len() >= VECTORS_OF_A_BATCH || (next || is_over) && !self.vectors.is_empty()
        {
            let vectors = std::mem::take(&mut self.vectors);
            match vector_rows(&vectors, self.cache.model()) {
                Ok(rows) => give(
                    capability,
                    Batch {
                        table: 0,
                        split: 0,
                        source_bytes: 0,
                        rows,
                        // Until it is published it is paid for by the room in the cache.
                        permit: Permit::free(),
                    },
                ),
                // Its columns are ours: what does not fit is an error that tests find.
                Err(_) => self.cache.forget_made(),
            }
        }
        if next {
            capability.downgrade(&now);
        }
        if is_over {
            self.capability = None;
        }
    }
}
