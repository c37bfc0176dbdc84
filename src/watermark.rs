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
    /// PostgreSQL `system_identifier/database`, SQLite file identity.
    pub id: String,
    /// Which of the source's histories this is (PostgreSQL: the timeline, which
    /// a failover or a restore to a point in time begins anew); empty where the
    /// source has but one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub history: String,
}

/// What one snapshot of a source contains, in the source's own terms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// The table equals the source after each run; only what changed is written.
    Mirror,
    /// Each run replaces the table as a whole, atomically.
    Full,
    /// Each run adds rows at or above a cursor.
    Append,
}

/// How a mirrored table's changes are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Rows that were written by transactions which the last snapshot did not
    /// see as finished, found by scanning the table at the server (T2).
    Xid,
    /// Rows whose server-stamped cursor column is at or above a bound that no
    /// open transaction can go below (T3).
    Cursor,
    /// All rows are read and compared with the lake's (T4).
    Diff,
}

impl Method {
    /// The word for people, as in the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Xid => "xid",
            Self::Cursor => "cursor",
            Self::Diff => "diff",
        }
    }

    /// Whether each run sees deletes; else only a comparison of the table does.
    #[must_use]
    pub const fn sees_deletes(self) -> bool {
        !matches!(self, Self::Cursor)
    }

    /// What it relies on to see every change, late commits too (T8).
    #[must_use]
    pub const fn relies_on(self) -> &'static str {
        match self {
            Self::Xid => {
                "late commits and deletes are seen: rows are found by the transaction that wrote \
                 them, and rows are counted"
            }
            Self::Cursor => {
                "late commits are seen if the server stamps the cursor at each change, no earlier \
                 than the transaction's start; deletes are seen when the table is compared"
            }
            Self::Diff => "all changes are seen: all rows are compared",
        }
    }
}

/// The rows of a table at or above the watermark: those that the next run reads
/// again, because others may still appear among them. When it finds the same
/// ones, nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// How many rows.
    pub rows: u64,
    /// The sum, modulo 2^128 and in hexadecimal, of the hashes of their keys and
    /// versions: it does not depend on their order.
    pub digest: String,
}

/// A comparison of the whole table with its source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reconciled {
    /// When, by the source's clock, RFC 3339 in UTC.
    pub at: String,
    /// Rows that only the source had.
    pub inserted: u64,
    /// Rows that differed.
    pub updated: u64,
    /// Rows that only the lake had.
    pub deleted: u64,
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
    /// In mirror mode: how the next run finds changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// In append mode and for [`Method::Cursor`]: the cursor column and where
    /// the next run goes on, included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
    /// The columns of the source's key, so that a restore can create it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// A digest of what was asked for (columns, types, key, condition): where it
    /// differs, rows may have changed without being written anew.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reading: String,
    /// The rows that the next run reads again, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<Tail>,
    /// The last comparison of the whole table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconciled: Option<Reconciled>,
    /// What held the cursor's bound back, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// The load was continued under a later snapshot than `bound`, so that rows
    /// changed in between may be missing or doubled until the next run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub catching_up: bool,
    /// Rows of the source may be missing because the lake cannot represent them:
    /// the numbers of rows on both sides say nothing of what is gone (T2).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub set_aside: bool,
}

impl Watermark {
    /// The watermark of a table that was read as a whole.
    #[must_use]
    pub fn new(source: Identity, mode: Mode, bound: Bound) -> Self {
        Self {
            source,
            mode,
            bound,
            method: None,
            cursor: None,
            key: Vec::new(),
            reading: String::new(),
            tail: None,
            reconciled: None,
            held_by: None,
            catching_up: false,
            set_aside: false,
        }
    }
}

/// The cursor column of a history: the version of the table that it follows.
pub const HISTORY_CURSOR: &str = "_version";

impl Watermark {
    /// Whether rows that commit late are lost, as the configuration accepts (T6).
    #[must_use]
    pub fn is_at_risk(&self) -> bool {
        let cursor = self.cursor.as_ref().map(|cursor| cursor.column.as_str());
        self.mode == Mode::Append && cursor != Some(HISTORY_CURSOR)
    }
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
