//! How a table's columns are encoded in Parquet.

use std::collections::HashSet;
use std::hash::BuildHasher;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use highwater::run::Compression;
use highwater::run::config::FilesConfig;
use highwater::store::Store;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::ZstdLevel;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

/// How files are encoded and how large their parts become.
#[derive(Debug, Clone, Copy)]
pub struct FileFormat {
    /// The codec and its level.
    pub compression: Compression,
    /// A row group is completed when it has reached this size, encoded, in bytes.
    pub row_group_bytes: u64,
    /// What all open row groups of one worker may hold, in bytes; beyond it the
    /// largest is flushed early (B3).
    pub open_bytes: u64,
    /// Encoded bytes of one worker that may be on their way to the store, beside
    /// less than one part for each open file.
    pub in_flight_bytes: u64,
    /// The size of a part of a multipart upload.
    pub part_bytes: usize,
}

const MIB: u64 = 1 << 20;

/// What an open column holds beside its encoded pages: the state of the codec
/// and the page being filled. An estimate, not a measurement.
const COLUMN_BYTES: u64 = MIB;

impl FileFormat {
    /// For a worker that may use so many bytes to write tables of so many columns
    /// to `lake`: what its columns need however little they hold, a part that is
    /// not full, an open row group, its copy when it is flushed, as much again on
    /// its way to the store, and as much slack.
    #[must_use]
    pub fn within(of_worker_bytes: u64, columns: u64, lake: &Store, files: &FilesConfig) -> Self {
        // 5 MiB is the least part that S3 takes; a folder takes any.
        let part_bytes = if lake.folder().is_some() {
            MIB
        } else {
            5 * MIB
        };
        let row_group = of_worker_bytes.saturating_sub(columns * COLUMN_BYTES + part_bytes) / 4;
        let row_group = row_group.clamp(MIB, 64 * MIB);
        let wanted = files.row_group.map(|wanted| wanted.as_u64());
        Self {
            compression: files.compression,
            row_group_bytes: wanted.map_or(row_group, |wanted| wanted.min(row_group)),
            open_bytes: row_group,
            in_flight_bytes: row_group,
            part_bytes: usize::try_from(part_bytes).unwrap_or(usize::MAX),
        }
    }
}

fn codec(compression: Compression) -> parquet::basic::Compression {
    use parquet::basic::Compression as Codec;
    match compression {
        // The configuration knows only levels that exist.
        Compression::Zstd(level) => {
            Codec::ZSTD(ZstdLevel::try_new(i32::from(level)).unwrap_or_default())
        }
        Compression::Lz4 => Codec::LZ4_RAW,
        Compression::Snappy => Codec::SNAPPY,
        Compression::None => Codec::UNCOMPRESSED,
    }
}

/// The size of a page before compression, in bytes.
const PAGE_BYTES: usize = 256 << 10;

/// Rows looked at to decide whether a column repeats its values.
const SAMPLE_ROWS: usize = 2048;

/// What all files of a lake have in common, whatever is in them.
pub(crate) fn lake_properties(codec: parquet::basic::Compression) -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_compression(codec)
        .set_created_by(concat!("highwater ", env!("CARGO_PKG_VERSION")).to_owned())
        // Row groups are closed by this crate, by bytes.
        .set_max_row_group_row_count(None)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        // Lists with the element name that Delta readers expect.
        .set_coerce_types(true)
}

/// How a file of a lake with these properties is written.
pub(crate) fn lake_options(properties: WriterProperties) -> ArrowWriterOptions {
    ArrowWriterOptions::new()
        .with_properties(properties)
        // Delta's schema rules; a second one inside the file only confuses.
        .with_skip_arrow_metadata(true)
}

/// Writer properties for files that begin with `first`.
///
/// A dictionary pays where values repeat and costs where they do not: of the
/// first rows of a column at least half must repeat an earlier one.
pub(super) fn writer_properties(format: &FileFormat, first: &RecordBatch) -> WriterProperties {
    let mut properties = lake_properties(codec(format.compression))
        // Smaller than the default of 1 MiB: an open page is memory for each
        // column of each open file.
        .set_data_page_size_limit(PAGE_BYTES)
        .set_dictionary_page_size_limit(PAGE_BYTES);
    for (field, column) in first.schema().fields().iter().zip(first.columns()) {
        if !values_repeat(column) {
            let path = match field.data_type() {
                DataType::List(_) => {
                    ["list", "element"]
                        .iter()
                        .fold(vec![field.name().clone()], |mut path, part| {
                            path.push((*part).to_owned());
                            path
                        })
                }
                _ => vec![field.name().clone()],
            };
            properties = properties.set_column_dictionary_enabled(ColumnPath::new(path), false);
        }
    }
    properties.build()
}

fn values_repeat(column: &ArrayRef) -> bool {
    let rows = column.len().min(SAMPLE_ROWS);
    let sample = column.slice(0, rows);
    let present = rows - sample.null_count();
    distinct(&sample).is_none_or(|distinct| distinct * 2 <= present)
}

/// How many different values there are; `None` where a dictionary costs nothing
/// to try (small types) or the type nests.
fn distinct(sample: &ArrayRef) -> Option<usize> {
    let hashes = std::hash::RandomState::new();
    let count = |hashed: &mut dyn Iterator<Item = u64>| hashed.collect::<HashSet<_>>().len();
    Some(match sample.data_type() {
        DataType::Utf8 => count(
            &mut sample
                .as_string::<i32>()
                .iter()
                .flatten()
                .map(|v| hashes.hash_one(v)),
        ),
        DataType::Binary => count(
            &mut sample
                .as_binary::<i32>()
                .iter()
                .flatten()
                .map(|v| hashes.hash_one(v)),
        ),
        DataType::Boolean | DataType::List(_) | DataType::Struct(_) | DataType::Map(..) => {
            return None;
        }
        _ => {
            let values = sample.to_data();
            let width = values.data_type().primitive_width()?;
            let bytes = values.buffers().first()?.as_slice();
            let from = values.offset() * width;
            let valid = (0..values.len()).filter(|&row| values.is_valid(row));
            count(&mut valid.filter_map(|row| {
                let start = from + row * width;
                bytes
                    .get(start..start + width)
                    .map(|value| hashes.hash_one(value))
            }))
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_dictionary_is_kept_only_where_values_repeat() {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
        let status: ArrayRef = Arc::new(StringArray::from_iter_values(
            (0..1000).map(|i| ["a", "b"][i % 2]),
        ));
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(
            (0..1000).map(|i| i.to_string()),
        ));
        assert!(!values_repeat(&ids));
        assert!(values_repeat(&status));
        assert!(!values_repeat(&names));
        assert!(
            values_repeat(&ids.slice(0, 0)),
            "nothing seen: let the writer try"
        );
        let batch =
            RecordBatch::try_from_iter([("id", ids), ("status", status), ("name", names)]).unwrap();
        let format = FileFormat {
            compression: Compression::None,
            row_group_bytes: 1,
            open_bytes: 1,
            in_flight_bytes: 1,
            part_bytes: 1,
        };
        let properties = writer_properties(&format, &batch);
        assert!(!properties.dictionary_enabled(&ColumnPath::from("id")));
        assert!(properties.dictionary_enabled(&ColumnPath::from("status")));
    }
}
