//! What a source must offer to be kept in a lake.
//!
//! A [`Source`] names itself, discovers its tables and opens a [`Snapshot`]; the
//! snapshot cuts tables into [`Split`]s and opens [`Reader`]s that all see the
//! same state (T1). Implementations live in the `operators` crate; nothing here
//! knows a database.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::budget::Permit;
use crate::dataset::{Table, TableName};
use crate::watermark::{Bound, Identity};

/// A database or other system whose tables can be read.
#[async_trait]
pub trait Source: Send + Sync {
    /// Who this source is, so that state is never applied to another one (T7).
    async fn identity(&self) -> Result<Identity, SourceError>;

    /// The tables that match `selection`, in name order. A table that cannot be
    /// read is returned with its error, so that the others can go on.
    async fn discover(&self, selection: &Selection) -> Result<Vec<Discovered>, SourceError>;

    /// Opens one consistent view of the whole source. `readers` is how many
    /// readers will be asked of it at most.
    async fn snapshot(&self, readers: usize) -> Result<Arc<dyn Snapshot>, SourceError>;
}

/// One consistent view of a source; it lives as long as this value.
#[async_trait]
pub trait Snapshot: Send + Sync {
    /// What this view contains: everything that was visible at this bound.
    fn bound(&self) -> &Bound;

    /// Cuts what `read` asks for into splits of about `target_bytes` each, in
    /// the order in which they are best read.
    async fn split(&self, read: &TableRead, target_bytes: u64) -> Result<SplitPlan, SourceError>;

    /// How many readers can see this snapshot at once (at least 1, at most what
    /// was asked of [`Source::snapshot`]).
    fn max_readers(&self) -> usize;

    /// Opens a reader on this snapshot.
    async fn reader(&self) -> Result<Box<dyn Reader>, SourceError>;
}

/// Reads splits, one at a time, into Arrow batches.
#[async_trait]
pub trait Reader: Send {
    /// Reads one split of one table and emits its rows, each exactly once.
    async fn read(
        &mut self,
        read: &TableRead,
        split: &Split,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError>;
}

/// Where a reader puts what it has read. Implemented by the dataflow.
#[async_trait]
pub trait Emit: Send {
    /// Waits until `bytes` may be held in memory (B1). Ask before holding them.
    async fn permit(&mut self, bytes: u64) -> Permit;

    /// The size a batch should have, in bytes of Arrow memory.
    fn batch_bytes(&self) -> u64;

    /// Hands over one batch of whole rows with the permit that pays for it, and
    /// says how many bytes were read from the source for it. Waits while the
    /// dataflow is behind. An error means that the run is over: return it.
    async fn batch(
        &mut self,
        rows: RecordBatch,
        permit: Permit,
        source_bytes: u64,
    ) -> Result<(), SourceError>;

    /// Sets one row aside that cannot be represented in the lake. An error
    /// means that the configuration wants the run to stop: return it.
    async fn quarantine(&mut self, row: BadRow) -> Result<(), SourceError>;
}

/// A row that cannot be represented in the lake, with enough to find it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRow {
    /// The key of the row as text, column by column; where the table has no key,
    /// whatever else finds the row (`ctid`, `rowid`).
    pub key: BTreeMap<String, Option<String>>,
    /// The column whose value is at fault.
    pub column: String,
    /// The value as text, cut at 1 KiB.
    pub value: String,
    /// Why it cannot be represented.
    pub reason: String,
}

/// What the user wants of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Globs of tables to take (`orders`, `sales.*`); empty means all. A glob
    /// without a dot matches the table's own name in any schema.
    pub include: Vec<String>,
    /// Globs of tables to leave out; they win over `include`.
    pub exclude: Vec<String>,
    /// Schemas to look into; empty means all but the system's own.
    pub schemas: Vec<String>,
    /// What is asked of single tables, by name as [`TableName`] displays it, or
    /// by the table's own name.
    pub tables: BTreeMap<String, TableOptions>,
}

impl Selection {
    /// The options of one table: by full name, else by its own name.
    #[must_use]
    pub fn options(&self, name: &TableName) -> TableOptions {
        self.tables
            .get(&name.to_string())
            .or_else(|| self.tables.get(&name.name))
            .cloned()
            .unwrap_or_default()
    }
}

/// What is asked of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableOptions {
    /// Columns to take; empty means all.
    pub columns: Vec<String>,
    /// Columns to leave out.
    pub exclude_columns: Vec<String>,
    /// A condition in the source's own SQL that rows must meet.
    pub filter: Option<String>,
    /// Lake types the user chose, by column: `text`, `decimal(38,9)`, `double`.
    pub types: BTreeMap<String, String>,
}

/// A table that was found, or why it cannot be read.
#[derive(Debug)]
pub struct Discovered {
    /// The table's name.
    pub name: TableName,
    /// The table, or why not.
    pub table: Result<Table, SourceError>,
}

/// What is to be read of one table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableRead {
    /// The table.
    pub table: Table,
    /// A condition in the source's own SQL that rows must meet.
    pub filter: Option<String>,
    /// For incremental reads: the cursor column and the interval to read.
    pub cursor: Option<CursorRange>,
}

/// The closed interval `from <= column <= to` of a cursor column. Values are the
/// source's own exact text, compared by the source with its own type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorRange {
    /// The cursor column.
    pub column: String,
    /// Lower end, included; `None` reads from the beginning, NULLs included.
    pub from: Option<String>,
    /// Upper end, included; `None` until [`Snapshot::split`] has found it.
    pub to: Option<String>,
}

/// A part of a table: the half-open range `start..end` in the source's own
/// coordinate (PostgreSQL pages, SQLite row ids); an absent end is unbounded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Position in the table's list of splits.
    pub ordinal: u32,
    /// First coordinate, included.
    pub start: Option<i64>,
    /// Last coordinate, excluded.
    pub end: Option<i64>,
    /// Estimated bytes to read.
    pub estimated_bytes: u64,
}

/// How one table is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitPlan {
    /// The splits; together they cover the table, without overlap.
    pub splits: Vec<Split>,
    /// Greatest cursor value in the snapshot, as the source's exact text, where
    /// a cursor was asked for and any row has one.
    pub cursor_max: Option<String>,
    /// A token of the physical layout that split coordinates refer to
    /// (PostgreSQL `relfilenode`). A load may be continued only while it stays.
    pub layout: String,
}

/// What went wrong at a source, and what the user can do.
#[derive(Debug, thiserror::Error)]
pub struct SourceError {
    /// What sort of failure this is: decides the exit code and whether others go on.
    pub kind: SourceErrorKind,
    /// What happened, to what, and what to do: one sentence or two.
    pub message: String,
    /// The cause below, where there is one.
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl SourceError {
    /// An error of `kind` that says `message`.
    pub fn new(kind: SourceErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            cause: None,
        }
    }

    /// The same, with the cause below it.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

/// Sorts of failure at a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceErrorKind {
    /// The configuration asks for what is not there or not valid (exit 2).
    Usage,
    /// The source refused: login, permission (exit 1).
    Refused,
    /// The source cannot be reached or is busy: worth retrying (exit 4).
    Unavailable,
    /// A value that cannot be represented, under `on_bad_row = "fail"` (exit 1).
    BadRow,
    /// The dataflow is over and wants nothing more; not an error of the source.
    Stopped,
    /// Anything else (exit 1).
    Failed,
}
