//! What went wrong with one object.

use std::time::Duration;

use crate::store::{StoreError, StoreErrorKind};

/// Sorts of failure with an object: they decide what is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectErrorKind {
    /// It is not there, or no longer.
    Vanished,
    /// It is not what was listed.
    Changed,
    /// The store is busy and says so: fewer requests at once, and later.
    Busy,
    /// No answer in time.
    Slow,
    /// The answer broke off, or the store failed for a moment.
    Broken,
    /// What arrived is not what was sent.
    Corrupt,
    /// Credentials or permission.
    Refused,
    /// The place cannot hold an object of this key or size.
    Impossible,
    /// No space is left.
    Full,
    /// The bucket is not there, or the address is wrong.
    NoSuchPlace,
    /// The store has not answered for long.
    Away,
    /// The run is to end.
    Stopped,
    /// Anything else.
    Failed,
}

/// A failure with one object: what happened and to what.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ObjectError {
    /// What sort of failure this is.
    pub kind: ObjectErrorKind,
    /// The key that was asked for; may be empty.
    pub key: String,
    /// One sentence for people; holds no secrets.
    pub message: String,
    /// When the store wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl ObjectError {
    /// A failure of `kind` with the object of this key.
    pub fn new(kind: ObjectErrorKind, key: &str, message: impl Into<String>) -> Self {
        Self {
            kind,
            key: key.to_owned(),
            message: message.into(),
            retry_after: None,
        }
    }

    /// What was given up because the run is to end.
    #[must_use]
    pub fn stopped() -> Self {
        let what = "interrupted; run again to go on";
        Self::new(ObjectErrorKind::Stopped, "", what)
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(
            self.kind,
            ObjectErrorKind::Busy
                | ObjectErrorKind::Slow
                | ObjectErrorKind::Broken
                | ObjectErrorKind::Corrupt
        )
    }

    /// Whether it says that too much was asked at once.
    #[must_use]
    pub fn is_overload(&self) -> bool {
        matches!(self.kind, ObjectErrorKind::Busy | ObjectErrorKind::Slow)
    }

    /// Whether nothing else will go well either.
    #[must_use]
    pub fn ends_the_run(&self) -> bool {
        matches!(
            self.kind,
            ObjectErrorKind::NoSuchPlace
                | ObjectErrorKind::Full
                | ObjectErrorKind::Away
                | ObjectErrorKind::Stopped
        )
    }

    /// Says what an error of `object_store` means.
    pub(super) fn from_object_store(error: &object_store::Error, key: &str, doing: &str) -> Self {
        let said = StoreError::from_object_store(error, doing);
        let kind = match (error, said.kind) {
            (object_store::Error::Precondition { .. }, _) => ObjectErrorKind::Changed,
            (_, StoreErrorKind::NotFound) => ObjectErrorKind::Vanished,
            (_, StoreErrorKind::Refused) => ObjectErrorKind::Refused,
            (_, StoreErrorKind::Full) => ObjectErrorKind::Full,
            (_, StoreErrorKind::Usage) => ObjectErrorKind::NoSuchPlace,
            (_, StoreErrorKind::Unavailable | StoreErrorKind::Unknown) => ObjectErrorKind::Broken,
            _ => ObjectErrorKind::Failed,
        };
        Self::new(kind, key, said.message)
    }
}
