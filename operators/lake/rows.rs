//! One Parquet file of a lake table, in the columns that a reader wants.
//!
//! A file may lack columns that the table got later (they are NULL), and
//! partition columns live in the log alone: both are put back here, so that all
//! batches of a table look alike, whichever file they come from.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use highwater::ledger::{LakeFile, LoggedFile};
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;

/// Files up to this size are read as a whole when they are opened.
pub const SMALL_BYTES: u64 = 1 << 20;

/// A file of the lake cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path} of the lake: {reason}; `verify` tells what else is damaged")]
pub struct LakeReadError {
    /// The file, relative to the table's folder.
    pub path: String,
    /// Why.
    pub reason: String,
    /// Whether the store may answer later.
    pub passes: bool,
}

/// Where one wanted column comes from.
#[derive(Debug, Clone)]
enum Origin {
    /// The file's column at this position of the projection.
    File(usize),
    /// The partition value that the log has.
    Partition(Option<String>),
    /// The file is older than the column.
    Absent,
}

/// One file that was opened: its footer is read, its rows are not.
pub struct TableFile {
    folder: Arc<dyn ObjectStore>,
    path: Path,
    bytes: u64,
    /// Everything, of a small file: one request is cheaper than three.
    whole: Option<Bytes>,
    metadata: ArrowReaderMetadata,
    wanted: SchemaRef,
    origins: Vec<Origin>,
    /// Positions of the file's columns that are read.
    roots: Vec<usize>,
}

impl TableFile {
    /// Opens `file` of the table in `folder`, to be read in the columns of
    /// `wanted`.
    ///
    /// # Errors
    /// The file is not there, or not what the log says.
    pub async fn open(
        folder: Arc<dyn ObjectStore>,
        file: &LoggedFile,
        wanted: &SchemaRef,
    ) -> Result<Self, LakeReadError> {
        let path = Path::from_url_path(&file.path).map_err(|error| LakeReadError {
            path: file.path.clone(),
            reason: error.to_string(),
            passes: false,
        })?;
        let object = LakeFile::new(Arc::clone(&folder), path.clone(), file.bytes);
        let whole = match file.bytes {
            0..=SMALL_BYTES => Some(object.fetch().await),
            _ => None,
        };
        let whole = whole.transpose();
        let whole = whole.map_err(|error| read_error(&path, &error))?;
        let mut object = object.with_whole(whole.clone());
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::load_async(&mut object, options)
            .await
            .and_then(in_micros)
            .map_err(|error| read_error(&path, &error))?;
        let mut roots = Vec::new();
        let origins = wanted
            .fields()
            .iter()
            .map(|field| {
                if let Some(value) = file.partition.get(field.name()) {
                    return Origin::Partition(value.clone());
                }
                let found = metadata.schema().fields().find(field.name());
                found.map_or(Origin::Absent, |(position, _)| {
                    roots.push(position);
                    Origin::File(position)
                })
            })
            .collect();
        roots.sort_unstable();
        roots.dedup();
        Ok(Self {
            folder,
            path,
            bytes: file.bytes,
            whole,
            metadata,
            wanted: Arc::clone(wanted),
            origins,
            roots,
        })
    }

    /// Number of row groups.
    #[must_use]
    pub fn row_groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// What the wanted columns of one row group occupy in the file, in bytes.
    #[must_use]
    pub fn compressed_bytes(&self, group: usize) -> u64 {
        self.sum(group, |group, column| {
            group.column(column).compressed_size()
        })
    }

    /// What the wanted columns of one row group occupy before compression, in bytes.
    #[must_use]
    pub fn uncompressed_bytes(&self, group: usize) -> u64 {
        self.sum(group, |group, column| {
            group.column(column).uncompressed_size()
        })
    }

    /// How many rows a row group has.
    #[must_use]
    pub fn row_count(&self, group: usize) -> u64 {
        let rows = self.group(group).map_or(0, RowGroupMetaData::num_rows);
        u64::try_from(rows).unwrap_or(0)
    }

    /// How many rows make a batch of about `bytes` in memory.
    #[must_use]
    pub fn batch_rows(&self, group: usize, bytes: u64) -> usize {
        const FEWEST: u64 = 64;
        const MOST: u64 = 8192;
        let rows = u64::try_from(self.group(group).map_or(0, RowGroupMetaData::num_rows));
        let held = self.uncompressed_bytes(group);
        let row = held / rows.unwrap_or(1).max(1) + 1;
        usize::try_from((bytes / row).clamp(FEWEST, MOST)).unwrap_or(1)
    }

    fn group(&self, group: usize) -> Option<&RowGroupMetaData> {
        self.metadata.metadata().row_groups().get(group)
    }

    fn sum(&self, group: usize, size: impl Fn(&RowGroupMetaData, usize) -> i64) -> u64 {
        let Some(group) = self.group(group) else {
            return 0;
        };
        let leaves = self.metadata.parquet_schema();
        (0..group.num_columns())
            .filter(|&leaf| self.roots.contains(&leaves.get_column_root_idx(leaf)))
            .map(|leaf| u64::try_from(size(group, leaf)).unwrap_or(0))
            .sum()
    }

