//! How the memory limit is divided (B3): encoders own their share from the
//! start, so that a full reading side can never starve the writing side. What
//! comes one after the other (comparing, then merging) uses the same memory.

use bytesize::ByteSize;
use highwater::app::RunContext;
use highwater::budget::MemoryBudget;
use highwater::run::Config;
use highwater::run::prepare::{Prepared, PreparedTable};
use highwater::store::Store;
use highwater_operators::sink::lake::FileFormat;
use highwater_operators::transform::changes::ELEMENT_BYTES;

use super::together::order::Needs;

const MIB: u64 = 1 << 20;

/// The size of files in bytes, unless the configuration names one.
const FILE_BYTES: u64 = 128 * MIB;

/// A mirrored table has about so many files, if they are not too small for that:
/// a change rewrites whole files.
const MIRROR_FILES: u64 = 64;

/// The least size of such a file in bytes.
const LEAST_FILE_BYTES: u64 = 4 * MIB;

/// Rows take about so many times less room in the lake than in the source.
const COMPRESSION: u64 = 4;

/// The shares of one run.
pub(super) struct Memory {
    /// Pays for batches.
    pub(super) reading: MemoryBudget,
    /// Pays for row groups of the lake that are read.
    pub(super) row_groups: MemoryBudget,
    /// For the keys of changed rows, in bytes.
    pub(super) keys_bytes: u64,
    /// What may be on its way to each other process, in bytes.
    pub(super) window_bytes: u64,
    /// For elements of a comparison.
    pub(super) elements: u64,
    /// The size of a batch, in bytes.
    pub(super) batch_bytes: u64,
    /// How files are encoded.
    pub(super) format: FileFormat,
    file_target: Option<ByteSize>,
    /// What the shares were made for.
    pub(super) needs: Needs,
}

impl Needs {
    /// Of these tables; `merges` says whether the lake is read too.
    pub(super) fn of(prepared: &Prepared, merges: bool) -> Self {
        let columns = prepared.tables.iter();
        let columns = columns.map(|table| table.read.table.columns.len());
        Self {
            widest: columns.max().unwrap_or(0) as u64,
            merges,
        }
    }
}

impl Memory {
    /// Divides what a run may use.
    pub(super) fn divide(
        config: &Config,
        context: &RunContext,
        lake: &Store,
        needs: Needs,
    ) -> Self {
        let budget = context.allowance.budget.as_u64();
        let workers = context.workers() as u64;
        // A merge reads from two sides, and keeps the keys of what has changed.
        let (reading, row_groups, keys) = if needs.merges {
            (budget / 8, budget / 8, budget / 8)
        } else {
            (budget / 4, 0, 0)
        };
        let writing = budget - reading - row_groups - keys;
        // A comparison comes before any writing. It has an exchange for each of
        // its sides, and each of them twice the window.
        let others = context.crew.place().processes.saturating_sub(1) as u64;
        let window_bytes = (writing / 16 / others.max(1)).clamp(MIB / 4, 8 * MIB);
        let windows = 4 * others * window_bytes;
        Self {
            window_bytes,
            reading: MemoryBudget::new(reading),
            row_groups: MemoryBudget::new(row_groups),
            keys_bytes: keys,
            elements: writing.saturating_sub(windows) / ELEMENT_BYTES,
            // Small batches stay in the cache between decoding and encoding.
            batch_bytes: (reading / workers / 8).clamp(MIB / 4, MIB),
            format: FileFormat::within(writing / workers, needs.widest, lake, &config.files),
            file_target: config.files.target,
            needs,
        }
    }

    /// The size that files of a table should have, in bytes.
    pub(super) fn file_bytes(&self, table: &PreparedTable) -> u64 {
        if let Some(wanted) = self.file_target {
            return wanted.as_u64();
        }
        if table.mirror.is_none() {
            return FILE_BYTES;
        }
        let lake = table.ledger.head().map_or(0, |head| head.bytes);
        let expected = lake.max(table.read.table.estimated_bytes / COMPRESSION);
        (expected / MIRROR_FILES).clamp(LEAST_FILE_BYTES, FILE_BYTES)
    }
}
