//! The form in which a target takes rows: the lake's own types, or wider ones,
//! or exact text. Rows are converted before they are counted, so that what is
//! compared is what was written.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use highwater::source::SourceError;

use super::failed;
use crate::ingest::postgres;

/// The type in which a target with few types keeps `lake`: SQLite, for tables
/// that did not come from it.
pub(crate) fn stored_as(lake: &DataType) -> DataType {
    match lake {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => DataType::Int64,
        DataType::Float32 | DataType::Float64 => DataType::Float64,
        DataType::Boolean | DataType::Binary => lake.clone(),
        _ => DataType::Utf8,
    }
}

/// The same rows in the columns of `schema`.
pub(super) fn into(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, SourceError> {
    let columns = rows.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| column_as(column, field.data_type()));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| failed(format!("rows of the lake do not fit the target: {error}")))
}

fn column_as(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, SourceError> {
    if column.data_type() == wanted {
        return Ok(Arc::clone(column));
    }
    if *wanted != DataType::Utf8 {
        return cast(column, wanted)
            .map_err(|error| failed(format!("a column of the lake cannot be converted: {error}")));
    }
    let mut texts = StringBuilder::with_capacity(column.len(), column.get_array_memory_size());
    for row in 0..column.len() {
        texts.append_option(null_or_text(column.as_ref(), row)?);
    }
    Ok(Arc::new(texts.finish()))
}

/// The exact text of a value, as PostgreSQL reads it; `None` where it is NULL.
pub(crate) fn null_or_text(column: &dyn Array, row: usize) -> Result<Option<String>, SourceError> {
    if column.is_null(row) {
        return Ok(None);
    }
    let text = postgres::value_text(column, row);
    text.map(Some).map_err(|error| failed(error.to_string()))
}
