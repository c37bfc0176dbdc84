#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, SchemaRef};
use proptest::prelude::*;

use super::{Head, Packer, Unpacked};

/// Columns of all forms; `values` decide how wide whole numbers are.
fn rows(values: &[(Option<i64>, i128, String)]) -> RecordBatch {
    let number = || values.iter().map(|row| row.0);
    let text = || values.iter().map(|row| row.0.map(|_| row.2.as_str()));
    let float = |value: Option<i64>| value.map(|value| value as f64 / 7.0);
    let list = |value: Option<i64>| value.map(|value| vec![Some(value), None]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "i8",
            Arc::new(number().map(|v| v.map(|v| v as i8)).collect::<Int8Array>()),
        ),
        (
            "i16",
            Arc::new(
                number()
                    .map(|v| v.map(|v| v as i16))
                    .collect::<Int16Array>(),
            ),
        ),
        (
            "i32",
            Arc::new(
                number()
                    .map(|v| v.map(|v| v as i32))
                    .collect::<Int32Array>(),
            ),
        ),
        ("i64", Arc::new(number().collect::<Int64Array>())),
        (
            "full",
            Arc::new(
                values
                    .iter()
                    .map(|row| row.1 as i64)
                    .collect::<Int64Array>(),
            ),
        ),
        (
            "f64",
            Arc::new(number().map(float).collect::<Float64Array>()),
        ),
        (
            "wide",
            Arc::new(
                values
                    .iter()
                    .map(|row| Some(row.1))
                    .collect::<Decimal128Array>(),
            ),
        ),
        (
            "day",
            Arc::new(
                number()
                    .map(|v| v.map(|v| v as i32))
                    .collect::<Date32Array>(),
            ),
        ),
        (
            "at",
            Arc::new(
                number()
                    .collect::<TimestampMicrosecondArray>()
                    .with_timezone("UTC"),
            ),
        ),
        (
            "yes",
            Arc::new(
                number()
                    .map(|v| v.map(|v| v % 3 == 0))
                    .collect::<BooleanArray>(),
            ),
        ),
        ("text", Arc::new(text().collect::<StringArray>())),
        (
            "bytes",
            Arc::new(
                text()
                    .map(|v| v.map(str::as_bytes))
                    .collect::<BinaryArray>(),
            ),
        ),
        (
            "list",
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(
                number().map(list),
            )),
        ),
    ];
    let columns = columns
        .into_iter()
        .map(|(name, column)| (name, column, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn unpacked(schema: &SchemaRef, pieces: &[Box<[u8]>]) -> RecordBatch {
    let mut unpacked = Unpacked::new(schema, 7);
    for (section, piece) in (0..).zip(pieces) {
        let (head, body) = Head::divide(piece).unwrap();
        assert_eq!((head.section, head.body_bytes), (section, body.len()));
        unpacked.add(head.rows, body).unwrap();
    }
    unpacked.finish().unwrap()
}

fn some_values() -> impl Strategy<Value = Vec<(Option<i64>, i128, String)>> {
    let number = (any::<i64>(), 0_u32..64).prop_map(|(value, shift)| value >> shift);
    let wide = (any::<i128>(), 0_u32..128).prop_map(|(value, shift)| value >> shift);
    let row = (proptest::option::of(number), wide, "[a-cü]{0,20}");
    proptest::collection::vec(row, 1..90)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Slices too: what is packed may be a part of something larger.
    #[test]
    fn rows_come_back_as_they_were(values in some_values(), from in 0_usize..90, cut in 0_usize..90) {
        let all = rows(&values);
        let from = from % all.num_rows();
        let own = all.slice(from, all.num_rows() - from);
        let cut = cut % own.num_rows();
        let parts = [own.slice(0, cut), own.slice(cut, own.num_rows() - cut)];
        let mut packer = Packer::new(&all.schema());
        let pieces: Vec<_> = (0..).zip(&parts).map(|(section, part)| packer.pack(section, part).unwrap()).collect();
        prop_assert_eq!(unpacked(&all.schema(), &pieces), concat_batches(&all.schema(), &parts).unwrap());
    }

    /// A damaged disk is an error, never a panic. (What is Arrow IPC is Arrow's.)
    #[test]
    fn broken_bytes_are_refused_or_read(values in some_values(), at in any::<usize>(), bit in 0_u8..8) {
        let rows = rows(&values);
        let own: Vec<usize> = (0..rows.num_columns() - 1).collect();
        let rows = rows.project(&own).unwrap();
        let mut piece = Packer::new(&rows.schema()).pack(0, &rows).unwrap();
        let at = super::HEAD_BYTES + at % (piece.len() - super::HEAD_BYTES);
        piece[at] ^= 1 << bit;
        let (head, body) = Head::divide(&piece).unwrap();
        let mut unpacked = Unpacked::new(&rows.schema(), 0);
        if unpacked.add(head.rows, body).is_ok() {
            let _ = unpacked.finish();
        }
        let cut = &body[..at - super::HEAD_BYTES];
        prop_assert!(Unpacked::new(&rows.schema(), 0).add(head.rows, cut).is_err());
    }
}

#[test]
fn keys_of_a_range_and_long_texts_become_short() {
    let near: Vec<_> = (0..1000)
        .map(|n| {
            (
                Some(1 << 40 | n),
                i128::from(n),
                "the same words ".repeat(40),
            )
        })
        .collect();
    let rows = rows(&near);
    let piece = Packer::new(&rows.schema()).pack(0, &rows).unwrap();
    let memory = rows.get_array_memory_size();
    assert!(piece.len() * 8 < memory, "{} of {memory}", piece.len());
    assert_eq!(unpacked(&rows.schema(), &[piece]), rows);
}
