//! What a vector store does not do, and what to do then.

use crate::service::{HttpError, HttpErrorKind};

/// A failure with a ChromaDB server or one of its collections.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChromaError {
    /// The URL names no server.
    #[error("{url:?} is not the address of a ChromaDB server: {why}; write chroma://host:port")]
    Url {
        /// What was written, without secrets.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answers, or nothing but failures comes back.
    #[error("cannot {doing} at {server}: {source}; run again when the server answers")]
    Away {
        /// The server.
        server: String,
        /// What was asked.
        doing: String,
        /// The last failure.
        source: HttpError,
    },
    /// Credentials or permission.
    #[error("{server} refuses to {doing}: {source}; check the token")]
    Refused {
        /// The server.
        server: String,
        /// What was asked.
        doing: String,
        /// What it said.
        source: HttpError,
    },
    /// Something answers that is not a server with version 2 of the API.
    #[error(
        "{server} does not speak version 2 of ChromaDB's API: {source}; use a server of version 1 or newer"
    )]
    NotChroma {
        /// The server.
        server: String,
        /// What it said.
        source: HttpError,
    },
    /// The tenant or the database is not there.
    #[error(
        "{server} has no database {database:?} of tenant {tenant:?}: create it, or name another one"
    )]
    NoDatabase {
        /// The server.
        server: String,
        /// The tenant that was asked for.
        tenant: String,
        /// The database that was asked for.
        database: String,
    },
    /// The collection was removed, by another program or with the server's folder.
    #[error("collection {collection:?} is no longer at {server}: run again to build it anew")]
    NoCollection {
        /// The server.
        server: String,
        /// The collection.
        collection: String,
    },
    /// The collection holds vectors of another length.
    #[error(
        "collection {collection:?} holds vectors of {expected} numbers, not of {found}: use another collection for another model, or delete this one"
    )]
    Dimension {
        /// The collection.
        collection: String,
        /// The length of its vectors.
        expected: usize,
        /// The length of the vector that was to be written.
        found: usize,
    },
    /// A point that no collection takes.
    #[error("point {id:?} cannot be written to collection {collection:?}: {why}")]
    BadPoint {
        /// The collection.
        collection: String,
        /// The point.
        id: String,
        /// What is wrong with it.
        why: String,
    },
    /// The server does not take what was sent.
    #[error("cannot {doing} at {server}: {source}")]
    Rejected {
        /// The server.
        server: String,
        /// What was asked.
        doing: String,
        /// What it said.
        source: HttpError,
    },
}

impl ChromaError {
    /// Whether the same may go well later, without anybody's doing.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self, Self::Away { .. })
    }

    /// Whether the collection must be built anew.
    #[must_use]
    pub fn is_lost_collection(&self) -> bool {
        matches!(self, Self::NoCollection { .. })
    }

    /// What a failed request means.
    pub(super) fn of_request(source: HttpError, server: &str, doing: &str) -> Self {
        let (server, doing) = (server.to_owned(), doing.to_owned());
        match source.kind {
            HttpErrorKind::Refused => Self::Refused {
                server,
                doing,
                source,
            },
            _ if source.passes() => Self::Away {
                server,
                doing,
                source,
            },
            _ => Self::Rejected {
                server,
                doing,
                source,
            },
        }
    }
}
