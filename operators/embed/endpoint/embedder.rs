//! An [`Endpoint`] as whatever else embeds.

use highwater::cancel::Cancel;

use super::Endpoint;
use super::asking::{Asking, Told};
use crate::embed::{EmbedError, Embedded, Embedder, Part};

impl Embedder for Endpoint {
    fn model(&self) -> &str {
        self.name()
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
        let tokens = vectors.tokens();
        Ok(embedded(vectors.into_numbers(), tokens))
    }

    fn embed_in_parts(
        &self,
        texts: &[&str],
        until: &Cancel,
        each: &mut dyn FnMut(Part),
    ) -> Result<(), EmbedError> {
        let mut asking = Asking::new(texts, until);
        let ended = loop {
            match self.next(&mut asking) {
                Ok(Some(Told::Made(vectors))) => {
                    let tokens = asking.take_tokens();
                    each(Part::Made(embedded(vectors.into_numbers(), tokens)));
                }
                Ok(Some(Told::Refused(error))) => each(Part::Refused(error.message)),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let wasted = asking.take_tokens();
        if wasted > 0 {
            each(Part::Wasted(wasted));
        }
        ended.map_err(EmbedError::from)
    }
}

fn embedded(vectors: Vec<f32>, tokens: u64) -> Embedded {
    Embedded {
        vectors,
        tokens: usize::try_from(tokens).unwrap_or(usize::MAX),
        ..Embedded::default()
    }
}
