//! The columns of a packed table.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray as _, BinaryBuilder, Int64Builder, RecordBatch, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{
    DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use bytes::Bytes;
use highwater::store::objects::Listed;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

const KEY: &str = "key";

/// The columns: `key`, `size`, `modified` (in UTC), `etag`, `attributes` (content
/// type and metadata as JSON), `sha256` (of the content, in hexadecimal), `content`.
#[must_use]
pub fn packed_schema() -> SchemaRef {
    let modified = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Schema::new(vec![
        Field::new(KEY, DataType::Utf8, true),
        Field::new("size", DataType::Int64, true),
        Field::new("modified", modified, true),
        Field::new("etag", DataType::Utf8, true),
        Field::new("attributes", DataType::Utf8, true),
        Field::new("sha256", DataType::Utf8, true),
        Field::new("content", DataType::Binary, true),
    ])
    .into()
}

/// Of these columns the first ones: what a listing tells, without any content.
pub(super) fn listed_schema() -> SchemaRef {
    let fields = packed_schema()
        .fields()
        .iter()
        .take(4)
        .cloned()
        .collect::<Vec<_>>();
    Schema::new(fields).into()
}

/// The key alone.
pub(super) fn key_schema() -> SchemaRef {
    Schema::new(vec![Field::new(KEY, DataType::Utf8, true)]).into()
}

/// The keys of a batch.
pub(super) fn key(batch: &RecordBatch, row: usize) -> &str {
    text(batch, 0, row).unwrap_or_default()
}

fn text(batch: &RecordBatch, column: usize, row: usize) -> Option<&str> {
    let column = batch.columns().get(column)?.as_string_opt::<i32>()?;
    (row < column.len() && column.is_valid(row)).then(|| column.value(row))
}

/// What a row says of its object.
pub(crate) fn listed(batch: &RecordBatch, row: usize) -> Listed {
    let size = batch
        .columns()
        .get(1)
        .and_then(|size| size.as_primitive_opt::<Int64Type>());
    let size = size.map_or(0, |size| size.value(row));
    let modified = batch.columns().get(2);
    let modified = modified.and_then(|time| time.as_primitive_opt::<TimestampMicrosecondType>());
    Listed {
        key: key(batch, row).to_owned(),
        bytes: u64::try_from(size).unwrap_or(0),
        modified_ns: modified.map_or(0, |time| time.value(row).saturating_mul(1000)),
        etag: text(batch, 3, row).map(str::to_owned),
    }
}

/// Content type, metadata and the like of a row, as JSON.
pub(super) fn attributes(batch: &RecordBatch, row: usize) -> Option<&str> {
    text(batch, 4, row)
}

/// The SHA-256 of a row's content when it was packed, in hexadecimal.
pub(super) fn sha256(batch: &RecordBatch, row: usize) -> &str {
    text(batch, 5, row).unwrap_or_default()
}

/// The content of a row, where it lies in the batch.
pub(super) fn content(batch: &RecordBatch, row: usize) -> &[u8] {
    let column = batch.columns().get(6);
    let column = column.and_then(|column| column.as_binary_opt::<i32>());
    let column = column.filter(|column| row < column.len() && column.is_valid(row));
    column.map(|column| column.value(row)).unwrap_or_default()
}

/// Whether a packed object is the one that was listed. Times are kept in
/// microseconds, and count where there is no tag.
pub(crate) fn is_same(listed: &Listed, packed: &Listed) -> bool {
    let micros = |object: &Listed| object.modified_ns.div_euclid(1000);
    listed.bytes == packed.bytes
        && match (&listed.etag, &packed.etag) {
            (Some(now), Some(then)) => now == then,
            (None, None) => micros(listed) == micros(packed),
            _ => false,
        }
}

/// An object with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackedRow {
    pub(super) object: Listed,
    pub(super) attributes: Option<String>,
    /// In hexadecimal.
    pub(super) sha256: String,
    pub(super) content: Bytes,
}

impl PackedRow {
    /// A row of a batch, its content copied: a slice would keep the batch alive.
    pub(super) fn of(batch: &RecordBatch, row: usize) -> Self {
        Self {
            object: listed(batch, row),
            attributes: attributes(batch, row).map(str::to_owned),
            sha256: sha256(batch, row).to_owned(),
            content: Bytes::copy_from_slice(content(batch, row)),
        }
    }
}

/// Content type, metadata and the like as JSON; `None` where there is nothing.
pub(super) fn attributes_text(attributes: &HeaderMap) -> Option<String> {
    let values = attributes.iter().filter_map(|(name, value)| {
        let value = value.to_str().ok()?;
        Some((name.as_str().to_owned(), Value::from(value)))
    });
    let values: Map<String, Value> = values.collect();
    (!values.is_empty()).then(|| Value::Object(values).to_string())
}

/// The same back; what is no header is left out.
pub(super) fn attributes_of(text: Option<&str>) -> HeaderMap {
    let parsed = text.and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
    let headers = parsed.into_iter().flatten().filter_map(|(name, value)| {
        let name = HeaderName::try_from(name).ok()?;
        Some((name, HeaderValue::from_str(value.as_str()?).ok()?))
    });
    headers.collect()
}

/// Rows on their way into a batch.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: Vec<PackedRow>,
    bytes: u64,
}

/// What a row takes beside its content, in bytes. An estimate.
const ROW_BYTES: u64 = 256;

impl Rows {
    pub(super) fn push(&mut self, row: PackedRow) {
        self.bytes += row.content.len() as u64 + ROW_BYTES;
        self.rows.push(row);
    }

    /// What they will take as a batch, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Makes a batch of them; nothing is left.
    pub(super) fn batch(&mut self) -> Result<RecordBatch, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        let content: usize = rows.iter().map(|row| row.content.len()).sum();
        self.bytes = 0;
        let mut keys = StringBuilder::new();
        let mut sizes = Int64Builder::new();
        let mut modified = TimestampMicrosecondBuilder::new().with_timezone("UTC");
        let (mut etags, mut attributes) = (StringBuilder::new(), StringBuilder::new());
        let mut sha256 = StringBuilder::new();
        let mut contents = BinaryBuilder::with_capacity(rows.len(), content);
        for row in rows {
            keys.append_value(&row.object.key);
            sizes.append_value(i64::try_from(row.object.bytes).unwrap_or(i64::MAX));
            modified.append_value(row.object.modified_ns.div_euclid(1000));
            etags.append_option(row.object.etag);
            attributes.append_option(row.attributes);
            sha256.append_value(&row.sha256);
            contents.append_value(&row.content);
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(keys.finish()),
            Arc::new(sizes.finish()),
            Arc::new(modified.finish()),
            Arc::new(etags.finish()),
            Arc::new(attributes.finish()),
            Arc::new(sha256.finish()),
            Arc::new(contents.finish()),
        ];
        RecordBatch::try_new(packed_schema(), columns)
    }
}
