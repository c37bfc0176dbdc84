//! Where in the table which vector is: 16 bytes for each vector, and no more than was
//! paid for.

use std::collections::HashMap;

use super::cache::Hash;

/// What a vector takes in the index, in bytes.
pub(super) const ENTRY_BYTES: u64 = size_of::<Entry>() as u64;

/// So many come into a table of hashes before they become a sorted run: runs are never
/// merged, which would take twice their memory for a moment.
const RUN_ENTRIES: usize = 1 << 16;

/// What that table takes at most, in bytes: twice as many places as entries, each with a
/// byte that says whether it is taken.
pub(super) const RECENT_BYTES: u64 =
    2 * RUN_ENTRIES as u64 * (size_of::<(u64, Place)>() as u64 + 1);

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

#[derive(Debug)]
pub(super) struct Index {
    runs: Vec<Box<[Entry]>>,
    /// What came last.
    recent: HashMap<u64, Place>,
    /// How many runs there may be.
    most_runs: u64,
    left_out: u64,
}

#[allow(clippy::cast_possible_truncation)] // Half of it is the point.
fn half(hash: Hash) -> u64 {
    (hash >> 64) as u64
}

impl Index {
    /// Of at most so many bytes, but always of those of its newest vectors.
    pub(super) fn within(most_bytes: u64) -> Self {
        let run_bytes = RUN_ENTRIES as u64 * ENTRY_BYTES;
        Self {
            runs: Vec::new(),
            recent: HashMap::new(),
            most_runs: most_bytes.saturating_sub(RECENT_BYTES) / run_bytes,
            left_out: 0,
        }
    }

    /// Adds the vectors of a file, row by row; `None` for a row that is of no use.
    pub(super) fn add(&mut self, file: u32, hashes: impl Iterator<Item = Option<Hash>>) {
        for (row, hash) in (0..).zip(hashes) {
            let Some(hash) = hash else { continue };
            self.recent.insert(half(hash), Place { file, row });
            if self.recent.len() >= RUN_ENTRIES {
                self.close_run();
            }
        }
    }

    /// Where a vector probably is.
    pub(super) fn find(&self, hash: Hash) -> Option<Place> {
        let half = half(hash);
        if let Some(place) = self.recent.get(&half) {
            return Some(*place);
        }
        self.runs.iter().rev().find_map(|run| {
            let at = run.partition_point(|entry| entry.half < half);
            let entry = run.get(at).filter(|entry| entry.half == half);
            entry.map(|entry| entry.place)
        })
    }

    /// How many vectors it knows.
    pub(super) fn len(&self) -> u64 {
        let runs: usize = self.runs.iter().map(|run| run.len()).sum();
        (runs + self.recent.len()) as u64
    }

    /// How many it does not know any more: there was no memory for them.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    fn close_run(&mut self) {
        if self.runs.len() as u64 >= self.most_runs {
            self.left_out += self.recent.len() as u64;
            self.recent.clear();
            return;
        }
        let mut run = Vec::with_capacity(self.recent.len());
        let recent = self.recent.drain();
        run.extend(recent.map(|(half, place)| Entry { half, place }));
        run.sort_unstable();
        self.runs.push(run.into_boxed_slice());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of a number, in its upper half.
    fn hash(n: u64) -> Hash {
        Hash::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64
    }

    fn filled(files: u32, rows: u64, most_bytes: u64) -> Index {
        let mut index = Index::within(most_bytes);
        for file in 0..files {
            let hashes =
                (0..rows).map(|row| (row % 7 != 0).then(|| hash(u64::from(file) * rows + row)));
            index.add(file, hashes);
        }
        index
    }

    #[test]
    fn what_was_added_is_found_in_the_old_part_and_in_the_new_one() {
        let index = filled(10, 20_000, 1 << 30);
        assert_eq!(index.runs.len(), 2);
        for n in 0..200_000_u64 {
            let (file, row) = (n / 20_000, n % 20_000);
            let place = Place {
                file: u32::try_from(file).unwrap_or_default(),
                row: u32::try_from(row).unwrap_or_default(),
            };
            assert_eq!(index.find(hash(n)), (row % 7 != 0).then_some(place), "{n}");
        }
        assert_eq!(index.find(hash(200_000)), None);
        assert_eq!((index.left_out(), ENTRY_BYTES), (0, 16));
    }

    #[test]
    fn what_there_is_no_memory_for_is_left_out_and_counted() {
        let index = filled(10, 20_000, RECENT_BYTES + RUN_ENTRIES as u64 * ENTRY_BYTES);
        assert_eq!(index.runs.len(), 1);
        assert_eq!(index.left_out(), RUN_ENTRIES as u64);
        let found = (0..200_000).filter(|n| index.find(hash(*n)).is_some());
        assert_eq!(found.count() as u64, index.len());
    }
}
