//! The files of a folder in the order of their keys, in bounded memory.
//!
//! S3 lists by the bytes of whole keys: `a.b` comes before `a/b`. So among the
//! names of one folder a folder counts with its `/`. A folder with more names than
//! are held at once is read again for the next ones.

use std::collections::BinaryHeap;
use std::fs::{self, DirEntry, FileType};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::super::{KeyRange, Listed, ObjectError, Page, Refused};
use super::names::is_unfinished;
use super::{failed, is_our_own, modified_ns};

/// Names of one folder that are held at once.
const NAMES_HELD: usize = 65_536;

/// Objects of a page.
const PAGE_OBJECTS: usize = 1000;

/// Calls `give` for page after page of the files below `root`, in the order of
/// keys, until it says that it wants no more.
pub(super) fn walk(
    root: &Path,
    range: &KeyRange,
    give: &mut dyn FnMut(Result<Page, ObjectError>) -> bool,
) {
    walk_holding(root, range, NAMES_HELD, give);
}

fn walk_holding(
    root: &Path,
    range: &KeyRange,
    held: usize,
    give: &mut dyn FnMut(Result<Page, ObjectError>) -> bool,
) {
    let mut walk = Walk {
        range,
        held,
        page: Page::default(),
        give,
    };
    // A root that is not there has no files: a target begins so.
    if root.exists() && walk.folder(root, "").is_some() {
        let last = std::mem::take(&mut walk.page);
        if last != Page::default() {
            let _ = (walk.give)(Ok(last));
        }
    }
}

/// The names below a prefix that ends with `/`, or is empty; folders with a `/`.
pub(super) fn names_below(root: &Path, prefix: &str) -> Result<Vec<String>, ObjectError> {
    let folder = root.join(prefix);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let names = sorted(&folder, None, PAGE_OBJECTS);
    let names = names
        .map_err(|error| failed(&error, prefix, "list", &root.display().to_string()))?
        .0;
    let names = names.into_iter().filter_map(|name| {
        let known = String::from_utf8(name.order).ok()?;
        (!(prefix.is_empty() && is_our_own(known.as_bytes()))).then(|| format!("{prefix}{known}"))
    });
    Ok(names.collect())
}

struct Walk<'a> {
    range: &'a KeyRange,
    held: usize,
    page: Page,
    give: &'a mut dyn FnMut(Result<Page, ObjectError>) -> bool,
}

/// A name as it counts in the order of keys.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    /// With a `/` at its end where it is a folder.
    order: Vec<u8>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    File,
    Folder,
    Link,
    Other,
}

impl Name {
    fn of(entry: &DirEntry, found: FileType) -> Self {
        let mut order = entry.file_name().as_bytes().to_vec();
        let kind = if found.is_dir() {
            order.push(b'/');
            Kind::Folder
        } else if found.is_file() {
            Kind::File
        } else if found.is_symlink() {
            Kind::Link
        } else {
            Kind::Other
        };
        Self { order, kind }
    }
}

/// The first names of a folder after one, in order, and whether more follow.
fn sorted(folder: &Path, after: Option<&[u8]>, held: usize) -> std::io::Result<(Vec<Name>, bool)> {
    let mut first: BinaryHeap<Name> = BinaryHeap::new();
    let mut more = false;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = Name::of(&entry, entry.file_type()?);
        if is_unfinished(&name.order) {
            continue;
        }
        if after.is_some_and(|after| name.order.as_slice() <= after) {
            continue;
        }
        if first.len() == held {
            more = true;
            if first.peek().is_some_and(|last| last.order <= name.order) {
                continue;
            }
            first.pop();
        }
        first.push(name);
    }
    Ok((first.into_sorted_vec(), more))
}

