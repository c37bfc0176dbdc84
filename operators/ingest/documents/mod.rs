//! Documents that differ from those whose chunks the lake has, as rows of chunks.
//!
//! A table of chunks holds each document as consecutive rows, in the order of the
//! documents' keys; its files do not overlap. So a file stands for a range of keys:
//! where no document of it has changed the file stays, where one has the file is written
//! anew, with the rows of the others taken from the old one. What text becomes a vector,
//! and how, is not known here: a chunk whose text is unchanged brings its old vector
//! along, all others come without one.
//!
//! | file | what it holds |
//! |---|---|
//! | `rows` | the columns; a document as rows |
//! | `old` | documents of a file, one at a time |
//! | `merge` | a listing beside the documents of a file |
//! | `find` | which ranges differ, and where it is best to divide the work on them |
//! | `prepare` | from an object to the rows of a document |
//! | `ranges` | [`DocumentRanges`]: ranges of the table as they are to be |
//! | `tally` | what becomes of chunks and documents, counted |

mod find;
mod merge;
mod old;
mod prepare;
mod ranges;
mod rows;
mod tally;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use highwater::store::objects::{KeyRange, Objects};
use highwater::store::pace::Retries;
use highwater::telemetry::objects::ObjectTally;

use super::objects::KeyFilter;
use crate::lake::KeyedTable;
use crate::transform::extract::Limits;

pub use find::{Found, Group, Piece, find_changes};
pub use prepare::Preparing;
pub use ranges::{DocumentRanges, RangePlan};
pub use rows::{ID, KEY, chunks_schema, columns};
pub use tally::{ChunkTally, DocumentCounts};

use rows::{State, is_fault_of_ours};

/// The version of what makes text of documents. Where a document made one version fail,
/// another one tries again.
pub const EXTRACTION: &str = env!("CARGO_PKG_VERSION");

/// Smaller files are written anew rather than joined by another one.
const SMALL_FILE_BYTES: u64 = 8 << 20;

/// Both sides of a comparison: where documents are, and the chunks that the lake has.
/// Cloning shares them.
#[derive(Debug, Clone)]
pub struct DocumentSides {
    /// Where documents are.
    pub source: Arc<dyn Objects>,
    /// The table of chunks as it is.
    pub chunks: Arc<KeyedTable>,
    /// Which documents are wanted; the others are not in the table.
    pub filter: KeyFilter,
    /// How text is made and cut: rows that were made in another way are made anew.
    pub recipe: Arc<str>,
    /// The model whose vectors the table holds.
    pub model: Arc<str>,
    /// What makes text of documents, by its version: those at which another one failed are
    /// tried again.
    pub extraction: Arc<str>,
    /// What one document may cost: larger ones are not read, and those that were set
    /// aside by a limit are tried again once it is wider.
    pub limits: Limits,
    /// How listings are repeated.
    pub retries: Retries,
    /// Where documents are counted.
    pub tally: Arc<ObjectTally>,
}

impl DocumentSides {
    /// The ranges of the table: one for each of its files, one for everything where it
    /// has none. What comes after the last document has a range of its own, unless the
    /// last file is small: names that only grow add files, and rewrite none.
    #[must_use]
    pub fn ranges(&self) -> Vec<KeyRange> {
        let mut ranges = self.chunks.ranges();
        let (last, files) = (self.chunks.last_key(), ranges.len());
        if let (Some(last), Some(range)) = (last, ranges.last_mut())
            && self.chunks.bytes(files - 1) >= SMALL_FILE_BYTES
        {
            range.upto = Some(last.to_owned());
            ranges.push(KeyRange {
                after: last.to_owned(),
                upto: None,
            });
        }
        ranges
    }

    /// What the rows of a document with this note say of how they were made: where what
    /// makes text failed at it, also which version of it that was.
    fn recipe_of(&self, note: &str) -> Cow<'_, str> {
        match is_fault_of_ours(note) {
            true => format!("{}; failed in version {}", self.recipe, self.extraction).into(),
            false => Cow::Borrowed(&*self.recipe),
        }
    }

    /// A document has no text, and why.
    fn set_aside(&self, state: &mut State, reason: String) {
        state.recipe = self.recipe_of(&reason).into_owned();
        state.note = Some(reason);
    }
}
