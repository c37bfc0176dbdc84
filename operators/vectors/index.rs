//! Where in the table which vector is: a sorted list of 16 bytes for each vector.

use std::collections::HashMap;

use super::cache::Hash;

/// What a vector takes in the index, in bytes.
pub(super) const ENTRY_BYTES: u64 = size_of::<Entry>() as u64;

/// A row of a file of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) file: u32,
    pub(super) row: u32,
}

/// The first half of a hash and where it is; whoever reads the row compares the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    half: u64,
    place: Place,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    sorted: Vec<Entry>,
    /// What came since.
    recent: HashMap<u64, Place>,
}

#[allow(clippy::cast_possible_truncation)] // Half of it is the point.
fn half(hash: Hash) -> u64 {
    (hash >> 64) as u64
}

impl Index {
    /// Adds the vectors of a file, row by row; `None` for a row that is of no use.
    pub(super) fn add(&mut self, file: u32, hashes: impl Iterator<Item = Option<Hash>>) {
        for (row, hash) in (0..).zip(hashes) {
            if let Some(hash) = hash {
                self.recent.insert(half(hash), Place { file, row });
            }
        }
        if self.recent.len() > self.sorted.len() / 8 + 1024 {
            self.settle();
        }
    }

    /// Where a vector probably is.
    pub(super) fn find(&self, hash: Hash) -> Option<Place> {
        let half = half(hash);
        if let Some(place) = self.recent.get(&half) {
            return Some(*place);
        }
        let at = self.sorted.partition_point(|entry| entry.half < half);
        let entry = self.sorted.get(at).filter(|entry| entry.half == half);
        entry.map(|entry| entry.place)
    }

    /// How many vectors it knows.
    pub(super) fn len(&self) -> u64 {
        (self.sorted.len() + self.recent.len()) as u64
    }

    fn settle(&mut self) {
        self.sorted.reserve_exact(self.recent.len());
        let recent = self.recent.drain();
        self.sorted
            .extend(recent.map(|(half, place)| Entry { half, place }));
        self.sorted.sort_unstable();
        self.sorted.dedup_by_key(|entry| entry.half);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_found_in_the_old_part_and_in_the_new_one() {
        let hash = |n: u64| Hash::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64;
        let mut index = Index::default();
        for file in 0..10_u32 {
            let rows =
                (0..500).map(|row| (row % 7 != 0).then(|| hash(u64::from(file) * 500 + row)));
            index.add(file, rows);
        }
        assert!(!index.sorted.is_empty());
        for n in 0..5000_u64 {
            let (file, row) = (n / 500, n % 500);
            let place = Place {
                file: u32::try_from(file).unwrap_or_default(),
                row: u32::try_from(row).unwrap_or_default(),
            };
            assert_eq!(index.find(hash(n)), (row % 7 != 0).then_some(place), "{n}");
        }
        assert_eq!(index.find(hash(5000)), None);
        assert_eq!(ENTRY_BYTES, 16);
    }
}
