//! Cuts the text of a document into chunks that fit a model.
//!
//! Where a chunk ends is decided by the text around that place, never by how much
//! came before: an edit changes the chunks that it touches, and soon after it the cuts
//! are where they were. What is unchanged keeps its hash and its id, and need not be
//! embedded again. Nothing in here knows a model, a file format or a sink: tokens are
//! counted by whoever implements [`TokenCounter`].
//!
//! | file | what it holds |
//! |---|---|
//! | `document` | [`Document`]: a text, its headings and its pages |
//! | `outline` | sections, heading paths, page numbers |
//! | `units` | a section as sentences, each with its tokens |
//! | `long` | what is longer than a chunk: lines, words, pieces of words |
//! | `pack` | units to chunks: where to cut |
//! | `identity` | hashes and ids |

mod document;
mod identity;
mod long;
mod outline;
mod pack;
#[cfg(test)]
mod tests;
mod units;

use std::sync::Arc;

pub use document::{ChunkError, ChunkOptions, Document, Heading, TokenCounter};
pub use identity::{ChunkHash, ChunkId};

use identity::Identities;
use outline::Outline;
use pack::Packer;

/// One chunk: a slice of a document's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// The text, exactly as in the document; begins with the overlap, and neither
    /// begins nor ends with white space.
    pub text: &'a str,
    /// Where it begins in the document's text, in bytes.
    pub start_byte: usize,
    /// Where it ends.
    pub end_byte: usize,
    /// Where it goes on from the end of the chunk before it; what comes earlier is
    /// overlap. Equal to `start_byte` where there is none.
    pub own_start_byte: usize,
    /// The page, from 1, on which its own text begins; `None` where the document has
    /// no pages.
    pub page: Option<u32>,
    /// The headings above it, outermost first: `Introduction > Methods`. Empty above
    /// the first heading.
    pub heading_path: Arc<str>,
    /// Its tokens, special ones left out.
    pub tokens: usize,
    /// The hash of its text.
    pub hash: ChunkHash,
    /// How many chunks with the same text come before it in this document.
    pub occurrence: u32,
    /// Its id, the same in every run as long as the document holds this text.
    pub id: ChunkId,
    /// Its number in the document, from 0. An edit renumbers what follows it.
    pub ordinal: u32,
}

/// Cuts a document into chunks, in the order of its text.
///
/// Every character that is not white space is in at least one chunk; no chunk has more
/// than `options.max_tokens` tokens or `options.max_bytes` bytes. A section, that is a
/// heading and what stands below it, begins a new chunk without overlap. The same
/// document and options give the same chunks. Time is proportional to the text.
///
/// ```
/// use highwater_operators::transform::chunk::{ChunkOptions, Document, TokenCounter, chunks};
///
/// struct Words;
/// impl TokenCounter for Words {
///     fn count(&self, text: &str) -> usize {
///         text.split_whitespace().count()
///     }
/// }
/// let document = Document { key: "notes.txt", text: "One. Two.", headings: &[], page_starts: &[] };
/// let chunks = chunks(&document, &Words, &ChunkOptions::default())?;
/// assert_eq!(chunks[0].text, "One. Two.");
/// # Ok::<(), highwater_operators::transform::chunk::ChunkError>(())
/// ```
///
/// # Errors
/// [`ChunkError`] where the options, the headings or the pages make no sense.
pub fn chunks<'a>(
    document: &Document<'a>,
    counter: &(impl TokenCounter + ?Sized),
    options: &ChunkOptions,
) -> Result<Vec<Chunk<'a>>, ChunkError> {
    options.check()?;
    let outline = Outline::new(document)?;
    let mut identities = Identities::of(document.key);
    let mut chunks = Vec::new();
    for section in outline.sections() {
        let packer = Packer::new(document.text, section.bytes.clone(), counter, options);
        for piece in packer {
            let text = &document.text[piece.bytes.clone()];
            let (hash, occurrence, id) = identities.next(text);
            chunks.push(Chunk {
                text,
                start_byte: piece.bytes.start,
                end_byte: piece.bytes.end,
                own_start_byte: piece.own_start,
                page: outline.page(piece.own_start),
                heading_path: Arc::clone(&section.path),
                tokens: piece.tokens,
                hash,
                occurrence,
                id,
                ordinal: u32::try_from(chunks.len()).unwrap_or(u32::MAX),
            });
        }
    }
    Ok(chunks)
}
