//! The columns of a table of chunks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, Float32Builder, Int32Builder, Int64Array, Int64Builder,
    ListBuilder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::datatypes::{DataType, Field, Float32Type, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use highwater::store::objects::Listed;

use crate::ingest::objects::listed;
use crate::transform::chunk::Chunk;
use crate::transform::extract::{Limits, Reason};

/// The column that the table is in the order of.
pub const KEY: &str = "document";

/// How the note of a document begins that was too large to be read: another limit may
/// let it in. What is too large only when it is unpacked begins otherwise.
pub(super) const TOO_LARGE: &str = "too large:";

/// How the notes of documents begin at which what reads them failed: another version of it
/// may not.
const FAULTS_OF_OURS: [&str; 2] = ["crashed:", "panicked:"];

/// Whether a note says that what makes text failed, rather than what is wrong with the
/// document.
pub(super) fn is_fault_of_ours(note: &str) -> bool {
    FAULTS_OF_OURS.iter().any(|begin| note.starts_with(begin))
}

/// Whether a document with this note may have text in another run although it is the same.
pub(super) fn is_waiting(note: &str) -> bool {
    let widest = Limits {
        time: Duration::MAX,
        memory_bytes: u64::MAX,
        ..Limits::default()
    };
    note.starts_with(TOO_LARGE) || is_fault_of_ours(note) || Reason::is_overcome(note, &widest)
}

/// The column of ids; NULL where a document has no text.
pub const ID: &str = "id";

/// Where the columns are that others look for.
#[allow(missing_docs)] // Each is described by `chunks_schema`.
pub mod columns {
    pub const DOCUMENT: usize = 0;
    pub const MODEL: usize = 5;
    pub const NOTE: usize = 6;
    pub const CHUNK: usize = 7;
    pub const ID: usize = 8;
    pub const TEXT: usize = 9;
    pub const HEADING: usize = 10;
    pub const PAGE: usize = 11;
    pub const START: usize = 12;
    pub const TOKENS: usize = 13;
    pub const HASH: usize = 14;
    pub const VECTOR: usize = 15;
    pub const TITLE: usize = 16;
    pub const AUTHORS: usize = 17;
    pub const DATE: usize = 18;
    pub const CATEGORIES: usize = 19;
}

/// The first columns say which state of the document the rows were made of.
const OF_A_STATE: usize = 7;

fn list(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", element, true)))
}

/// The columns. One row is one chunk; a document without text has one row whose
/// chunk columns are NULL.
///
/// | column | |
/// |---|---|
/// | `document`, `size`, `modified`, `etag` | the object, as it was listed |
/// | `recipe`, `model` | how its text was made and cut, and of what model the vectors are |
/// | `note` | why it has no text, or not all of it |
/// | `chunk`, `id` | the chunk's number in the document, from 0; its stable name |
/// | `text`, `heading`, `page`, `start` | the chunk, the headings above it, its page from 1, the byte of the document's text at which it begins |
/// | `tokens`, `hash`, `vector` | how many tokens; the first 128 bits of the text's SHA-256; 32-bit floats |
/// | `title`, `authors`, `date`, `categories`, `pages` | what the document says of itself |
#[must_use]
pub fn chunks_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::Int32, true);
    let modified = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Schema::new(vec![
        text(KEY),
        Field::new("size", DataType::Int64, true),
        Field::new("modified", modified, true),
        text("etag"),
        text("recipe"),
        text("model"),
        text("note"),
        number("chunk"),
        text(ID),
        text("text"),
        text("heading"),
        number("page"),
        Field::new("start", DataType::Int64, true),
        number("tokens"),
        text("hash"),
        Field::new("vector", list(DataType::Float32), true),
        text("title"),
        Field::new("authors", list(DataType::Utf8), true),
        text("date"),
        Field::new("categories", list(DataType::Utf8), true),
        number("pages"),
    ])
    .into()
}

/// Of these columns the first ones: which states the rows were made of.
pub(super) fn states_schema() -> SchemaRef {
    let schema = chunks_schema();
    let fields = schema.fields().iter().take(OF_A_STATE).cloned();
    Schema::new(fields.collect::<Vec<_>>()).into()
}

/// A state of a document that rows were made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) object: Listed,
    pub(super) recipe: String,
    pub(super) model: String,
    pub(super) note: Option<String>,
}

impl State {
    /// What a row says of it.
    pub(super) fn of(batch: &RecordBatch, row: usize) -> Self {
        Self {
            object: listed(batch, row),
            recipe: text(batch, 4, row).unwrap_or_default().to_owned(),
            model: text(batch, 5, row).unwrap_or_default().to_owned(),
            note: text(batch, columns::NOTE, row).map(str::to_owned),
        }
    }
}

/// A text of a batch.
pub(super) fn text(batch: &RecordBatch, column: usize, row: usize) -> Option<&str> {
    let column = batch.columns().get(column)?.as_string_opt::<i32>()?;
    (row < column.len() && column.is_valid(row)).then(|| column.value(row))
}

/// Vectors of chunks that a document already has, by the hash of their text.
#[derive(Debug, Default)]
pub(super) struct KnownVectors(HashMap<String, Vec<f32>>);

