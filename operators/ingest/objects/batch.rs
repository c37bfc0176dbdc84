//! Differences as Arrow columns.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, AsArray, Int64Array, RecordBatch, StringArray, StringBuilder, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use highwater::store::objects::Listed;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let field = |name, kind, nullable| Field::new(name, kind, nullable);
    Arc::new(Schema::new(vec![
        field("key", DataType::Utf8, false),
        field("bytes", DataType::UInt64, false),
        field("modified_ns", DataType::Int64, false),
        field("etag", DataType::Utf8, true),
    ]))
});

/// The columns of a batch of objects that are to be copied.
#[must_use]
pub fn changes_schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// Objects as columns.
pub(super) fn changes_of(objects: &[Listed]) -> Result<RecordBatch, ArrowError> {
    let keys = StringArray::from_iter_values(objects.iter().map(|object| &object.key));
    let bytes: UInt64Array = objects
        .iter()
        .map(|object| object.bytes)
        .collect::<Vec<_>>()
        .into();
    let times: Int64Array = objects
        .iter()
        .map(|object| object.modified_ns)
        .collect::<Vec<_>>()
        .into();
    let mut etags = StringBuilder::new();
    objects
        .iter()
        .for_each(|object| etags.append_option(object.etag.as_deref()));
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(keys),
        Arc::new(bytes),
        Arc::new(times),
        Arc::new(etags.finish()),
    ];
    RecordBatch::try_new(changes_schema(), columns)
}

/// The objects of a batch; of one with other columns, none.
#[must_use]
pub fn listed_of(batch: &RecordBatch) -> Vec<Listed> {
    if batch.schema_ref() != &changes_schema() {
        return Vec::new();
    }
    let keys = batch.column(0).as_string::<i32>();
    let bytes = batch.column(1).as_primitive::<UInt64Type>();
    let times = batch.column(2).as_primitive::<Int64Type>();
    let etags = batch.column(3).as_string::<i32>();
    let row = |row| Listed {
        key: keys.value(row).to_owned(),
        bytes: bytes.value(row),
        modified_ns: times.value(row),
        etag: etags.is_valid(row).then(|| etags.value(row).to_owned()),
    };
    (0..batch.num_rows()).map(row).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn objects_come_back_as_they_were() {
        let objects = [
            Listed {
                key: "a//b\u{1}".into(),
                bytes: u64::MAX,
                modified_ns: -5,
                etag: None,
            },
            Listed {
                key: "ü".into(),
                bytes: 0,
                modified_ns: 7,
                etag: Some("x-1".into()),
            },
        ];
        assert_eq!(listed_of(&changes_of(&objects).unwrap()), objects);
    }
}
