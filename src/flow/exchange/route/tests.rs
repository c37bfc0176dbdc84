#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use xxhash_rust::xxh3::xxh3_128;

use super::*;
use crate::budget::{MemoryBudget, Permit};

fn batch(keys: Vec<i64>) -> Batch {
    let keys = Arc::new(Int64Array::from(keys)) as _;
    Batch {
        table: 1,
        split: 2,
        source_bytes: 1001,
        rows: RecordBatch::try_from_iter([("key", keys)]).unwrap(),
        permit: Permit::free(),
    }
}

fn keys(batch: &Batch) -> Vec<i64> {
    batch
        .rows
        .column(0)
        .as_primitive::<Int64Type>()
        .values()
        .to_vec()
}

fn hashes(batch: &Batch) -> Vec<u128> {
    keys(batch)
        .iter()
        .map(|key| xxh3_128(&key.to_le_bytes()))
        .collect()
}

#[test]
fn rows_of_a_key_meet_and_nothing_is_lost() {
    for peers in [1, 2, 3, 7] {
        let budget = MemoryBudget::new(1 << 20);
        let mut whole = batch((0..1000).map(|row| row % 100).collect());
        whole.permit = budget.try_take(10 * 4096).unwrap();
        let hashes = hashes(&whole);
        let parts = by_hash(whole, &hashes, peers).unwrap();
        let mut home: BTreeMap<i64, usize> = BTreeMap::new();
        for (worker, part) in &parts {
            assert!(*worker < peers);
            for key in keys(part) {
                assert_eq!(home.entry(key).or_insert(*worker), worker);
            }
        }
        let sum = |of: fn(&Batch) -> u64| parts.iter().map(|(_, part)| of(part)).sum::<u64>();
        assert_eq!(sum(|part| part.rows.num_rows() as u64), 1000);
        assert_eq!(sum(|part| part.source_bytes), 1001);
        assert_eq!(sum(|part| part.permit.bytes()), 10 * 4096);
        assert_eq!(home.len(), 100);
        drop(parts);
        assert_eq!(budget.available_bytes(), budget.total_bytes());
    }
}

#[test]
fn a_batch_for_one_worker_is_not_copied() {
    let whole = batch(vec![5; 10]);
    let column = Arc::clone(whole.rows.column(0));
    let parts = split_by(whole, &[3; 10]).unwrap();
    assert_eq!(parts.len(), 1);
    assert_eq!(parts[0].0, 3);
    assert!(Arc::ptr_eq(&column, parts[0].1.rows.column(0)));
    assert!(split_by(batch(vec![]), &[]).unwrap().is_empty());
    split_by(batch(vec![1]), &[]).unwrap_err();
}

/// The largest worker's rows over the mean, of 200 batches of which every second
/// row is of one key.
fn largest_share(peers: usize, mut route: impl FnMut(Batch) -> Vec<(usize, Batch)>) -> f64 {
    let mut rows = vec![0; peers];
    for number in 0..200 {
        let keys = (0..1000).map(|row| {
            if row % 2 == 0 {
                -1
            } else {
                number * 1000 + row
            }
        });
        for (worker, part) in route(batch(keys.collect())) {
            rows[worker] += part.rows.num_rows();
        }
    }
    assert_eq!(rows.iter().sum::<usize>(), 200_000);
    *rows.iter().max().unwrap() as f64 / (200_000.0 / peers as f64)
}

#[test]
fn half_of_the_rows_of_one_key_do_not_stall_the_rest() {
    for peers in [2, 4, 8] {
        let mut salted = Salted::new(peers);
        let share = largest_share(peers, |batch| {
            let hashes = hashes(&batch);
            salted.route(batch, &hashes).unwrap()
        });
        assert!(share <= 1.1, "{peers}: {share}");
    }
    // The control: by hash alone, one worker has them all.
    for peers in [4, 8] {
        let share = largest_share(peers, |batch| {
            let hashes = hashes(&batch);
            by_hash(batch, &hashes, peers).unwrap()
        });
        assert!(share > 1.5, "{peers}: {share}");
    }
}

#[test]
fn keys_that_are_not_frequent_still_meet() {
    let mut salted = Salted::new(4);
    let mut homes: BTreeMap<i64, usize> = BTreeMap::new();
    for _ in 0..20 {
        // 2,000 keys: each is far from frequent.
        let batch = batch((0..2000).collect());
        let hashes = hashes(&batch);
        for (worker, part) in salted.route(batch, &hashes).unwrap() {
            for key in keys(&part) {
                assert_eq!(*homes.entry(key).or_insert(worker), worker);
            }
        }
    }
}

#[test]
fn whole_batches_are_spread_by_their_bytes() {
    let mut spread = Spread::new(1, 3);
    let mut given = [0; 3];
    for number in 0..300_u64 {
        let mut batch = batch(vec![1]);
        batch.source_bytes = 1000 + number % 7 * 1000;
        let bytes = batch.source_bytes;
        let (worker, _) = spread.route(batch);
        if number == 0 {
            assert_eq!(worker, 1);
        }
        given[worker] += bytes;
    }
    let mean = given.iter().sum::<u64>() as f64 / 3.0;
    assert!(
        given.iter().all(|bytes| (*bytes as f64) < 1.02 * mean),
        "{given:?}"
    );
}
