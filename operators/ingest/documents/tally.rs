//! What becomes of chunks, counted while it happens.

use std::sync::{Mutex, PoisonError};

use highwater::run::report::{FailedObject, MOST_NAMED};
use highwater::telemetry::objects::Count;

/// Counters of one run over one table of chunks.
#[derive(Debug, Default)]
pub struct ChunkTally {
    /// Chunks of documents that were new or had changed.
    pub chunks: Count,
    /// Of these, chunks whose vector the same document already had.
    pub kept: Count,
    /// Of these, chunks whose vector was found in the cache of vectors, or was made for
    /// another chunk of the same text in the same run.
    pub reused: Count,
    /// Of these, chunks that the model made a vector of.
    pub embedded: Count,
    /// Tokens that went through the model.
    pub tokens: Count,
    /// Of these, tokens that only fill up.
    pub padding: Count,
    /// Documents without text that were met again, unchanged.
    pub still_quarantined: Count,
    /// Documents that were set aside by this run.
    pub quarantined: Count,
    /// Documents of which only the beginning was taken.
    pub truncated: Count,
    named: Mutex<Vec<FailedObject>>,
}

impl ChunkTally {
    /// A document has no text, and why.
    pub fn quarantine(&self, key: &str, reason: &str) {
        self.quarantined.add(1);
        tracing::warn!("{key:?} is set aside: {reason}");
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.len() < MOST_NAMED {
            named.push(FailedObject {
                key: key.to_owned(),
                reason: reason.to_owned(),
            });
        }
    }

    /// The first documents that were set aside, in the order of their keys.
    #[must_use]
    pub fn set_aside(&self) -> Vec<FailedObject> {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let mut named = named.clone();
        named.sort_by(|a, b| a.key.cmp(&b.key));
        named
    }
}
