//! A batch: Arrow columns together with the permit that pays for them.
//!
//! The permit lives in the batch and dies with it (B2); nothing else releases
//! memory.

use arrow::array::RecordBatch;

use crate::budget::Permit;

/// Rows of one table on their way through the dataflow.
#[derive(Debug)]
pub struct Batch {
    /// Position of the table in the run's plan.
    pub table: usize,
    /// Ordinal of the split that the rows are of.
    pub split: u32,
    /// Bytes read from the source for these rows.
    pub source_bytes: u64,
    /// The rows.
    pub rows: RecordBatch,
    /// What pays for them.
    pub permit: Permit,
}
