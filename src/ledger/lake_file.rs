//! A Parquet file of the lake, read by ranges.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

/// A file of the lake whose size is known from the log, so that nothing is asked twice.
#[derive(Debug)]
pub struct LakeFile {
    folder: Arc<dyn ObjectStore>,
    path: Path,
    bytes: u64,
    /// All of it, where that was read at once.
    whole: Option<Bytes>,
}

impl LakeFile {
    /// The file at `path` below `folder`, of so many bytes.
    #[must_use]
    pub fn new(folder: Arc<dyn ObjectStore>, path: Path, bytes: u64) -> Self {
        Self {
            folder,
            path,
            bytes,
            whole: None,
        }
    }

    /// The same file, of which everything has been read.
    #[must_use]
    pub fn with_whole(mut self, whole: Option<Bytes>) -> Self {
        self.whole = whole;
        self
    }

    /// Everything in the file, by one request.
    ///
    /// # Errors
    /// It cannot be read, or is shorter than the log says.
    pub async fn fetch(&self) -> Result<Bytes> {
        let all = self.folder.get_range(&self.path, 0..self.bytes).await;
        all.map_err(external)
    }

    /// A part of what has been read.
    fn held(&self, range: &Range<u64>) -> Option<Bytes> {
        let whole = self.whole.as_ref()?;
        let from = usize::try_from(range.start).ok()?;
        let to = usize::try_from(range.end).ok()?;
        (from <= to && to <= whole.len()).then(|| whole.slice(from..to))
    }
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for LakeFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move {
            if let Some(held) = self.held(&range) {
                return Ok(held);
            }
            self.folder
                .get_range(&self.path, range)
                .await
                .map_err(external)
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move {
            let held: Option<Vec<Bytes>> = ranges.iter().map(|range| self.held(range)).collect();
            if let Some(held) = held {
                return Ok(held);
            }
            self.folder
                .get_ranges(&self.path, &ranges)
                .await
                .map_err(external)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move {
            let bytes = self.bytes;
            ParquetMetaDataReader::new()
                .load_and_finish(self, bytes)
                .await
                .map(Arc::new)
        }
        .boxed()
    }
}
