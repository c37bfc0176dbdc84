//! Batches on the local disk: Arrow IPC, each buffer compressed with LZ4.
//!
//! A spill file has no name: it is removed from its folder the moment it is made
//! and lives as long as it is open. Whatever ends the process, `kill -9` too, ends
//! it, so there are no leftovers to be cleaned up.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};

/// What stands between a file and its writer; many files are open at once.
const BUFFER_BYTES: usize = 16 << 10;

/// Why rows could not be kept on disk.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// The folder does not take files.
    #[error("cannot keep rows in {folder}: {cause}; name a folder with room in `compact.spill`")]
    Folder {
        /// The folder.
        folder: String,
        /// Why.
        cause: std::io::Error,
    },
    /// Rows could not be written, read or put in order.
    #[error("cannot sort rows: {0}")]
    Arrow(#[from] ArrowError),
}

/// The folder that spill files are made in.
#[derive(Debug, Clone)]
pub struct SpillFolder {
    folder: Arc<PathBuf>,
    bytes: Arc<AtomicU64>,
}

impl SpillFolder {
    /// Spill files in `folder`, which must be on a local disk.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder: Arc::new(folder),
            bytes: Arc::default(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Bytes written so far, compressed.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether files can be made there.
    ///
    /// # Errors
    /// They cannot.
    pub fn check(&self) -> Result<(), SpillError> {
        self.file().map(drop)
    }

    fn file(&self) -> Result<File, SpillError> {
        std::fs::create_dir_all(self.path())
            .and_then(|()| tempfile::tempfile_in(self.path()))
            .map_err(|cause| self.failed(cause))
    }

    fn failed(&self, cause: std::io::Error) -> SpillError {
        SpillError::Folder {
            folder: self.folder.display().to_string(),
            cause,
        }
    }

    /// A new spill file for batches of `schema`.
    pub(super) fn begin(&self, schema: &SchemaRef) -> Result<SpillWriter, SpillError> {
        let file = self.file()?;
        let options =
            IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(SpillWriter {
            folder: self.clone(),
            writer: StreamWriter::try_new_with_options(file, schema, options)?,
            sections: Vec::new(),
        })
    }

    /// An error of the disk below Arrow's, in our words.
    fn told(&self, error: ArrowError) -> SpillError {
        match error {
            ArrowError::IoError(_, cause) => self.failed(cause),
            other => other.into(),
        }
    }
}

/// A spill file that is being written.
pub(super) struct SpillWriter {
    folder: SpillFolder,
    writer: StreamWriter<BufWriter<File>>,
    sections: Vec<u32>,
}

impl SpillWriter {
    /// Adds rows of one section.
    pub(super) fn write(&mut self, section: u32, rows: &RecordBatch) -> Result<(), SpillError> {
        self.sections.push(section);
        let written = self.writer.write(rows);
        written.map_err(|error| self.folder.told(error))
    }

    /// Ends the file.
    pub(super) fn finish(self) -> Result<Spilled, SpillError> {
        let Self {
            folder,
            writer,
            sections,
        } = self;
        let file = writer.into_inner().map_err(|error| folder.told(error))?;
        let mut file = file
            .into_inner()
            .map_err(|error| folder.failed(error.into_error()))?;
        let bytes = file
            .stream_position()
            .map_err(|cause| folder.failed(cause))?;
        folder.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(Spilled {
            folder,
            file,
            sections,
        })
    }
}

/// A spill file that is complete.
pub(super) struct Spilled {
    folder: SpillFolder,
    file: File,
    sections: Vec<u32>,
}

impl Spilled {
    /// Its batches, each with its section, in the order of writing. The file is
    /// gone with the reader.
    pub(super) fn read(self) -> Result<SpillReader, SpillError> {
        let Self {
            folder,
            mut file,
            sections,
        } = self;
        file.seek(SeekFrom::Start(0))
            .map_err(|cause| folder.failed(cause))?;
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        let reader = StreamReader::try_new(file, None).map_err(|error| folder.told(error))?;
        Ok(SpillReader {
            folder,
            reader,
            sections: sections.into_iter(),
        })
    }
}

/// Reads a spill file.
pub(super) struct SpillReader {
    folder: SpillFolder,
    reader: StreamReader<BufReader<File>>,
    sections: std::vec::IntoIter<u32>,
}

impl SpillReader {
    /// The next batch, `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, RecordBatch)>, SpillError> {
        match (self.reader.next(), self.sections.next()) {
            (Some(Ok(batch)), Some(section)) => Ok(Some((section, batch))),
            (None, None) => Ok(None),
            (Some(Err(error)), _) => Err(self.folder.told(error)),
            _ => Err(ArrowError::IpcError("a spill file ends too early".to_owned()).into()),
        }
    }
}
