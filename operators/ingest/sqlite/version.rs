//! Keys with their versions: a row's content in few letters.
//!
//! SQLite keeps no trace of who wrote a row, so the version is a 128-bit hash of
//! all that was selected of it. Two contents of one row share it once in 2^128
//! pairs; it is taken here, not by SQLite's `quote`, which ends at a NUL, doubles
//! blobs and may build text that is not UTF-8.

use highwater::dataset::{Column, Table};
use highwater::source::{TAIL_COLUMN, VERSION_COLUMN};
use rusqlite::types::ValueRef;
use xxhash_rust::xxh3::Xxh3;

use super::rule::Rule;

/// The version of a row with these `cells`.
pub(super) fn of(cells: &[ValueRef<'_>]) -> String {
    let mut hash = Xxh3::new();
    for &cell in cells {
        // The class and the length, so that no two rows write the same bytes.
        let (class, bytes): (u8, &[u8]) = match cell {
            ValueRef::Null => (b'n', &[]),
            ValueRef::Integer(value) => (b'i', &value.to_be_bytes()),
            ValueRef::Real(value) => (b'r', &value.to_bits().to_be_bytes()),
            ValueRef::Text(bytes) => (b't', bytes),
            ValueRef::Blob(bytes) => (b'b', bytes),
        };
        hash.update(&[class]);
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    }
    format!("{:032x}", hash.digest128())
}

/// The table of the keys of `table`, with their version and tail.
pub(super) fn keys(table: &Table) -> Table {
    let added = |name: &str, rule: Rule| Column {
        name: name.to_owned(),
        source_type: String::new(),
        lake_type: rule.lake_type(),
        nullable: true,
        fidelity: rule.fidelity(),
    };
    let key = table
        .key
        .iter()
        .filter_map(|&position| table.columns.get(position));
    let mut columns: Vec<_> = key.cloned().collect();
    let key = (0..columns.len()).collect();
    columns.push(added(VERSION_COLUMN, Rule::Text));
    columns.push(added(TAIL_COLUMN, Rule::Boolean));
    Table {
        columns,
        key,
        ..table.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_that_print_alike_differ() {
        let rows: [&[ValueRef<'_>]; 9] = [
            &[],
            &[ValueRef::Null],
            &[ValueRef::Integer(1)],
            &[ValueRef::Real(1.0)],
            &[ValueRef::Text(b"1")],
            &[ValueRef::Blob(b"1")],
            &[ValueRef::Text(b"a\0b"), ValueRef::Null],
            &[ValueRef::Text(b"a\0c"), ValueRef::Null],
            &[ValueRef::Text(b"a"), ValueRef::Text(b"\0b")],
        ];
        let mut versions: Vec<_> = rows.iter().map(|cells| of(cells)).collect();
        assert!(versions.iter().all(|version| version.len() == 32));
        versions.sort_unstable();
        versions.dedup();
        assert_eq!(versions.len(), rows.len());
    }
}
