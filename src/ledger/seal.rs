//! A seal over a log entry, so that the newest one is covered too (C7).
//!
//! Each entry holds the hash of the entry before it, which says nothing of the
//! newest: no entry comes after it. So an entry of ours also holds a hash of
//! itself, taken while the place of that hash holds the commit's own id, twice:
//! 64 characters that can stand nowhere else.

use uuid::Uuid;

use super::record::CommitRecord;
use super::sha256_hex;

/// What stands in the seal's place while the entry is hashed.
pub(super) fn blank(id: Uuid) -> String {
    format!("{0}{0}", id.simple())
}

/// The entry with its seal; `None` unless it has exactly one place for it.
pub(super) fn close(entry: &str, id: Uuid) -> Option<String> {
    let blank = blank(id);
    if entry.matches(&blank).count() != 1 {
        return None;
    }
    Some(entry.replacen(&blank, &sha256_hex(entry.as_bytes()), 1))
}

/// Whether the seal in `record` is that of `entry`, the entry it was read from.
pub(super) fn holds(entry: &str, record: &CommitRecord) -> bool {
    let Some(seal) = &record.seal else {
        return false;
    };
    if seal.len() != 64 || entry.matches(seal.as_str()).count() != 1 {
        return false;
    }
    let open = entry.replacen(seal.as_str(), &blank(record.id), 1);
    sha256_hex(open.as_bytes()) == *seal
}
