//! How the memory limit is divided. Small and large objects have shares of their
//! own: neither waits for memory that the other holds.

use highwater::app::RunContext;
use highwater::budget::MemoryBudget;
use highwater::run::Config;
use highwater::store::Store;
use highwater::store::objects::{BLOCK_BYTES, Buffers, Objects};
use highwater::store::pace::{Bounds, Pace};
use highwater_operators::ingest::objects::{LISTED_BYTES, recorded_schema};
use highwater_operators::sink::lake::FileFormat;
use highwater_operators::sink::objects::Lane;

const MIB: u64 = 1 << 20;

/// Objects are copied in parts from this size on, where there is memory enough.
const LARGE_FROM_BYTES: u64 = 8 * MIB;

/// A part is so large that the lane holds so many of them ...
const PARTS_IN_LANE: u64 = 8;

/// ... but parts beyond this size gain nothing.
const LARGEST_PART_BYTES: u64 = 32 << 20;

/// What a run needs less than one that encodes tables, for which the fixed part of the
/// limit was measured: copies under a limit of 128 MiB peaked 37 MiB below it.
const SPARED: u64 = 8 * MIB;

/// Records of a worker that wait for the disk, however much memory there is: what a killed run has to
/// find again.
const MOST_UNSAVED: usize = 4096;

/// The shares of a run.
pub(super) struct Memory {
    /// Pays for differences on their way to the copier.
    pub(super) listing: MemoryBudget,
    /// For objects that are copied as a whole.
    pub(super) small: Lane,
    /// For parts.
    pub(super) large: Lane,
    /// Objects of this size or more are copied in parts, in bytes.
    pub(super) large_from_bytes: u64,
    /// Records of a worker that wait for the disk at most.
    pub(super) most_unsaved: usize,
    /// How files of the record are encoded.
    pub(super) format: FileFormat,
}

impl Memory {
    /// Says how many requests are on their way.
    pub(super) fn in_use(&self) -> impl Fn() -> u32 + Send + Sync + 'static {
        let (small, large) = (self.small.clone(), self.large.clone());
        let paces = [small.read, small.write, large.read, large.write];
        move || paces.iter().map(Pace::in_use).sum()
    }

    /// Parts are as `target` wants them.
    pub(super) fn divide(
        config: &Config,
        context: &RunContext,
        record: &Store,
        target: &dyn Objects,
    ) -> Self {
        let budget = context.allowance.budget.as_u64() + SPARED;
        let workers = context.workers() as u64;
        let listing = (budget / 8).clamp(MIB, 64 * MIB);
        let rest = budget.saturating_sub(listing);
        let (small, large) = (rest / 2, rest - rest / 2);
        let wanted = config
            .objects
            .as_ref()
            .and_then(|objects| objects.multipart_from);
        let wanted = wanted.map_or(LARGE_FROM_BYTES, |wanted| wanted.as_u64());
        let lane = |bytes: u64, buffers, start: u32, most: u32| Lane {
            budget: MemoryBudget::new(bytes),
            buffers,
            read: pace(start, most),
            write: pace(start, most),
        };
        Self {
            listing: MemoryBudget::new(listing),
            small: lane(small, Buffers::used_once(), 16, 512),
            large: lane(large, Buffers::of(part_bytes(large, target)), 4, 64),
            // Several must fit, or they would pass one at a time.
            large_from_bytes: wanted.min(small / 4).max(1),
            most_unsaved: most_unsaved(listing, workers),
            format: FileFormat::within(
                MIB / workers,
                recorded_schema().fields().len() as u64,
                record,
                &config.files,
            ),
        }
    }
}

/// How many records of a worker may wait: those of all hold a quarter of what pays for
/// differences.
fn most_unsaved(listing_bytes: u64, workers: u64) -> usize {
    let records = listing_bytes / 4 / LISTED_BYTES / workers;
    let records = usize::try_from(records).unwrap_or(usize::MAX);
    records.clamp(1, MOST_UNSAVED)
}

/// How large parts are: so large that the lane holds some, as the target wants them, and
/// in whole blocks of a disk.
fn part_bytes(lane_bytes: u64, target: &dyn Objects) -> usize {
    let least = target.parts_limits().0.start;
    let wanted = (lane_bytes / PARTS_IN_LANE)
        .min(LARGEST_PART_BYTES)
        .max(least);
    let bytes = wanted.next_multiple_of(BLOCK_BYTES as u64);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn pace(start: u32, most: u32) -> Pace {
    Pace::new(Bounds {
        start,
        least: 1,
        most,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_wait_leave_memory_for_what_is_found() {
        for listing in [5 * MIB / 2, 8 * MIB, 64 * MIB] {
            for workers in [1, 4, 16, 64] {
                let waiting = most_unsaved(listing, workers) as u64 * workers * LISTED_BYTES;
                assert!(waiting <= listing / 4, "{listing} by {workers}");
            }
        }
        assert_eq!(most_unsaved(64 * MIB, 1), MOST_UNSAVED);
    }
}
