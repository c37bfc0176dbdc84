//! The files of one local folder, as objects.
//!
//! Symbolic links are not followed, in either direction: a link in a source is
//! reported, and nothing is written through one, so that nothing leaves the
//! folder. Files are written under a name of ours and renamed when whole.
//!
//! | file | what it holds |
//! |---|---|
//! | `root` | the folder itself, and whether it is still there |
//! | `walk` | its files in the order of keys |
//! | `look` | what a walk asks the system for |
//! | `refused` | what is there and cannot be listed |
//! | `names` | from keys to paths, and names of files that are not whole |
//! | `parts` | a large file, written in parts |
//! | `direct` | writing past the system's cache |
//! | `durable` | waiting until the disk has what was written |
//! | `turns` | what blocks, done by few threads |

mod direct;
mod durable;
mod look;
mod names;
mod parts;
mod refused;
mod root;
mod turns;
mod walk;

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::HeaderMap;
use tokio::sync::mpsc;

use super::{
    BodyBuffer, Buffers, Describe, Got, KeyRange, Listed, OUR_OWN, ObjectError, ObjectErrorKind,
    Objects, Pages, Parts, Written,
};
use durable::Durable;
use names::Names;
use parts::FileParts;
use root::Root;
use turns::Turns;

/// Pages that are read ahead.
const PAGES_AHEAD: usize = 2;

/// What is read or written of files of at most so many bytes is soon over: others can
/// wait for it.
const SMALL_BYTES: u64 = 1 << 20;

/// One local folder.
#[derive(Debug, Clone)]
pub struct FolderObjects {
    shared: Arc<Shared>,
    turns: Turns,
}

#[derive(Debug)]
struct Shared {
    root: Root,
    url: String,
    names: Names,
    durable: Durable,
}

impl FolderObjects {
    /// The files below `root`, which need not exist yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            shared: Arc::new(Shared {
                root: Root::new(root),
                url: format!("file:{}", root.display()),
                names: Names::new(root),
                durable: Durable::default(),
            }),
            turns: Turns::default(),
        }
    }

    /// Runs what blocks on a thread of its own.
    async fn blocking<T: Send + 'static>(
        &self,
        key: &str,
        work: impl FnOnce(&Shared) -> Result<T, ObjectError> + Send + 'static,
    ) -> Result<T, ObjectError> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || work(&shared)).await;
        done.unwrap_or_else(|_| Err(ended_early(key)))
    }

    /// Reads or writes so many bytes of a file: of a small one when its turn comes.
    async fn in_turn<T: Send + 'static>(
        &self,
        key: &str,
        bytes: u64,
        work: impl FnOnce(&Shared) -> Result<T, ObjectError> + Send + 'static,
    ) -> Result<T, ObjectError> {
        if bytes > SMALL_BYTES {
            return self.blocking(key, work).await;
        }
        let shared = Arc::clone(&self.shared);
        let done = self.turns.run(move || work(&shared)).await;
        done.unwrap_or_else(|| Err(ended_early(key)))
    }
}

/// The thread that worked on an object has panicked.
fn ended_early(key: &str) -> ObjectError {
    let what = format!("the work on {key:?} ended early; please report this");
    ObjectError::new(ObjectErrorKind::Failed, key, what)
}

/// Says what an I/O error means for an object.
fn failed(error: &io::Error, key: &str, doing: &str, url: &str) -> ObjectError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ObjectErrorKind::Vanished,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ObjectErrorKind::Refused
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ObjectErrorKind::Full,
        io::ErrorKind::InvalidFilename
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::DirectoryNotEmpty => ObjectErrorKind::Impossible,
        _ => ObjectErrorKind::Failed,
    };
    ObjectError::new(
        kind,
        key,
        format!("cannot {doing} {key:?} of {url}: {error}"),
    )
}

fn modified_ns(found: &fs::Metadata) -> i64 {
    found
        .mtime()
        .saturating_mul(1_000_000_000)
        .saturating_add(found.mtime_nsec())
}

impl Shared {
    fn failed(&self, error: &io::Error, key: &str, doing: &str) -> ObjectError {
        failed(error, key, doing, &self.url)
    }

