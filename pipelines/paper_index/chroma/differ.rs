//! What differs in a range, by differential dataflow.
//!
//! Points of the newer files count +1, those of the older ones -1; equal ones cancel,
//! wherever in the files they stand. A range holds few files, so that both sides fit into
//! memory whatever the size of the table.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use highwater::app::{Failure, RunContext};
use highwater_operators::transform::changes::{Count, Counted, Element, changes};
use timely::dataflow::operators::vec::ToStream as _;

/// One side of a range: ids as numbers, and the hash of all that may differ.
pub(super) type Side = Vec<(u128, u128)>;

/// What is to be done in a range, by the ids as numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// New or different.
    pub(super) upsert: HashSet<u128>,
    /// Only the older side has them.
    pub(super) delete: HashSet<u128>,
}

/// Compares both sides, each worker a share of them.
///
/// # Errors
/// A worker died.
pub(super) fn differ(newer: Side, older: Side, context: &RunContext) -> Result<Changed, Failure> {
    let left: Arc<Mutex<HashMap<Element, Count>>> = Arc::default();
    let (sides, seen) = (Arc::new((newer, older)), Arc::clone(&left));
    context.crew.run(move |scope| {
        let (worker, peers) = (scope.worker().index(), scope.worker().peers());
        let share = |side: &Side, count: Count| -> Vec<Counted> {
            let of_worker = side.iter().skip(worker).step_by(peers);
            of_worker
                .map(|(key, content)| (Element::new(0, *key, *content), 0, count))
                .collect()
        };
        let newer = share(&sides.0, 1).to_stream(scope);
        let older = share(&sides.1, -1).to_stream(scope);
        let seen = Arc::clone(&seen);
        changes(newer, older).inspect(move |(element, _, count)| {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            *seen.entry(*element).or_default() += count;
        });
    })?;
    let left = std::mem::take(&mut *left.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Changed::of(left))
}

impl Changed {
    fn of(left: HashMap<Element, Count>) -> Self {
        let mut changed = Self::default();
        for (element, count) in &left {
            match count {
                1.. => changed.upsert.insert(element.key_hash()),
                0 => false,
                _ => changed.delete.insert(element.key_hash()),
            };
        }
        // What is on both sides and differs is written, not removed.
        changed.delete.retain(|key| !changed.upsert.contains(key));
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_written_and_what_is_gone_removed() {
        let left = [
            (Element::new(0, 1, 7), 1),
            (Element::new(0, 2, 7), 1),
            (Element::new(0, 2, 8), -1),
            (Element::new(0, 3, 9), -1),
            (Element::new(0, 4, 9), 0),
        ];
        let changed = Changed::of(left.into_iter().collect());
        assert_eq!(changed.upsert, HashSet::from([1, 2]));
        assert_eq!(changed.delete, HashSet::from([3]));
    }
}
