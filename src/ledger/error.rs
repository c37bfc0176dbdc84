//! What can go wrong with a table's log, and what the user can do.

use uuid::Uuid;

use crate::store::StoreError;

/// A failure at the log of one table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The store failed; the entry may or may not have been published if its
    /// kind is [`Unknown`](crate::store::StoreErrorKind::Unknown).
    #[error(transparent)]
    Store(#[from] StoreError),

    /// The folder holds files, but no table, and nothing of ours.
    #[error(
        "{url} is not empty and holds no table of ours (it contains `{found}`): choose another \
         folder for the lake, or empty this one"
    )]
    ForeignFolder {
        /// The folder.
        url: String,
        /// Something that is in it.
        found: String,
    },

    /// The folder holds a Delta table that another program keeps.
    #[error(
        "{url} is a Delta table that was not written by Highwater (version {version}): choose \
         another folder; it was not touched"
    )]
    NotOurs {
        /// The folder.
        url: String,
        /// The table's version.
        version: u64,
    },

    /// The table needs what this program cannot do.
    #[error(
        "the table at {url} needs what Highwater cannot write: {what}. Another program switched \
         it on; switch it off there, or start a new folder"
    )]
    Unsupported {
        /// The folder.
        url: String,
        /// The feature.
        what: String,
    },

    /// Another run published since this one began (C3).
    #[error(
        "another run ({by_run}, commit {commit} at {at}) published to {url} while this run was \
         working; this run stops, nothing of either is lost, and the next run goes on from there"
    )]
    Overtaken {
        /// The folder.
        url: String,
        /// The other run.
        by_run: Uuid,
        /// Its commit.
        commit: i64,
        /// When it published, by its own clock.
        at: String,
    },

    /// The log holds less than it did (C7).
    #[error(
        "the log of {url} went back: it held commit {expected}, now it holds {found}. Was the \
         folder restored or deleted? Start again from what it holds now, or restore the log"
    )]
    RolledBack {
        /// The folder.
        url: String,
        /// The commit that this run started from.
        expected: i64,
        /// What the log holds now.
        found: String,
    },

    /// Another program changed the table's shape while this run was working.
    #[error(
        "another program changed the {what} of {url} (version {version}) while this run was \
         working; nothing was published. Run again to go on from the changed table"
    )]
    ChangedBySomebodyElse {
        /// The folder.
        url: String,
        /// The version that is there now.
        version: u64,
        /// What was changed.
        what: String,
    },

    /// Another program removed files that this run was rewriting.
    #[error(
        "another program removed {files} data files of {url} (version {version}) while this run \
         was rewriting them; nothing was published. Run again to start from what is there now"
    )]
    FilesGone {
        /// The folder.
        url: String,
        /// The version that is there now.
        version: u64,
        /// How many files.
        files: usize,
    },

    /// The folder holds no Delta table.
    #[error("{url} holds no Delta table: check the address")]
    NoTable {
        /// The folder.
        url: String,
    },

    /// A column cannot be kept in a Delta table.
    #[error("column `{column}` cannot be kept in the lake: {reason}; leave it out of the table")]
    Column {
        /// The column.
        column: String,
        /// Why.
        reason: String,
    },

    /// Rows cannot be appended to a table of another shape.
    #[error(
        "cannot append to {url}: {what}. Load the table in full once, so that it takes the new \
         shape"
    )]
    Shape {
        /// The folder.
        url: String,
        /// What does not fit.
        what: String,
    },

    /// A commit was asked for that makes no sense; a fault of the caller.
    #[error("not a valid commit: {0}")]
    Invalid(String),

    /// The log cannot be read.
    #[error(
        "the log of {url} cannot be read: {what}. Restore the folder's _delta_log, or start a \
         new folder; nothing was changed"
    )]
    Damaged {
        /// The folder.
        url: String,
        /// What is wrong.
        what: String,
    },

    /// A version was asked for that the log does not hold, or holds no more.
    #[error(
        "{url} cannot be read as of {wanted}: {why}. Name a version that it retains; `prune` \
         removes those beyond `[retention]`"
    )]
    NoSuchVersion {
        /// The folder.
        url: String,
        /// The version or time.
        wanted: String,
        /// Why not.
        why: String,
    },

    /// Nothing may be removed from the table now.
    #[error(
        "nothing was removed from {url}: {why}. Run `verify`, restore what is missing, then prune"
    )]
    NotPruned {
        /// The folder.
        url: String,
        /// Why not.
        why: String,
    },

    /// Others publish faster than this run can.
    #[error("{url}: {attempts} other commits came first, one after the other; run again later")]
    Busy {
        /// The folder.
        url: String,
        /// How many.
        attempts: usize,
    },
}

impl LedgerError {
    /// Whether the same run may succeed later (exit 4).
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Busy { .. } | Self::FilesGone { .. } => true,
            _ => false,
        }
    }
}
