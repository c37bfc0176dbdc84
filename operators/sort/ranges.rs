//! Cuts the key space into ranges: which worker has which, and how much of it is
//! sorted at once.

use std::cmp::Ordering;

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use super::keys::{Keys, section_of, section_start};
use super::order::Order;
use crate::packed::{self, Packed};

/// Ranges of all workers together, at most: each may have a spill file open.
const MOST_RANGES: u64 = 256;

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionShare {
    /// Bytes of its rows, in whatever unit `Cutting` counts in.
    pub bytes: u64,
}

/// How ranges are cut.
#[derive(Debug, Clone, Copy)]
pub struct Cutting {
    /// Workers that sort.
    pub workers: usize,
    /// No worker gets less than this of a section that is cut, in bytes of the
    /// sections: what it writes should be a file worth having.
    pub least_bytes: u64,
    /// What a range should hold at most, in bytes of the sections.
    pub range_bytes: u64,
}

/// The ranges, in the order of their keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ranges {
    /// Where one ends and the next begins, the latter included.
    #[serde(with = "packed")]
    bounds: Vec<Bound>,
    /// Who has each; one more than there are bounds.
    workers: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Bound {
    prefix: u128,
    /// The rest of the key, and then a [`Tie`]: a key's encoding never begins
    /// with another's, so both compare as one.
    rest: Vec<u8>,
}

/// Where a row is among those with the same key, from the first (0) to the last.
/// A bound has one too, so that a key with half of the rows can be divided.
pub(super) type Tie = u32;

/// Places for rows in the order in which they are met: of any stretch of them
/// each part of the places gets its share, whatever the rows are.
#[derive(Debug, Default)]
pub(super) struct Ties(Tie);

impl Ties {
    pub(super) fn next(&mut self) -> Tie {
        // The golden ratio: its multiples never fall into a pattern.
        self.0 = self.0.wrapping_add(0x9E37_79B9);
        self.0
    }
}

impl Bound {
    fn start_of(section: u32) -> Self {
        Self {
            prefix: section_start(section),
            rest: Vec::new(),
        }
    }

    fn new(prefix: u128, rest: &[u8], tie: Tie) -> Self {
        Self {
            prefix,
            rest: [rest, &tie.to_be_bytes()].concat(),
        }
    }

    /// Whether a row with this rest of its key is not before it. Their prefixes
    /// are the same.
    fn is_reached(&self, rest: &[u8], tie: Tie) -> bool {
        match self.rest.split_last_chunk() {
            Some((own, own_tie)) => (own, Tie::from_be_bytes(*own_tie)) <= (rest, tie),
            // The start of a section.
            None => true,
        }
    }
}

/// Gives each of these sorted keys its place among those that are the same.
fn place_ties(keys: &mut [Bound]) {
    for same in keys.chunk_by_mut(|a, b| a == b) {
        let all = same.len() as u64;
        for (before, key) in (0..).zip(same) {
            let tie = Tie::try_from((before << 32) / all).unwrap_or(Tie::MAX);
            if let Some(place) = key.rest.last_chunk_mut() {
                *place = tie.to_be_bytes();
            }
        }
    }
}

/// The prefix and the rest of each.
impl Packed for Vec<Bound> {
    fn pack(&self) -> Vec<u8> {
        let bytes = |bound: &Bound| {
            let prefix = bound.prefix.to_le_bytes().into_iter();
            prefix.chain(bound.rest.iter().copied()).collect()
        };
        self.iter().map(bytes).collect::<Vec<Box<[u8]>>>().pack()
    }

    fn unpack(bytes: &[u8]) -> Option<Self> {
        let bounds = Vec::<Box<[u8]>>::unpack(bytes)?;
        let bounds = bounds.iter().map(|bytes| {
            let (prefix, rest) = bytes.split_first_chunk()?;
            Some(Bound {
                prefix: u128::from_le_bytes(*prefix),
                rest: rest.to_vec(),
            })
        });
        bounds.collect()
    }
}

impl Ranges {
    /// Everything in one range, of the first worker.
    #[must_use]
    pub fn one() -> Self {
        Self {
            bounds: Vec::new(),
            workers: vec![0],
        }
    }

