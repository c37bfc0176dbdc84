//! [`Finding`]: what is wrong, with what, and what to do about it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sorts of finding.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The log cannot be read.
    LogUnreadable,
    /// Entries of the log are missing between others, or before the first.
    LogGap,
    /// An entry is not the one that the next entry knew, or not what it was when
    /// it was sealed.
    LogChanged,
    /// The numbers or watermarks of our commits do not follow one another.
    LogOrder,
    /// A checkpoint says something else than the entries.
    CheckpointDiffers,
    /// The log holds less than it did.
    RolledBack,
    /// A file is not there.
    FileMissing,
    /// A file has another size.
    FileSize,
    /// A file has another content.
    FileContent,
    /// A file cannot be decoded, or its rows are not what the log says of them.
    FileRows,
    /// Rows are not what the source has.
    SourceDiffers,
    /// Something that is no damage, but worth knowing.
    Note,
}

impl FindingKind {
    /// Whether it is damage.
    #[must_use]
    pub const fn is_damage(self) -> bool {
        !matches!(self, Self::Note)
    }

    /// The words for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::LogUnreadable => "log unreadable",
            Self::LogGap => "log entry missing",
            Self::LogChanged => "log entry changed",
            Self::LogOrder => "log out of order",
            Self::CheckpointDiffers => "checkpoint differs",
            Self::RolledBack => "log rolled back",
            Self::FileMissing => "file missing",
            Self::FileSize => "file has another size",
            Self::FileContent => "file changed",
            Self::FileRows => "file does not match its statistics",
            Self::SourceDiffers => "differs from the source",
            Self::Note => "note",
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// What sort of finding.
    pub kind: FindingKind,
    /// What it was found at, below the table's folder.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    #[serde(rename = "do", default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    /// A finding of `kind` at `path`.
    pub fn new(kind: FindingKind, path: impl ToString, what: impl Into<String>) -> Self {
        Self {
            kind,
            path: path.to_string(),
            what: what.into(),
            advice: None,
        }
    }

    /// Says what to do.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}
