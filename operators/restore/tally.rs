//! What rows sum up to, whatever their order: their number and, modulo 2^128,
//! the sum of their hashes (see [`fingerprint`](crate::transform::fingerprint)).

use std::fmt;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use highwater::budget::{MemoryBudget, Permit};
use highwater::source::{BadRow, Emit, SourceError};

use super::{RestoreMemory, failed};
use crate::transform::fingerprint::{Encoder, Hash, hash_key};

/// A sum of rows.
pub(crate) struct Tally {
    encoder: Encoder,
    rows: u64,
    sum: Hash,
    /// The first row that has no place in the lake, although it came from there.
    bad: Option<BadRow>,
    budget: MemoryBudget,
    batch_bytes: u64,
}

impl Tally {
    pub(super) fn new(schema: &SchemaRef, memory: &RestoreMemory) -> Result<Self, SourceError> {
        let encoder = Encoder::whole(schema)
            .map_err(|error| failed(format!("rows cannot be compared: {error}")))?;
        Ok(Self {
            encoder,
            rows: 0,
            sum: 0,
            bad: None,
            budget: memory.batches.clone(),
            batch_bytes: memory.batch_bytes,
        })
    }

    /// Adds rows.
    pub(crate) fn add(&mut self, rows: &RecordBatch) -> Result<(), SourceError> {
        let encoded = self
            .encoder
            .encode(rows)
            .map_err(|error| failed(format!("rows cannot be compared: {error}")))?;
        let hashes = encoded.iter().map(|row| hash_key(0, row.as_ref()));
        self.sum = hashes.fold(self.sum, Hash::wrapping_add);
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    /// Notes a row that cannot be read back.
    pub(crate) fn refuse(&mut self, row: BadRow) {
        self.bad.get_or_insert(row);
    }

    /// The size that batches should have, in bytes.
    pub(crate) fn batch_bytes(&self) -> u64 {
        self.batch_bytes
    }

    pub(super) fn equals(&self, other: &Self) -> bool {
        self.bad.is_none() && self.rows == other.rows && self.sum == other.sum
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn digest(&self) -> String {
        format!("{:032x}", self.sum)
    }

    /// What to say of the row that cannot be read back.
    pub(super) fn example(&self) -> String {
        self.bad.as_ref().map_or_else(String::new, |row| {
            format!(" (column {}: {}: {})", row.column, row.value, row.reason)
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows of digest {}", self.rows, self.digest())
    }
}

#[async_trait]
impl Emit for Tally {
    async fn permit(&mut self, bytes: u64) -> Permit {
        self.budget.take(bytes).await
    }

    fn batch_bytes(&self) -> u64 {
        self.batch_bytes
    }

    async fn batch(
        &mut self,
        rows: RecordBatch,
        _paid: Permit,
        _source_bytes: u64,
    ) -> Result<(), SourceError> {
        self.add(&rows)
    }

    async fn quarantine(&mut self, row: BadRow) -> Result<(), SourceError> {
        self.refuse(row);
        Ok(())
    }
}