    /// Cuts by a sample of the rows, of each section in proportion to its bytes.
    ///
    /// # Errors
    /// The sample has no keys. In words.
    pub fn cut(
        order: &Order,
        sample: &[(u32, RecordBatch)],
        sections: &[SectionShare],
        cutting: Cutting,
    ) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (section, batch) in sample {
            let found = order.route(*section, batch);
            let found = found.map_err(|error| error.to_string())?;
            let found = &found;
            let rows = 0..batch.num_rows();
            keys.extend(rows.map(|row| Bound::new(found.prefix(row), found.rest(row), 0)));
        }
        keys.sort_unstable();
        if order.divides_equals() {
            place_ties(&mut keys);
        }
        let whole: u64 = sections.iter().map(|section| section.bytes).sum();
        let most = (MOST_RANGES / cutting.workers.max(1) as u64).max(1);
        let mut cuts: Vec<Bound> = Vec::new();
        for worker in 1..cutting.workers as u64 {
            let at = whole / cutting.workers as u64 * worker;
            let cut = worker_cut(&keys, sections, at, cutting.least_bytes);
            cuts.push(cut.max(cuts.last().cloned().unwrap_or(Bound::start_of(0))));
        }
        let mut ranges = Self {
            bounds: Vec::new(),
            workers: Vec::new(),
        };
        let ends = cuts.iter().cloned().map(Some).chain([None]);
        let mut from = 0;
        for (worker, end) in ends.enumerate() {
            if worker > 0 {
                ranges.bounds.extend(cuts.get(worker - 1).cloned());
            }
            let to = end.map_or(keys.len(), |end| keys.partition_point(|key| *key < end));
            let own = keys.get(from..to.max(from)).unwrap_or_default();
            let share = whole * own.len() as u64 / keys.len().max(1) as u64;
            let pieces = share.div_ceil(cutting.range_bytes.max(1)).clamp(1, most);
            let inner = (1..pieces).filter_map(|piece| {
                let at = own.len() as u64 * piece / pieces;
                own.get(usize::try_from(at).ok()?).cloned()
            });
            ranges.bounds.extend(inner);
            ranges.workers.resize(ranges.bounds.len() + 1, worker);
            from = to.max(from);
        }
        Ok(ranges)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// Whether there is nothing to choose from.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// Finds ranges of rows.
    pub(super) fn finder(&self) -> Finder<'_> {
        let ends = self.bounds.first().zip(self.bounds.last());
        let (least, most) = ends.map_or((0, 0), |(least, most)| (least.prefix, most.prefix));
        let bits = 128 - (most - least).leading_zeros();
        let shift = bits.saturating_sub(BUCKET_BITS);
        let starts = (0..=(most - least) >> shift).map(|bucket| {
            let before = |bound: &Bound| (bound.prefix - least) >> shift < bucket;
            self.bounds.partition_point(before)
        });
        Finder {
            bounds: &self.bounds,
            least,
            shift,
            starts: starts.chain([self.bounds.len()]).collect(),
        }
    }

    /// One number for a range and a section that reaches into it. Along the order
    /// either the one or the other counts up, so their sum tells both.
    pub(super) fn parcel(range: usize, section: u32) -> u32 {
        section.saturating_add(u32::try_from(range).unwrap_or(u32::MAX))
    }

    /// The range and the section of a parcel.
    pub(super) fn of_parcel(&self, parcel: u32) -> (usize, u32) {
        let starts = (1_u32..).zip(&self.bounds);
        let first = |(range, bound): (u32, &Bound)| section_of(bound.prefix).saturating_add(range);
        let range = starts
            .map(first)
            .take_while(|first| *first <= parcel)
            .count();
        let before = u32::try_from(range).unwrap_or(u32::MAX);
        (range, parcel.saturating_sub(before))
    }

    /// The worker that has a range.
    pub(super) fn worker(&self, range: usize) -> usize {
        self.workers.get(range).copied().unwrap_or(0)
    }
}

/// Buckets of a [`Finder`], as a power of two: more than ranges, so that most have
/// one bound or none.
const BUCKET_BITS: u32 = 11;

/// Finds the range of a row; a bucket of the prefixes, then what is in it.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    bounds: &'a [Bound],
    least: u128,
    shift: u32,
    /// The first bound of each bucket, and of none.
    starts: Vec<usize>,
}

impl Finder<'_> {
    /// How many ranges there are.
    pub(super) fn len(&self) -> usize {
        self.bounds.len() + 1
    }

    /// The range that a row is in; `tie` counts where its key is that of a bound.
    pub(super) fn of(&self, keys: &Keys, row: usize, tie: Tie) -> usize {
        let prefix = keys.prefix(row);
        let Some(above) = prefix.checked_sub(self.least) else {
            return 0;
        };
        let bucket = usize::try_from(above >> self.shift).unwrap_or(usize::MAX);
        let own = self
            .starts
            .get(bucket)
            .zip(self.starts.get(bucket.saturating_add(1)));
        let Some((&from, &to)) = own else {
            return self.bounds.len();
        };
        let own = self.bounds.get(from..to).unwrap_or_default();
        let reached = own.partition_point(|bound| match bound.prefix.cmp(&prefix) {
            Ordering::Less => true,
            Ordering::Equal => bound.is_reached(keys.rest(row), tie),
            Ordering::Greater => false,
        });
        from + reached
    }
}

/// Where a worker's share begins: `at` bytes from the start, unless that leaves
/// too little of a section on one side.
fn worker_cut(keys: &[Bound], sections: &[SectionShare], at: u64, least: u64) -> Bound {
    let mut before = 0;
    for (number, section) in (0_u32..).zip(sections) {
        let within = at.saturating_sub(before);
        if within > section.bytes {
            before += section.bytes;
            continue;
        }
        if section.bytes < least.saturating_mul(2) {
            let nearer = u32::from(within * 2 >= section.bytes);
            return Bound::start_of(number + nearer);
        }
        let within = within.clamp(least, section.bytes - least);
        let from = keys.partition_point(|key| section_of(key.prefix) < number);
        let to = keys.partition_point(|key| section_of(key.prefix) <= number);
        let own = keys.get(from..to).unwrap_or_default();
        let place = u128::from(within) * own.len() as u128 / u128::from(section.bytes.max(1));
        let found = usize::try_from(place).ok().and_then(|place| own.get(place));
        return found.cloned().unwrap_or(Bound::start_of(number));
    }
    Bound::start_of(u32::try_from(sections.len()).unwrap_or(u32::MAX))
}
