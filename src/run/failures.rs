//! What every room's errors mean for the exit code.

use super::failure::{Exit, Failure};
use crate::ledger::{LedgerError, LoadError};
use crate::source::{SourceError, SourceErrorKind};
use crate::store::objects::{ObjectError, ObjectErrorKind};
use crate::store::{StoreError, StoreErrorKind};

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let exit = match error.kind {
            SourceErrorKind::Usage => Exit::Usage,
            SourceErrorKind::Unavailable => Exit::Retry,
            SourceErrorKind::Stopped => Exit::Interrupted,
            SourceErrorKind::Refused | SourceErrorKind::BadRow | SourceErrorKind::Failed => {
                Exit::Failed
            }
        };
        let failure = Self::new(exit, error.message);
        match error.cause {
            Some(cause) => failure.caused_by(&*cause),
            None => failure,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match error.kind {
            StoreErrorKind::Usage => Exit::Usage,
            StoreErrorKind::Unavailable | StoreErrorKind::Unknown => Exit::Retry,
            StoreErrorKind::Refused
            | StoreErrorKind::Full
            | StoreErrorKind::NotFound
            | StoreErrorKind::NoConditionalPut
            | StoreErrorKind::Failed => Exit::Failed,
        };
        Self::new(exit, error.message)
    }
}

impl From<ObjectError> for Failure {
    fn from(error: ObjectError) -> Self {
        let exit = match error.kind {
            ObjectErrorKind::NoSuchPlace => Exit::Usage,
            ObjectErrorKind::Away => Exit::Retry,
            ObjectErrorKind::Stopped => Exit::Interrupted,
            _ if error.passes() => Exit::Retry,
            _ => Exit::Failed,
        };
        Self::new(exit, error.message)
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Store(error) => error.into(),
            LedgerError::Overtaken { .. } => Self::new(Exit::Overtaken, error.to_string()),
            error if error.is_retryable() => Self::retry(error.to_string()),
            LedgerError::NotPruned { .. } => Self::new(Exit::Damaged, error.to_string()),
            LedgerError::NoSuchVersion { .. } => Self::usage(error.to_string()),
            LedgerError::Column { .. } => Self::usage(error.to_string()),
            LedgerError::Shape { .. } => Self::new(Exit::SchemaRefused, error.to_string()),
            error => Self::failed(error.to_string()),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Store(error) => error.into(),
            LoadError::Overtaken { .. } => Self::new(Exit::Overtaken, error.to_string()),
            error => Self::failed(error.to_string()),
        }
    }
}
