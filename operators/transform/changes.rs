//! What differs between two collections, by differential dataflow.
//!
//! Both sides are multisets of (key, content): the newer counts +1, the older
//! -1. Equal things cancel wherever they meet, so that what is held is what one
//! side has and the other has not shown yet; what is left in the end are inserts,
//! updates and deletes, exactly. Nothing here knows where the sides come from.

use differential_dataflow::AsCollection;
use differential_dataflow::collection::vec::Collection;
use serde::{Deserialize, Serialize};
use timely::dataflow::StreamVec;

use highwater::flow::Epoch;

/// One element of a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Element {
    /// The number of the collection it belongs to (a table of the run's plan).
    pub of: u32,
    /// What makes it the same thing in both sides, hashed, in four parts: as one
    /// number it would be padded to 16 bytes more.
    pub key: [u32; 4],
    /// All that may differ, hashed.
    pub content: [u32; 4],
}

impl Element {
    /// An element of collection `of`.
    #[must_use]
    pub fn new(of: u32, key: u128, content: u128) -> Self {
        Self {
            of,
            key: parts(key),
            content: parts(content),
        }
    }

    /// The key's hash.
    #[must_use]
    pub fn key_hash(&self) -> u128 {
        whole(self.key)
    }
}

#[allow(clippy::cast_possible_truncation)] // The parts are the point.
fn parts(hash: u128) -> [u32; 4] {
    [96, 64, 32, 0].map(|shift| (hash >> shift) as u32)
}

fn whole(parts: [u32; 4]) -> u128 {
    let join = |whole: u128, part: u32| whole << 32 | u128::from(part);
    parts.into_iter().fold(0, join)
}

/// What an element costs while it has not met its equal, in bytes: itself, its
/// time and its count.
pub const ELEMENT_BYTES: u64 = size_of::<((Element, ()), Epoch, Count)>() as u64;

/// How often an element counts: a table has fewer than 2^31 equal rows.
pub type Count = i32;

/// An element and how often it counts.
pub type Counted = (Element, Epoch, Count);

/// The differences: elements that are not as often in `newer` (counted +1) as
/// in `older` (counted -1), with how often more (or, below zero, less).
pub fn changes<'scope>(
    newer: StreamVec<'scope, Epoch, Counted>,
    older: StreamVec<'scope, Epoch, Counted>,
) -> Collection<'scope, Epoch, Element, Count> {
    newer
        .as_collection()
        .concat(older.as_collection())
        .consolidate()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use timely::dataflow::operators::vec::ToStream;

    use super::*;

    fn differences(
        newer: Vec<(u8, u8)>,
        older: Vec<(u8, u8)>,
        workers: usize,
    ) -> BTreeMap<Element, Count> {
        let found = Arc::new(Mutex::new(BTreeMap::new()));
        let seen = Arc::clone(&found);
        let guards = timely::execute(timely::Config::process(workers), move |worker| {
            let (index, peers) = (worker.index(), worker.peers());
            // Each worker reads its share of both sides.
            let share = |side: &[(u8, u8)], count: Count| -> Vec<Counted> {
                let of_worker = side.iter().enumerate().filter(|(n, _)| n % peers == index);
                of_worker
                    .map(|(_, &(key, content))| {
                        (Element::new(0, key.into(), content.into()), 0, count)
                    })
                    .collect()
            };
            let (newer, older) = (share(&newer, 1), share(&older, -1));
            let seen = Arc::clone(&seen);
            worker.dataflow::<Epoch, _, _>(move |scope| {
                changes(newer.to_stream(scope), older.to_stream(scope)).inspect(
                    move |(element, _, count)| {
                        *seen.lock().unwrap().entry(*element).or_default() += count;
                    },
                );
            });
        })
        .unwrap();
        drop(guards);
        Arc::try_unwrap(found).unwrap().into_inner().unwrap()
    }

    #[test]
    fn hashes_come_back_from_their_parts() {
        let hash = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;
        assert_eq!(Element::new(0, hash, 0).key_hash(), hash);
        assert_eq!(ELEMENT_BYTES, 48);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_is_left_is_the_difference_of_the_multisets(
            newer in proptest::collection::vec((0_u8..6, 0_u8..3), 0..40),
            older in proptest::collection::vec((0_u8..6, 0_u8..3), 0..40),
            workers in 1_usize..3,
        ) {
            let mut expected: BTreeMap<Element, Count> = BTreeMap::new();
            for (side, count) in [(&newer, 1), (&older, -1)] {
                for &(key, content) in side {
                    *expected.entry(Element::new(0, key.into(), content.into())).or_default() += count;
                }
            }
            expected.retain(|_, count| *count != 0);
            prop_assert_eq!(differences(newer, older, workers), expected);
        }
    }
}
