//! Which ranges of the table differ from the source, and where it is best to divide the
//! work on them.
//!
//! Names are compared with names, all ranges of the table, a few at once; nothing is
//! read but listings and the columns that say of which states rows were made. What is
//! counted here is what a run is to do, and all that a plan needs; what has been done is
//! counted by whoever does it.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use highwater::store::objects::{KeyRange, ObjectError};

use super::merge::{Merge, Step};
use super::rows::{is_waiting, states_schema};
use super::{ChunkTally, DocumentSides};

/// Ranges that are compared at once.
const RANGES_AT_ONCE: usize = 4;

/// Rows decoded at once.
const ROWS_AT_ONCE: usize = 8192;

/// Places to cut that are remembered of a range; then every other one is forgotten.
const MOST_CUTS: usize = 4096;

/// What a document costs beside its bytes, in bytes: a process that reads it, a few
/// requests. An estimate; it only divides work.
const DOCUMENT_BYTES: u64 = 64 << 10;

/// A piece is not made larger than this, in bytes, however few workers there are: what
/// is done of it is published when all of it is.
const LARGEST_PIECE_BYTES: u64 = 64 << 20;

/// Nor smaller, however many there are: each becomes a file.
const LEAST_PIECE_BYTES: u64 = 8 * DOCUMENT_BYTES;

/// A part of a range that is one split of the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The number of the range.
    pub of: usize,
    /// The keys.
    pub range: KeyRange,
    /// What the documents that differ in it cost, in bytes. An estimate.
    pub bytes: u64,
}

/// Pieces that are published together: all of a file that is written anew. Where there
/// is no file yet each piece is a group of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The paths of the files that go, as the log has them: several where a document lies
    /// in more than one.
    pub replaces: Vec<String>,
    /// The pieces, in the order of keys.
    pub pieces: Vec<Piece>,
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// What differs, in the order of keys.
    pub groups: Vec<Group>,
    /// Documents to read.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Compares all ranges, counts in the tallies, and cuts what differs into about `wanted`
/// pieces of like cost.
///
/// # Errors
/// One side cannot be read.
pub async fn find_changes(
    sides: &DocumentSides,
    chunks: &ChunkTally,
    wanted: usize,
) -> Result<Found, ObjectError> {
    let ranges = sides.ranges().into_iter().enumerate();
    let looks = stream::iter(ranges).map(|(number, range)| async move {
        let look = look(sides, chunks, number, range.clone()).await?;
        Ok::<_, ObjectError>((number, range, look))
    });
    let looks: Vec<_> = looks.buffered(RANGES_AT_ONCE).try_collect().await?;
    let differing = looks.into_iter().filter(|(_, _, look)| look.differs);
    let differing: Vec<_> = differing.collect();
    let cost: u64 = differing.iter().map(|(_, _, look)| look.cost()).sum();
    let each = (cost / wanted.max(1) as u64).clamp(LEAST_PIECE_BYTES, LARGEST_PIECE_BYTES);
    let mut found = Found::default();
    for (number, range, look) in differing {
        found.documents += look.documents;
        found.bytes += look.bytes;
        let pieces = look.pieces(number, &range, each);
        let replaces: Vec<String> = sides.chunks.paths(number).map(str::to_owned).collect();
        match replaces.is_empty() {
            false => found.groups.push(Group { replaces, pieces }),
            true => found.groups.extend(pieces.into_iter().map(|piece| Group {
                replaces: Vec::new(),
                pieces: vec![piece],
            })),
        }
    }
    chunks.divide(&found.groups);
    Ok(found)
}

/// What was seen of a range.
#[derive(Debug, Default)]
struct Look {
    differs: bool,
    /// Documents to read, and their bytes.
    documents: u64,
    bytes: u64,
    cuts: Cuts,
}

/// Keys near which the range may be cut: one for each so many documents to read.
#[derive(Debug)]
struct Cuts {
    keys: Vec<String>,
    every: u64,
    since: u64,
}

impl Default for Cuts {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            every: 1,
            since: 0,
        }
    }
}

impl Cuts {
    fn after(&mut self, key: &str) {
        self.since += 1;
        if self.since < self.every {
            return;
        }
        self.since = 0;
        self.keys.push(key.to_owned());
        if self.keys.len() > MOST_CUTS {
            let mut nth = 0_usize;
            self.keys.retain(|_| {
                nth += 1;
                nth.is_multiple_of(2)
            });
            self.every *= 2;
        }
    }
}

