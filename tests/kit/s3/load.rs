//! How the server bears what is asked of it at once, and what it saw of that.
//!
//! The server of the tests is near and never busy. A [`Bearing`] makes it a far one
//! (each request takes longer) or a busy one (more at once are served more slowly,
//! or refused). What clients then do is measured here, on the server's side, where
//! no client can flatter itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long requests take beside their work, and how many are borne.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bearing {
    /// Added to every request.
    pub(crate) delay: Duration,
    /// With more than so many at once the server gets in its own way: twice as many
    /// have half of the throughput together.
    pub(crate) best_at: Option<u32>,
    /// More than so many at once are answered 503.
    pub(crate) refuses_above: Option<u32>,
    /// More than so many at once wait for their turn: a client of this server has a
    /// fixed number of requests at once, whatever it does.
    pub(crate) admits: Option<u32>,
}

impl Bearing {
    /// How long a request takes that is the `at_once`-th on its way; `None` where it
    /// is refused.
    fn takes(&self, at_once: u32) -> Option<Duration> {
        if self.refuses_above.is_some_and(|most| at_once > most) {
            return None;
        }
        let best = self.best_at.unwrap_or(u32::MAX);
        let crowd = (f64::from(at_once) / f64::from(best)).max(1.0);
        // So many at once, each so long: throughput is best / delay / crowd.
        Some(self.delay.mul_f64(crowd.powi(2)))
    }
}

/// What the server saw since it was started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// Requests that were answered, and not refused.
    pub(crate) answered: u64,
    /// Requests that were too many.
    pub(crate) refused: u64,
    /// The sum of the times of all requests so far, in seconds: its growth over a
    /// span, divided by the span, is how many there were at once.
    pub(crate) busy_seconds: f64,
}

/// The requests that are on their way. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Load {
    bearing: Bearing,
    admitted: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
}

struct State {
    at_once: u32,
    seen: Seen,
    /// Until when `seen.busy_seconds` is summed up.
    until: Instant,
}

impl State {
    fn sum_up(&mut self) {
        let now = Instant::now();
        let passed = now.duration_since(self.until).as_secs_f64();
        self.seen.busy_seconds += passed * f64::from(self.at_once);
        self.until = now;
    }
}

impl Load {
    pub(super) fn new(bearing: Bearing) -> Self {
        let state = State {
            at_once: 0,
            seen: Seen::default(),
            until: Instant::now(),
        };
        Self {
            bearing,
            admitted: Arc::new(Semaphore::new(match bearing.admits {
                Some(most) => most as usize,
                None => Semaphore::MAX_PERMITS,
            })),
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        let mut state = self.lock();
        state.sum_up();
        state.seen
    }

    /// A request has arrived.
    pub(super) fn arrive(&self) -> Turn {
        let mut state = self.lock();
        state.sum_up();
        state.at_once += 1;
        let takes = self.bearing.takes(state.at_once);
        drop(state);
        Turn {
            load: self.clone(),
            takes,
            admitted: None,
            answered: false,
        }
    }
}

/// A request that is on its way; it has ended when this is dropped.
pub(super) struct Turn {
    load: Load,
    takes: Option<Duration>,
    admitted: Option<OwnedSemaphorePermit>,
    answered: bool,
}

impl Turn {
    /// Waits as long as the request takes beside its work; `false` refuses it.
    pub(super) async fn wait(&mut self) -> bool {
        let Some(takes) = self.takes else {
            return false;
        };
        // Only a closed semaphore fails, and this one is never closed.
        let admitted = Arc::clone(&self.load.admitted).acquire_owned();
        self.admitted = admitted.await.ok();
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        true
    }

    /// There is an answer to it.
    pub(super) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.load.lock();
        state.sum_up();
        state.at_once -= 1;
        match self.takes {
            None => state.seen.refused += 1,
            Some(_) if self.answered => state.seen.answered += 1,
            Some(_) => (),
        }
    }
}
