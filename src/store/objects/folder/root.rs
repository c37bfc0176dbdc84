//! The folder itself.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::{ObjectError, ObjectErrorKind};
use super::failed;

/// The folder itself. A target's need not be there before something is written. What
/// was there once must stay: an empty listing would look as if all was deleted.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    seen: AtomicBool,
}

impl Root {
    /// The folder at `path`, which need not be there yet.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            seen: AtomicBool::new(path.exists()),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is there.
    ///
    /// # Errors
    /// It was and is no longer, or nobody can tell.
    pub(super) fn is_there(&self) -> Result<bool, ObjectError> {
        let there = self.path.try_exists();
        if there.map_err(|error| self.unlisted(&error))? {
            self.made();
            return Ok(true);
        }
        match self.seen.load(Ordering::Relaxed) {
            true => Err(self.gone()),
            false => Ok(false),
        }
    }

    /// From now on it is there.
    pub(super) fn made(&self) {
        self.seen.store(true, Ordering::Relaxed);
    }

    /// It was there and is no longer.
    pub(super) fn gone(&self) -> ObjectError {
        let what = format!(
            "the folder {} was there and is no longer; bring it back and run again",
            self.path.display()
        );
        ObjectError::new(ObjectErrorKind::NoSuchPlace, "", what)
    }

    /// It cannot be read.
    pub(super) fn unlisted(&self, error: &io::Error) -> ObjectError {
        failed(error, "", "list", &self.path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_there_must_stay() {
        let home = tempfile::tempdir().unwrap();
        let (early, late) = (home.path().join("early"), home.path().join("late"));
        std::fs::create_dir(&early).unwrap();
        let (seen, new) = (Root::new(&early), Root::new(&late));
        assert!(seen.is_there().unwrap() && !new.is_there().unwrap());
        std::fs::create_dir(&late).unwrap();
        assert!(new.is_there().unwrap());
        for (root, path) in [(seen, &early), (new, &late)] {
            std::fs::remove_dir(path).unwrap();
            let error = root.is_there().unwrap_err();
            assert_eq!(error.kind, ObjectErrorKind::NoSuchPlace, "{error}");
        }
    }
}
