//! How the memory limit is divided (B3). Rows are read, gathered, sorted and
//! written at the same time, each within a share of its own: none waits for memory
//! that another holds. Rows that are sorted are written when all have come, but what
//! reading took is not lent to sorting: the allocator keeps it for its threads.

use highwater::app::RunContext;
use highwater::budget::MemoryBudget;
use highwater::run::Config;
use highwater::store::Store;
use highwater_operators::ingest::groups::OPEN_AHEAD;
use highwater_operators::lake::SMALL_BYTES;
use highwater_operators::sink::lake::FileFormat;

const MIB: u64 = 1 << 20;

/// Bytes for a row's key while it is sorted, beside the row. An estimate.
const KEY_BYTES: u64 = 64;

/// The columns of a range of this size, each by itself, stay in the processor's
/// cache while its rows are put in order.
const CACHED_BYTES: u64 = 4 * MIB;

/// What sorting takes beside what is paid for, however large the limit: runs that are merged,
/// and the allocator's slack between its threads. Measured: of 25 runs within 160 MiB seven
/// peaked up to 10 MiB beyond it without.
const UNPAID_BYTES: u64 = 16 * MIB;

/// The shares of one table.
pub(super) struct Memory {
    /// Pays for batches.
    pub(super) reading: MemoryBudget,
    /// Pays for row groups that are read.
    pub(super) row_groups: MemoryBudget,
    /// Pays for sorted rows on their way to the sink.
    pub(super) sorted: MemoryBudget,
    /// What may be on its way to each other process, in bytes.
    pub(super) window_bytes: u64,
    /// What each worker gathers before it divides it, in bytes.
    pub(super) gather_bytes: u64,
    /// What each worker may hold while it sorts, in bytes.
    pub(super) sort_bytes: u64,
    /// The size of a batch, in bytes.
    pub(super) batch_bytes: u64,
    /// How files are encoded.
    pub(super) format: FileFormat,
}

impl Memory {
    /// Divides what a table of so many columns may use. `sorts` says whether rows
    /// are put in order, or files only joined.
    pub(super) fn divide(
        config: &Config,
        context: &RunContext,
        lake: &Store,
        columns: usize,
        sorts: bool,
    ) -> Self {
        let workers = context.workers() as u64;
        let others = context.crew.place().processes.saturating_sub(1) as u64;
        // Small files that are opened ahead are in memory as a whole.
        let ahead = workers * OPEN_AHEAD as u64 * SMALL_BYTES;
        let budget = context.allowance.budget.as_u64();
        let unpaid = ahead + if sorts { UNPAID_BYTES } else { 0 };
        let budget = budget.saturating_sub(unpaid).max(budget / 2);
        let eighth = budget / 8;
        // Gathered rows exist twice while they are divided.
        let (reading, gather, sort) = match sorts {
            true => (eighth, eighth / 2, 2 * eighth),
            false => (2 * eighth, 0, 0),
        };
        let (row_groups, sorted) = (eighth / 2, if sorts { eighth / 2 } else { 0 });
        let windows = if others > 0 { eighth / 2 } else { 0 };
        // Pages that reading gave back and the allocator still keeps when rows are
        // written: measured, the peak was 20 MiB beyond a limit of 512 without.
        let kept = if sorts { eighth } else { 0 };
        let writing = budget - reading - gather - sort - row_groups - sorted - windows - kept;
        Self {
            reading: MemoryBudget::new(reading),
            row_groups: MemoryBudget::new(row_groups),
            sorted: MemoryBudget::new(sorted.max(MIB)),
            window_bytes: windows / others.max(1) / 2,
            // The readers of a worker always have the other half.
            gather_bytes: reading.min(2 * gather) / workers / 2,
            sort_bytes: sort / workers,
            batch_bytes: (reading / workers / 8).clamp(MIB / 4, MIB),
            format: FileFormat::within(writing / workers, columns as u64, lake, &config.files),
        }
    }

    /// How much of rows of so many bytes is sorted at once: with their keys they
    /// take three quarters of what a worker sorts in at most, which leaves room for
    /// a bad estimate.
    pub(super) fn range_bytes(&self, row_bytes: u64) -> u64 {
        let rows = self.sort_bytes * 3 / 8 / (row_bytes + KEY_BYTES).max(1);
        (rows * row_bytes).clamp(1, CACHED_BYTES)
    }
}
