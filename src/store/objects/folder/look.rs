//! What a walk asks of the file system.

use std::fs::{self, DirEntry, FileType, Metadata, ReadDir};
use std::io;
use std::path::Path;

/// What a walk asks of the file system. Tests have one that fails: root may read
/// everything, so that modes do not do for them.
pub(super) trait Look {
    /// What is in a folder.
    fn read_dir(&self, folder: &Path) -> io::Result<ReadDir> {
        fs::read_dir(folder)
    }

    /// What sort of thing a name stands for; a link is a link.
    fn file_type(&self, entry: &DirEntry) -> io::Result<FileType> {
        entry.file_type()
    }

    /// Size and time of a file.
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        path.symlink_metadata()
    }
}

/// The file system as it is.
pub(super) struct Disk;

impl Look for Disk {}
