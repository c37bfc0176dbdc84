//! Writing past the system's cache.
//!
//! What is to be durable must reach the disk before the run ends. Through the cache each
//! byte is copied once more, pages must be found for it, and most of it waits to be
//! written when the last byte has arrived. Large files go to the disk while they come.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::super::BLOCK_BYTES;
use super::NO_FOLLOW;

/// `O_DIRECT` of this system.
#[allow(clippy::cast_possible_wrap)] // A bit mask.
const DIRECT: i32 = rustix::fs::OFlags::DIRECT.bits() as i32;

/// A file whose whole blocks are written to the disk.
#[derive(Debug)]
pub(super) struct Direct(File);

impl Direct {
    /// The file at `path`, where its file system can do it.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let opened = File::options()
            .write(true)
            .custom_flags(DIRECT | NO_FOLLOW)
            .open(path);
        opened.ok().map(Self)
    }

    /// Writes the first so many bytes of `body`, which belongs at `offset`; how many,
    /// 0 where it cannot be done.
    pub(super) fn write(&self, body: &[u8], offset: u64) -> io::Result<usize> {
        let begins = body.as_ptr().addr() % BLOCK_BYTES == 0 && offset % BLOCK_BYTES as u64 == 0;
        let whole = body.len() / BLOCK_BYTES * BLOCK_BYTES;
        let Some(blocks) = body.get(..whole).filter(|_| begins && whole > 0) else {
            return Ok(0);
        };
        match self.0.write_all_at(blocks, offset) {
            Ok(()) => Ok(whole),
            // The disk has larger blocks, or wrote some that are no multiple of its own.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(0),
            Err(error) => Err(error),
        }
    }
}
