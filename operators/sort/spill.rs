//! Packed rows on the local disk.
//!
//! A spill file has no name: it is removed from its folder the moment it is made
//! and lives as long as it is open. Whatever ends the process, `kill -9` too, ends
//! it, so there are no leftovers to be cleaned up.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::error::ArrowError;

use super::dense::{HEAD_BYTES, Head, damaged};

/// What stands between a file and its reader.
const BUFFER_BYTES: usize = 64 << 10;

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

    /// A new spill file.
    pub(super) fn begin(&self) -> Result<SpillWriter, SpillError> {
        Ok(SpillWriter {
            folder: self.clone(),
            file: self.file()?,
            bytes: 0,
        })
    }
}

/// A spill file that is being written.
#[derive(Debug)]
pub(super) struct SpillWriter {
    folder: SpillFolder,
    file: File,
    bytes: u64,
}

impl SpillWriter {
    /// Adds a piece. A piece is as large as a write should be.
    pub(super) fn write(&mut self, piece: &[u8]) -> Result<(), SpillError> {
        let written = self.file.write_all(piece);
        written.map_err(|cause| self.folder.failed(cause))?;
        self.bytes += piece.len() as u64;
        Ok(())
    }

    /// Ends the file.
    pub(super) fn finish(self) -> Spilled {
        let Self {
            folder,
            file,
            bytes,
        } = self;
        folder.bytes.fetch_add(bytes, Ordering::Relaxed);
        Spilled {
            folder,
            file,
            bytes,
        }
    }
}

/// A spill file that is complete.
#[derive(Debug)]
pub(super) struct Spilled {
    folder: SpillFolder,
    file: File,
    bytes: u64,
}

impl Spilled {
    /// Its pieces, in the order of writing. The file is gone with the reader.
    pub(super) fn read(self) -> Result<SpillReader, SpillError> {
        let Self {
            folder,
            mut file,
            bytes,
        } = self;
        file.seek(SeekFrom::Start(0))
            .map_err(|cause| folder.failed(cause))?;
        Ok(SpillReader {
            folder,
            file: BufReader::with_capacity(BUFFER_BYTES, file),
            left_bytes: bytes,
            body: Vec::new(),
        })
    }
}

/// Reads a spill file.
pub(super) struct SpillReader {
    folder: SpillFolder,
    file: BufReader<File>,
    left_bytes: u64,
    body: Vec<u8>,
}

impl SpillReader {
    /// The next piece, `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Head>, SpillError> {
        if self.left_bytes == 0 {
            return Ok(None);
        }
        let mut head = [0; HEAD_BYTES];
        let read = self.file.read_exact(&mut head);
        read.map_err(|cause| self.folder.failed(cause))?;
        let head = Head::of(head)?;
        let bytes = (HEAD_BYTES + head.body_bytes) as u64;
        self.left_bytes = self.left_bytes.checked_sub(bytes).ok_or_else(damaged)?;
        self.body.resize(head.body_bytes, 0);
        let read = self.file.read_exact(&mut self.body);
        read.map_err(|cause| self.folder.failed(cause))?;
        Ok(Some(head))
    }

    /// What follows the head of the piece that came last.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }
}