impl Look {
    fn cost(&self) -> u64 {
        self.bytes + self.documents * DOCUMENT_BYTES
    }

    fn pieces(&self, of: usize, range: &KeyRange, each_bytes: u64) -> Vec<Piece> {
        let count = usize::try_from(self.cost().div_ceil(each_bytes)).unwrap_or(usize::MAX);
        let count = count.clamp(1, self.cuts.keys.len().max(1));
        let bytes = (self.cost() / count as u64).max(1);
        let piece = |after: &str, upto: Option<&String>| Piece {
            of,
            range: KeyRange {
                after: after.to_owned(),
                upto: upto.cloned(),
            },
            bytes,
        };
        let mut after = range.after.as_str();
        let mut pieces = Vec::with_capacity(count);
        for cut in 1..count {
            let at = self.cuts.keys.len() * cut / count;
            if let Some(key) = at.checked_sub(1).and_then(|at| self.cuts.keys.get(at)) {
                pieces.push(piece(after, Some(key)));
                after = key;
            }
        }
        pieces.push(piece(after, range.upto.as_ref()));
        pieces
    }
}

async fn look(
    sides: &DocumentSides,
    chunks: &ChunkTally,
    number: usize,
    range: KeyRange,
) -> Result<Look, ObjectError> {
    let mut merge = Merge::new(sides, number, range, &states_schema(), ROWS_AT_ONCE).await?;
    let (tally, mut look) = (&sides.tally, Look::default());
    while let Some(step) = merge.next().await? {
        match step {
            Step::Same(old) => {
                tally.source_objects.add(1);
                tally.unchanged.add(1);
                let note = old.state.note.as_deref();
                // One of which the beginning was taken has a note, too, and text.
                let has_nothing = note.is_some() && old.row_count() == 1;
                chunks.still_quarantined.add(has_nothing.into());
                let is_waiting = note.is_some_and(is_waiting);
                chunks.waiting.add(is_waiting.into());
            }
            Step::Read(object, old) => {
                tally.source_objects.add(1);
                tally.differs(&object.key, object.bytes, old.is_none());
                look.differs = true;
                look.documents += 1;
                look.bytes += object.bytes;
                look.cuts.after(&object.key);
            }
            Step::Goes(old) => {
                tally.is_extra(&old.state.object.key);
                look.differs = true;
            }
        }
        if tally.is_stopped() {
            return Err(ObjectError::stopped());
        }
    }
    merge.tell_refused();
    Ok(look)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn look_of(keys: &[String], every: u64) -> Look {
        let mut look = Look {
            differs: true,
            ..Look::default()
        };
        look.cuts.every = every;
        for key in keys {
            look.documents += 1;
            look.bytes += 1000;
            look.cuts.after(key);
        }
        look
    }

    proptest! {
        #[test]
        fn pieces_hold_every_key_of_the_range_once(
            count in 0_usize..200,
            every in 1_u64..5,
            each in 1_u64..2_000_000,
            probe in 0_usize..220,
        ) {
            let keys: Vec<String> = (0..count).map(|n| format!("k{n:04}")).collect();
            let look = look_of(&keys, every);
            let pieces = look.pieces(3, &KeyRange::all(), each);
            let probe = format!("k{probe:04}");
            let holding = pieces.iter().filter(|piece| piece.range.holds(&probe));
            prop_assert_eq!(holding.count(), 1);
            prop_assert!(pieces.iter().all(|piece| piece.of == 3));
        }
    }

    #[test]
    fn pieces_are_alike_and_as_many_as_wanted() {
        let keys: Vec<String> = (0..100).map(|n| format!("k{n:04}")).collect();
        let look = look_of(&keys, 1);
        let pieces = look.pieces(0, &KeyRange::all(), look.cost() / 10);
        assert_eq!(pieces.len(), 10);
        for piece in &pieces {
            let inside = keys.iter().filter(|key| piece.range.holds(key));
            assert_eq!(inside.count(), 10);
        }
    }

    #[test]
    fn of_many_keys_every_other_cut_is_forgotten() {
        let keys: Vec<String> = (0..MOST_CUTS * 3).map(|n| format!("k{n:06}")).collect();
        let look = look_of(&keys, 1);
        assert!(look.cuts.keys.len() <= MOST_CUTS && look.cuts.every == 4);
        assert!(look.cuts.keys.is_sorted());
    }
}
