//! What becomes of chunks and of documents, counted while it happens.

use std::sync::{Mutex, MutexGuard, PoisonError};

use highwater::run::report::{FailedObject, MOST_NAMED};
use highwater::store::objects::KeyRange;
use highwater::telemetry::objects::Count;

use super::find::Group;

/// What became of documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DocumentCounts {
    /// Documents that the table did not have.
    pub new: u64,
    /// Documents that it had otherwise.
    pub changed: u64,
    /// Documents that it had, and that are gone.
    pub deleted: u64,
    /// Documents that were set aside; they are new or have changed, too.
    pub quarantined: u64,
    /// Documents of which only the beginning was taken; they are new or have changed, too.
    pub truncated: u64,
}

impl DocumentCounts {
    fn plus(self, other: Self) -> Self {
        Self {
            new: self.new + other.new,
            changed: self.changed + other.changed,
            deleted: self.deleted + other.deleted,
            quarantined: self.quarantined + other.quarantined,
            truncated: self.truncated + other.truncated,
        }
    }
}

/// What becomes of the documents of a piece. Until its group is published it is nothing
/// but an intention.
#[derive(Debug)]
struct OfPiece {
    group: usize,
    range: KeyRange,
    counts: DocumentCounts,
    is_published: bool,
}

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
    /// Documents without text, met again or set aside by this run, that may have some in
    /// another run although they are the same: a limit is in their way, or a fault of what
    /// reads them.
    pub waiting: Count,
    /// Documents that were set aside by this run, whatever is published of them.
    pub quarantined: Count,
    named: Mutex<Vec<FailedObject>>,
    /// In the order of keys.
    pieces: Mutex<Vec<OfPiece>>,
}

impl ChunkTally {
    /// The work is divided into these groups, in the order of keys: what becomes of a
    /// document is told of the piece that holds it.
    pub(super) fn divide(&self, groups: &[Group]) {
        let pieces = groups.iter().enumerate().flat_map(|(group, of)| {
            of.pieces.iter().map(move |piece| OfPiece {
                group,
                range: piece.range.clone(),
                counts: DocumentCounts::default(),
                is_published: false,
            })
        });
        *self.pieces() = pieces.collect();
    }

    /// Something becomes of a document.
    pub(super) fn count(&self, key: &str, how: impl FnOnce(&mut DocumentCounts)) {
        if let Some(piece) = piece_of(&mut self.pieces(), key) {
            how(&mut piece.counts);
        }
    }

    /// Groups are in the lake: what became of their documents is true.
    pub fn published(&self, groups: &[usize]) {
        for piece in self.pieces().iter_mut() {
            piece.is_published |= groups.contains(&piece.group);
        }
    }

    /// What became of the documents of all groups that are in the lake.
    #[must_use]
    pub fn documents(&self) -> DocumentCounts {
        let pieces = self.pieces();
        let published = pieces.iter().filter(|piece| piece.is_published);
        published.fold(DocumentCounts::default(), |sum, piece| {
            sum.plus(piece.counts)
        })
    }

    /// Whether what became of a document is in the lake.
    #[must_use]
    pub fn is_published(&self, key: &str) -> bool {
        piece_of(&mut self.pieces(), key).is_some_and(|piece| piece.is_published)
    }

    fn pieces(&self) -> MutexGuard<'_, Vec<OfPiece>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A document has no text, and why.
    pub fn quarantine(&self, key: &str, reason: &str) {
        self.quarantined.add(1);
        self.count(key, |of| of.quarantined += 1);
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

/// The piece that holds a key, of `pieces` in the order of keys.
fn piece_of<'a>(pieces: &'a mut [OfPiece], key: &str) -> Option<&'a mut OfPiece> {
    let at = pieces.partition_point(|piece| piece.range.is_beyond(key));
    pieces.get_mut(at).filter(|piece| piece.range.holds(key))
}

#[cfg(test)]
mod tests {
    use super::super::find::Piece;
    use super::*;

    /// A group of pieces, each up to and with a key; all keys where there is none.
    fn group(after: &str, upto: &[Option<&str>]) -> Group {
        let mut after = after.to_owned();
        let pieces = upto.iter().map(|upto| {
            let upto = upto.map(str::to_owned);
            let before = std::mem::replace(&mut after, upto.clone().unwrap_or_default());
            Piece {
                of: 0,
                range: KeyRange {
                    after: before,
                    upto,
                },
                bytes: 1,
            }
        });
        Group {
            replaces: Vec::new(),
            pieces: pieces.collect(),
        }
    }

    /// Guards `DocumentCounts` of what was only begun, and that a document is found in the
    /// piece that holds it, whoever tells of it.
    #[test]
    fn what_is_not_published_does_not_count() {
        let tally = ChunkTally::default();
        // Between `d` and `m` nothing differs.
        let groups = [
            group("", &[Some("b"), Some("d")]),
            group("m", &[Some("p")]),
            group("p", &[None]),
        ];
        tally.divide(&groups);
        for key in ["a", "b", "c", "n", "z"] {
            tally.count(key, |of| of.new += 1);
        }
        tally.count("f", |of| of.new += 100);
        tally.count("d", |of| of.deleted += 1);
        tally.count("z", |of| of.changed += 1);
        tally.quarantine("c", "broken");
        tally.quarantine("n", "broken");
        assert_eq!(tally.documents(), DocumentCounts::default());
        tally.published(&[0]);
        let first = DocumentCounts {
            new: 3,
            deleted: 1,
            quarantined: 1,
            ..DocumentCounts::default()
        };
        assert_eq!(tally.documents(), first);
        let published = ["a", "d", "f", "n", "z"].map(|key| tally.is_published(key));
        assert_eq!(published, [true, true, false, false, false]);
        tally.published(&[1, 2]);
        let all = DocumentCounts {
            new: 5,
            changed: 1,
            deleted: 1,
            quarantined: 2,
            truncated: 0,
        };
        assert_eq!(tally.documents(), all);
        assert_eq!((tally.quarantined.get(), tally.set_aside().len()), (2, 2));
    }
}
