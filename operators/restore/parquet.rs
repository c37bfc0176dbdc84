//! Parquet files: the rows of the lake, in its types, without its log.

use std::fs::File;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use highwater::source::SourceError;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::files::{Format, broken};
use super::{Tally, failed};

/// A row group is closed when it holds so much, in bytes.
const ROW_GROUP_BYTES: usize = 16 << 20;

/// Rows of a batch that is read back.
const BATCH_ROWS: usize = 1024;

pub(super) struct ParquetFile {
    /// `None` when the file is written.
    writer: Option<ArrowWriter<File>>,
    schema: SchemaRef,
}

impl ParquetFile {
    pub(super) fn create(file: File, schema: &SchemaRef) -> Result<Self, SourceError> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by(concat!("highwater ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let writer = ArrowWriter::try_new(file, SchemaRef::clone(schema), Some(properties))
            .map_err(|error| failed(format!("cannot write Parquet: {error}")))?;
        Ok(Self {
            writer: Some(writer),
            schema: SchemaRef::clone(schema),
        })
    }
}

impl Format for ParquetFile {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), SourceError> {
        let Some(writer) = &mut self.writer else {
            return Err(failed("rows after the end of a file; please report this"));
        };
        let written = writer.write(rows).and_then(|()| {
            if writer.in_progress_size() >= ROW_GROUP_BYTES {
                writer.flush()?;
            }
            Ok(())
        });
        written.map_err(|error| failed(format!("cannot write Parquet: {error}")))
    }

    fn finish(&mut self) -> Result<(), SourceError> {
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let file = writer
            .into_inner()
            .map_err(|error| failed(format!("cannot write Parquet: {error}")))?;
        file.sync_all()
            .map_err(|error| failed(format!("cannot write Parquet to the disk: {error}")))
    }

    fn read_back(&self, path: &Path, tally: &mut Tally) -> Result<(), SourceError> {
        let file = File::open(path).map_err(|error| broken("read", path, &error))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build())
            .map_err(|error| failed(format!("cannot read {} back: {error}", path.display())))?;
        for rows in reader {
            let rows = rows
                .and_then(|rows| {
                    RecordBatch::try_new(SchemaRef::clone(&self.schema), rows.columns().to_vec())
                })
                .map_err(|error| failed(format!("cannot read {} back: {error}", path.display())))?;
            tally.add(&rows)?;
        }
        Ok(())
    }
}
