//! One Parquet file that is being written.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::buf::Writer;
use bytes::{BufMut, Bytes, BytesMut};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use tokio::sync::mpsc;

use super::encoding::{FileFormat, lake_options, writer_properties};
use super::upload::FileInFlight;

/// A file whose row groups leave for the store as they are completed.
pub(super) struct OpenFile {
    writer: ArrowWriter<Writer<BytesMut>>,
    chunks: mpsc::UnboundedSender<Bytes>,
    in_flight: FileInFlight,
    handed_over_bytes: u64,
    rows: u64,
}

/// What is known of a file when its last byte was handed over.
pub(super) struct Finished {
    pub(super) rows: u64,
    pub(super) metadata: ParquetMetaData,
}

/// Partition column to value, in Delta's serialised form.
pub type PartitionValues = BTreeMap<String, Option<String>>;

impl OpenFile {
    /// Begins a file; `first` are its first rows (they are not written yet).
    pub(super) fn new(
        format: &FileFormat,
        schema: SchemaRef,
        first: &RecordBatch,
        chunks: mpsc::UnboundedSender<Bytes>,
        in_flight: FileInFlight,
    ) -> Result<Self, ParquetError> {
        let options = lake_options(writer_properties(format, first));
        let writer = ArrowWriter::try_new_with_options(BytesMut::new().writer(), schema, options)?;
        Ok(Self {
            writer,
            chunks,
            in_flight,
            handed_over_bytes: 0,
            rows: 0,
        })
    }

    /// Encodes rows.
    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        self.writer.write(rows)?;
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    /// The encoded size of the open row group, in bytes.
    pub(super) fn row_group_bytes(&self) -> u64 {
        self.writer.in_progress_size() as u64
    }

    /// What the open row group holds in memory, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.writer.memory_size() as u64
    }

    /// The size of the file so far, in bytes.
    pub(super) fn file_bytes(&self) -> u64 {
        self.handed_over_bytes + self.row_group_bytes()
    }

    /// Completes the open row group and hands its bytes over.
    pub(super) fn flush(&mut self) -> Result<(), ParquetError> {
        let expected = self.writer.in_progress_size();
        self.writer.inner_mut().get_mut().reserve(expected);
        self.writer.flush()?;
        self.hand_over();
        Ok(())
    }

    /// Completes the file and hands its last bytes over.
    pub(super) fn finish(mut self) -> Result<Finished, ParquetError> {
        let metadata = self.writer.finish()?;
        self.hand_over();
        Ok(Finished {
            rows: self.rows,
            metadata,
        })
    }

    fn hand_over(&mut self) {
        let chunk = self.writer.inner_mut().get_mut().split().freeze();
        if chunk.is_empty() {
            return;
        }
        self.handed_over_bytes += chunk.len() as u64;
        self.in_flight.add(chunk.len() as u64);
        // A failed upload has stopped listening and has said so itself.
        let _ = self.chunks.send(chunk);
    }
}
