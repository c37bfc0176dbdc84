//! What happened to a table in an epoch: the commit's only input.

use serde::{Deserialize, Serialize};

use crate::ledger::DataFile;
use crate::source::{BadRow, SourceError, SourceErrorKind};

/// One thing that happened in an epoch. `table` is a position in the run's plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A split was read to its end.
    SplitRead {
        /// The table.
        table: usize,
        /// The split's ordinal.
        split: u32,
        /// Rows emitted, without quarantined ones.
        rows: u64,
        /// Bytes read from the source.
        source_bytes: u64,
        /// The process that read it.
        process: usize,
    },
    /// A file became durable.
    File {
        /// The table.
        table: usize,
        /// The file.
        file: DataFile,
    },
    /// A row could not be represented in the lake.
    Quarantined {
        /// The table.
        table: usize,
        /// The row.
        row: BadRow,
    },
    /// The table cannot be completed in this run.
    Failed {
        /// The table.
        table: usize,
        /// Why.
        failure: TableFailure,
    },
}

/// Why a table could not be completed; the other tables go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFailure {
    /// What sort of failure: it decides the exit code.
    pub kind: FailureKind,
    /// What happened and what to do.
    pub message: String,
}

/// Sorts of table failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// Wrong configuration for this table (exit 2).
    Usage,
    /// Worth retrying (exit 4).
    Retryable,
    /// Another run holds the dataset (exit 11).
    Overtaken,
    /// A schema change refused by policy (exit 6).
    Schema,
    /// Anything else (exit 1).
    Failed,
}

impl TableFailure {
    /// A failure of `kind` with a message.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

impl From<&SourceError> for TableFailure {
    fn from(error: &SourceError) -> Self {
        let kind = match error.kind {
            SourceErrorKind::Usage => FailureKind::Usage,
            SourceErrorKind::Unavailable => FailureKind::Retryable,
            _ => FailureKind::Failed,
        };
        let mut message = error.message.clone();
        let mut cause = std::error::Error::source(error);
        while let Some(below) = cause {
            let text = below.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = below.source();
        }
        Self { kind, message }
    }
}
