//! An [`Endpoint`] as whatever else embeds.

use super::Endpoint;
use crate::embed::{EmbedError, Embedded, Embedder};

impl Embedder for Endpoint {
    fn model(&self) -> &str {
        self.model_name()
    }

    fn dimensions(&self) -> usize {
        Self::dimensions(self).unwrap_or(0)
    }

    fn scratch_bytes(&self) -> usize {
        0
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn embed(&self, texts: &[&str]) -> Result<Embedded, EmbedError> {
        let vectors = Self::embed(self, texts)?;
        Ok(Embedded {
            vectors: vectors.numbers().to_vec(),
            tokens: usize::try_from(vectors.tokens()).unwrap_or(usize::MAX),
            ..Embedded::default()
        })
    }
}
