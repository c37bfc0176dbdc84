//! The memory budget: bytes are paid for before they exist (B1).
//!
//! One [`MemoryBudget`] per process. A [`Permit`] is a number of bytes taken
//! from it; it lives beside what it pays for and gives the bytes back when it is
//! dropped (B2). What encoders need is taken once, at the start, so that a full
//! reading side can never starve the writing side (B3).

mod limit;

pub use limit::{Allowance, LimitOrigin, MemoryLimit, default_workers};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes per semaphore unit: permits are rounded up to it, so that a budget of
/// any size fits the semaphore's 32-bit requests.
const UNIT_BYTES: u64 = 4096;

/// A number of bytes that the process may hold, shared by everything that holds
/// them. Cloning shares it.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    units: Arc<Semaphore>,
    total_units: u64,
    waits: AtomicU64,
}

impl MemoryBudget {
    /// A budget of `bytes`.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let total_units = (bytes / UNIT_BYTES).clamp(1, u64::from(u32::MAX));
        let units = usize::try_from(total_units).unwrap_or(usize::MAX);
        Self {
            inner: Arc::new(Inner {
                units: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
                total_units,
                waits: AtomicU64::new(0),
            }),
        }
    }

    /// The whole budget, in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.inner.total_units * UNIT_BYTES
    }

    /// What is not held by a permit now, in bytes.
    #[must_use]
    pub fn available_bytes(&self) -> u64 {
        self.inner.units.available_permits() as u64 * UNIT_BYTES
    }

    /// How often somebody had to wait for memory.
    #[must_use]
    pub fn waits(&self) -> u64 {
        self.inner.waits.load(Ordering::Relaxed)
    }

    /// Waits until `bytes` are free and takes them. A request larger than the
    /// whole budget is granted when everything else has been given back: one
    /// oversized thing may pass alone, it never waits for ever.
    pub async fn take(&self, bytes: u64) -> Permit {
        let units = self.units_for(bytes);
        let held = match Arc::clone(&self.inner.units).try_acquire_many_owned(units) {
            Ok(held) => Some(held),
            Err(_) => {
                self.inner.waits.fetch_add(1, Ordering::Relaxed);
                // Only a closed semaphore fails, and this one is never closed.
                Arc::clone(&self.inner.units)
                    .acquire_many_owned(units)
                    .await
                    .ok()
            }
        };
        Permit {
            held,
            units_bytes: UNIT_BYTES,
        }
    }

    /// Takes `bytes` if they are free now.
    #[must_use]
    pub fn try_take(&self, bytes: u64) -> Option<Permit> {
        let held = Arc::clone(&self.inner.units)
            .try_acquire_many_owned(self.units_for(bytes))
            .ok()?;
        Some(Permit {
            held: Some(held),
            units_bytes: UNIT_BYTES,
        })
    }

    fn units_for(&self, bytes: u64) -> u32 {
        let units = bytes.div_ceil(UNIT_BYTES).min(self.inner.total_units);
        u32::try_from(units).unwrap_or(u32::MAX)
    }
}

/// Bytes taken from a [`MemoryBudget`]; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    held: Option<OwnedSemaphorePermit>,
    units_bytes: u64,
}

impl Permit {
    /// A permit for nothing, for values that are paid for elsewhere.
    #[must_use]
    pub fn free() -> Self {
        Self {
            held: None,
            units_bytes: UNIT_BYTES,
        }
    }

    /// How many bytes it pays for.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.held
            .as_ref()
            .map_or(0, |held| held.num_permits() as u64 * self.units_bytes)
    }

    /// Gives back what is paid beyond `bytes`: the estimate is corrected when
    /// the truth is known (B1).
    pub fn shrink_to(&mut self, bytes: u64) {
        let keep = usize::try_from(bytes.div_ceil(self.units_bytes)).unwrap_or(usize::MAX);
        if let Some(held) = &mut self.held {
            let surplus = held.num_permits().saturating_sub(keep);
            drop(held.split(surplus));
        }
    }

    /// Cuts off a permit for `bytes`, or for what is left.
    pub fn split(&mut self, bytes: u64) -> Self {
        let wanted = usize::try_from(bytes.div_ceil(self.units_bytes)).unwrap_or(usize::MAX);
        let cut = |held: &mut OwnedSemaphorePermit| held.split(wanted.min(held.num_permits()));
        Self {
            held: self.held.as_mut().and_then(cut),
            units_bytes: self.units_bytes,
        }
    }

    /// Joins `other` into this permit.
    pub fn merge(&mut self, other: Permit) {
        match (&mut self.held, other.held) {
            (Some(held), Some(more)) => held.merge(more),
            (none, more) => *none = more,
        }
    }
}
