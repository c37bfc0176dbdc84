//! From an object to the rows of a document: its body, its text, its chunks.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use highwater::budget::Permit;
use highwater::run::Failure;
use highwater::run::stages::Stages;
use highwater::store::objects::{Listed, ObjectError, ObjectErrorKind};

use super::old::OldDocument;
use super::ranges::Paid;
use super::rows::{About, KnownVectors, State, TOO_LARGE, document_rows, is_waiting, rows_bytes};
use super::{ChunkTally, DocumentSides};
use crate::sink::objects::{Body, BodyReader};
use crate::transform::chunk::{self, Chunk, ChunkError, ChunkOptions, TokenCounter};
use crate::transform::extract::{Document, Extractors};

/// What a document takes beside what depends on its size, in bytes. An estimate.
const DOCUMENT_BYTES: u64 = 64 << 10;

/// What text becomes: itself, its chunks and the vectors of these, for each byte of text.
const BYTES_OF_TEXT_BYTE: u64 = 4;

/// What a byte of a compressed document may become, about.
const BYTES_OF_PACKED_BYTE: u64 = 16;

/// Names of documents that hold no more text than they have bytes.
const PLAIN: [&str; 10] = [
    ".txt",
    ".md",
    ".markdown",
    ".html",
    ".htm",
    ".xhtml",
    ".tex",
    ".rst",
    ".csv",
    ".pdf",
];

/// Whether a document may hold more text than it has bytes.
fn is_packed(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    !PLAIN.iter().any(|end| key.ends_with(end))
}

/// How documents are read, made text and cut; shared by all workers of a process.
pub struct Preparing {
    /// Reads bodies.
    pub reader: Arc<BodyReader>,
    /// Makes text of them.
    pub extractors: Arc<Extractors>,
    /// Counts tokens.
    pub tokens: Arc<dyn TokenCounter + Send + Sync>,
    /// Where time spent is counted.
    pub stages: Arc<Stages>,
    /// How text is cut.
    pub options: ChunkOptions,
    /// The longest text that is made of one, in bytes.
    pub text_bytes: u64,
}

impl Preparing {
    /// What a document takes while it is prepared, in bytes. An estimate.
    pub(super) fn bytes(&self, sides: &DocumentSides, object: &Listed) -> u64 {
        if object.bytes > sides.limits.file_bytes {
            return DOCUMENT_BYTES;
        }
        let unpacked = match is_packed(&object.key) {
            true => object.bytes.saturating_mul(BYTES_OF_PACKED_BYTE),
            false => object.bytes,
        };
        DOCUMENT_BYTES + object.bytes + unpacked.min(self.text_bytes) * BYTES_OF_TEXT_BYTE
    }

    /// The rows of a document as it is now. Where it cannot be read its old ones stay.
    pub(super) async fn prepare(
        self: Arc<Self>,
        sides: DocumentSides,
        chunks: Arc<ChunkTally>,
        object: Listed,
        old: Option<OldDocument>,
        mut permit: Permit,
    ) -> Option<Paid> {
        let began = Instant::now();
        match self
            .rows(&sides, &chunks, &object, old.as_ref(), permit.bytes())
            .await
        {
            Ok(rows) => {
                sides
                    .tally
                    .copied(&object.key, object.bytes, began.elapsed());
                chunks.count(&object.key, |of| match old {
                    None => of.new += 1,
                    Some(_) => of.changed += 1,
                });
                permit.shrink_to(rows_bytes(&rows));
                Some(Paid {
                    rows: vec![rows],
                    permit,
                    source_bytes: object.bytes,
                })
            }
            Err(Trouble::Source(error)) if error.kind == ObjectErrorKind::Vanished => {
                sides.tally.vanished.add(1);
                // Its rows are not written again.
                let had_rows = u64::from(old.is_some());
                chunks.count(&object.key, |of| of.deleted += had_rows);
                None
            }
            Err(Trouble::Source(error)) => {
                sides.tally.failed(&object.key, &error.message);
                if error.ends_the_run() {
                    sides.tally.end(error.into());
                }
                old.map(|old| Paid {
                    rows: old.rows,
                    permit,
                    source_bytes: 0,
                })
            }
            Err(Trouble::Ours(failure)) => {
                sides.tally.end(failure);
                None
            }
        }
    }

