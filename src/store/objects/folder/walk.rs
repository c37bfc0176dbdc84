//! The files of a folder in the order of their keys, in bounded memory.
//!
//! S3 lists by the bytes of whole keys: `a.b` comes before `a/b`. So among the
//! names of one folder a folder counts with its `/`. A folder with more names than
//! are held at once is read again for the next ones.
//!
//! What is there and cannot be listed is refused by name, never passed over: who
//! compares must know that it is not gone.

use std::collections::BinaryHeap;
use std::fs::{DirEntry, FileType};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::super::{KeyRange, Listed, ObjectError, Page, Refused};
use super::look::{Disk, Look};
use super::names::is_unfinished;
use super::root::Root;
use super::{is_our_own, modified_ns};

/// Names of one folder that are held at once.
const NAMES_HELD: usize = 65_536;

/// Objects of a page.
const PAGE_OBJECTS: usize = 1000;

/// Calls `give` for page after page of the files below `root`, in the order of
/// keys, until it says that it wants no more.
pub(super) fn walk(
    root: &Root,
    range: &KeyRange,
    give: &mut dyn FnMut(Result<Page, ObjectError>) -> bool,
) {
    walk_holding(&Disk, root, range, NAMES_HELD, give);
}

fn walk_holding(
    look: &dyn Look,
    root: &Root,
    range: &KeyRange,
    held: usize,
    give: &mut dyn FnMut(Result<Page, ObjectError>) -> bool,
) {
    let mut walk = Walk {
        look,
        root,
        range,
        held,
        page: Page::default(),
        give,
    };
    match root.is_there() {
        Ok(true) => {
            if walk.folder(root.path(), "").is_some() {
                walk.give_last();
            }
        }
        // It has no files: a target begins so.
        Ok(false) => {}
        Err(error) => {
            let _ = walk.fail(error);
        }
    }
}

/// The names below a prefix that ends with `/`, or is empty; folders with a `/`.
pub(super) fn names_below(root: &Root, prefix: &str) -> Result<Vec<String>, ObjectError> {
    names_seen(&Disk, root, prefix)
}

fn names_seen(look: &dyn Look, root: &Root, prefix: &str) -> Result<Vec<String>, ObjectError> {
    if !root.is_there()? {
        return Ok(Vec::new());
    }
    let found = match sorted(look, &root.path().join(prefix), None, PAGE_OBJECTS) {
        Ok(found) => found,
        // It divides no work; the walk tells of it.
        Err(_) if !prefix.is_empty() => None,
        Err(error) => return Err(root.unlisted(&error)),
    };
    let (names, _) = found.unwrap_or_default();
    let names = names.into_iter().filter_map(|name| {
        let known = String::from_utf8(name.order).ok()?;
        (!(prefix.is_empty() && is_our_own(known.as_bytes()))).then(|| format!("{prefix}{known}"))
    });
    Ok(names.collect())
}

struct Walk<'a> {
    look: &'a dyn Look,
    root: &'a Root,
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
    /// It may be any of them: why that cannot be told.
    Unknown(io::ErrorKind),
}

impl Name {
    fn of(entry: &DirEntry, found: io::Result<FileType>) -> Self {
        let mut order = entry.file_name().as_bytes().to_vec();
        let kind = match found {
            Ok(found) if found.is_dir() => {
                order.push(b'/');
                Kind::Folder
            }
            Ok(found) if found.is_file() => Kind::File,
            Ok(found) if found.is_symlink() => Kind::Link,
            Ok(_) => Kind::Other,
            Err(error) => Kind::Unknown(error.kind()),
        };
        Self { order, kind }
    }
}

