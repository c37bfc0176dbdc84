#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::Buffer;
use arrow::datatypes::*;
use proptest::prelude::*;

use super::*;
use crate::batch::Batch;
use crate::budget::Permit;

/// Columns of every kind, with NULLs where they can be.
fn columns() -> RecordBatch {
    let numbers: Int32Array = (0..40).map(|n| (n % 7 != 0).then_some(n)).collect();
    let texts: StringArray = (0..40)
        .map(|n| (n % 5 != 0).then(|| "é".repeat(n)))
        .collect();
    let views: StringViewArray = texts.iter().collect();
    let bytes: BinaryViewArray = texts.iter().map(|text| text.map(str::as_bytes)).collect();
    let words: DictionaryArray<Int16Type> = (0..40)
        .map(|n| ["a", "bc", "def"].get(n % 4).copied())
        .collect();
    let amounts: Decimal128Array = numbers.iter().map(|n| n.map(i128::from)).collect();
    let mut lists = ListBuilder::new(StringBuilder::new());
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    let mut codes = FixedSizeBinaryBuilder::new(5);
    for n in 0..40_i64 {
        for m in 0..n % 4 {
            lists.values().append_value(m.to_string());
            maps.keys().append_value(m.to_string());
            maps.values().append_option((m != 2).then_some(m));
        }
        lists.append(n % 3 != 0);
        maps.append(n % 6 != 0).unwrap();
        codes.append_value([n as u8; 5]).unwrap();
    }
    let flags: BooleanArray = (0..40).map(|n| Some(n % 3 == 0)).collect();
    let structs = StructArray::from(vec![
        (
            Arc::new(Field::new("n", DataType::Int32, true)),
            Arc::new(numbers.clone()) as ArrayRef,
        ),
        (
            Arc::new(Field::new("flag", DataType::Boolean, true)),
            Arc::new(flags.clone()) as ArrayRef,
        ),
    ]);
    let nested = words.clone();
    let nested = StructArray::from(vec![(
        Arc::new(Field::new("word", nested.data_type().clone(), true)),
        Arc::new(nested) as ArrayRef,
    )]);
    RecordBatch::try_from_iter_with_nullable([
        ("numbers", Arc::new(numbers) as ArrayRef, true),
        ("texts", Arc::new(texts) as _, true),
        ("views", Arc::new(views) as _, true),
        ("bytes", Arc::new(bytes) as _, true),
        ("words", Arc::new(words) as _, true),
        (
            "amounts",
            Arc::new(amounts.with_precision_and_scale(20, 3).unwrap()) as _,
            true,
        ),
        ("lists", Arc::new(lists.finish()) as _, true),
        ("maps", Arc::new(maps.finish()) as _, true),
        ("codes", Arc::new(codes.finish()) as _, true),
        ("flags", Arc::new(flags) as _, true),
        ("structs", Arc::new(structs) as _, true),
        ("nested", Arc::new(nested) as _, true),
        ("nulls", Arc::new(NullArray::new(40)) as _, true),
    ])
    .unwrap()
}

fn plain() -> RecordBatch {
    columns().project(&[0, 1, 2, 5, 6]).unwrap()
}

fn batch(rows: RecordBatch) -> Batch {
    Batch {
        table: 9,
        split: 4,
        source_bytes: 1234,
        rows,
        permit: Permit::free(),
    }
}

fn written(frame: &Outgoing) -> Buffer {
    let bytes: Vec<u8> = frame.parts().flatten().copied().collect();
    assert_eq!(bytes.len(), frame.bytes());
    assert_eq!(bytes.len() % 8, 0);
    Buffer::from(bytes.as_slice())
}

fn frame(rows: RecordBatch) -> Vec<u8> {
    let frame = Encoder::new(1, 2).encode(0, &batch(rows)).unwrap();
    written(&frame).to_vec()
}

#[test]
fn every_kind_of_column_comes_out_as_it_went_in() {
    for rows in [
        columns(),
        columns().slice(3, 20),
        columns().slice(39, 1),
        columns().slice(7, 0),
        plain(),
    ] {
        let (mut encoder, mut decoder) = (Encoder::new(7, 3), Decoder::default());
        for _ in 0..3 {
            let frame = encoder.encode(2, &batch(rows.clone())).unwrap();
            let arrived = decoder.decode(&written(&frame)).unwrap();
            assert_eq!(arrived.rows, rows);
            let told = (
                arrived.sender,
                arrived.table,
                arrived.split,
                arrived.source_bytes,
            );
            assert_eq!(told, (7, 9, 4, 1234));
        }
    }
}

