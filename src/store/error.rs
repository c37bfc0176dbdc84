//! What went wrong at a store, said once, clearly and without secrets.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use object_store::client::{HttpError, HttpErrorKind};

/// Sorts of failure at a store: decides the exit code and whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The URL or an option is wrong, or names what is not there (exit 2).
    Usage,
    /// The store refused: credentials or permission (exit 1).
    Refused,
    /// The store cannot be reached or is busy: worth retrying (exit 4).
    Unavailable,
    /// No space is left (exit 1).
    Full,
    /// The object does not exist.
    NotFound,
    /// The store cannot put-if-absent, so two writers cannot be told apart (C6).
    NoConditionalPut,
    /// A put-if-absent may or may not have been applied (C1); the next run finds
    /// out (exit 4).
    Unknown,
    /// Anything else (exit 1).
    Failed,
}

/// A failure at a store: what happened, to what, and what to do.
#[derive(Debug, thiserror::Error)]
pub struct StoreError {
    /// What sort of failure this is.
    pub kind: StoreErrorKind,
    /// One sentence or two for people; holds no secrets.
    pub message: String,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StoreError {
    /// An error of `kind` that says `message`.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// Says what `error` means; `doing` completes "cannot ...", for instance
    /// `read s3://bucket/lake/x`.
    #[must_use]
    pub fn from_object_store(error: &object_store::Error, doing: &str) -> Self {
        let detail = without_queries(&chain(error));
        let kind = kind_of(error, &detail);
        let advice = advice(kind, &detail);
        Self::new(kind, format!("cannot {doing}: {advice} ({detail})"))
    }

    /// Whether the same run may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            StoreErrorKind::Unavailable | StoreErrorKind::Unknown
        )
    }
}

/// The whole chain of causes in one line, each part once.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let part = cause.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = cause.source();
    }
    text.replace('\n', " ")
}

/// Cuts the query off every address: signed requests carry secrets there.
pub(super) fn without_queries(text: &str) -> String {
    text.split_inclusive(' ')
        .map(|word| match (word.find("://"), word.find('?')) {
            (Some(scheme), Some(query)) if scheme < query => {
                let end = if word.ends_with(' ') { "?... " } else { "?..." };
                format!("{}{end}", word.get(..query).unwrap_or_default())
            }
            _ => word.to_owned(),
        })
        .collect()
}

/// The first cause of type `T` in the chain.
fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn kind_of(error: &object_store::Error, detail: &str) -> StoreErrorKind {
    use object_store::Error;
    if let Some(kind) = cause::<io::Error>(error).and_then(|cause| kind_of_io(cause.kind())) {
        return kind;
    }
    match error {
        // Asked of the text: the bucket's absence is a 404 like an object's.
        _ if detail.contains("NoSuchBucket") || detail.contains("ContainerNotFound") => {
            StoreErrorKind::Usage
        }
        Error::NotFound { .. } => StoreErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreErrorKind::Refused,
        Error::InvalidPath { .. } | Error::UnknownConfigurationKey { .. } => StoreErrorKind::Usage,
        Error::NotImplemented { .. } | Error::NotSupported { .. } => StoreErrorKind::Failed,
        _ => kind_of_http(error, detail),
    }
}

fn kind_of_io(kind: io::ErrorKind) -> Option<StoreErrorKind> {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(StoreErrorKind::Full),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Some(StoreErrorKind::Refused)
        }
        io::ErrorKind::NotADirectory => Some(StoreErrorKind::Usage),
        _ => None,
    }
}

fn kind_of_http(error: &object_store::Error, detail: &str) -> StoreErrorKind {
    if detail.contains("URL scheme is not allowed") || detail.contains("BadScheme") {
        return StoreErrorKind::Usage;
    }
    let broken = cause::<HttpError>(error).is_some_and(|http| {
        matches!(
            http.kind(),
            HttpErrorKind::Connect
                | HttpErrorKind::Request
                | HttpErrorKind::Timeout
                | HttpErrorKind::Interrupted
                | HttpErrorKind::Decode
        )
    });
    // The status is known only to the crate's own error; its text names it.
    let busy = [
        "status code: 5",
        "status code: 429",
        "status code: 408",
        "SlowDown",
    ]
    .iter()
    .any(|sign| detail.contains(sign));
    if broken || busy {
        StoreErrorKind::Unavailable
    } else {
        StoreErrorKind::Failed
    }
}

fn advice(kind: StoreErrorKind, detail: &str) -> &'static str {
    let wrong_key = [
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidToken",
        "ExpiredToken",
        "AuthenticationFailed",
        "AuthenticationRequired",
    ];
    match kind {
        StoreErrorKind::Usage if detail.contains("NoSuchBucket") => {
            "the bucket does not exist; create it or correct the URL"
        }
        StoreErrorKind::Usage if detail.contains("ContainerNotFound") => {
            "the container does not exist; create it or correct the URL"
        }
        StoreErrorKind::Usage if detail.contains("scheme") || detail.contains("Scheme") => {
            "the endpoint is plain http; set the option allow_http = \"true\" if that is meant"
        }
        StoreErrorKind::Usage => "the address is not valid here",
        StoreErrorKind::Refused if wrong_key.iter().any(|sign| detail.contains(sign)) => {
            "the credentials are wrong or expired; check the access key and its secret"
        }
        StoreErrorKind::Refused => "permission was refused; grant it to this user or key",
        StoreErrorKind::Unavailable => "the store cannot be reached or is busy; try again later",
        StoreErrorKind::Full => "no space is left; free some and run again, nothing is lost",
        StoreErrorKind::NotFound => "it does not exist",
        StoreErrorKind::NoConditionalPut | StoreErrorKind::Unknown | StoreErrorKind::Failed => {
            "the store failed"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disk_is_named() {
        let error = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(io::Error::from(io::ErrorKind::StorageFull)),
        };
        let said = StoreError::from_object_store(&error, "write file:///lake/x");
        assert_eq!(said.kind, StoreErrorKind::Full);
        assert!(said.message.contains("no space is left"), "{said}");
    }

    #[test]
    fn signed_queries_are_cut() {
        let text = "error for url (https://a.blob/x?sv=1&sig=canary) after 3";
        assert!(!without_queries(text).contains("canary"));
        assert!(without_queries(text).ends_with("after 3"));
    }
}
