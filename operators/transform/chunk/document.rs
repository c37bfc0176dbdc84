//! What is cut, and how.

/// Counts tokens as the model's tokenizer does.
pub trait TokenCounter {
    /// The tokens of `text`, without the special ones that the model adds. Cuts are
    /// found fastest where the tokens of two sentences are those of one and the other;
    /// where they are not, chunks keep to the limit all the same.
    fn count(&self, text: &str) -> usize;
}

/// A line of a document that is a heading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heading {
    /// Where the line begins in the text, in bytes.
    pub start_byte: usize,
    /// Where it ends.
    pub end_byte: usize,
    /// Its depth: 1 for the outermost.
    pub level: u8,
}

/// A text to be cut.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    /// What the document is known by; part of its chunks' ids.
    pub key: &'a str,
    /// The whole text.
    pub text: &'a str,
    /// Its headings, in the order of the text.
    pub headings: &'a [Heading],
    /// Where its pages begin in the text, in bytes, in their order; empty if it has none.
    pub page_starts: &'a [usize],
}

/// How a document is cut. Change it and every document is cut anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkOptions {
    /// The most tokens of a chunk: the model's limit less its special tokens.
    pub max_tokens: usize,
    /// The most tokens that a chunk repeats from the one before it.
    pub overlap_tokens: usize,
    /// The most bytes of a chunk. Some tokenizers take a megabyte without a blank for
    /// a single unknown word.
    pub max_bytes: usize,
}

impl Default for ChunkOptions {
    /// What all-MiniLM-L6-v2 takes: 256 tokens, two of them special.
    fn default() -> Self {
        Self {
            max_tokens: 254,
            overlap_tokens: 32,
            max_bytes: 8192,
        }
    }
}

/// The fewest tokens that a chunk may be limited to.
const LEAST_TOKENS: usize = 8;
/// The fewest bytes.
const LEAST_BYTES: usize = 64;

impl ChunkOptions {
    pub(super) fn check(&self) -> Result<(), ChunkError> {
        if self.max_tokens < LEAST_TOKENS || self.max_bytes < LEAST_BYTES {
            return Err(ChunkError::TooSmall {
                tokens: self.max_tokens,
                bytes: self.max_bytes,
            });
        }
        if self.overlap_tokens > self.max_tokens / 2 {
            return Err(ChunkError::Overlap {
                overlap: self.overlap_tokens,
                tokens: self.max_tokens,
            });
        }
        Ok(())
    }
}

/// Why a document cannot be cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// A chunk could hold next to nothing.
    #[error(
        "chunks of at most {tokens} tokens and {bytes} bytes are too small: set at least {} tokens and {} bytes",
        LEAST_TOKENS,
        LEAST_BYTES
    )]
    TooSmall {
        /// The limit in tokens.
        tokens: usize,
        /// The limit in bytes.
        bytes: usize,
    },
    /// A chunk would mostly repeat the one before it.
    #[error(
        "an overlap of {overlap} tokens is more than half of a chunk ({tokens} tokens): set it lower"
    )]
    Overlap {
        /// The overlap in tokens.
        overlap: usize,
        /// The limit of a chunk in tokens.
        tokens: usize,
    },
    /// A heading is no range of the text, or not in order.
    #[error(
        "{key:?}: the heading at bytes {start}..{end} lies outside of the text or before the heading above it"
    )]
    Heading {
        /// The document.
        key: String,
        /// Where the heading is said to begin.
        start: usize,
        /// Where it is said to end.
        end: usize,
    },
    /// A page begins outside of the text, or before the one before it.
    #[error("{key:?}: a page that begins at byte {start} lies outside of the text or out of order")]
    Page {
        /// The document.
        key: String,
        /// Where the page is said to begin.
        start: usize,
    },
}
