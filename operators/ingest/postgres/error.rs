//! The server's errors, and what they mean for a run.

use highwater::source::{SourceError, SourceErrorKind};

/// An error as the server reports it.
#[derive(Debug, Clone, Default, thiserror::Error)]
#[error("{message}")]
pub(super) struct ServerError {
    /// The SQLSTATE.
    pub(super) code: String,
    /// The primary message.
    pub(super) message: String,
    /// The detail, where there is one.
    pub(super) detail: Option<String>,
    /// The hint, where there is one.
    pub(super) hint: Option<String>,
}

impl ServerError {
    /// Reads the body of an `ErrorResponse`.
    pub(super) fn parse(mut body: &[u8]) -> Self {
        let mut error = Self::default();
        while let Some((&field, rest)) = body.split_first() {
            if field == 0 {
                break;
            }
            let end = rest
                .iter()
                .position(|&byte| byte == 0)
                .unwrap_or(rest.len());
            let (value, after) = rest.split_at(end);
            let text = String::from_utf8_lossy(value).into_owned();
            match field {
                b'C' => error.code = text,
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                _ => {}
            }
            body = after.get(1..).unwrap_or_default();
        }
        error
    }

    /// What sort of failure it is.
    pub(super) fn kind(&self) -> SourceErrorKind {
        let class = self.code.get(..2).unwrap_or_default();
        match (class, self.code.as_str()) {
            (_, "42501") | ("28", _) => SourceErrorKind::Refused,
            // Undefined table, column, function, schema, database; syntax; wrong
            // types: the configuration asks for it.
            ("42" | "3D" | "3F", _) => SourceErrorKind::Usage,
            // Connection trouble, shut down or starting up, out of resources,
            // cancelled, serialization or recovery conflict, lock not available.
            ("08" | "53" | "57" | "40" | "55" | "58", _) => SourceErrorKind::Unavailable,
            _ => SourceErrorKind::Failed,
        }
    }

    /// As an error of the source, with what was being done before it.
    pub(super) fn while_doing(self, what: &str) -> SourceError {
        let mut message = format!("{what}: {} (SQLSTATE {})", self.message, self.code);
        for more in [&self.detail, &self.hint].into_iter().flatten() {
            message.push_str(". ");
            message.push_str(more.trim_end_matches('.'));
        }
        let next = match self.code.as_str() {
            "42501" if self.message.contains("row-level security") => {
                ". Rows would be missing silently; read as the table's owner or a role with BYPASSRLS"
            }
            "42501" => ". Grant SELECT to this user or leave the table out",
            "42P01" => ". The table was dropped or renamed, or is not in this database",
            "40001" => ". Run again, or raise max_standby_streaming_delay on a standby",
            "57014" => ". Something cancelled the query; run again",
            "53300" => ". Use fewer workers or raise max_connections",
            "57P03" => ". Run again when the server is up",
            _ => "",
        };
        message.push_str(next);
        SourceError::new(self.kind(), message).caused_by(self)
    }
}

/// The connection broke while something was being done.
pub(super) fn lost(
    place: &dyn std::fmt::Display,
    what: &str,
    cause: std::io::Error,
) -> SourceError {
    let message = format!("the connection to {place} broke while {what} ({cause}); run again");
    SourceError::new(SourceErrorKind::Unavailable, message).caused_by(cause)
}

/// Something that a correct server does not send.
pub(super) fn protocol(place: &dyn std::fmt::Display, what: impl std::fmt::Display) -> SourceError {
    SourceError::new(
        SourceErrorKind::Failed,
        format!("{place} sent what PostgreSQL's protocol does not allow: {what}"),
    )
}

/// The configuration asks for something that is not there or not valid.
pub(super) fn usage(message: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Usage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_sorted() {
        let error = ServerError::parse(b"SERROR\0C42501\0Mpermission denied for table t\0Hask\0\0");
        assert_eq!(error.kind(), SourceErrorKind::Refused);
        let error = error.while_doing("reading public.t");
        assert!(
            error.message.starts_with(
                "reading public.t: permission denied for table t (SQLSTATE 42501). ask"
            )
        );
        for (code, kind) in [
            ("28P01", SourceErrorKind::Refused),
            ("3D000", SourceErrorKind::Usage),
            ("42P01", SourceErrorKind::Usage),
            ("57P01", SourceErrorKind::Unavailable),
            ("53300", SourceErrorKind::Unavailable),
            ("XX000", SourceErrorKind::Failed),
            ("", SourceErrorKind::Failed),
        ] {
            assert_eq!(
                ServerError {
                    code: code.into(),
                    ..Default::default()
                }
                .kind(),
                kind,
                "{code}"
            );
        }
    }

    #[test]
    fn damaged_bodies_do_not_panic() {
        for body in [&b""[..], b"M", b"Mabc", b"\0", b"C\0\0\0"] {
            let _ = ServerError::parse(body);
        }
    }
}
