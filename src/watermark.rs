//! Positions: who a source is, what a snapshot contains, how far a table got.
//!
//! Everything here is serialised into the lake's own log; no position is ever
//! kept anywhere else (local state is a cache that may be deleted).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who a source is. State is bound to it: a watermark of one source is never
/// applied to another (T7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `postgres`, `sqlite`, ...
    pub kind: String,
    /// PostgreSQL `system_identifier/timeline/database`, SQLite file identity.
    pub id: String,
}

/// What one snapshot of a source contains, in the source's own terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The position in the source's own notation (PostgreSQL: the text of
    /// `pg_current_snapshot()`). Equal positions mean equal contents.
    pub position: String,
    /// When the snapshot was taken, by the source's clock, RFC 3339 in UTC; for
    /// people, never compared (C5).
    pub at: String,
}

/// How a table is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Each run replaces the table as a whole, atomically.
    Full,
    /// Each run adds rows at or above a cursor.
    Append,
}

/// The position of one table in the lake, written inside the commit that made
/// it true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The source the table came from.
    pub source: Identity,
    /// How the table was read.
    pub mode: Mode,
    /// The bound of the snapshot the rows came from.
    pub bound: Bound,
    /// In append mode: the cursor column and the greatest value committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
    /// The load was continued under a later snapshot than `bound`, so that rows
    /// changed in between may be missing or doubled until the next run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub catching_up: bool,
}

/// A cursor column and how far it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The column.
    pub column: String,
    /// The greatest value committed, as the source's exact text; `None` while
    /// no row has one.
    pub value: Option<String>,
}
