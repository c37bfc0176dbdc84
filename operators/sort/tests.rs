//! Sorting against the standard library's, in shares of every size.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cmp::Reverse;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;

use super::keys::section_of;
use super::order::{Newest, Order, OrderSpec, SortColumn};
use super::ranges::{Cutting, Ranges, SectionShare, Ties};
use super::sorter::{Share, SortCounts, Sorter};
use super::spill::{SpillError, SpillFolder};
use super::zorder::Ranks;

/// A row: a number, a text, and a number that only this row has.
type Row = (Option<i64>, Option<String>, i64);

fn batch(rows: &[Row]) -> RecordBatch {
    let number: Int64Array = rows.iter().map(|row| row.0).collect();
    let text: StringArray = rows.iter().map(|row| row.1.as_deref()).collect();
    let own = Int64Array::from_iter_values(rows.iter().map(|row| row.2));
    let columns: [(&str, ArrayRef); 3] = [
        ("n", Arc::new(number)),
        ("t", Arc::new(text)),
        ("own", Arc::new(own)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
        .unwrap()
}

fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let number = batch.column(0).as_primitive::<Int64Type>();
    let text = batch.column(1).as_string::<i32>();
    let own = batch.column(2).as_primitive::<Int64Type>();
    let number = |row| number.is_valid(row).then(|| number.value(row));
    let text = |row| text.is_valid(row).then(|| text.value(row).to_owned());
    (0..batch.num_rows())
        .map(|row| (number(row), text(row), own.value(row)))
        .collect()
}

fn up(name: &str) -> SortColumn {
    SortColumn {
        name: name.to_owned(),
        descending: false,
    }
}

fn down(name: &str) -> SortColumn {
    SortColumn {
        descending: true,
        ..up(name)
    }
}

fn spec(sort: Vec<SortColumn>) -> OrderSpec {
    OrderSpec {
        sort,
        ..OrderSpec::default()
    }
}

fn share(bytes: u64) -> Share {
    Share {
        bytes,
        sort_bytes: bytes,
        batch_rows: 7,
        fan_in: 2,
    }
}

/// Sorts batches of one section; rows with the split that they came out with.
fn sorted(
    spec: &OrderSpec,
    batches: &[RecordBatch],
    ranges: &Ranges,
    share: Share,
) -> (Vec<(u32, Row)>, SortCounts) {
    let ranks = spec.ranks(&batches[0].schema(), batches).unwrap();
    let order = Order::new(&batches[0].schema(), spec, ranks).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let spill = SpillFolder::new(folder.path().to_owned());
    let mut sorter = Sorter::new(&order, ranges, &spill, share);
    let mut ties = Ties::default();
    for rows in batches {
        let keys = order.route(0, rows).unwrap();
        for row in 0..rows.num_rows() {
            let range = ranges.finder().of(&keys, row, ties.next());
            assert!(range < ranges.len());
            let parcel = Ranges::parcel(range, 0);
            assert_eq!(ranges.of_parcel(parcel), (range, 0));
            sorter.add(parcel, &rows.slice(row, 1)).unwrap();
        }
    }
    let mut out = Vec::new();
    let emit = |split, rows: RecordBatch| {
        out.extend(rows_of(&rows).into_iter().map(|row| (split, row)));
        Ok::<_, SpillError>(())
    };
    sorter.finish(emit).unwrap();
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "leftovers"
    );
    (out, sorter.counts)
}

fn some_rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (
        proptest::option::of(-20_i64..20),
        proptest::option::of("[a-c]{0,20}"),
    );
    proptest::collection::vec(row, 1..300).prop_map(|rows| {
        let numbered = (0..).zip(rows);
        numbered
            .map(|(own, (number, text))| (number, text, own))
            .collect()
    })
}