impl Walk<'_> {
    /// `None`: no more is wanted.
    fn folder(&mut self, folder: &Path, prefix: &str) -> Option<()> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (names, more) = match sorted(folder, after.as_deref(), self.held) {
                Ok(found) => found,
                // It was there a moment ago; its files are gone with it.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(()),
                Err(error) => {
                    let error = failed(&error, prefix, "list", &folder.display().to_string());
                    let _ = (self.give)(Err(error));
                    return None;
                }
            };
            after = names.last().map(|last| last.order.clone());
            for name in names {
                self.name(folder, prefix, name)?;
            }
            if !more {
                return Some(());
            }
        }
    }

    fn name(&mut self, folder: &Path, prefix: &str, name: Name) -> Option<()> {
        let text = match String::from_utf8(name.order) {
            Ok(text) => text,
            Err(bytes) => {
                let lossy = String::from_utf8_lossy(bytes.as_bytes()).into_owned();
                let reason = "its name is not UTF-8, as keys must be".to_owned();
                return self.refuse(format!("{prefix}{lossy}"), reason);
            }
        };
        let key = format!("{prefix}{text}");
        match name.kind {
            Kind::Folder if prefix.is_empty() && is_our_own(text.as_bytes()) => Some(()),
            Kind::Folder if self.range.touches(&key) => self.folder(&folder.join(&text), &key),
            Kind::Folder => self.stop_beyond(&key),
            _ if !self.range.holds(&key) => self.stop_beyond(&key),
            Kind::File => self.file(folder.join(&text), key),
            Kind::Link => self.refuse(
                key,
                "it is a symbolic link, which is not followed".to_owned(),
            ),
            Kind::Other => self.refuse(key, "it is neither a file nor a folder".to_owned()),
        }
    }

    fn stop_beyond(&mut self, key: &str) -> Option<()> {
        if !self.range.is_beyond(key) {
            return Some(());
        }
        let last = std::mem::take(&mut self.page);
        if last != Page::default() {
            let _ = (self.give)(Ok(last));
        }
        None
    }

    fn file(&mut self, path: PathBuf, key: String) -> Option<()> {
        match path.symlink_metadata() {
            Ok(found) => self.page.objects.push(Listed {
                key,
                bytes: found.len(),
                modified_ns: modified_ns(&found),
                etag: None,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return self.refuse(key, error.to_string()),
        }
        self.give_when_full()
    }

    fn refuse(&mut self, key: String, reason: String) -> Option<()> {
        self.page.refused.push(Refused { key, reason });
        self.give_when_full()
    }

    fn give_when_full(&mut self) -> Option<()> {
        if self.page.objects.len() + self.page.refused.len() < PAGE_OBJECTS {
            return Some(());
        }
        (self.give)(Ok(std::mem::take(&mut self.page))).then_some(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn keys(root: &Path, range: &KeyRange, held: usize) -> Vec<String> {
        let mut keys = Vec::new();
        walk_holding(root, range, held, &mut |page| {
            keys.extend(page.unwrap().objects.into_iter().map(|object| object.key));
            true
        });
        keys
    }

    fn make(root: &Path, key: &str) -> bool {
        let path = root.join(key);
        fs::create_dir_all(path.parent().unwrap()).is_ok()
            && !path.is_dir()
            && fs::write(path, key).is_ok()
    }

    #[test]
    fn a_dot_comes_before_a_slash() {
        let home = tempfile::tempdir().unwrap();
        for key in ["a/b", "a.b", "a/b-c", "a0", "b", "_highwater/x", "ü", "a!"] {
            make(home.path(), key);
        }
        let found = keys(home.path(), &KeyRange::all(), NAMES_HELD);
        assert_eq!(found, ["a!", "a.b", "a/b", "a/b-c", "a0", "b", "ü"]);
    }

    #[test]
    fn what_is_no_file_is_reported() {
        use std::os::unix::ffi::OsStrExt as _;
        let home = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", home.path().join("way")).unwrap();
        fs::write(home.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();
        let mut refused = Vec::new();
        walk(home.path(), &KeyRange::all(), &mut |page| {
            refused.extend(page.unwrap().refused);
            true
        });
        let why: Vec<_> = refused.iter().map(|one| one.reason.as_str()).collect();
        assert!(
            why[0].contains("symbolic link") && why[1].contains("UTF-8"),
            "{why:?}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn the_order_is_that_of_whole_keys(
            wanted in proptest::collection::btree_set("[a.0/-]{1,6}", 0..25),
            mut cuts in proptest::collection::vec("[a.0/-]{1,4}", 0..3),
            held in 1_usize..5,
        ) {
            let home = tempfile::tempdir().unwrap();
            for key in &wanted {
                if key.split('/').all(|part| !["", ".", ".."].contains(&part)) {
                    make(home.path(), key);
                }
            }
            let all = keys(home.path(), &KeyRange::all(), NAMES_HELD);
            let mut sorted = all.clone();
            sorted.sort();
            prop_assert_eq!(&all, &sorted);
            cuts.sort();
            cuts.dedup();
            let by_range: Vec<String> = KeyRange::cut(&cuts)
                .iter()
                .flat_map(|range| keys(home.path(), range, held))
                .collect();
            prop_assert_eq!(by_range, all);
        }
    }
}
