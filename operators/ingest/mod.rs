//! Sources: one file or folder each. To add one, implement
//! [`highwater::source::Source`] and give it a line in [`open`].

pub(crate) mod ahead;
pub mod documents;
pub mod groups;
pub mod history;
pub mod lake;
pub mod merge;
pub mod objects;
pub mod postgres;
pub mod sqlite;
pub mod texts;

use std::sync::Arc;

use highwater::source::{Source, SourceError, SourceErrorKind};

/// Opens the source behind a URL, by its scheme. Nothing is connected yet.
///
/// # Errors
/// No source has this scheme, or the URL is not valid for it.
pub fn open(url: &str) -> Result<Arc<dyn Source>, SourceError> {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("postgres" | "postgresql") => {
            postgres::open(url, postgres::PostgresOptions::default())
        }
        Some("sqlite") => sqlite::open(url),
        other => Err(SourceError::new(
            SourceErrorKind::Usage,
            format!(
                "the source has the scheme {}, which is none of those known; write \
                 postgres://user@host/database or sqlite:path/to/file",
                other.map_or("(none)".to_owned(), |scheme| format!("`{scheme}:`"))
            ),
        )),
    }
}
