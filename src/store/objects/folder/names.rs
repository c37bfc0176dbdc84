//! From keys to files, and never outside of the folder.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::super::{ObjectError, ObjectErrorKind};

/// What names of files begin with that are not whole yet.
const UNFINISHED: &str = ".highwater-unfinished-";

/// Unfinished files of killed runs are removed when they are older.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// A name for a file that is not whole yet.
pub(super) fn unfinished_name() -> String {
    format!("{UNFINISHED}{}", uuid::Uuid::now_v7())
}

/// Whether a name is that of a file which is not whole yet: no object.
pub(super) fn is_unfinished(name: &[u8]) -> bool {
    name.starts_with(UNFINISHED.as_bytes())
}

/// The longest name that file systems take, in bytes.
const LONGEST_NAME_BYTES: usize = 255;

/// Folders that are known to be there; beyond this many they are looked at anew.
const MOST_KNOWN: usize = 20_000;

/// Which file a key names.
#[derive(Debug)]
pub(super) struct Names {
    root: PathBuf,
    /// Folders below the root that were seen to be folders, not links.
    known: Mutex<HashSet<PathBuf>>,
}

fn impossible(key: &str, why: &str) -> ObjectError {
    let what = format!("{key:?} cannot be a file: {why}");
    ObjectError::new(ObjectErrorKind::Impossible, key, what)
}

/// Why a key names no file, if it does not.
fn problem(key: &str) -> Option<&'static str> {
    if key.is_empty() {
        return Some("it is empty");
    }
    if key.ends_with('/') {
        return Some("it ends with `/`, as folders do");
    }
    if key.contains('\0') {
        return Some("it has a NUL in it");
    }
    let parts = key.split('/');
    let wrong = parts.map(|part| match part {
        "" => Some("a part of it between two `/` is empty"),
        "." | ".." => Some("a part of it is `.` or `..`"),
        part if is_unfinished(part.as_bytes()) => {
            Some("a part of it is a name that is kept for files which are not whole")
        }
        part if part.len() > LONGEST_NAME_BYTES => {
            Some("a part of it is longer than the 255 bytes of a file's name")
        }
        _ => None,
    });
    wrong.flatten().next()
}

impl Names {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            known: Mutex::default(),
        }
    }

    /// The file of a key, if it can be one.
    pub(super) fn place(&self, key: &str) -> Result<PathBuf, ObjectError> {
        match problem(key) {
            None => Ok(self.root.join(key)),
            Some(why) => Err(impossible(key, why)),
        }
    }

    /// The file of a key that is there; no folder above it is a link.
    pub(super) fn existing(&self, key: &str) -> Result<PathBuf, ObjectError> {
        let path = self.place(key)?;
        for folder in self.above(&path) {
            if self.is_known(&folder) {
                continue;
            }
            match folder.symlink_metadata() {
                Ok(found) if found.is_dir() => self.know(folder),
                Ok(found) if found.is_symlink() => return Err(link(key, &folder)),
                Ok(_) => return Err(gone(key)),
                Err(error) if is_absence(&error) => return Err(gone(key)),
                Err(error) => return Err(self.unseen(&error, key)),
            }
        }
        Ok(path)
    }

    /// The file of a key that is to be written: its folders are made.
    pub(super) fn make_room(&self, key: &str) -> Result<PathBuf, ObjectError> {
        let path = self.place(key)?;
        if !self.is_known(&self.root) {
            fs::create_dir_all(&self.root).map_err(|error| self.no_folder(&error, key))?;
            remove_abandoned(&self.root);
            self.know(self.root.clone());
        }
        for folder in self.above(&path) {
            self.make_one(folder, key)?;
        }
        Ok(path)
    }

    fn no_folder(&self, error: &io::Error, key: &str) -> ObjectError {
        let place = self.root.display().to_string();
        super::failed(error, key, "make a folder for", &place)
    }

    fn unseen(&self, error: &io::Error, key: &str) -> ObjectError {
        let place = self.root.display().to_string();
        super::failed(error, key, "look at a folder above", &place)
    }

    fn make_one(&self, folder: PathBuf, key: &str) -> Result<(), ObjectError> {
        if self.is_known(&folder) {
            return Ok(());
        }
        let made = fs::create_dir(&folder);
        let found = folder.symlink_metadata();
        match (made, found) {
            (made, Ok(found)) if found.is_dir() => {
                if made.is_err() {
                    remove_abandoned(&folder);
                }
                self.know(folder);
            }
            (_, Ok(found)) if found.is_symlink() => return Err(link(key, &folder)),
            (_, Ok(_)) => {
                let why = format!("{} is a file, not a folder", folder.display());
                return Err(impossible(key, &why));
            }
            (Err(error), Err(_)) => return Err(self.no_folder(&error, key)),
            (Ok(()), Err(_)) => return Err(gone(key)),
        }
        Ok(())
    }

    /// The folders from below the root down to the one that holds `path`.
    fn above(&self, path: &Path) -> Vec<PathBuf> {
        let mut above: Vec<PathBuf> = path
            .ancestors()
            .skip(1)
            .take_while(|folder| *folder != self.root)
            .map(Path::to_owned)
            .collect();
        above.reverse();
        above
    }

    fn is_known(&self, folder: &Path) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(folder)
    }

    fn know(&self, folder: PathBuf) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(folder);
    }

    /// Removes folders above a file as long as they are empty.
    pub(super) fn remove_empty_above(&self, path: &Path) {
        for folder in self.above(path).into_iter().rev() {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.remove(&folder);
            match fs::remove_dir(&folder) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => return,
            }
        }
    }
}

