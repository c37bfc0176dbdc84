//! Z-order: rows that are near each other in several columns at once are near
//! each other in the file.
//!
//! Each column's value becomes its rank among the values of a sample, and the
//! bits of the ranks are interleaved. Ranks, not values: where half of the rows
//! share a narrow band of values, that band gets half of the ranks.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};

use super::keys::{Encoder, Keys, section_start, wide};
use crate::packed;

/// Bits of all ranks together: what a prefix has room for.
const ALL_BITS: usize = 96;

/// Bits of a rank: more than a sample can tell apart are of no use.
const MOST_BITS: usize = 14;

/// What gives values of some columns their rank. Whoever orders rows of the same
/// table must have the same.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Ranks(
    /// For each column the different values of a sample, in order.
    #[serde(with = "packed")]
    Vec<Vec<u128>>,
);

/// Ranks of some columns, interleaved.
#[derive(Debug)]
pub(super) struct ZOrder {
    columns: Vec<Ranked>,
    bits: usize,
}

#[derive(Debug)]
struct Ranked {
    encoder: Encoder,
    values: Vec<u128>,
}

fn encoders(
    schema: &SchemaRef,
    columns: &[usize],
) -> impl Iterator<Item = Result<Encoder, ArrowError>> {
    let encoder = |column: &usize| Encoder::new(schema, &[(*column, false)]);
    columns.iter().map(encoder)
}

fn bits(columns: usize) -> usize {
    (ALL_BITS / columns.max(1)).clamp(1, MOST_BITS)
}

impl Ranks {
    /// By `sample`, whose columns stand where those of the rows do.
    pub(super) fn new(
        schema: &SchemaRef,
        columns: &[usize],
        sample: &[RecordBatch],
    ) -> Result<Self, ArrowError> {
        let ranks = encoders(schema, columns).map(|encoder| {
            let encoder = encoder?;
            let mut values = Vec::new();
            for batch in sample {
                values.extend(encoder.rows(batch)?.iter().map(|row| wide(row.data())));
            }
            values.sort_unstable();
            values.dedup();
            // No more ranks than bits can hold, evenly.
            let step = values.len().div_ceil((1 << bits(columns.len())) - 1);
            Ok(values.into_iter().step_by(step.max(1)).collect())
        });
        ranks.collect::<Result<_, ArrowError>>().map(Self)
    }
}

impl ZOrder {
    /// Orders by `ranks`; a column without any has one rank.
    pub(super) fn new(
        schema: &SchemaRef,
        columns: &[usize],
        ranks: Ranks,
    ) -> Result<Self, ArrowError> {
        let mut values = ranks.0.into_iter();
        let ranked = encoders(schema, columns).map(|encoder| {
            Ok(Ranked {
                encoder: encoder?,
                values: values.next().unwrap_or_default(),
            })
        });
        Ok(Self {
            columns: ranked.collect::<Result<_, ArrowError>>()?,
            bits: bits(columns.len()),
        })
    }

    /// The interleaved ranks of the rows, below their section.
    pub(super) fn keys(&self, section: u32, batch: &RecordBatch) -> Result<Keys, ArrowError> {
        let mut codes = vec![0_u128; batch.num_rows()];
        let count = self.columns.len();
        for (position, column) in self.columns.iter().enumerate() {
            let rows = column.encoder.rows(batch)?;
            for (code, row) in codes.iter_mut().zip(rows.iter()) {
                let rank = column.rank(wide(row.data()), self.bits);
                // The first column has the highest of each group of bits.
                *code |= spread(rank, count) << (count - 1 - position);
            }
        }
        let used = self.bits * count;
        let start = section_start(section);
        let prefix = codes
            .into_iter()
            .map(|code| start | (code << ALL_BITS.saturating_sub(used)))
            .collect();
        Ok(Keys { prefix, rest: None })
    }
}

impl Ranked {
    /// The rank of a value, over the whole range of `bits`.
    fn rank(&self, value: u128, bits: usize) -> u64 {
        let below = self.values.partition_point(|known| *known < value) as u64;
        let rank = (below << bits) / (self.values.len() as u64).max(1);
        // What is greater than all of the sample shares the last rank.
        rank.min((1 << bits) - 1)
    }
}

/// The bits of `rank`, each followed by `count - 1` others.
fn spread(rank: u64, count: usize) -> u128 {
    let mut rest = rank;
    let mut spread = 0;
    let mut place = 0;
    while rest != 0 {
        spread |= u128::from(rest & 1) << place;
        rest >>= 1;
        place += count;
    }
    spread
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    fn order_of(batch: &RecordBatch) -> ZOrder {
        let sample = std::slice::from_ref(batch);
        let ranks = Ranks::new(&batch.schema(), &[0, 1], sample).unwrap();
        let text = serde_json::to_string(&ranks).unwrap();
        let ranks = serde_json::from_str(&text).unwrap();
        ZOrder::new(&batch.schema(), &[0, 1], ranks).unwrap()
    }

    fn points(x: Vec<i64>, y: Vec<i64>) -> RecordBatch {
        let x: ArrayRef = Arc::new(Int64Array::from(x));
        let y: ArrayRef = Arc::new(Int64Array::from(y));
        RecordBatch::try_from_iter([("x", x), ("y", y)]).unwrap()
    }

    #[test]
    fn a_square_is_visited_quarter_by_quarter() {
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for at in 0..64 {
            x.push(at % 8);
            y.push(at / 8);
        }
        let batch = points(x, y);
        let order = order_of(&batch);
        let keys = order.keys(3, &batch).unwrap();
        let mut rows: Vec<usize> = (0..64).collect();
        rows.sort_by_key(|&row| keys.prefix(row));
        let quarter = |row: usize| (row % 8 / 4, row / 8 / 4);
        let quarters: Vec<_> = rows.iter().map(|&row| quarter(row)).collect();
        let changes = quarters.windows(2).filter(|pair| pair[0] != pair[1]);
        assert_eq!(changes.count(), 3, "{quarters:?}");
    }

    /// Without ranks the 990 values near zero would share one code.
    #[test]
    fn skew_does_not_spoil_it() {
        let mut x: Vec<i64> = (0..990).collect();
        x.extend((1..=10).map(|far| far * 1_000_000_000));
        let batch = points(x, vec![0; 1000]);
        let order = order_of(&batch);
        let keys = order.keys(0, &batch).unwrap();
        let different: std::collections::HashSet<_> = keys.prefix.iter().collect();
        assert_eq!(different.len(), 1000);
    }
}
