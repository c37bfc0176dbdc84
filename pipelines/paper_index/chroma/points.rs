//! Rows of chunks as points of a collection.

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{Float32Type, Int32Type, Int64Type, Schema, SchemaRef};
use highwater_operators::ingest::documents::{chunks_schema, columns};
use highwater_operators::sink::chroma;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// The columns that a point is made of, by their places in the table.
const PLACES: [usize; 13] = [
    columns::DOCUMENT,
    columns::CHUNK,
    columns::ID,
    columns::TEXT,
    columns::HEADING,
    columns::PAGE,
    columns::START,
    columns::TOKENS,
    columns::TITLE,
    columns::AUTHORS,
    columns::DATE,
    columns::CATEGORIES,
    columns::VECTOR,
];

/// The columns that a point is made of.
pub(super) fn wanted() -> SchemaRef {
    let schema = chunks_schema();
    let fields = PLACES
        .iter()
        .filter_map(|at| schema.fields().get(*at).cloned());
    Schema::new(fields.collect::<Vec<_>>()).into()
}

/// A chunk as a point of a collection.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OwnedPoint {
    pub(super) id: String,
    pub(super) vector: Vec<f32>,
    pub(super) text: String,
    /// Names without a value are here, too: a server keeps what it is not told of.
    pub(super) metadata: Map<String, Value>,
}

impl OwnedPoint {
    /// As it is sent.
    pub(super) fn lent(&self) -> chroma::Point<'_> {
        chroma::Point {
            id: &self.id,
            vector: &self.vector,
            text: &self.text,
            metadata: &self.metadata,
        }
    }
}

/// The points of a batch; rows without a chunk are left out.
pub(super) fn points(batch: &RecordBatch) -> Vec<OwnedPoint> {
    (0..batch.num_rows())
        .filter_map(|row| point(batch, row))
        .collect()
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a dyn arrow::array::Array> {
    batch.column_by_name(name).map(|column| column.as_ref())
}

fn text<'a>(batch: &'a RecordBatch, name: &str, row: usize) -> Option<&'a str> {
    let column = column(batch, name)?.as_string_opt::<i32>()?;
    column.is_valid(row).then(|| column.value(row))
}

/// A list of texts as one.
fn texts(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
    let lists = column(batch, name)?.as_list_opt::<i32>()?;
    let list = lists.is_valid(row).then(|| lists.value(row))?;
    let list = list.as_string_opt::<i32>()?;
    let all: Vec<&str> = list.iter().flatten().collect();
    Some(all.join("; "))
}

fn number(batch: &RecordBatch, name: &str, row: usize) -> Option<i64> {
    let column = column(batch, name)?;
    if column.is_null(row) {
        return None;
    }
    let small = column
        .as_primitive_opt::<Int32Type>()
        .map(|column| column.value(row).into());
    small.or_else(|| {
        column
            .as_primitive_opt::<Int64Type>()
            .map(|column| column.value(row))
    })
}

fn point(batch: &RecordBatch, row: usize) -> Option<OwnedPoint> {
    let id = text(batch, "id", row)?;
    let vectors = column(batch, "vector")?.as_list_opt::<i32>()?;
    let vector = vectors.is_valid(row).then(|| vectors.value(row))?;
    let vector = vector.as_primitive_opt::<Float32Type>()?.values().to_vec();
    let mut metadata = Map::new();
    for name in ["document", "heading", "title", "date"] {
        metadata.insert(name.to_owned(), Value::from(text(batch, name, row)));
    }
    for name in ["authors", "categories"] {
        metadata.insert(name.to_owned(), Value::from(texts(batch, name, row)));
    }
    for name in ["chunk", "page", "start", "tokens"] {
        metadata.insert(name.to_owned(), Value::from(number(batch, name, row)));
    }
    Some(OwnedPoint {
        id: id.to_owned(),
        vector,
        text: text(batch, "text", row).unwrap_or_default().to_owned(),
        metadata,
    })
}

/// All that may differ between two points of one id, hashed.
pub(super) fn content(point: &OwnedPoint) -> u128 {
    let mut hash = Sha256::new();
    hash.update((point.text.len() as u64).to_le_bytes());
    hash.update(&point.text);
    for number in &point.vector {
        hash.update(number.to_le_bytes());
    }
    hash.update(Value::Object(point.metadata.clone()).to_string());
    half(&hash.finalize())
}

/// The first half of a hash.
pub(super) fn half(hash: &[u8]) -> u128 {
    let first = hash.iter().take(16);
    first.fold(0, |whole, byte| whole << 8 | u128::from(*byte))
}

/// An id as a number: ids are 128 bits, written in hexadecimal; what is not is hashed.
pub(super) fn key(id: &str) -> u128 {
    match (id.len(), u128::from_str_radix(id, 16)) {
        (32, Ok(key)) => key,
        _ => half(&Sha256::digest(id)),
    }
}
