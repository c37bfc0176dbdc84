//! Which keys are frequent, in little memory (Misra and Gries): with k counters,
//! a key with more than 1/k of the rows is never missing, and its count is too
//! small by at most 1/k of the rows.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Counts of the keys that may be frequent, by hash.
#[derive(Debug)]
pub(super) struct Frequent {
    counts: HashMap<u64, u64, BuildHasherDefault<AsItIs>>,
    rows: u64,
    /// A key is frequent with more than one row in so many.
    one_in: usize,
}

/// Counters for each key that could be frequent: so the error of a count is a
/// quarter of what makes a key frequent.
const COUNTERS: usize = 4;

impl Frequent {
    pub(super) fn new(one_in: usize) -> Self {
        Self {
            counts: HashMap::default(),
            rows: 0,
            one_in,
        }
    }

    /// Counts a row with this hash of its key; whether the key is frequent now.
    pub(super) fn see(&mut self, hash: u64) -> bool {
        self.rows += 1;
        if let Some(count) = self.counts.get_mut(&hash) {
            *count += 1;
            return *count * self.one_in as u64 > self.rows;
        }
        if self.counts.len() < self.one_in * COUNTERS {
            self.counts.insert(hash, 1);
        } else {
            self.counts.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
        false
    }
}

/// Keys are hashes already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
