//! [`SmallFile`]: a data file that is put together in memory and written by one request.
//!
//! Files of any size are streamed while they are encoded, by an operator of a dataflow.
//! This is for the few rows that are written beside one, and for joining what is small.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;
use uuid::Uuid;

use super::{DataFile, delta_stats, sha256_hex};

/// Why a small file was not written.
#[derive(Debug, thiserror::Error)]
pub enum SmallFileError {
    /// Rows are no Parquet: an error of ours.
    #[error("cannot encode rows as Parquet: {0}")]
    Encode(#[from] ParquetError),
    /// The store does not take it.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: Path,
        /// Why.
        source: object_store::Error,
    },
}

/// A data file of a table without partitions that is not complete yet. All of it is in
/// memory: who writes it says when it is large enough.
#[derive(Debug)]
pub struct SmallFile {
    schema: SchemaRef,
    rows: u64,
    writer: ArrowWriter<Vec<u8>>,
}

impl SmallFile {
    /// Begins a file of rows of `schema`, encoded as `options` say.
    ///
    /// # Errors
    /// The schema cannot be that of a Parquet file.
    pub fn new(schema: SchemaRef, options: ArrowWriterOptions) -> Result<Self, SmallFileError> {
        let writer = ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&schema), options)?;
        Ok(Self {
            schema,
            rows: 0,
            writer,
        })
    }

    /// Encodes rows.
    ///
    /// # Errors
    /// They are not of the file's schema.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), SmallFileError> {
        self.writer.write(rows)?;
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    /// The encoded size of the open row group, in bytes.
    #[must_use]
    pub fn row_group_bytes(&self) -> u64 {
        self.writer.in_progress_size() as u64
    }

    /// The size of the file so far, in bytes.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.writer.bytes_written() as u64 + self.row_group_bytes()
    }

    /// Completes the open row group.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn flush(&mut self) -> Result<(), SmallFileError> {
        Ok(self.writer.flush()?)
    }

    /// Completes the file and makes it durable in `folder`, under a name that begins with
    /// `what` and is never used again. No entry of the log names it yet.
    ///
    /// # Errors
    /// It cannot be encoded or written.
    pub async fn put(
        mut self,
        folder: &Arc<dyn ObjectStore>,
        what: &str,
    ) -> Result<DataFile, SmallFileError> {
        let metadata = self.writer.finish()?;
        let bytes = std::mem::take(self.writer.inner_mut());
        let path = Path::from(format!("{what}-{}.parquet", Uuid::now_v7()));
        let file = DataFile {
            path: path.to_string(),
            rows: self.rows,
            bytes: bytes.len() as u64,
            sha256: sha256_hex(&bytes),
            partition: BTreeMap::new(),
            stats: delta_stats(&self.schema, &metadata),
        };
        let written = folder.put(&path, PutPayload::from(bytes)).await;
        written.map_err(|source| SmallFileError::Write { path, source })?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::{ArrayRef, Int64Array};
    use object_store::memory::InMemory;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

    use super::*;

    /// Three numbers from this one on.
    fn numbers(from: i64) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + 3));
        RecordBatch::try_from_iter([("n", numbers)]).unwrap()
    }

    #[tokio::test]
    async fn what_is_told_of_a_file_is_what_was_written() {
        let mut file = SmallFile::new(numbers(0).schema(), ArrowWriterOptions::new()).unwrap();
        file.write(&numbers(0)).unwrap();
        assert!(file.row_group_bytes() > 0);
        file.flush().unwrap();
        assert_eq!(file.row_group_bytes(), 0);
        assert!(file.file_bytes() > 0);
        file.write(&numbers(3)).unwrap();
        let folder: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let file = file.put(&folder, "part").await.unwrap();
        let path = Path::from(file.path.as_str());
        let bytes = folder.get(&path).await.unwrap().bytes().await.unwrap();
        assert!(file.path.starts_with("part-"), "{}", file.path);
        assert_eq!((file.rows, file.bytes), (6, bytes.len() as u64));
        assert_eq!(file.sha256, sha256_hex(&bytes));
        assert_eq!(file.stats["numRecords"], 6);
        assert_eq!(file.stats["minValues"]["n"], 0);
        assert_eq!(file.stats["maxValues"]["n"], 5);
        let read = ParquetRecordBatchReader::try_new(bytes, 1024).unwrap();
        let rows: usize = read.map(|batch| batch.unwrap().num_rows()).sum();
        assert_eq!(rows, 6);
    }
}
