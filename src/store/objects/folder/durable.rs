//! Making what was written safe from a power cut.
//!
//! Linux tells of a write that failed in the background once, and to each descriptor that
//! was open by then: who opens one later is told that all is well. So one is opened before
//! the first write, everybody asks through it, and what it has told once stays true.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::super::ObjectError;

/// The file system of a folder, as far as it has to write things down.
#[derive(Debug, Default)]
pub(super) struct Durable {
    /// Apart from what is locked while the disk is waited for: writing goes on meanwhile.
    root: OnceLock<File>,
    /// The first error; locked while one waits.
    failed: Mutex<Option<ObjectError>>,
    /// How often it was asked to write everything down.
    begun: AtomicU64,
}

impl Durable {
    /// To be called before anything is written below `root`, which is there. Only the
    /// first call does anything.
    pub(super) fn begin(&self, root: &Path) -> io::Result<()> {
        if self.root.get().is_none() {
            // Of two that come at once one is first.
            let _ = self.root.set(File::open(root)?);
        }
        Ok(())
    }

    /// Waits until everything is on the disk that was written before. Who comes while one
    /// waits shares the next time with all others that do.
    ///
    /// # Errors
    /// As `told` says it. What was written is lost, and nobody knows of which files: all
    /// later calls fail, too.
    pub(super) fn wait(
        &self,
        root: &Path,
        told: impl FnOnce(&io::Error) -> ObjectError,
    ) -> Result<(), ObjectError> {
        let came = self.begun.load(Ordering::Acquire);
        let mut first = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failed) = &*first {
            return Err(failed.clone());
        }
        if self.begun.load(Ordering::Acquire) > came {
            return Ok(());
        }
        self.begun.fetch_add(1, Ordering::AcqRel);
        let synced = match self.root.get() {
            Some(root) => sync(root),
            None => File::open(root).and_then(|root| sync(&root)),
        };
        synced.map_err(|error| {
            let failed = told(&error);
            *first = Some(failed.clone());
            failed
        })
    }
}

fn sync(root: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(root)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::OpenOptionsExt as _;

    use super::super::super::ObjectErrorKind;
    use super::*;

    /// `O_PATH` of this system.
    #[allow(clippy::cast_possible_wrap)] // A bit mask.
    const PATH: i32 = rustix::fs::OFlags::PATH.bits() as i32;

    #[test]
    fn what_failed_once_is_not_well_the_next_time() {
        let home = tempfile::tempdir().unwrap();
        let mut durable = Durable::default();
        let told =
            |error: &io::Error| ObjectError::new(ObjectErrorKind::Failed, "", error.to_string());
        durable.begin(home.path()).unwrap();
        durable.wait(home.path(), told).unwrap();
        // No disk fails on demand: through this nothing can be asked.
        let path_only = File::options()
            .read(true)
            .custom_flags(PATH)
            .open(home.path());
        durable.root = path_only.unwrap().into();
        durable.wait(home.path(), told).unwrap_err();
        durable.root = File::open(home.path()).unwrap().into();
        durable.wait(home.path(), told).unwrap_err();
    }
}