    async fn rows(
        &self,
        sides: &DocumentSides,
        tally: &ChunkTally,
        object: &Listed,
        old: Option<&OldDocument>,
        paid_bytes: u64,
    ) -> Result<RecordBatch, Trouble> {
        let mut state = State {
            object: object.clone(),
            recipe: sides.recipe.to_string(),
            model: sides.model.to_string(),
            note: None,
        };
        let read = match object.bytes > sides.limits.file_bytes {
            true => Err(format!(
                "{TOO_LARGE} {} bytes, {} at most",
                object.bytes, sides.limits.file_bytes
            )),
            false => {
                let body = self.body(sides, &mut state.object, paid_bytes).await?;
                let began = Instant::now();
                let read = self
                    .extractors
                    .extract(&state.object.key, &body.bytes)
                    .await;
                self.stages.extract.add(began.elapsed());
                let read =
                    read.map_err(|error| Trouble::Ours(Failure::failed(error.to_string())))?;
                read.map_err(|reason| reason.to_string())
            }
        };
        let document = match read {
            Ok(mut document) => {
                // The child is not trusted to have done it.
                document.keep_it_short();
                document
            }
            Err(reason) => {
                tally.quarantine(&state.object.key, &reason);
                tally.waiting.add(is_waiting(&reason).into());
                sides.set_aside(&mut state, reason);
                let (about, known) = (About::default(), KnownVectors::default());
                return Ok(document_rows(&state, &about, &[], &known)?);
            }
        };
        if document.truncated {
            tally.count(&state.object.key, |of| of.truncated += 1);
            state.note = Some(format!(
                "only the first {} bytes of its text",
                document.text.len()
            ));
        }
        // Vectors of another model are of no use.
        let known = old.filter(|old| *old.state.model == *sides.model);
        let known = known.map_or_else(KnownVectors::default, |old| KnownVectors::of(&old.rows));
        let headings = headings(&document);
        let cut = self.cut(&state.object.key, &document, &headings)?;
        let about = About {
            title: document.title.clone(),
            authors: document.authors.clone(),
            date: document.date.clone(),
            categories: document.categories.clone(),
            pages: (!document.pages.is_empty())
                .then(|| i32::try_from(document.pages.len()).unwrap_or(i32::MAX)),
        };
        let rows = document_rows(&state, &about, &cut, &known)?;
        tally.chunks.add(cut.len() as u64);
        let kept = cut.len() - super::rows::without_vector(&rows).min(cut.len());
        tally.kept.add(kept as u64);
        Ok(rows)
    }

    fn cut<'a>(
        &self,
        key: &'a str,
        document: &'a Document,
        headings: &'a [chunk::Heading],
    ) -> Result<Vec<Chunk<'a>>, ChunkError> {
        let text = chunk::Document {
            key,
            text: &document.text,
            headings,
            page_starts: &document.pages,
        };
        chunk::chunks(&text, self.tokens.as_ref(), &self.options)
    }

    /// The body, and in `object` the state that it is of.
    async fn body(
        &self,
        sides: &DocumentSides,
        object: &mut Listed,
        paid_bytes: u64,
    ) -> Result<Body, Trouble> {
        // What takes more than there is has paid for all that there is.
        let estimated = self.bytes(sides, object).max(paid_bytes);
        let fits = |object: &Listed| self.bytes(sides, object) <= estimated;
        Ok(self.reader.read_as_it_is(object, fits).await?)
    }
}

fn headings(document: &Document) -> Vec<chunk::Heading> {
    let headings = document.headings.iter();
    headings
        .map(|heading| chunk::Heading {
            start_byte: heading.start_byte,
            end_byte: heading.end_byte,
            level: heading.level,
        })
        .collect()
}

/// Why there are no rows.
enum Trouble {
    /// The object cannot be read.
    Source(ObjectError),
    /// Something that is wrong for all documents.
    Ours(Failure),
}

impl From<ObjectError> for Trouble {
    fn from(error: ObjectError) -> Self {
        Self::Source(error)
    }
}

impl From<ChunkError> for Trouble {
    fn from(error: ChunkError) -> Self {
        Self::Ours(Failure::failed(error.to_string()))
    }
}

impl From<ArrowError> for Trouble {
    fn from(error: ArrowError) -> Self {
        Self::Ours(Failure::failed(format!(
            "chunks do not make a batch: {error}"
        )))
    }
}
