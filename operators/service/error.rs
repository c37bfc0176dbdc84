//! What went wrong with one request.

use std::time::Duration;

/// Sorts of failure: they decide what is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpErrorKind {
    /// Nobody answers there.
    Unreachable,
    /// No answer in time.
    Slow,
    /// The connection or the answer broke off.
    Broken,
    /// The service says that it is too much (429, 503).
    Busy,
    /// The service failed (other 5xx).
    Server,
    /// Credentials or permission (401, 403).
    Refused,
    /// There is no such thing (404).
    NotFound,
    /// The request is too large (413).
    TooLarge,
    /// The service does not take the request (other 4xx, redirects).
    Rejected,
    /// The answer is not what was asked for.
    Nonsense,
    /// The address or a certificate: the same request fails every time.
    Unusable,
}

/// A request that failed: what sort, and what was said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HttpError {
    /// What sort of failure this is.
    pub kind: HttpErrorKind,
    /// What the service or the network said, for people; holds no secrets.
    pub message: String,
    /// When the service wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl HttpError {
    /// A failure of this sort.
    pub fn new(kind: HttpErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
        }
    }

    /// Whether the same request may go well later.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(
            self.kind,
            HttpErrorKind::Unreachable
                | HttpErrorKind::Slow
                | HttpErrorKind::Broken
                | HttpErrorKind::Busy
                | HttpErrorKind::Server
                | HttpErrorKind::Nonsense
        )
    }

    pub(super) fn of_status(status: http::StatusCode, said: &str) -> Self {
        let kind = match status.as_u16() {
            401 | 403 => HttpErrorKind::Refused,
            404 => HttpErrorKind::NotFound,
            408 => HttpErrorKind::Slow,
            413 => HttpErrorKind::TooLarge,
            429 | 503 => HttpErrorKind::Busy,
            500.. => HttpErrorKind::Server,
            _ => HttpErrorKind::Rejected,
        };
        let said = match said.trim() {
            "" => String::new(),
            said => format!(": {}", shortened(said)),
        };
        Self::new(kind, format!("{status}{said}"))
    }

    pub(super) fn of_transport(error: &reqwest::Error) -> Self {
        // The address is named by who asked, without what must not be shown.
        let mut text = String::new();
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
        while let Some(next) = cause {
            let part = next.to_string();
            if !text.contains(&part) {
                let separator = if text.is_empty() { "" } else { ": " };
                text = format!("{text}{separator}{part}");
            }
            cause = next.source();
        }
        let kind = if error.is_builder() || text.contains("certificate") {
            HttpErrorKind::Unusable
        } else if error.is_connect() {
            HttpErrorKind::Unreachable
        } else if error.is_timeout() {
            HttpErrorKind::Slow
        } else {
            HttpErrorKind::Broken
        };
        let what = match kind {
            HttpErrorKind::Unreachable => "it cannot be reached",
            HttpErrorKind::Slow => "no answer in time",
            HttpErrorKind::Unusable => "it cannot be used",
            _ => "the connection broke off",
        };
        let colon = if text.is_empty() { "" } else { ": " };
        Self::new(kind, format!("{what}{colon}{}", shortened(&text)))
    }
}

/// So much of an answer is quoted.
const QUOTED_CHARS: usize = 400;

fn shortened(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_owned(),
    }
}
