//! What is wanted of a restore. Pipelines do it, for they know databases.

use std::path::PathBuf;

use super::secret::Secret;
use crate::ledger::At;

/// What is wanted of a restore.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Globs of tables; all of the lake when empty.
    pub tables: Vec<String>,
    /// Where to.
    pub to: RestoreTo,
    /// Which state; the newest when absent.
    pub at: Option<At>,
    /// Replaces tables and files that are there.
    pub replace: bool,
    /// Another name for the one table that is asked for.
    pub name: Option<String>,
    /// Also restores columns that the source has no more.
    pub with_dropped: bool,
}

/// Where tables are restored to.
#[derive(Debug, Clone)]
pub enum RestoreTo {
    /// A database, by its URL.
    Database(Secret),
    /// Files in a folder.
    Files(PathBuf, RestoreFormat),
}

/// The format of restored files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RestoreFormat {
    /// Parquet, with the lake's types
    Parquet,
    /// CSV (RFC 4180) with a header; NULL is an empty field, empty text is ""
    Csv,
}