#[test]
fn a_batch_without_columns_keeps_its_rows() {
    let options = RecordBatchOptions::new().with_row_count(Some(5));
    let rows =
        RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
    let arrived = Decoder::default()
        .decode(&Buffer::from(frame(rows).as_slice()))
        .unwrap();
    assert_eq!(arrived.rows.num_rows(), 5);
}

#[test]
fn a_schema_goes_once_to_each_worker() {
    let mut encoder = Encoder::new(0, 3);
    let plain_batch = batch(plain());
    let first = encoder.encode(1, &plain_batch).unwrap().bytes();
    let second = encoder.encode(1, &plain_batch).unwrap();
    assert!(second.bytes() < first);
    // An equal schema is the same schema.
    assert_eq!(
        encoder.encode(1, &batch(plain())).unwrap().bytes(),
        second.bytes()
    );
    assert_eq!(encoder.encode(2, &plain_batch).unwrap().bytes(), first);
    // The control: who was never told of the schema refuses the frame.
    let refused = Decoder::default().decode(&written(&second)).unwrap_err();
    assert!(refused.reason.contains("never told"), "{refused}");
}

#[test]
fn schemas_beyond_the_limit_take_the_place_of_old_ones() {
    let (mut encoder, mut decoder) = (Encoder::new(0, 1), Decoder::default());
    let rows = |name: String| {
        RecordBatch::try_from_iter([(name, Arc::new(Int8Array::from(vec![1])) as ArrayRef)])
            .unwrap()
    };
    for n in (0..MAX_SCHEMAS + 10).chain([0, 5, MAX_SCHEMAS]) {
        let rows = rows(format!("column {n}"));
        let frame = encoder.encode(0, &batch(rows.clone())).unwrap();
        assert_eq!(decoder.decode(&written(&frame)).unwrap().rows, rows);
    }
}

#[test]
fn a_slice_of_views_does_not_carry_the_rest() {
    let texts: StringViewArray = (0..1000)
        .map(|n| Some(format!("a text beyond twelve bytes {n}")))
        .collect();
    let rows = RecordBatch::try_from_iter([("texts", Arc::new(texts) as ArrayRef)]).unwrap();
    let whole = frame(rows.clone()).len();
    assert!(frame(rows.slice(10, 5)).len() < whole / 20);
}

#[test]
fn what_is_cut_short_is_refused() {
    let frame = frame(columns());
    for length in 0..frame.len() {
        Decoder::default()
            .decode(&Buffer::from(&frame[..length]))
            .unwrap_err();
    }
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("HIGHWATER_FUZZ_CASES").ok();
    let cases = cases.and_then(|cases| cases.parse().ok()).unwrap_or(512);
    ProptestConfig {
        cases,
        ..ProptestConfig::default()
    }
}

/// Whatever it is, it is read or refused; what is read can be looked at.
fn survives(bytes: &[u8]) {
    if let Ok(arrived) = Decoder::default().decode(&Buffer::from(bytes)) {
        for column in arrived.rows.columns() {
            column.to_data().validate_full().unwrap();
        }
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), head in any::<bool>()) {
        let mut bytes = bytes;
        if head && bytes.len() >= 4 {
            bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        }
        survives(&bytes);
    }

    #[test]
    fn changed_frames_are_read_or_refused(
        dictionaries in any::<bool>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = frame(if dictionaries { columns() } else { plain() });
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        survives(&bytes);
    }

    #[test]
    fn lengths_that_lie_are_read_or_refused(
        dictionaries in any::<bool>(),
        at in any::<prop::sample::Index>(),
        lie in prop_oneof![any::<u64>(), 0..100_u64, Just(u64::MAX), Just(i64::MAX as u64), Just(1 << 31), Just(1 << 40)],
    ) {
        let mut bytes = frame(if dictionaries { columns() } else { plain() });
        let at = at.index(bytes.len() / 8) * 8;
        bytes[at..at + 8].copy_from_slice(&lie.to_le_bytes());
        survives(&bytes);
    }

    #[test]
    fn parcels_are_cut_or_refused(frames in any::<u64>(), bytes in proptest::collection::vec(any::<u8>(), 0..200), copies in 0..4_usize) {
        let frame = frame(plain());
        let mut all = frame.repeat(copies);
        prop_assert_eq!(crate::flow::exchange::parcels::cut(copies as u64, Buffer::from(all.as_slice())).unwrap().len(), copies);
        all.extend(bytes);
        let _ = crate::flow::exchange::parcels::cut(frames, Buffer::from(all.as_slice()));
    }
}
