//! `sentence-transformers/all-MiniLM-L6-v2` in 32-bit floats: six layers of BERT
//! (Devlin et al., 2018), 384 numbers wide, as distilled by MiniLM (Wang et al.,
//! 2020); the mean of the last layer's tokens, of length 1.
//!
//! This room computes. It starts no threads, does no input or output but reading
//! its weights, and knows neither documents nor the lake. Who embeds does so on
//! his own thread: all share one [`MiniLm`] and each call has scratch memory of
//! its own. Sequences are never padded to the same length, so the lengths of
//! texts that are embedded together make no difference.

mod attention;
mod forward;
mod linear;
mod simd;
mod weights;

use pulp::Arch;

use super::files::{ModelError, ModelFiles, WEIGHTS};
use super::tokens::Tokens;
use super::{EmbedError, Embedded, Embedder};
use forward::Scratch;
use weights::Weights;

const HIDDEN: usize = 384;
const HEADS: usize = 12;
const INNER: usize = 1536;
const LAYERS: usize = 6;
const VOCABULARY: usize = 30_522;
const POSITIONS: usize = 512;

/// Tokens of a text that are embedded, `[CLS]` and `[SEP]` among them: what
/// `sentence_bert_config.json` says. The rest is cut off.
pub const MAX_TOKENS: usize = 256;

/// How many numbers a vector has.
pub const DIMENSIONS: usize = HIDDEN;

/// What the weights and the tokenizer take in memory, in bytes.
pub const RESIDENT_BYTES: u64 = WEIGHTS.bytes + (7 << 20);

/// The model's name, with the beginning of the hash of its weights.
#[must_use]
pub fn name() -> String {
    format!("all-MiniLM-L6-v2@{}", &WEIGHTS.sha256[..12])
}

/// Tokens of a forward pass, unless said otherwise: with more of them the weights
/// are read less often, but activations leave the caches.
pub const BATCH_TOKENS: usize = 512;

/// The model, ready to embed on any number of threads.
///
/// Holds the 91 MB of its weights once.
#[derive(Debug)]
pub struct MiniLm {
    arch: Arch,
    name: String,
    tokens: Tokens,
    weights: Weights,
    batch_tokens: usize,
}

impl MiniLm {
    /// Reads and verifies `files`: the weights take 0.3 s of processor time.
    ///
    /// # Errors
    /// A file that cannot be read, or is not the published one.
    pub fn open(files: &ModelFiles) -> Result<Self, ModelError> {
        let arch = Arch::new();
        let mut file = files.open(&WEIGHTS)?;
        let weights = Weights::read(arch, &mut file);
        // A damaged file is called damaged, whatever it made of its contents.
        file.verify()?;
        let weights = weights.map_err(|error| files.unusable(&WEIGHTS, error))?;
        let tokens = Tokens::open(files)?;
        let name = name();
        Ok(Self {
            arch,
            name,
            tokens,
            weights,
            batch_tokens: BATCH_TOKENS,
        })
    }

    /// Embeds at most `tokens` tokens (never fewer than [`MAX_TOKENS`]) at once.
    #[must_use]
    pub fn with_batch_tokens(mut self, tokens: usize) -> Self {
        self.batch_tokens = tokens.max(MAX_TOKENS);
        self
    }

    /// The model's tokenizer.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Bytes in which `tokens` tokens are embedded at once.
    pub const fn scratch_bytes(tokens: usize) -> usize {
        Scratch::bytes(tokens)
    }
}

impl Embedder for MiniLm {
    fn model(&self) -> &str {
        &self.name
    }

    fn dimensions(&self) -> usize {
        HIDDEN
    }

    fn scratch_bytes(&self) -> usize {
        Scratch::bytes(self.batch_tokens)
    }

    fn embed(&self, texts: &[&str]) -> Result<Embedded, EmbedError> {
        let mut embedded = Embedded::default();
        embedded.vectors.reserve_exact(texts.len() * HIDDEN);
        let mut ids = Vec::with_capacity(texts.len());
        for text in texts {
            let mut encoded = self.tokens.ids(text)?;
            embedded.truncated += usize::from(encoded.len() > MAX_TOKENS);
            cut(&mut encoded);
            embedded.tokens += encoded.len();
            ids.push(encoded);
        }
        let mut scratch = Scratch::new(self.batch_tokens.min(embedded.tokens));
        for batch in batches(&ids, self.batch_tokens) {
            embedded.padding += forward::forward(
                self.arch,
                &self.weights,
                batch,
                &mut scratch,
                &mut embedded.vectors,
            );
        }
        Ok(embedded)
    }
}

/// Keeps the first [`MAX_TOKENS`], of which the last stays `[SEP]`.
fn cut(ids: &mut Vec<u32>) {
    if let Some(last) = ids.last().copied()
        && ids.len() > MAX_TOKENS
    {
        ids.truncate(MAX_TOKENS - 1);
        ids.push(last);
    }
}

/// Runs of texts of at most `budget` tokens together.
fn batches(texts: &[Vec<u32>], budget: usize) -> impl Iterator<Item = &[Vec<u32>]> {
    let mut rest = texts;
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fit = rest.iter().take_while(|ids| {
            tokens += ids.len();
            tokens <= budget
        });
        let (batch, after) = rest.split_at(fit.count());
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}
