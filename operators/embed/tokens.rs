//! Text to the tokens of the model, as its own `tokenizer.json` says.
//!
//! The chunker counts with it and the model embeds with it, so that a chunk
//! which was cut to fit does fit.

use std::ops::Range;

use tokenizers::Tokenizer;

use crate::transform::chunk::TokenCounter;

use super::EmbedError;
use super::files::{ModelError, ModelFiles, TOKENIZER};

/// Tokens that are put around every text: `[CLS]` and `[SEP]`.
pub const AROUND: usize = 2;

/// The tokenizer; any number of threads may use it at once.
#[derive(Debug, Clone)]
pub struct Tokens {
    tokenizer: Tokenizer,
}

impl Tokens {
    /// Reads and verifies `tokenizer.json`.
    ///
    /// # Errors
    /// A file that cannot be read, or is not the published one.
    pub fn open(files: &ModelFiles) -> Result<Self, ModelError> {
        let json = files.read(&TOKENIZER)?;
        let mut tokenizer =
            Tokenizer::from_bytes(json).map_err(|error| files.unusable(&TOKENIZER, error))?;
        // The file asks for 128 tokens, no more and no fewer; the model's own
        // configuration overrides it.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| files.unusable(&TOKENIZER, error))?;
        Ok(Self { tokenizer })
    }

    /// Ids of the tokens of `text`, between `[CLS]` and `[SEP]`; not truncated.
    ///
    /// # Errors
    /// None is known for this tokenizer; the library reserves them.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>, EmbedError> {
        let encoding = self.tokenizer.encode_fast(text, true);
        Ok(encoding.map_err(EmbedError::Tokenizer)?.get_ids().to_vec())
    }

    /// Tokens of `text`, without the [`AROUND`] that are put around it.
    ///
    /// # Errors
    /// As [`Self::ids`].
    pub fn count(&self, text: &str) -> Result<usize, EmbedError> {
        let encoding = self.tokenizer.encode_fast(text, false);
        Ok(encoding.map_err(EmbedError::Tokenizer)?.len())
    }

    /// The bytes of `text` that each token stands for, in order, without the
    /// [`AROUND`].
    ///
    /// # Errors
    /// As [`Self::ids`].
    pub fn offsets(&self, text: &str) -> Result<Vec<Range<usize>>, EmbedError> {
        let encoding = self
            .tokenizer
            .encode(text, false)
            .map_err(EmbedError::Tokenizer)?;
        Ok(encoding
            .get_offsets()
            .iter()
            .map(|(start, end)| *start..*end)
            .collect())
    }
}

impl TokenCounter for Tokens {
    /// A text that cannot be split counts as its bytes: rather too many than too few.
    fn count(&self, text: &str) -> usize {
        Self::count(self, text).unwrap_or(text.len())
    }
}
