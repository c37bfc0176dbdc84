//! What pays for the objects of a batch, for each its part.
//!
//! Small objects of a batch are long copied and recorded when a large one still is on its
//! way: without this all would be paid for until then, and little else could be found.

use std::sync::{Arc, Mutex, PoisonError};

use highwater::budget::Permit;

/// An object's part of the permit of its batch, given back when this goes. What is paid
/// for is a multiple of the least that a budget gives.
#[derive(Debug)]
pub(super) struct Share(Arc<Mutex<Batch>>);

#[derive(Debug)]
struct Batch {
    permit: Permit,
    each_bytes: u64,
    left: u64,
}

impl Share {
    /// The parts of so many objects.
    pub(super) fn of_each(permit: Permit, objects: usize) -> impl Iterator<Item = Self> {
        let left = objects as u64;
        let batch = Arc::new(Mutex::new(Batch {
            each_bytes: permit.bytes().div_ceil(left.max(1)),
            permit,
            left,
        }));
        (0..objects).map(move |_| Self(Arc::clone(&batch)))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut batch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        batch.left -= 1;
        let bytes = batch.each_bytes * batch.left;
        batch.permit.shrink_to(bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use highwater::budget::MemoryBudget;

    use super::*;

    const UNIT: u64 = 4096;

    #[test]
    fn one_that_takes_long_does_not_hold_what_the_others_cost() {
        let budget = MemoryBudget::new(64 * UNIT);
        let permit = budget.try_take(32 * UNIT).unwrap();
        let mut shares: Vec<Share> = Share::of_each(permit, 256).collect();
        assert_eq!(budget.available_bytes(), 32 * UNIT);
        shares.truncate(128);
        assert_eq!(budget.available_bytes(), 48 * UNIT);
        shares.truncate(1);
        assert_eq!(budget.available_bytes(), 63 * UNIT);
        shares.clear();
        assert_eq!(budget.available_bytes(), budget.total_bytes());
        // One that pays for nothing has parts, too.
        assert_eq!(Share::of_each(Permit::free(), 3).count(), 3);
    }
}