/// Removes what killed runs have left in a folder, where it is old enough to be
/// nobody's.
fn remove_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !is_unfinished(entry.file_name().as_bytes()) {
            continue;
        }
        let written = entry.metadata().and_then(|found| found.modified());
        let age = written.ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > ABANDONED) {
            // It is only garbage; the next run tries again.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn link(key: &str, folder: &Path) -> ObjectError {
    let why = format!(
        "{} is a symbolic link, which may lead out of the folder",
        folder.display()
    );
    impossible(key, &why)
}

/// Whether there is nothing: anything else may pass, and then it is there.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn gone(key: &str) -> ObjectError {
    ObjectError::new(
        ObjectErrorKind::Vanished,
        key,
        format!("{key:?} is not there"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_that_are_no_files_are_refused_by_name() {
        let names = Names::new(Path::new("/r"));
        let long = "x".repeat(256);
        for key in [
            "", "/a", "a//b", "a/", "../a", "a/..", "a/./b", "a\0b", &long,
        ] {
            let error = names.place(key).unwrap_err();
            assert_eq!(error.kind, ObjectErrorKind::Impossible, "{key:?}");
        }
        for key in ["a", "a b/c", "..a/b..", "ü/\u{1}", "a\\b", "-rf", ".hidden"] {
            assert_eq!(names.place(key).unwrap(), Path::new("/r").join(key));
        }
    }

    #[test]
    fn links_do_not_lead_out() {
        let home = tempfile::tempdir().unwrap();
        let (root, outside) = (home.path().join("root"), home.path().join("outside"));
        fs::create_dir_all(&root).unwrap();
        fs::create_dir_all(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("way")).unwrap();
        let names = Names::new(&root);
        for error in [
            names.make_room("way/x").unwrap_err(),
            names.existing("way/x").unwrap_err(),
        ] {
            assert!(error.message.contains("symbolic link"), "{error}");
        }
        fs::write(root.join("file"), "x").unwrap();
        let error = names.make_room("file/below").unwrap_err();
        assert!(error.message.contains("is a file"), "{error}");
    }

    #[test]
    fn what_cannot_be_looked_at_is_not_gone() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("file"), "x").unwrap();
        let names = Names::new(home.path());
        for key in ["none/a", "file/a", "file/a/b"] {
            let error = names.existing(key).unwrap_err();
            assert_eq!(error.kind, ObjectErrorKind::Vanished, "{error}");
        }
        // Longer than a path may be, which is so for root, too.
        let deep = "/x".repeat(2_100);
        let error = Names::new(Path::new(&deep)).existing("a/b").unwrap_err();
        assert_eq!(error.kind, ObjectErrorKind::Impossible, "{error}");
    }

    #[test]
    fn what_killed_runs_left_goes_when_it_is_old() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a");
        fs::create_dir_all(&folder).unwrap();
        let (old, new) = (
            folder.join(unfinished_name()),
            folder.join(unfinished_name()),
        );
        for path in [&old, &new] {
            fs::write(path, "x").unwrap();
        }
        let past = std::time::SystemTime::now() - 2 * ABANDONED;
        fs::File::options()
            .write(true)
            .open(&old)
            .unwrap()
            .set_modified(past)
            .unwrap();
        Names::new(home.path()).make_room("a/b").unwrap();
        assert!(!old.exists() && new.exists());
        assert!(
            Names::new(home.path())
                .place(&format!("a/{}", unfinished_name()))
                .is_err()
        );
    }
}