/// The first names of a folder after one, in order, and whether more follow; nothing
/// where the folder is not there.
fn sorted(
    look: &dyn Look,
    folder: &Path,
    after: Option<&[u8]>,
    held: usize,
) -> io::Result<Option<(Vec<Name>, bool)>> {
    let entries = match look.read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    let mut first: BinaryHeap<Name> = BinaryHeap::new();
    let mut more = false;
    for entry in entries {
        let entry = entry?;
        let name = match look.file_type(&entry) {
            // It has gone since it was named; the others have not.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => Name::of(&entry, found),
        };
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
    Ok(Some((first.into_sorted_vec(), more)))
}

impl Walk<'_> {
    /// `None`: no more is wanted.
    fn folder(&mut self, folder: &Path, prefix: &str) -> Option<()> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (names, more) = match sorted(self.look, folder, after.as_deref(), self.held) {
                Ok(Some(found)) => found,
                Ok(None) => return self.gone(prefix),
                Err(error) => return self.unlisted(prefix, &error),
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

    /// A folder that was there a moment ago: its files are gone with it. If it is the
    /// root, nothing is known.
    fn gone(&mut self, prefix: &str) -> Option<()> {
        match prefix {
            "" => self.fail(self.root.gone()),
            _ => Some(()),
        }
    }

    /// A folder that cannot be read. Each range that has a part of it tells: none knows
    /// whether another one could read its own.
    fn unlisted(&mut self, prefix: &str, error: &io::Error) -> Option<()> {
        match prefix {
            "" => self.fail(self.root.unlisted(error)),
            _ => self.refuse(Refused::unreadable(prefix.to_owned(), error)),
        }
    }

    fn name(&mut self, folder: &Path, prefix: &str, name: Name) -> Option<()> {
        let text = match String::from_utf8(name.order) {
            Ok(text) => text,
            Err(error) => return self.no_text(prefix, error.as_bytes()),
        };
        let key = format!("{prefix}{text}");
        match name.kind {
            Kind::Folder if prefix.is_empty() && is_our_own(text.as_bytes()) => Some(()),
            Kind::Folder if self.reaches_into(&key) => self.folder(&folder.join(&text), &key),
            Kind::File if self.range.holds(&key) => self.file(folder.join(&text), key),
            Kind::Folder | Kind::File => self.stop_beyond(&key),
            Kind::Link => self.no_object(key, "it is a symbolic link, which is not followed"),
            Kind::Other => self.no_object(key, "it is neither a file nor a folder"),
            Kind::Unknown(why) => self.unknown(key, why),
        }
    }

    /// Whether the range may have files of a folder. One that ends with the folder's
    /// own name has none: so only one range tells of a folder at which keys are cut.
    fn reaches_into(&self, folder: &str) -> bool {
        self.range.touches(folder) && self.range.upto.as_deref() != Some(folder)
    }

    /// A name that is no text is no key. By its bytes it is in one range, which tells.
    fn no_text(&mut self, prefix: &str, name: &[u8]) -> Option<()> {
        let bytes = [prefix.as_bytes(), name].concat();
        let upto = self.range.upto.as_deref().map(str::as_bytes);
        let is_beyond = upto.is_some_and(|upto| bytes.as_slice() > upto);
        if is_beyond || bytes.as_slice() <= self.range.after.as_bytes() {
            return Some(());
        }
        self.refuse(Refused {
            key: format!("{prefix}{}", String::from_utf8_lossy(name)),
            reason: "its name is not UTF-8, as keys must be".to_owned(),
        })
    }

    /// A name that is known to be no object. A link may have been a folder before, whose
    /// files are elsewhere now and not gone; of their keys the next range may have some.
    fn no_object(&mut self, key: String, why: &str) -> Option<()> {
        if self.range.holds(&key) {
            let reason = why.to_owned();
            return self.refuse(Refused { key, reason });
        }
        match self.reaches_into(&format!("{key}/")) {
            true => self.refuse(Refused::told_elsewhere(key)),
            false => self.stop_beyond(&key),
        }
    }

    /// A name that may be that of a file, or of a folder.
    fn unknown(&mut self, key: String, why: io::ErrorKind) -> Option<()> {
        match self.range.holds(&key) || self.reaches_into(&format!("{key}/")) {
            true => self.refuse(Refused::unreadable(key, &io::Error::from(why))),
            false => self.stop_beyond(&key),
        }
    }

    fn stop_beyond(&mut self, key: &str) -> Option<()> {
        if !self.range.is_beyond(key) {
            return Some(());
        }
        self.give_last();
        None
    }

    fn file(&mut self, path: PathBuf, key: String) -> Option<()> {
        match self.look.metadata(&path) {
            Ok(found) => self.page.objects.push(Listed {
                key,
                bytes: found.len(),
                modified_ns: modified_ns(&found),
                etag: None,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return self.refuse(Refused::unreadable(key, &error)),
        }
        self.give_when_full()
    }

    fn refuse(&mut self, refused: Refused) -> Option<()> {
        self.page.refused.push(refused);
        self.give_when_full()
    }

    fn fail(&mut self, error: ObjectError) -> Option<()> {
        let _ = (self.give)(Err(error));
        None
    }

    fn give_last(&mut self) {
        let last = std::mem::take(&mut self.page);
        if last != Page::default() {
            let _ = (self.give)(Ok(last));
        }
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
    use std::fs;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    fn keys(root: &Path, range: &KeyRange, held: usize) -> Vec<String> {
        let mut keys = Vec::new();
        walk_holding(&Disk, &Root::new(root), range, held, &mut |page| {
            keys.extend(page.unwrap().objects.into_iter().map(|object| object.key));
            true
        });
        keys
    }

    /// What fails for a name, and how.
    type Fault = Option<(&'static str, io::ErrorKind)>;

    /// A file system of which something cannot be looked at.
    #[derive(Default)]
    struct Faulty {
        folder: Fault,
        kind: Fault,
        file: Fault,
    }

    fn unless<T>(fault: Fault, path: &Path, found: io::Result<T>) -> io::Result<T> {
        match fault {
            Some((name, kind)) if path.ends_with(name) => Err(kind.into()),
            _ => found,
        }
    }

    impl Look for Faulty {
        fn read_dir(&self, folder: &Path) -> io::Result<fs::ReadDir> {
            unless(self.folder, folder, Disk.read_dir(folder))
        }

        fn file_type(&self, entry: &DirEntry) -> io::Result<FileType> {
            unless(self.kind, &entry.path(), Disk.file_type(entry))
        }

        fn metadata(&self, path: &Path) -> io::Result<fs::Metadata> {
            unless(self.file, path, Disk.metadata(path))
        }
    }

    /// Keys, and what was refused.
    fn listed(look: &dyn Look, root: &Path, range: &KeyRange) -> (Vec<String>, Vec<Refused>) {
        let (mut keys, mut refused) = (Vec::new(), Vec::new());
        walk_holding(look, &Root::new(root), range, NAMES_HELD, &mut |page| {
            let page = page.unwrap();
            keys.extend(page.objects.into_iter().map(|object| object.key));
            refused.extend(page.refused);
            true
        });
        (keys, refused)
    }

    /// What was refused by each range.
    fn refused_by(look: &dyn Look, root: &Path, cuts: &[&str]) -> Vec<Vec<Refused>> {
        let cuts: Vec<String> = cuts.iter().map(|cut| (*cut).to_owned()).collect();
        let ranges = KeyRange::cut(&cuts);
        let refused = ranges.iter().map(|range| listed(look, root, range).1);
        refused.collect()
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
        let home = tempfile::tempdir().unwrap();
        symlink("/etc", home.path().join("way")).unwrap();
        fs::write(home.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();
        let (_, refused) = listed(&Disk, home.path(), &KeyRange::all());
        let why: Vec<_> = refused.iter().map(|one| one.reason.as_str()).collect();
        assert!(
            why[0].contains("symbolic link") && why[1].contains("UTF-8"),
            "{why:?}"
        );
        // However the keys are cut, each is told once. Its name, made a text, would be
        // in another range than its bytes are.
        let mut cut = refused_by(&Disk, home.path(), &["a/", "way", "🦀/"]).concat();
        cut.retain(|one| !one.is_told_elsewhere());
        assert_eq!(cut, refused);
    }

    #[test]
    fn one_name_that_goes_takes_no_other_with_it() {
        let home = tempfile::tempdir().unwrap();
        for key in ["a/1", "a/2", "b"] {
            make(home.path(), key);
        }
        let look = Faulty {
            kind: Some(("1", io::ErrorKind::NotFound)),
            ..Faulty::default()
        };
        let (keys, refused) = listed(&look, home.path(), &KeyRange::all());
        assert_eq!(keys, ["a/2", "b"]);
        assert!(refused.is_empty(), "{refused:?}");
    }

    #[test]
    fn a_folder_that_goes_is_gone_with_its_files() {
        let home = tempfile::tempdir().unwrap();
        for key in ["a/1", "b"] {
            make(home.path(), key);
        }
        let look = Faulty {
            folder: Some(("a", io::ErrorKind::NotFound)),
            ..Faulty::default()
        };
        let (keys, refused) = listed(&look, home.path(), &KeyRange::all());
        assert_eq!((keys, refused), (vec!["b".to_owned()], Vec::new()));
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_refused_and_the_rest_is_listed() {
        let home = tempfile::tempdir().unwrap();
        for key in ["a", "locked/1", "z"] {
            make(home.path(), key);
        }
        let look = Faulty {
            folder: Some(("locked", io::ErrorKind::PermissionDenied)),
            ..Faulty::default()
        };
        let (keys, refused) = listed(&look, home.path(), &KeyRange::all());
        assert_eq!(keys, ["a", "z"]);
        assert!(refused[0].is_unreadable(), "{refused:?}");
        assert_eq!((refused.len(), refused[0].key.as_str()), (1, "locked/"));
        let root = Root::new(home.path());
        let names = names_seen(&look, &root, "").unwrap();
        assert_eq!(names, ["a", "locked/", "z"]);
        assert!(names_seen(&look, &root, "locked/").unwrap().is_empty());
        // Keys are cut at names of folders: there it is told once. Where they are cut
        // inside, nobody knows what the other part is.
        let told = |cuts: &[&str]| -> Vec<usize> {
            let refused = refused_by(&look, home.path(), cuts);
            refused.iter().map(Vec::len).collect()
        };
        assert_eq!(told(&["locked/"]), [0, 1]);
        assert_eq!(told(&["locked/1", "z"]), [1, 1, 0]);
    }

    #[test]
    fn a_root_that_cannot_be_read_is_not_empty() {
        let home = tempfile::tempdir().unwrap();
        make(home.path(), "root/a");
        let root = Root::new(&home.path().join("root"));
        let given = |look: &dyn Look, root: &Root| {
            let mut given = Vec::new();
            walk_holding(look, root, &KeyRange::all(), NAMES_HELD, &mut |page| {
                given.push(page.is_ok());
                true
            });
            given
        };
        for kind in [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied] {
            let look = Faulty {
                folder: Some(("root", kind)),
                ..Faulty::default()
            };
            assert_eq!(given(&look, &root), [false], "{kind}");
        }
        assert_eq!(given(&Disk, &root), [true]);
        fs::remove_dir_all(root.path()).unwrap();
        assert_eq!(given(&Disk, &root), [false]);
        // Of what was never there nothing is missing.
        assert_eq!(given(&Disk, &Root::new(root.path())), [false; 0]);
    }

    #[test]
    fn a_name_that_cannot_be_looked_at_is_refused() {
        let home = tempfile::tempdir().unwrap();
        for key in ["a", "b", "b-c/d"] {
            make(home.path(), key);
        }
        let denied = Some(("b", io::ErrorKind::PermissionDenied));
        let (file, kind) = (
            Faulty {
                file: denied,
                ..Faulty::default()
            },
            Faulty {
                kind: denied,
                ..Faulty::default()
            },
        );
        for look in [&file, &kind] {
            let (keys, refused) = listed(look, home.path(), &KeyRange::all());
            assert_eq!(refused.len(), 1);
            assert_eq!(keys, ["a", "b-c/d"]);
            assert!(refused[0].is_unreadable() && refused[0].key == "b");
        }
        // What may be a folder may have keys in the next range, too.
        let told = |look: &dyn Look| -> Vec<usize> {
            let refused = refused_by(look, home.path(), &["b-c/"]);
            refused.iter().map(Vec::len).collect()
        };
        assert_eq!((told(&file), told(&kind)), (vec![1, 0], vec![1, 1]));
    }

    #[test]
    fn a_link_is_told_once_and_known_wherever_keys_may_lie_below_it() {
        let home = tempfile::tempdir().unwrap();
        make(home.path(), "b-c/d");
        symlink("/etc", home.path().join("b")).unwrap();
        // `b`, `b-c/`, `b/...` is the order of keys.
        let refused = refused_by(&Disk, home.path(), &["b-c/", "b0"]);
        let is_told = |one: &Refused| (one.key.clone(), !one.is_told_elsewhere());
        let told = refused.iter().map(|range| range.iter().map(is_told));
        let told: Vec<Vec<_>> = told.map(Iterator::collect).collect();
        let b = |told| vec![("b".to_owned(), told)];
        assert_eq!(told, [b(true), b(false), Vec::new()]);
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