    /// Opens the file of a key, which must be the one that was listed.
    fn open_listed(&self, object: &Listed) -> Result<File, ObjectError> {
        let key = object.key.as_str();
        let path = self.names.existing(key)?;
        let opened = File::options()
            .read(true)
            .custom_flags(NO_FOLLOW)
            .open(path)
            .map_err(|error| self.failed(&error, key, "read"))?;
        self.check_listed(&opened, object)?;
        Ok(opened)
    }

    fn check_listed(&self, file: &File, object: &Listed) -> Result<(), ObjectError> {
        let key = object.key.as_str();
        let now = file
            .metadata()
            .map_err(|error| self.failed(&error, key, "read"))?;
        if now.len() == object.bytes && modified_ns(&now) == object.modified_ns {
            return Ok(());
        }
        let what = format!("{key:?} of {} has changed since it was listed", self.url);
        Err(ObjectError::new(ObjectErrorKind::Changed, key, what))
    }

    fn read(
        &self,
        object: &Listed,
        range: Range<u64>,
        mut body: BodyBuffer,
    ) -> Result<Bytes, ObjectError> {
        let key = object.key.as_str();
        let mut file = self.open_listed(object)?;
        let read = match range.start {
            0 => Ok(0),
            start => file.seek(SeekFrom::Start(start)),
        };
        let read = read.and_then(|_| {
            (&mut file)
                .take(range.end - range.start)
                .read_to_end(body.end())
        });
        read.map_err(|error| self.failed(&error, key, "read"))?;
        // Who writes while we read leaves a trace: the time of his writing.
        self.check_listed(&file, object)?;
        if body.len() as u64 != range.end - range.start {
            let what = format!("{key:?} of {} is shorter than it was listed", self.url);
            return Err(ObjectError::new(ObjectErrorKind::Changed, key, what));
        }
        Ok(body.into_bytes())
    }

    fn put(&self, key: &str, body: &[u8], told: &Describe) -> Result<Written, ObjectError> {
        let unfinished = self.unfinished(key)?;
        let path = unfinished.path.clone();
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| self.failed(&error, key, "write"))?;
        file.write_all(body)
            .map_err(|error| self.failed(&error, key, "write"))?;
        self.finish(key, &file, unfinished, told.modified_ns)
    }

    /// A name for a file that is not whole yet.
    fn unfinished(&self, key: &str) -> Result<Unfinished, ObjectError> {
        // Beside its place: a file system puts files of a folder near each other,
        // and a rename cannot lead to another file system.
        let place = self.names.make_room(key)?;
        self.root.made();
        self.durable
            .begin(self.root.path())
            .map_err(|error| self.failed(&error, key, "write"))?;
        Ok(Unfinished {
            path: place.with_file_name(names::unfinished_name()),
            kept: false,
        })
    }

    /// Gives a whole file its time and its name.
    fn finish(
        &self,
        key: &str,
        file: &File,
        mut unfinished: Unfinished,
        modified: Option<i64>,
    ) -> Result<Written, ObjectError> {
        let fail = |error: io::Error| self.failed(&error, key, "write");
        if let Some(time) = modified.and_then(time_of) {
            file.set_modified(time).map_err(fail)?;
        }
        let written = modified_ns(&file.metadata().map_err(fail)?);
        let place = self.names.place(key)?;
        fs::rename(&unfinished.path, place).map_err(fail)?;
        unfinished.kept = true;
        Ok(Written {
            etag: None,
            modified_ns: Some(written),
        })
    }

    fn remove(&self, key: &str) -> Result<(), ObjectError> {
        let path = self.names.existing(key)?;
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(self.failed(&error, key, "remove")),
        }
        // Folders are no objects: an empty one would stay for ever.
        self.names.remove_empty_above(&path);
        Ok(())
    }
}

/// A file that goes away unless it was finished.
#[derive(Debug)]
struct Unfinished {
    path: PathBuf,
    kept: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.kept {
            // It is only garbage, and removed with those of killed runs.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// `O_NOFOLLOW` of this system.
#[allow(clippy::cast_possible_wrap)] // A bit mask.
const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

fn time_of(ns: i64) -> Option<SystemTime> {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    match ns < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(distance),
        false => SystemTime::UNIX_EPOCH.checked_add(distance),
    }
}

#[async_trait]
impl Objects for FolderObjects {
    fn url(&self) -> &str {
        &self.shared.url
    }