/// NULLs are greater than everything.
fn last<T: Ord + Clone>(value: &Option<T>) -> (bool, Option<T>) {
    (value.is_none(), value.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rows_come_out_in_order_whatever_the_share(rows in some_rows(), bytes in 1_u64..40_000) {
        let spec = spec(vec![up("t"), down("n"), up("own")]);
        let batches: Vec<_> = rows.chunks(50).map(batch).collect();
        let (out, counts) = sorted(&spec, &batches, &Ranges::one(), share(bytes));
        let mut expected = rows.clone();
        expected.sort_by_key(|(n, t, own)| (last(t), Reverse(last(n)), *own));
        let out: Vec<Row> = out.into_iter().map(|(_, row)| row).collect();
        prop_assert_eq!(out, expected);
        prop_assert_eq!((counts.rows_in, counts.rows_out), (rows.len() as u64, rows.len() as u64));
    }

    #[test]
    fn ranges_follow_each_other(rows in some_rows(), pieces in 1_u64..20) {
        let spec = spec(vec![up("n"), up("t")]);
        let batches: Vec<_> = rows.chunks(50).map(batch).collect();
        let order = Order::new(&batches[0].schema(), &spec, Ranks::default()).unwrap();
        let sample: Vec<_> = batches.iter().map(|batch| (0, batch.clone())).collect();
        let cutting = Cutting { workers: 3, least_bytes: 10, range_bytes: (1000 / pieces).max(1) };
        let shares = [SectionShare { bytes: 1000 }];
        let ranges = Ranges::cut(&order, &sample, &shares, cutting).unwrap();
        let text = serde_json::to_string(&ranges).unwrap();
        let ranges: Ranges = serde_json::from_str(&text).unwrap();
        let workers: Vec<usize> = (0..ranges.len()).map(|range| ranges.worker(range)).collect();
        prop_assert!(workers.is_sorted() && workers.last() <= Some(&2), "{workers:?}");
        let (out, _) = sorted(&spec, &batches, &ranges, share(2000));
        let mut expected = rows.clone();
        expected.sort_by_key(|(n, t, _)| (last(n), last(t)));
        let keys = |rows: &[Row]| -> Vec<_> { rows.iter().map(|row| (row.0, row.1.clone())).collect() };
        let out: Vec<Row> = out.into_iter().map(|(_, row)| row).collect();
        prop_assert_eq!(keys(&out), keys(&expected));
    }

    #[test]
    fn the_newest_of_each_key_stays(rows in some_rows(), bytes in 1_u64..20_000) {
        let spec = OrderSpec {
            newest: Some(Newest { key: vec!["t".to_owned()], version: "own".to_owned() }),
            ..spec(vec![up("t")])
        };
        let batches: Vec<_> = rows.chunks(50).map(batch).collect();
        let (out, counts) = sorted(&spec, &batches, &Ranges::one(), share(bytes));
        let mut newest = std::collections::BTreeMap::new();
        for row in &rows {
            newest.insert(last(&row.1), row.clone());
        }
        let expected: Vec<Row> = newest.into_values().collect();
        let out: Vec<Row> = out.into_iter().map(|(_, row)| row).collect();
        prop_assert_eq!(counts.rows_out, out.len() as u64);
        prop_assert_eq!(out, expected);
    }
}

/// Rows of which one key has many.
fn with_a_hot_key() -> impl Strategy<Value = Vec<Row>> {
    let keys = proptest::collection::vec((-500_i64..500, 0_u32..100), 2000..4000);
    (keys, 30_u32..95, -500_i64..500).prop_map(|(keys, percent, hot)| {
        let numbered = (0..).zip(keys);
        let key = |key, dice| if dice < percent { hot } else { key };
        numbered
            .map(|(own, (number, dice))| (Some(key(number, dice)), None, own))
            .collect()
    })
}

/// Where each row goes, as `scatter` sends it, and what each worker makes of its
/// rows. `divides` is false for the control arm: all rows of a key go one way.
fn by_workers(rows: &[Row], workers: usize, divides: bool) -> Vec<Vec<Row>> {
    let all = batch(rows);
    let order = Order::new(&all.schema(), &spec(vec![up("n")]), Ranks::default()).unwrap();
    let sample: Vec<_> = (0..all.num_rows())
        .step_by(4)
        .map(|row| (0, all.slice(row, 1)))
        .collect();
    let cutting = Cutting {
        workers,
        least_bytes: 10,
        range_bytes: 300,
    };
    let shares = [SectionShare { bytes: 10_000 }];
    let ranges = Ranges::cut(&order, &sample, &shares, cutting).unwrap();
    let spill = SpillFolder::new(std::env::temp_dir());
    let new = || Sorter::new(&order, &ranges, &spill, share(20_000));
    let mut sorters: Vec<_> = (0..workers).map(|_| new()).collect();
    let keys = order.route(0, &all).unwrap();
    let mut ties = Ties::default();
    for row in 0..all.num_rows() {
        let tie = if divides { ties.next() } else { 0 };
        let range = ranges.finder().of(&keys, row, tie);
        let parcel = Ranges::parcel(range, 0);
        sorters[ranges.worker(range)]
            .add(parcel, &all.slice(row, 1))
            .unwrap();
    }
    let sorted = sorters.into_iter().map(|mut sorter| {
        let mut out = Vec::new();
        let emit = |_, rows: RecordBatch| {
            out.extend(rows_of(&rows));
            Ok::<_, SpillError>(())
        };
        sorter.finish(emit).unwrap();
        out
    });
    sorted.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_hot_key_is_divided_among_workers(rows in with_a_hot_key(), workers in 2_usize..5) {
        let largest = |by_worker: &[Vec<Row>]| by_worker.iter().map(Vec::len).max().unwrap();
        let by_worker = by_workers(&rows, workers, true);
        let mean = rows.len() / workers;
        prop_assert!(largest(&by_worker) * 100 <= mean * 120, "{:?}", by_worker.iter().map(Vec::len).collect::<Vec<_>>());
        let mut out: Vec<Row> = by_worker.concat();
        prop_assert!(out.is_sorted_by_key(|row| row.0));
        let mut expected = rows.clone();
        expected.sort_unstable();
        out.sort_unstable();
        prop_assert_eq!(out, expected);
    }
}

/// The control arm: by key alone one worker gets all rows of the hot one.
#[test]
fn a_hot_key_that_is_not_divided_goes_to_one_worker() {
    let rows: Vec<Row> = (0..2000)
        .map(|own| (Some(if own % 10 < 8 { 7 } else { own }), None, own))
        .collect();
    let longest = |divides| {
        let by_worker = by_workers(&rows, 2, divides);
        by_worker.iter().map(Vec::len).max().unwrap()
    };
    assert!(longest(false) >= 1600, "{}", longest(false));
    assert!(longest(true) <= 1100, "{}", longest(true));
}

#[test]
fn too_many_runs_are_merged_in_passes() {
    let rows: Vec<Row> = (0..2000)
        .map(|i| (Some((i * 7919) % 2003), None, i))
        .collect();
    let (out, counts) = sorted(
        &spec(vec![up("n")]),
        &[batch(&rows)],
        &Ranges::one(),
        share(4000),
    );
    assert!(out.is_sorted_by_key(|(_, row)| row.0));
    assert_eq!(out.len(), 2000);
    assert!(counts.large_ranges == 1 && counts.merges > 4, "{counts:?}");
}

#[test]
fn rows_are_cut_where_the_cut_columns_change() {
    let rows: Vec<Row> = (0..60)
        .map(|i| (Some(i % 3), Some((i % 2).to_string()), i))
        .collect();
    let spec = OrderSpec {
        cut: vec!["n".to_owned()],
        ..spec(vec![down("own")])
    };
    let (out, _) = sorted(&spec, &[batch(&rows)], &Ranges::one(), share(500));
    for (split, (number, _, _)) in &out {
        assert_eq!(i64::from(*split), number.unwrap());
    }
    assert!(out.is_sorted_by_key(|(split, row)| (*split, Reverse(row.2))));
}

#[test]
fn sections_are_never_mixed() {
    let rows: Vec<Row> = (0..10).map(|i| (Some(i), None, i)).collect();
    let order = Order::new(
        &batch(&rows).schema(),
        &spec(vec![up("n")]),
        Ranks::default(),
    )
    .unwrap();
    let spill = SpillFolder::new(std::env::temp_dir());
    let ranges = Ranges::one();
    let mut sorter = Sorter::new(&order, &ranges, &spill, share(1));
    for section in [7, 3, 5, 3] {
        sorter.add(section, &batch(&rows)).unwrap();
    }
    let mut seen = Vec::new();
    let emit = |section, rows: RecordBatch| {
        seen.extend(rows_of(&rows).into_iter().map(|row| (section, row.0)));
        Ok::<_, SpillError>(())
    };
    sorter.finish(emit).unwrap();
    assert!(seen.is_sorted() && seen.len() == 40, "{seen:?}");
    assert_eq!(
        section_of(order.keys(7, &batch(&rows)).unwrap().prefix(0)),
        7
    );
}

#[test]
fn a_little_of_a_section_is_not_divided_among_workers() {
    let rows: Vec<Row> = (0..1000).map(|i| (Some(i), None, i)).collect();
    let rows = batch(&rows);
    let order = Order::new(&rows.schema(), &spec(vec![up("n")]), Ranks::default()).unwrap();
    let workers = |bytes, least_bytes| {
        let cutting = Cutting {
            workers: 2,
            least_bytes,
            range_bytes: 100,
        };
        let shares = [SectionShare { bytes }];
        let ranges = Ranges::cut(&order, &[(0, rows.clone())], &shares, cutting).unwrap();
        let keys = order.route(0, &rows).unwrap();
        let worker = |row| ranges.worker(ranges.finder().of(&keys, row, 0));
        (0..1000).map(worker).collect::<Vec<_>>()
    };
    assert!(workers(1000, 501).iter().all(|&worker| worker == 0));
    let divided = workers(1000, 400);
    let second = divided.iter().filter(|&&worker| worker == 1).count();
    assert!((450..=550).contains(&second), "{second}");
}

#[test]
fn an_order_in_which_keys_lie_apart_is_refused() {
    let rows = batch(&[(None, None, 0)]);
    let newest = Newest {
        key: vec!["n".to_owned(), "t".to_owned()],
        version: "own".to_owned(),
    };
    let refused = |sort: Vec<SortColumn>| {
        let spec = OrderSpec {
            newest: Some(newest.clone()),
            ..spec(sort)
        };
        Order::new(&rows.schema(), &spec, Ranks::default()).is_err()
    };
    assert!(!refused(vec![up("t")]) && !refused(vec![up("t"), down("n"), up("own")]));
    assert!(refused(vec![up("own")]) && refused(vec![up("n"), up("own")]));
}
