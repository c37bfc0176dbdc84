//! The batches that are sent.

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};

/// Bytes of the columns of a batch: an integer, a float, a string of 23 bytes and
/// its offset.
pub(crate) fn column_bytes(rows: usize) -> u64 {
    (rows * (8 + 8 + 23 + 4) + 4) as u64
}

pub(crate) fn batch(rows: usize, seed: i64) -> RecordBatch {
    let ids: Vec<i64> = (0..rows as i64).map(|row| seed * 1_000_000 + row).collect();
    let halves = ids.iter().map(|id| *id as f64 / 2.0);
    let texts = ids.iter().map(|id| format!("text of {id:015}"));
    RecordBatch::try_from_iter([
        (
            "half",
            Arc::new(Float64Array::from_iter_values(halves)) as _,
        ),
        ("text", Arc::new(StringArray::from_iter_values(texts)) as _),
        ("id", Arc::new(Int64Array::from(ids.clone())) as _),
    ])
    .unwrap()
}
