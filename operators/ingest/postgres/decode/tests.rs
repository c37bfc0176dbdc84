//! Decoders against encodings written here by the protocol's description.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use arrow::array::{Array, AsArray, ListArray};
use arrow::datatypes::{DataType, Field, Int32Type};
use highwater::dataset::{Column, Fidelity, Table, TableName};
use proptest::prelude::*;

use super::{Decoder, Flaw, Rows};

fn tuple(fields: &[Option<&[u8]>]) -> Vec<u8> {
    let mut bytes = (fields.len() as i16).to_be_bytes().to_vec();
    for field in fields {
        match field {
            None => bytes.extend((-1_i32).to_be_bytes()),
            Some(field) => {
                bytes.extend((field.len() as i32).to_be_bytes());
                bytes.extend(*field);
            }
        }
    }
    bytes
}

fn column(name: &str, lake_type: DataType) -> Column {
    Column {
        name: name.into(),
        source_type: "?".into(),
        lake_type,
        nullable: true,
        fidelity: Fidelity::Exact,
    }
}

fn table(columns: Vec<Column>, key: Vec<usize>) -> Table {
    let name = TableName {
        schema: None,
        name: "t".into(),
    };
    Table {
        name,
        columns,
        key,
        estimated_rows: None,
        estimated_bytes: 0,
    }
}

