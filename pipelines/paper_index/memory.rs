//! How the memory limit is divided: the model, the index of known vectors, new vectors
//! until the lake has them, the processes that read documents, documents on their way,
//! files that are written.

use highwater::app::{Failure, RunContext};
use highwater::budget::MemoryBudget;
use highwater::run::Config;
use highwater::run::config::PapersConfig;
use highwater::store::Store;
use highwater::telemetry::units;
use highwater_operators::embed::endpoint::Endpoint;
use highwater_operators::embed::{MiniLm, minilm};
use highwater_operators::ingest::documents::chunks_schema;
use highwater_operators::sink::lake::FileFormat;
use highwater_operators::transform::extract::Limits;
use highwater_operators::vectors::{VectorCache, vectors_schema};

use super::model::pdf_backend;

const MIB: u64 = 1 << 20;

/// A process that reads documents needs so much, whatever it reads.
const LEAST_EXTRACTOR_BYTES: u64 = 48 * MIB;

/// No document should need more.
const MOST_EXTRACTOR_BYTES: u64 = 512 * MIB;

/// New vectors need so much, however little is left.
const LEAST_FRESH_BYTES: u64 = MIB;

/// What a worker needs for documents on their way, its open files and their columns.
const LEAST_OF_A_WORKER: u64 = 40 * MIB;

/// The shares of a run.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    /// Pays for batches.
    pub(super) reading: MemoryBudget,
    /// What each worker may hold of documents on their way, in bytes.
    pub(super) ahead_bytes: u64,
    /// The size that a batch should have, in bytes.
    pub(super) batch_bytes: u64,
    /// Processes that read documents.
    pub(super) extractors: usize,
    /// What each of them may take, in bytes.
    pub(super) extractor_bytes: u64,
    /// What the index of the vectors takes that the lake has already, in bytes.
    pub(super) known_bytes: u64,
    /// What vectors may take that the run makes, in bytes: themselves until the lake has
    /// them, and then in the index. See [`fresh_bytes`].
    pub(super) new_bytes: u64,
    /// What the keys of a text column may take, in bytes.
    pub(super) keys_bytes: u64,
    /// How files are encoded.
    pub(super) format: FileFormat,
}

impl Memory {
    /// Divides what the limit leaves, where the lake has `vectors` vectors already.
    ///
    /// # Errors
    /// It leaves too little.
    pub(super) fn divide(
        config: &Config,
        papers: &PapersConfig,
        context: &RunContext,
        lake: &Store,
        vectors: u64,
    ) -> Result<Self, Failure> {
        let workers = context.workers() as u64;
        let model = match &papers.endpoint {
            // Each asks for the vectors of one batch at once.
            Some(endpoint) => workers * Endpoint::request_bytes(endpoint.dimensions),
            None => {
                minilm::RESIDENT_BYTES
                    + workers * MiniLm::scratch_bytes(minilm::BATCH_TOKENS) as u64
            }
        };
        let extractors = papers.extractors.unwrap_or(context.workers()).max(1);
        let budget = context.allowance.budget.as_u64();
        let known = VectorCache::index_bytes(vectors);
        let fixed = model + known;
        let rest = budget.saturating_sub(fixed);
        let wanted = papers.extractor_memory.map(|memory| memory.as_u64());
        let half = rest / 2 / extractors as u64;
        let extractor_bytes =
            wanted.unwrap_or(half.clamp(LEAST_EXTRACTOR_BYTES, MOST_EXTRACTOR_BYTES));
        let reading_them = Limits {
            memory_bytes: extractor_bytes,
            text_characters: papers.text_characters,
            ..Limits::default()
        };
        let pdf = pdf_backend(papers.pdf);
        let ours = rest.saturating_sub(reading_them.memory_of(extractors, pdf));
        if ours < workers * LEAST_OF_A_WORKER {
            let needed = context.memory_limit.as_u64() + workers * LEAST_OF_A_WORKER - ours
                + fixed.saturating_sub(budget);
            let what = format!(
                "{} of memory is too little for {workers} workers, the model, an index of \
                 {vectors} vectors and {extractors} processes that read documents",
                units::bytes(context.memory_limit.as_u64())
            );
            let hint = format!(
                "give {} or more, or use fewer --workers",
                units::bytes(needed)
            );
            return Err(Failure::usage(what).hint(hint));
        }
        // New vectors come to those that are known, and wait until they do.
        let (new, keys) = (ours / 8, ours / 16);
        let ours = ours - new - keys;
        let writing = ours / 2;
        let (reading, ahead) = (ours / 8, ours / 4);
        let columns = chunks_schema().fields().len() + vectors_schema().fields().len();
        Ok(Self {
            reading: MemoryBudget::new(reading),
            ahead_bytes: ahead / workers,
            batch_bytes: (reading / workers / 3).clamp(MIB / 4, 4 * MIB),
            extractors,
            extractor_bytes,
            known_bytes: known,
            new_bytes: new,
            keys_bytes: keys,
            format: FileFormat::within(writing / workers, columns as u64, lake, &config.files),
        })
    }
}

/// Of what the index of known vectors and new ones may take together, what is for new ones
/// until the lake has them: half of what the index does not need for the `vectors` that
/// the lake has.
pub(super) fn fresh_bytes(bytes: u64, vectors: u64) -> u64 {
    let room = bytes.saturating_sub(VectorCache::index_bytes(vectors));
    (room / 2).max(LEAST_FRESH_BYTES)
}