    fn pages(&self, range: KeyRange) -> Pages {
        let (sender, pages) = mpsc::channel(PAGES_AHEAD);
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || {
            walk::walk(&shared.root, &range, &mut |page| {
                sender.blocking_send(page).is_ok()
            });
        });
        stream::unfold(pages, |mut pages| async move {
            Some((pages.recv().await?, pages))
        })
        .boxed()
    }

    async fn names_below(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let prefix = prefix.to_owned();
        let own = prefix.clone();
        self.blocking(&own, move |shared| walk::names_below(&shared.root, &prefix))
            .await
    }

    async fn get(&self, object: &Listed, range: Option<Range<u64>>) -> Result<Got, ObjectError> {
        self.get_within(object, range, &Buffers::used_once()).await
    }

    async fn get_within(
        &self,
        object: &Listed,
        range: Option<Range<u64>>,
        buffers: &Buffers,
    ) -> Result<Got, ObjectError> {
        let range = range.unwrap_or(0..object.bytes);
        let bytes = range.end - range.start;
        let listed = object.clone();
        // Allocated by one of the few threads of tasks: each of the many that wait for
        // disks would keep what is freed elsewhere.
        let buffer = buffers.take(usize::try_from(bytes).unwrap_or(usize::MAX));
        let read = move |shared: &Shared| shared.read(&listed, range, buffer);
        let body = self.in_turn(&object.key, bytes, read).await?;
        Ok(Got {
            bytes,
            etag: None,
            attributes: HeaderMap::new(),
            tags: 0,
            etag_is_no_md5: true,
            checksum: None,
            body: stream::iter([Ok(body)]).boxed(),
        })
    }

    async fn head(&self, key: &str) -> Result<Listed, ObjectError> {
        let name = key.to_owned();
        self.blocking(key, move |shared| {
            let found = shared.names.existing(&name)?.symlink_metadata();
            let found = found.map_err(|error| shared.failed(&error, &name, "look at"))?;
            Ok(Listed {
                bytes: found.len(),
                modified_ns: modified_ns(&found),
                etag: None,
                key: name,
            })
        })
        .await
    }

    async fn put(&self, key: &str, body: Bytes, told: &Describe) -> Result<Written, ObjectError> {
        let (name, told) = (key.to_owned(), told.clone());
        self.in_turn(key, body.len() as u64, move |shared| {
            shared.put(&name, &body, &told)
        })
        .await
    }

    async fn begin(
        &self,
        key: &str,
        bytes: u64,
        told: &Describe,
    ) -> Result<Box<dyn Parts>, ObjectError> {
        let (name, modified) = (key.to_owned(), told.modified_ns);
        let shared = Arc::clone(&self.shared);
        let begun = self.blocking(key, move |_| {
            FileParts::begin(shared, name, bytes, modified)
        });
        Ok(Box::new(begun.await?))
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<(String, ObjectError)>, ObjectError> {
        let keys = keys.to_vec();
        self.blocking("", move |shared| {
            let each = keys.into_iter().filter_map(|key| {
                let error = shared.remove(&key).err()?;
                Some((key, error))
            });
            Ok(each.collect())
        })
        .await
    }

    fn keeps_times(&self) -> bool {
        true
    }

    async fn make_durable(&self) -> Result<(), ObjectError> {
        self.blocking("", |shared| {
            // Where nothing was written there may be no folder.
            if !shared.root.is_there()? {
                return Ok(());
            }
            let told = |error: &io::Error| shared.failed(error, "", "write");
            shared.durable.wait(shared.root.path(), told)
        })
        .await
    }

    fn largest_put_bytes(&self) -> u64 {
        u64::MAX
    }

    fn parts_limits(&self) -> (Range<u64>, u64) {
        (1 << 20..1 << 30, u64::from(u32::MAX))
    }
}

/// Whether a name at the root is our own.
fn is_our_own(name: &[u8]) -> bool {
    name == OUR_OWN.as_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn what_was_written_to_a_folder_that_is_gone_is_not_durable() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("root");
        let objects = FolderObjects::new(&root);
        // Nothing was written: nothing is missing.
        objects.make_durable().await.unwrap();
        let body = Bytes::from_static(b"x");
        objects.put("a", body, &Describe::default()).await.unwrap();
        fs::remove_dir_all(&root).unwrap();
        let error = objects.make_durable().await.unwrap_err();
        assert_eq!(error.kind, ObjectErrorKind::NoSuchPlace, "{error}");
    }
}
