//! Slots to wait for; their number follows a [`Climb`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::climb::{Bounds, Climb, Step};

/// Decisions that are kept for a record; later ones are left out.
const MOST_STEPS: usize = 4096;

/// Limits how many requests are on their way. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Pace {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    slots: Arc<Semaphore>,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    climb: Climb,
    /// Slots that exist: in use or free.
    there: u32,
    /// Of these, slots that go as soon as they come back.
    surplus: u32,
    in_use: u32,
    peak: u32,
    steps: Vec<Step>,
}

impl Pace {
    /// A pace within bounds.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let climb = Climb::new(bounds);
        let there = climb.slots();
        Self {
            shared: Arc::new(Shared {
                slots: Arc::new(Semaphore::new(there as usize)),
                began: Instant::now(),
                state: Mutex::new(State {
                    climb,
                    there,
                    surplus: 0,
                    in_use: 0,
                    peak: 0,
                    steps: Vec::new(),
                }),
            }),
        }
    }

    /// Waits for a slot. Take the memory first: who waits for memory with a slot
    /// in hand makes it look as if more slots were of use.
    pub async fn slot(&self) -> Slot {
        // Only a closed semaphore fails, and this one is never closed.
        let held = Arc::clone(&self.shared.slots).acquire_owned().await.ok();
        let now = self.shared.began.elapsed();
        let mut state = self.shared.lock();
        state.in_use += 1;
        state.peak = state.peak.max(state.in_use);
        let in_use = state.in_use;
        state.climb.taken(now, in_use);
        drop(state);
        Slot {
            shared: Arc::clone(&self.shared),
            held,
            taken: now,
            units: 0.0,
            overload: false,
        }
    }

    /// How many requests may be on their way now.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.shared.lock().climb.slots()
    }

    /// How many are on their way now.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.shared.lock().in_use
    }

    /// How many were on their way at most.
    #[must_use]
    pub fn peak(&self) -> u32 {
        self.shared.lock().peak
    }

    /// The decisions so far.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        self.shared.lock().steps.clone()
    }
}

impl Shared {
    /// A poisoned lock only means that a task died; the numbers are whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is on its way. When it is dropped, what came of it is counted.
#[derive(Debug)]
pub struct Slot {
    shared: Arc<Shared>,
    held: Option<OwnedSemaphorePermit>,
    taken: Duration,
    units: f64,
    overload: bool,
}

/// Bytes that cost about as much as one more request.
const BYTES_OF_A_REQUEST: f64 = 65_536.0;

impl Slot {
    /// It ended well, and moved so many bytes.
    pub fn moved(&mut self, bytes: u64) {
        self.units += 1.0 + bytes as f64 / BYTES_OF_A_REQUEST;
    }

    /// The store said that it is too much.
    pub fn overloaded(&mut self) {
        self.overload = true;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let now = self.shared.began.elapsed();
        let mut state = self.shared.lock();
        state.in_use = state.in_use.saturating_sub(1);
        let took = now.saturating_sub(self.taken);
        if let Some(step) = state.climb.ended(now, took, self.units, self.overload)
            && state.steps.len() < MOST_STEPS
        {
            state.steps.push(step);
        }
        let wanted = state.climb.slots();
        let kept = state.there - state.surplus;
        if wanted > kept {
            let back = (wanted - kept).min(state.surplus);
            state.surplus -= back;
            let new = wanted - kept - back;
            state.there += new;
            self.shared.slots.add_permits(new as usize);
        } else {
            state.surplus += kept - wanted;
        }
        if state.surplus > 0
            && let Some(held) = self.held.take()
        {
            state.surplus -= 1;
            state.there -= 1;
            held.forget();
        }
    }
}