    /// The rows of one row group, in the file's order.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn rows(
        &self,
        group: usize,
        batch_rows: usize,
    ) -> Result<
        impl Stream<Item = Result<RecordBatch, LakeReadError>> + Send + Unpin + use<>,
        LakeReadError,
    > {
        let object = LakeFile::new(Arc::clone(&self.folder), self.path.clone(), self.bytes)
            .with_whole(self.whole.clone());
        let mask =
            ProjectionMask::roots(self.metadata.parquet_schema(), self.roots.iter().copied());
        let batches =
            ParquetRecordBatchStreamBuilder::new_with_metadata(object, self.metadata.clone())
                .with_row_groups(vec![group])
                .with_projection(mask)
                .with_batch_size(batch_rows)
                .build()
                .map_err(|error| read_error(&self.path, &error))?;
        let (path, wanted) = (self.path.clone(), Arc::clone(&self.wanted));
        let (origins, roots) = (self.origins.clone(), self.roots.clone());
        Ok(batches.map(move |batch| {
            let batch = batch.map_err(|error| read_error(&path, &error))?;
            complete(&batch, &wanted, &origins, &roots).map_err(|error| LakeReadError {
                path: path.to_string(),
                reason: error.to_string(),
                passes: false,
            })
        }))
    }
}

/// Other writers store timestamps in 96 bits, which Arrow reads as nanoseconds:
/// those of the years before 1678 and after 2262 would not fit. Microseconds are
/// all that a Delta table knows.
fn in_micros(metadata: ArrowReaderMetadata) -> Result<ArrowReaderMetadata, ParquetError> {
    let leaves = metadata.parquet_schema();
    let wide = |name: &str| {
        let mut leaves = leaves.columns().iter();
        leaves.any(|leaf| {
            leaf.path().parts() == [name] && leaf.physical_type() == PhysicalType::INT96
        })
    };
    let fields = metadata.schema().fields();
    if !fields.iter().any(|field| wide(field.name())) {
        return Ok(metadata);
    }
    let fields = fields.iter().map(|field| match wide(field.name()) {
        true => {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
            Arc::new(field.as_ref().clone().with_data_type(micros))
        }
        false => Arc::clone(field),
    });
    let schema = Schema::new(fields.collect::<Vec<_>>());
    let options = ArrowReaderOptions::new()
        .with_skip_arrow_metadata(true)
        .with_schema(Arc::new(schema));
    ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options)
}

fn read_error(path: &Path, error: &ParquetError) -> LakeReadError {
    let passes =
        match error {
            ParquetError::External(cause) => cause
                .downcast_ref::<object_store::Error>()
                .is_some_and(|cause| {
                    highwater::store::StoreError::from_object_store(cause, "read").is_retryable()
                }),
            _ => false,
        };
    LakeReadError {
        path: path.to_string(),
        reason: error.to_string(),
        passes,
    }
}

/// The wanted columns of a batch of the file's.
fn complete(
    batch: &RecordBatch,
    wanted: &SchemaRef,
    origins: &[Origin],
    roots: &[usize],
) -> Result<RecordBatch, ArrowError> {
    let rows = batch.num_rows();
    let columns = wanted
        .fields()
        .iter()
        .zip(origins)
        .map(|(field, origin)| match origin {
            Origin::Absent => Ok(new_null_array(field.data_type(), rows)),
            Origin::Partition(value) => constant(value.as_deref(), field, rows),
            Origin::File(root) => {
                let position = roots.iter().position(|other| other == root);
                let column = position.and_then(|position| batch.columns().get(position));
                let column = column.ok_or_else(|| {
                    ArrowError::SchemaError(format!("column {} was not read", field.name()))
                })?;
                as_type(column, field)
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(wanted), columns, &options)
}

/// The same values in the wanted type: what Parquet forgets of a type (the name
/// of a list's element, for instance) is put back; a value that does not fit is
/// an error.
fn as_type(column: &ArrayRef, field: &Field) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == field.data_type() {
        return Ok(Arc::clone(column));
    }
    cast_with_options(column, field.data_type(), &STRICT)
}

const STRICT: CastOptions<'static> = CastOptions {
    safe: false,
    format_options: arrow::util::display::FormatOptions::new(),
};

/// A partition value, in Delta's serialised form, as a column.
fn constant(value: Option<&str>, field: &Field, rows: usize) -> Result<ArrayRef, ArrowError> {
    // Delta serialises an empty text as NULL would be: it cannot be told apart.
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(new_null_array(field.data_type(), rows));
    };
    let one: ArrayRef = Arc::new(StringArray::from(vec![value]));
    let one = cast_with_options(&one, field.data_type(), &STRICT)?;
    let repeat = arrow::array::UInt32Array::from(vec![0; rows]);
    take(&one, &repeat, None)
}