fn array(dimensions: &[(i32, i32)], items: &[Option<i32>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [dimensions.len() as i32, 1, 23] {
        bytes.extend(word.to_be_bytes());
    }
    for (count, first) in dimensions {
        bytes.extend(count.to_be_bytes());
        bytes.extend(first.to_be_bytes());
    }
    for item in items {
        match item {
            None => bytes.extend((-1_i32).to_be_bytes()),
            Some(item) => {
                bytes.extend(4_i32.to_be_bytes());
                bytes.extend(item.to_be_bytes());
            }
        }
    }
    bytes
}

fn int_list() -> (Decoder, DataType) {
    let field = Arc::new(Field::new("element", DataType::Int32, true));
    (
        Decoder::list(Arc::clone(&field), Decoder::int32()),
        DataType::List(field),
    )
}

proptest! {
    #[test]
    fn lists_come_back(lists in proptest::collection::vec(
        proptest::option::of(proptest::collection::vec(any::<Option<i32>>(), 0..6)), 0..30)) {
        let (mut decoder, lake_type) = int_list();
        for list in &lists {
            match list {
                None => decoder.push_null(),
                Some(list) if list.is_empty() => decoder.push(&array(&[], &[])).unwrap(),
                Some(list) => decoder.push(&array(&[(list.len() as i32, 1)], list)).unwrap(),
            }
        }
        let wanted = ListArray::from_iter_primitive::<Int32Type, _, _>(lists.clone());
        let found = decoder.finish(&lake_type, &mut Vec::new());
        let found = found.as_list::<i32>();
        prop_assert_eq!(found.len(), wanted.len());
        for row in 0..found.len() {
            prop_assert_eq!(found.is_valid(row), wanted.is_valid(row));
            if found.is_valid(row) {
                prop_assert_eq!(&found.value(row), &wanted.value(row));
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let (mut decoder, _) = int_list();
        let _ = decoder.push(&bytes);
        let table = table(vec![column("a", DataType::Int32), column("b", DataType::Utf8)], vec![]);
        let mut rows = Rows::new(table.schema(), table.key.clone(), vec![Decoder::int32(), Decoder::text()], true, 1000, None);
        let _ = rows.push(&bytes);
        let _ = rows.reaches(&bytes);
    }
}

#[test]
fn arrays_that_are_no_lists_are_refused_and_the_next_ones_are_whole() {
    let (mut decoder, lake_type) = int_list();
    for (bytes, reason) in [
        (
            array(&[(2, 1), (1, 1)], &[Some(1), Some(2)]),
            "2 dimensions",
        ),
        (array(&[(2, 0)], &[Some(1), Some(2)]), "first index is 0"),
    ] {
        let flaw = decoder.push(&bytes).unwrap_err();
        assert!(
            matches!(&*flaw, Flaw::Value { reason: found, .. } if found.contains(reason)),
            "{flaw:?}"
        );
        decoder.push_null();
    }
    decoder.push(&array(&[(1, 1)], &[Some(7)])).unwrap();
    let list = decoder.finish(&lake_type, &mut Vec::new());
    assert_eq!(list.null_count(), 2);
    assert_eq!(
        list.as_list::<i32>()
            .value(2)
            .as_primitive::<Int32Type>()
            .values(),
        &[7]
    );
}

#[test]
fn bad_rows_leave_the_batch_with_their_key_and_nothing_else_does() {
    let columns = vec![
        column("id", DataType::Int32),
        column("day", DataType::Date32),
        column("note", DataType::Utf8),
    ];
    let table = table(columns, vec![0]);
    let mut rows = Rows::new(
        table.schema(),
        table.key.clone(),
        vec![Decoder::int32(), Decoder::date(), Decoder::text()],
        false,
        1 << 20,
        None,
    );
    let infinity = i32::MAX.to_be_bytes();
    let (day, zero) = (5_i32.to_be_bytes(), 0_i32.to_be_bytes());
    for (id, day, note) in [
        (1_i32, Some(&day), Some(&b"good"[..])),
        (2, Some(&infinity), Some(b"bad day")),
        (3, Some(&zero), Some(b"not \xff text")),
        (4, None, None),
    ] {
        let id = id.to_be_bytes();
        rows.push(&tuple(&[Some(&id), day.map(|day| &day[..]), note]))
            .unwrap();
    }
    let finished = rows.finish().unwrap();
    assert_eq!(
        finished
            .batch
            .column(0)
            .as_primitive::<Int32Type>()
            .values(),
        &[1, 4]
    );
    assert_eq!(finished.batch.column(2).as_string::<i32>().value(0), "good");
    assert!(finished.batch.column(2).is_null(1));
    let found: Vec<_> = finished
        .bad
        .iter()
        .map(|bad| (bad.key["id"].as_deref().unwrap(), &*bad.column, &*bad.value))
        .collect();
    assert_eq!(
        found,
        [("2", "day", "infinity"), ("3", "note", "not \\xff text")]
    );
    // The next batch starts clean.
    rows.begin();
    rows.push(&tuple(&[Some(&9_i32.to_be_bytes()), None, None]))
        .unwrap();
    let finished = rows.finish().unwrap();
    assert_eq!((finished.batch.num_rows(), finished.bad.len()), (1, 0));
}

#[test]
fn rows_without_a_key_are_named_by_their_place() {
    let table = table(vec![column("day", DataType::Date32)], vec![]);
    let mut rows = Rows::new(
        table.schema(),
        table.key.clone(),
        vec![Decoder::date()],
        true,
        1 << 20,
        None,
    );
    let infinity = i32::MIN.to_be_bytes();
    rows.push(&tuple(&[Some(&infinity), Some(&[0, 0, 1, 0, 0, 7])]))
        .unwrap();
    let finished = rows.finish().unwrap();
    assert_eq!(finished.bad[0].key["ctid"].as_deref(), Some("(256,7)"));
    assert_eq!(finished.batch.num_rows(), 0);
}

#[test]
fn a_changed_table_is_an_error_not_a_shifted_column() {
    let table = table(vec![column("id", DataType::Int32)], vec![]);
    let mut rows = Rows::new(
        table.schema(),
        table.key.clone(),
        vec![Decoder::int32()],
        false,
        1 << 20,
        None,
    );
    let error = rows.push(&tuple(&[Some(&[0; 8])])).unwrap_err();
    assert_eq!(error.column.as_deref(), Some("id"));
    assert!(rows.push(&tuple(&[Some(&[0; 4]), None])).is_err());
    assert!(rows.push(&[0, 1, 0, 0]).is_err());
    assert!(rows.push(&(-1_i16).to_be_bytes()).unwrap().is_none());
}
