//! What the load log of a table records, read as plain JSON.
//!
//! An entry holds one `event`: `begin`, `attempt`, `epoch` (with the ordinals of
//! its splits) or `start_over`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::place::Place;

/// The entries of each load of a table, in order.
pub(crate) fn loads(place: &Place, table: &str) -> BTreeMap<String, Vec<Value>> {
    let mut loads: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let home = format!("{table}/_highwater/loads/");
    for path in place.list(&home) {
        // An entry that is being written has another name until it is whole.
        let Some(entry) = path
            .strip_prefix(&home)
            .filter(|entry| entry.ends_with(".json"))
        else {
            continue;
        };
        let load = entry.split('/').next().unwrap_or_default().to_owned();
        loads.entry(load).or_default().extend(place.json(&path));
    }
    loads
}

/// The ordinals that an entry records as done.
fn recorded(entry: &Value) -> Vec<u64> {
    let Some(epoch) = entry.pointer("/event/epoch") else {
        return Vec::new();
    };
    let splits = epoch["splits"]
        .as_array()
        .expect("an epoch names its splits");
    splits
        .iter()
        .map(|split| split.as_u64().expect("an ordinal"))
        .collect()
}

/// Whether the count of recorded splits starts anew with this entry.
fn is_begin(entry: &Value) -> bool {
    entry.pointer("/event/begin").is_some() || entry.pointer("/event/start_over").is_some()
}

/// Fails the test if a load records any split twice after its last beginning.
#[track_caller]
pub(crate) fn assert_no_split_repeated(place: &Place, table: &str) {
    for (load, entries) in loads(place, table) {
        let mut seen = BTreeSet::new();
        for entry in &entries {
            if is_begin(entry) {
                seen.clear();
                continue;
            }
            for ordinal in recorded(entry) {
                assert!(
                    seen.insert(ordinal),
                    "load {load} of {table} records split {ordinal} twice"
                );
            }
        }
    }
}

/// Waits until any load of the table has recorded `count` splits; says how many.
pub(crate) fn wait_for_splits(place: &Place, table: &str, count: u64) -> u64 {
    let until = Instant::now() + Duration::from_secs(120);
    while Instant::now() < until {
        let splits = loads(place, table)
            .values()
            .map(|entries| {
                let done = entries.iter().filter(|entry| !is_begin(entry));
                done.map(|entry| recorded(entry).len() as u64).sum()
            })
            .max();
        if let Some(splits) = splits.filter(|splits| *splits >= count) {
            return splits;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("no load of {table} recorded {count} splits");
}
