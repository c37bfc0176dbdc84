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

impl Batch {
    /// The same rows in up to `parts` batches of about as many rows each, which
    /// share the columns. Permit and source bytes are divided; their sums stay.
    #[must_use]
    pub fn in_parts(self, parts: usize) -> Vec<Batch> {
        let rows = self.rows.num_rows();
        let each = rows.div_ceil(parts.max(1)).max(1);
        let begins = (0..rows).step_by(each);
        let lengths: Vec<usize> = begins.map(|begin| each.min(rows - begin)).collect();
        let mut begin = 0;
        let slices = lengths.iter().map(|length| {
            begin += length;
            self.rows.slice(begin - length, *length)
        });
        let slices: Vec<RecordBatch> = slices.collect();
        self.divided_into(slices)
    }

    /// Divides what is not rows among batches of these rows, which are all of its
    /// rows; by their number, rounded on the sum, so that nothing is lost.
    pub(crate) fn divided_into(mut self, parts: Vec<RecordBatch>) -> Vec<Batch> {
        let rows: u128 = parts.iter().map(|part| part.num_rows() as u128).sum();
        let share = |bytes: u64, of: u128| {
            let due = u128::from(bytes) * of / rows.max(1);
            u64::try_from(due).unwrap_or(u64::MAX)
        };
        let permit_bytes = self.permit.bytes();
        let (mut before, mut paid) = (0, 0);
        let divided = parts.into_iter().map(|part| {
            let after = before + part.num_rows() as u128;
            let due = share(permit_bytes, after).saturating_sub(paid);
            let permit = self.permit.split(due);
            paid += permit.bytes();
            let source_bytes = share(self.source_bytes, after) - share(self.source_bytes, before);
            before = after;
            Batch {
                table: self.table,
                split: self.split,
                source_bytes,
                rows: part,
                permit,
            }
        });
        divided.collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::budget::MemoryBudget;

    #[test]
    fn parts_have_all_rows_and_all_that_was_paid() {
        for (rows, parts, expected) in [(10, 3, 3), (10, 1, 1), (3, 10, 3), (0, 4, 0), (7, 0, 1)] {
            let budget = MemoryBudget::new(1 << 20);
            let ids: Int64Array = (0..rows).collect::<Vec<i64>>().into();
            let batch = Batch {
                table: 1,
                split: 2,
                source_bytes: 1001,
                rows: RecordBatch::try_from_iter([("id", Arc::new(ids) as _)]).unwrap(),
                permit: budget.try_take(11 * 4096).unwrap(),
            };
            let parts = batch.in_parts(parts);
            assert_eq!(parts.len(), expected);
            let seen = parts.iter().flat_map(|part| {
                let ids = part.rows.column(0).as_primitive::<Int64Type>();
                ids.values().to_vec()
            });
            assert_eq!(seen.collect::<Vec<_>>(), (0..rows).collect::<Vec<_>>());
            if expected > 0 {
                let source: u64 = parts.iter().map(|part| part.source_bytes).sum();
                assert_eq!(source, 1001);
                let paid: u64 = parts.iter().map(|part| part.permit.bytes()).sum();
                assert_eq!(paid, 11 * 4096);
            }
            drop(parts);
            assert_eq!(budget.available_bytes(), budget.total_bytes());
        }
    }
}
