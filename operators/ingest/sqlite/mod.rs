//! SQLite files as a source, opened read-only.
//!
//! **Identity** (T7) is the canonical path and `application_id`. Device and
//! inode change when a file is restored from a copy, `user_version` when an
//! application migrates, `schema_version` with every DDL statement: none of
//! them says that this is *another* database. A file that moves to another path
//! counts as another source.
//!
//! **One state for all readers** (T1). A snapshot is one read transaction per
//! connection:
//! - rollback journal: the first reader's SHARED lock holds every commit off, so
//!   whoever else gets a SHARED lock sees the same state. Writers wait until the
//!   run has read what it needs.
//! - WAL: writers go on while we read, so the readers must begin within one gap
//!   between two commits. A writable connection takes `BEGIN IMMEDIATE` (it
//!   writes nothing), the readers begin and do their first read, then it rolls
//!   back. Where that lock cannot be had (file not writable, another writer
//!   holds it for some seconds) the snapshot has one reader:
//!   [`Snapshot::max_readers`](highwater::source::Snapshot::max_readers) is 1.
//!
//! **Position** is what `stat` says of the database and its WAL (device, inode,
//! size, time of change) with `schema_version` and `page_count`. The file change
//! counter in the header would be finer, but reading it means opening and
//! closing the file beside SQLite, which drops every POSIX lock this process
//! holds on it; SQL does not show it. Where that time is too young to tell
//! two commits apart, the position is made unique instead: equal positions mean
//! equal contents, unequal ones may too.
//!
//! **Values** have types of their own in SQLite, whatever the column declares.
//! [`rule`] decides what a column becomes and which values it refuses; refused
//! rows are quarantined, never cast. See `docs/types.md`.

mod catalog;
mod columns;
mod connection;
mod cursor;
mod decimal;
mod discover;
mod fetch;
mod key;
mod literal;
mod location;
mod page;
mod physical;
mod position;
mod query;
mod reader;
mod restore;
mod rule;
mod selection;
mod size;
mod snapshot;
mod source;
mod split;
mod temporal;
mod version;

use std::sync::Arc;

use highwater::source::{Source, SourceError};

pub(crate) use restore::restore_into;

/// Opens `sqlite:relative/path` or `sqlite:///absolute/path`. Nothing is read
/// but the file's metadata: whether it is a database shows at first use.
pub fn open(url: &str) -> Result<Arc<dyn Source>, SourceError> {
    let path = location::locate(url)?;
    Ok(Arc::new(source::SqliteSource::new(path)))
}
