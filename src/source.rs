//! What a source must offer to be kept in a lake.
//!
//! A [`Source`] names itself, discovers its tables and opens a [`Snapshot`]; the
//! snapshot cuts tables into [`Split`]s and, as all [`Readers`] do, opens
//! [`Reader`]s that see the same state (T1). Implementations live in the
//! `operators` crate; nothing here knows a database.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::budget::Permit;
use crate::dataset::{Column, Table, TableName};
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
    /// readers will be asked of it at most. As long as the view lives, `kept`
    /// tables are neither altered nor emptied: a view may see such changes
    /// although it sees no others. What matches `selection` is told as it is in
    /// the view, which may differ from an earlier [`Source::discover`].
    async fn view(
        &self,
        selection: &Selection,
        kept: &[TableName],
        readers: usize,
    ) -> Result<View, SourceError>;

    /// The view that another process of this run has opened; `shared` is what
    /// its [`Readers::share`] says.
    ///
    /// # Errors
    /// The source cannot be reached, or no view of it can be shared.
    fn join(&self, shared: &str, readers: usize) -> Result<Arc<dyn Readers>, SourceError> {
        let (_, _) = (shared, readers);
        Err(SourceError::new(
            SourceErrorKind::Failed,
            "a view of this source cannot be shared; please report this",
        ))
    }

    /// The same as [`Source::view`], without keeping any table from being altered.
    async fn snapshot(&self, readers: usize) -> Result<Arc<dyn Snapshot>, SourceError> {
        let view = self.view(&Selection::default(), &[], readers).await?;
        Ok(view.snapshot)
    }
}

/// One consistent view of a source, and what is in it.
pub struct View {
    /// Reads it.
    pub snapshot: Arc<dyn Snapshot>,
    /// The tables that were selected, as they are in it.
    pub tables: Vec<Discovered>,
}

/// Opens readers that all see the same rows, as long as this value lives: those of
/// a source, of files, or of both.
#[async_trait]
pub trait Readers: Send + Sync {
    /// How many readers there can be at once (of a source's view at least 1, and
    /// at most what was asked of [`Source::view`]; 0 where others read).
    fn max_readers(&self) -> usize;

    /// What other processes need to know to see the same rows; `None` where only
    /// this one can.
    fn share(&self) -> Option<String> {
        None
    }

    /// Opens a reader.
    async fn reader(&self) -> Result<Box<dyn Reader>, SourceError>;
}

/// One consistent view of a source; it lives as long as this value.
#[async_trait]
pub trait Snapshot: Readers {
    /// What this view contains: everything that was visible at this bound.
    fn bound(&self) -> &Bound;

    /// Cuts what `read` asks for into splits of about `target_bytes` each, in
    /// the order in which they are best read.
    async fn split(&self, read: &TableRead, target_bytes: u64) -> Result<SplitPlan, SourceError>;

    /// How many rows of `read` this view holds; `read`'s range of changes is not
    /// looked at.
    async fn count(&self, read: &TableRead) -> Result<u64, SourceError>;

    /// Whether rows written since `position` (of an earlier [`Bound`]) can be
    /// found by [`TableRead::since`]; else why not, for people (T2).
    async fn can_read_since(
        &self,
        read: &TableRead,
        position: &str,
    ) -> Result<Result<(), String>, SourceError>;

    /// How far `column` can be trusted as a cursor in this view: no transaction
    /// that was open when the view was taken can commit a row below it (T3).
    async fn cursor_bound(
        &self,
        read: &TableRead,
        column: &str,
        margin: Duration,
    ) -> Result<CursorBound, SourceError>;
}

/// Reads splits, one at a time, into Arrow batches.
#[async_trait]
pub trait Reader: Send {
    /// Reads one split of one table and emits its rows, each exactly once, in
    /// the columns that [`TableRead::schema`] names.
    async fn read(
        &mut self,
        read: &TableRead,
        split: &Split,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError>;

    /// Emits the rows whose key is among `keys` (a batch of the key columns, in
    /// key order, without repeats) as whole rows, in any order. Keys that the
    /// view does not hold are passed over, and so are rows that do not meet the
    /// condition. Only sources are asked for them.
    async fn fetch(
        &mut self,
        read: &TableRead,
        keys: &RecordBatch,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError> {
        let (_, _, _) = (read, keys, out);
        Err(SourceError::new(
            SourceErrorKind::Failed,
            "rows are read as a whole here, not by key; please report this",
        ))
    }
}

/// How far a cursor column can be trusted, or why it cannot (T3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CursorBound {
    /// Up to this value, excluded, as the source's exact text.
    Below {
        /// The value.
        value: String,
        /// Who holds it back, and for how long, where somebody does.
        held_by: Option<String>,
    },
    /// In full: commit order follows write order, so that no row can appear below
    /// one that is seen. (Rows may still share its value: read it again.)
    Unbounded,
    /// Nothing new can be trusted now: the bound must stay where it is.
    Held {
        /// By whom, for how long.
        by: String,
    },
    /// It cannot be known here, for this reason.
    Unknown {
        /// Why, and what would help.
        reason: String,
    },
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
    /// For incremental reads: the position of an earlier bound; only rows are
    /// read that were written by transactions which were not finished there (T2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Which columns are read.
    #[serde(default)]
    pub projection: Projection,
}

/// Which columns of a table are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Projection {
    /// All selected ones.
    #[default]
    Rows,
    /// The key columns in key order, then [`VERSION_COLUMN`] and [`TAIL_COLUMN`].
    /// No row is quarantined for a value outside its key.
    Keys {
        /// Where the tail begins, included: a value of the cursor column, or a
        /// position where there is none. Without it no row is in the tail.
        tail_from: Option<String>,
    },
}

/// Text that differs whenever a row was written anew (PostgreSQL: its `xmin`).
pub const VERSION_COLUMN: &str = "highwater.version";

/// Whether a row is at or above the watermark to come.
pub const TAIL_COLUMN: &str = "highwater.tail";

impl TableRead {
    /// All rows of `table` that meet `filter`.
    #[must_use]
    pub fn all(table: Table, filter: Option<String>) -> Self {
        Self {
            table,
            filter,
            cursor: None,
            since: None,
            projection: Projection::Rows,
        }
    }

    /// The columns of the batches that a reader emits.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        match self.projection {
            Projection::Rows => self.table.schema(),
            Projection::Keys { .. } => {
                let key = self.table.key.iter();
                let mut fields: Vec<Field> = key
                    .filter_map(|&position| self.table.columns.get(position))
                    .map(Column::field)
                    .collect();
                fields.push(Field::new(VERSION_COLUMN, DataType::Utf8, true));
                fields.push(Field::new(TAIL_COLUMN, DataType::Boolean, true));
                Schema::new(fields).into()
            }
        }
    }
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
    /// Whether rows without a value are read too, wherever the range begins.
    #[serde(default)]
    pub nulls: bool,
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
