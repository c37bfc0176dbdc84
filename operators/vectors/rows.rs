//! The columns of the table of vectors.

use std::sync::Arc;

use arrow::array::{
    Array as _, AsArray as _, Float32Builder, ListBuilder, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Field, Float32Type, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::cache::{Hash, Vector};

/// The columns: `hash` (the first 128 bits of the text's SHA-256, in hexadecimal),
/// `model`, `vector` (32-bit floats).
#[must_use]
pub fn vectors_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    Schema::new(vec![
        text("hash"),
        text("model"),
        Field::new("vector", DataType::List(element()), true),
    ])
    .into()
}

/// Of these columns what an index needs.
pub(super) fn names_schema() -> SchemaRef {
    let schema = vectors_schema();
    let fields = schema.fields().iter().take(2).cloned();
    Schema::new(fields.collect::<Vec<_>>()).into()
}

/// The element of a list that is a vector.
pub(super) fn element() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Float32, true))
}

/// The hash as text.
pub(super) fn hash_text(hash: Hash) -> String {
    format!("{hash:032x}")
}

/// The hash of a text.
pub(super) fn hash_of(text: &str) -> Option<Hash> {
    Hash::from_str_radix(text, 16).ok()
}

/// The hash in a row of a batch, where it is one of `model`.
pub(super) fn hash_in(batch: &RecordBatch, row: usize, model: &str) -> Option<Hash> {
    let text = |column: usize| {
        let column = batch.columns().get(column)?.as_string_opt::<i32>()?;
        column.is_valid(row).then(|| column.value(row))
    };
    (text(1)? == model).then(|| hash_of(text(0)?)).flatten()
}

/// The vector in a row of a batch; `None` where it is not one of so many numbers.
pub(super) fn vector_in(batch: &RecordBatch, row: usize, dimensions: usize) -> Option<Vector> {
    let vectors = batch.columns().get(2)?.as_list_opt::<i32>()?;
    if vectors.is_null(row) {
        return None;
    }
    let vector = vectors.value(row);
    let vector = vector.as_primitive_opt::<Float32Type>()?;
    let numbers: &[f32] = vector.values().as_ref();
    let is_one = vector.null_count() == 0
        && numbers.len() == dimensions
        && numbers.iter().all(|number| number.is_finite());
    is_one.then(|| Arc::from(numbers))
}

/// Rows of the table.
pub(super) fn vector_rows(
    vectors: &[(Hash, Vector)],
    model: &str,
) -> Result<RecordBatch, ArrowError> {
    let hashes = vectors.iter().map(|(hash, _)| Some(hash_text(*hash)));
    let models = std::iter::repeat_n(Some(model), vectors.len());
    let mut lists = ListBuilder::new(Float32Builder::new()).with_field(element());
    for (_, vector) in vectors {
        lists.values().append_slice(vector);
        lists.append(true);
    }
    RecordBatch::try_new(
        vectors_schema(),
        vec![
            Arc::new(StringArray::from_iter(hashes)),
            Arc::new(StringArray::from_iter(models)),
            Arc::new(lists.finish()),
        ],
    )
}
