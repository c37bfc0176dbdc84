//! Text to vectors: the model, its files, and what else can embed.
//!
//! An [`Embedder`] takes a window of texts on the caller's thread and returns
//! their vectors. Nothing here knows documents, chunks or the lake.

pub mod endpoint;
pub mod files;
pub mod minilm;
pub mod pull;
pub mod tokens;

pub use files::{ModelError, ModelFiles};
pub use minilm::MiniLm;
pub use tokens::Tokens;

use highwater::cancel::Cancel;

/// Turns texts into vectors.
///
/// Blocking: a worker calls it on its own thread with a window of texts, the
/// larger the better. An implementation may be called from many threads at once
/// and starts none of its own for computing.
pub trait Embedder: Send + Sync {
    /// The model and its weights: vectors of equal texts under equal names are
    /// equal (but for rounding), so it is part of the key of a vector cache.
    fn model(&self) -> &str;

    /// Numbers in a vector.
    fn dimensions(&self) -> usize;

    /// Bytes that one call of [`Self::embed`] holds beside texts, their tokens and
    /// the result.
    fn scratch_bytes(&self) -> usize;

    /// Whether [`Self::embed`] waits for somebody else instead of computing: a worker
    /// then leaves the call to a thread that may wait.
    fn is_remote(&self) -> bool {
        false
    }

    /// Vectors of `texts`, in their order.
    ///
    /// # Errors
    /// All or nothing: an error says which condition kept the window from being
    /// embedded.
    fn embed(&self, texts: &[&str]) -> Result<Embedded, EmbedError>;

    /// The same, told part by part as it is made: what was made before an error, or
    /// before `until` asks to end, is in the hands of the caller.
    ///
    /// # Errors
    /// Which condition kept the rest of the window from being embedded.
    fn embed_in_parts(
        &self,
        texts: &[&str],
        until: &Cancel,
        each: &mut dyn FnMut(Part),
    ) -> Result<(), EmbedError> {
        // What computes here takes small windows, and ends soon by itself.
        let _ = until;
        each(Part::Made(self.embed(texts)?));
        Ok(())
    }
}

/// What becomes of a window of texts, in their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// The next texts have these vectors. The tokens are all that were paid for since the
    /// part before: also those of answers that were of no use.
    Made(Embedded),
    /// The next text has no vector and would never get one: why.
    Refused(String),
    /// After the last text, or where an error follows: so many tokens were paid for
    /// beside those of all parts.
    Wasted(u64),
}

/// The vectors of a window of texts, and what they took.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Embedded {
    /// One vector after another, `dimensions` numbers each, of length 1.
    pub vectors: Vec<f32>,
    /// Tokens that were embedded.
    pub tokens: usize,
    /// Rows that were computed beside them and mean nothing.
    pub padding: usize,
    /// Texts of which only the first tokens were embedded, being too long.
    pub truncated: usize,
}

/// Why a window of texts could not be embedded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// The tokenizer refused a text.
    #[error("cannot split a text into tokens: {0}")]
    Tokenizer(#[source] tokenizers::Error),
    /// The service that embeds.
    #[error(transparent)]
    Endpoint(#[from] endpoint::EndpointError),
}

impl EmbedError {
    /// Whether the same may go well later, without anybody's doing.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Tokenizer(_) => false,
            Self::Endpoint(error) => error.passes(),
        }
    }
}

#[cfg(test)]
mod tests;
