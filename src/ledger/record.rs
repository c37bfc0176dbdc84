//! [`CommitRecord`]: what our domain of the Delta log says about one commit.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::watermark::Watermark;

/// The version of the record's form; a reader refuses what it does not know.
/// Form 1 had no seal.
pub(super) const FORMAT: u32 = 2;

/// What a commit did that laid rows out anew and took none from the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewriteKind {
    /// The same rows are in other files.
    Layout,
    /// Of rows with the same key only the newest is left.
    Newest,
}

/// One commit, as recorded inside the log entry that made it (C3, C7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRecord {
    /// The version of this record's form.
    pub format: u32,
    /// Unique to this attempt to publish, so that a lost answer can be
    /// recognised (C1).
    pub id: Uuid,
    /// The run that published.
    pub run: Uuid,
    /// When, by the publisher's clock; for people, never compared (C5).
    pub at: String,
    /// The `txn` version of our application: the number of this commit.
    pub commit: i64,
    /// The Delta version that this commit made; entries after it are those of
    /// other programs. Zero in entries of earlier releases.
    #[serde(default)]
    pub version: u64,
    /// The watermark that the run started from (C3).
    pub from: Option<Watermark>,
    /// The watermark that this commit made true.
    pub to: Watermark,
    /// SHA-256 of the log entry before this one; absent for the first, and where
    /// log retention has removed it (C7).
    pub previous: Option<String>,
    /// SHA-256 of the entry that this record is in (see `seal`); absent in form 1
    /// (C7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<String>,
    /// Present where the commit only laid the table out anew: watermark and
    /// number are then those of the commit before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<RewriteKind>,
}