impl KnownVectors {
    /// Those in the rows of a document.
    pub(super) fn of(rows: &[RecordBatch]) -> Self {
        let mut known = HashMap::new();
        for batch in rows {
            let vectors = batch.columns().get(columns::VECTOR);
            let Some(vectors) = vectors.and_then(|column| column.as_list_opt::<i32>()) else {
                continue;
            };
            for row in (0..batch.num_rows()).filter(|row| vectors.is_valid(*row)) {
                let vector = vectors.value(row);
                if let (Some(hash), Some(vector)) = (
                    text(batch, columns::HASH, row),
                    vector.as_primitive_opt::<Float32Type>(),
                ) {
                    known.insert(hash.to_owned(), vector.values().to_vec());
                }
            }
        }
        Self(known)
    }
}

/// What a document says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct About {
    pub(super) title: Option<String>,
    pub(super) authors: Vec<String>,
    pub(super) date: Option<String>,
    pub(super) categories: Vec<String>,
    pub(super) pages: Option<i32>,
}

/// The rows of a document, with the vectors that are known; one row where it has no
/// chunk.
///
/// # Errors
/// The columns do not fit together: an error of ours.
pub(super) fn document_rows(
    state: &State,
    about: &About,
    chunks: &[Chunk<'_>],
    known: &KnownVectors,
) -> Result<RecordBatch, ArrowError> {
    let rows = chunks.len().max(1);
    let same = |value: Option<&str>| -> ArrayRef {
        Arc::new(StringArray::from_iter(std::iter::repeat_n(value, rows)))
    };
    let size = i64::try_from(state.object.bytes).unwrap_or(i64::MAX);
    let modified = state.object.modified_ns.div_euclid(1000);
    let modified = TimestampMicrosecondArray::from(vec![modified; rows]).with_timezone("UTC");
    let mut all: Vec<ArrayRef> = vec![
        same(Some(&state.object.key)),
        Arc::new(Int64Array::from(vec![size; rows])),
        Arc::new(modified),
        same(state.object.etag.as_deref()),
        same(Some(&state.recipe)),
        same(Some(&state.model)),
        same(state.note.as_deref()),
    ];
    all.extend(match chunks.is_empty() {
        true => no_chunk(),
        false => chunk_columns(chunks, known),
    });
    all.extend([
        same(about.title.as_deref()),
        same_list(&about.authors, rows),
        same(about.date.as_deref()),
        same_list(&about.categories, rows),
        Arc::new(arrow::array::Int32Array::from(vec![about.pages; rows])) as ArrayRef,
    ]);
    RecordBatch::try_new(chunks_schema(), all)
}

/// The columns of the chunk that is none.
fn no_chunk() -> Vec<ArrayRef> {
    let schema = chunks_schema();
    let fields = schema.fields().iter();
    let fields = fields
        .skip(columns::CHUNK)
        .take(columns::VECTOR + 1 - columns::CHUNK);
    fields
        .map(|field| new_null_array(field.data_type(), 1))
        .collect()
}

fn chunk_columns(chunks: &[Chunk<'_>], known: &KnownVectors) -> Vec<ArrayRef> {
    let (mut numbers, mut ids) = (Int32Builder::new(), StringBuilder::new());
    let (mut texts, mut headings) = (StringBuilder::new(), StringBuilder::new());
    let (mut pages, mut starts) = (Int32Builder::new(), Int64Builder::new());
    let (mut tokens, mut hashes) = (Int32Builder::new(), StringBuilder::new());
    let element = Field::new("element", DataType::Float32, true);
    let mut vectors = ListBuilder::new(Float32Builder::new()).with_field(element);
    for chunk in chunks {
        numbers.append_value(whole(chunk.ordinal));
        ids.append_value(chunk.id.to_string());
        texts.append_value(chunk.text);
        headings.append_option((!chunk.heading_path.is_empty()).then_some(&*chunk.heading_path));
        pages.append_option(chunk.page.map(whole));
        starts.append_value(i64::try_from(chunk.start_byte).unwrap_or(i64::MAX));
        tokens.append_value(whole(chunk.tokens));
        let hash = chunk.hash.to_string();
        match known.0.get(&hash) {
            Some(vector) => {
                vectors.values().append_slice(vector);
                vectors.append(true);
            }
            None => vectors.append(false),
        }
        hashes.append_value(hash);
    }
    vec![
        Arc::new(numbers.finish()),
        Arc::new(ids.finish()),
        Arc::new(texts.finish()),
        Arc::new(headings.finish()),
        Arc::new(pages.finish()),
        Arc::new(starts.finish()),
        Arc::new(tokens.finish()),
        Arc::new(hashes.finish()),
        Arc::new(vectors.finish()),
    ]
}

fn whole(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

fn same_list(values: &[String], rows: usize) -> ArrayRef {
    let element = Field::new("element", DataType::Utf8, true);
    let mut lists = ListBuilder::new(StringBuilder::new()).with_field(element);
    for _ in 0..rows {
        for value in values {
            lists.values().append_value(value);
        }
        lists.append(!values.is_empty());
    }
    Arc::new(lists.finish())
}

/// What the rows of a batch take, in bytes: of a slice only its part.
pub(super) fn rows_bytes(batch: &RecordBatch) -> u64 {
    let columns = batch.columns().iter();
    let bytes = columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or(0));
    bytes.sum::<usize>() as u64
}

/// How many rows of a batch have a text and no vector.
pub(super) fn without_vector(batch: &RecordBatch) -> usize {
    let column = |at: usize| batch.columns().get(at);
    let (Some(texts), Some(vectors)) = (column(columns::TEXT), column(columns::VECTOR)) else {
        return 0;
    };
    (0..batch.num_rows())
        .filter(|&row| texts.is_valid(row) && vectors.is_null(row))
        .count()
}
