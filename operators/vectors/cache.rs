//! [`VectorCache`]: who has a vector, who makes it, who waits for it.
//!
//! All that is decided about a hash is decided here, under one lock: whoever asks first
//! for a vector that nobody has is to make it, whoever asks later waits for him. A worker
//! makes what it has taken upon itself before it waits for others, so that no two wait
//! for each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use highwater::cancel::Cancel;
use highwater::ledger::{DataFile, LoggedFile};
use object_store::ObjectStore;

use super::index::{ENTRY_BYTES, Index, Place, RECENT_BYTES};
use super::room::Room;
use crate::lake::LakeReadError;

/// The first 128 bits of the SHA-256 of a text.
pub type Hash = u128;

/// A vector.
pub(super) type Vector = Arc<[f32]>;

/// What is known of a hash.
#[derive(Debug, Clone)]
pub(super) enum Known {
    /// The vector itself.
    Here(Vector),
    /// It is probably in the table.
    Stored(Place),
    /// Whoever asked has to make it now, and to tell.
    Yours,
    /// Another is making it.
    Theirs,
    /// There will be none: why.
    Refused(Arc<str>),
}

/// A text whose vector is not in the table yet.
#[derive(Debug)]
enum Fresh {
    Claimed,
    Made(Vector),
    Refused(Arc<str>),
}

/// What a cache may take, and for how long.
#[derive(Debug, Clone)]
pub struct CacheLimits {
    /// What the index of the table may take, in bytes.
    pub index_bytes: u64,
    /// What vectors may take that the table does not have yet, in bytes.
    pub fresh_bytes: u64,
    /// Asks to end: from then on nothing more is asked of a service.
    pub until: Cancel,
}

#[derive(Debug)]
struct Inner {
    fresh: HashMap<Hash, Fresh>,
    room: Room,
    /// Something that was made was not published: room is not waited for any more.
    has_lost: bool,
    index: Index,
    /// `None` for one that turned out not to be readable.
    files: Vec<Option<LoggedFile>>,
    unreadable: u64,
}

impl Inner {
    fn forget_made(&mut self) {
        self.fresh
            .retain(|_, fresh| !matches!(fresh, Fresh::Made(_)));
        self.room.clear();
    }
}

/// The vectors of one model. Shared by all workers of a process and by all tables of
/// chunks of a lake.
#[derive(Debug)]
pub struct VectorCache {
    pub(super) folder: Arc<dyn ObjectStore>,
    pub(super) model: String,
    until: Cancel,
    inner: Mutex<Inner>,
}

impl VectorCache {
    /// Of the table in `folder`, of whose `files` it learns the names. It is only a cache:
    /// what is missing or damaged is told and left out, and its texts are embedded again.
    ///
    /// # Errors
    /// A file cannot be read for a reason that passes.
    pub async fn open(
        folder: Arc<dyn ObjectStore>,
        mut files: Vec<LoggedFile>,
        model: &str,
        limits: CacheLimits,
    ) -> Result<Self, LakeReadError> {
        let inner = Inner {
            fresh: HashMap::new(),
            room: Room::of(limits.fresh_bytes),
            has_lost: false,
            index: Index::within(limits.index_bytes),
            files: Vec::new(),
            unreadable: 0,
        };
        let cache = Self {
            folder,
            model: model.to_owned(),
            until: limits.until,
            inner: Mutex::new(inner),
        };
        // Names of files grow with time, and what is learned last is found first: what
        // was made again, because an older file is damaged, is not made once more.
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut names = cache.names(files);
        while let Some((file, hashes)) = names.next().await {
            match hashes {
                Ok(hashes) => cache.add(file, hashes),
                Err(error) if error.passes => return Err(error),
                Err(error) => cache.tell_unreadable(&error),
            }
        }
        drop(names);
        Ok(cache)
    }

    /// What it needs to know so many vectors, in bytes.
    #[must_use]
    pub fn index_bytes(vectors: u64) -> u64 {
        RECENT_BYTES + vectors * ENTRY_BYTES
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// How many vectors of the table it knows.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.lock().index.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many it does not know, because there was no memory for them: such a text is
    /// embedded again when it comes again.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.lock().index.left_out()
    }

    /// How many files of the table could not be read.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.lock().unreadable
    }

    /// Files were published: what is in them need not be kept in memory any more.
    ///
    /// # Errors
    /// A file cannot be read.
    pub async fn published(&self, files: &[DataFile]) -> Result<(), LakeReadError> {
        let files = files.iter().map(|file| LoggedFile {
            path: file.path.clone(),
            bytes: file.bytes,
            sha256: Some(file.sha256.clone()),
            stats: None,
            partition: file.partition.clone(),
            order: None,
            deleted_rows: 0,
        });
        let mut names = self.names(files.collect());
        while let Some((file, hashes)) = names.next().await {
            self.add(file, hashes?);
        }
        Ok(())
    }

    /// A file has vectors of these.
    fn add(&self, file: LoggedFile, hashes: Vec<Option<Hash>>) {
        let mut inner = self.lock();
        let number = u32::try_from(inner.files.len()).unwrap_or(u32::MAX);
        for hash in hashes.iter().flatten() {
            let Some(Fresh::Made(vector)) = inner.fresh.get(hash) else {
                continue;
            };
            let numbers = vector.len();
            inner.fresh.remove(hash);
            inner.room.give_back(numbers);
        }
        inner.index.add(number, hashes.into_iter());
        inner.files.push(Some(file));
    }

    fn tell_unreadable(&self, error: &LakeReadError) {
        tracing::warn!("{error}; texts whose vectors it has are embedded again");
        self.lock().unreadable += 1;
    }

    /// What was made was not published, and is not waited for: it would stay in memory
    /// until the end of the run. A text that comes again is embedded again.
    pub fn forget_made(&self) {
        let mut inner = self.lock();
        inner.has_lost = true;
        inner.forget_made();
    }

    /// Asks to end.
    pub(super) fn until(&self) -> &Cancel {
        &self.until
    }

    /// Whether more may be made before the table has what was made.
    pub(super) fn has_room(&self) -> bool {
        let inner = self.lock();
        inner.has_lost || !inner.room.is_full()
    }

    /// How many epochs of new vectors ended because there was no room for a longer one.
    pub(super) fn early_ends(&self) -> u64 {
        self.lock().room.ends()
    }

    /// How many vectors one of so many workers may make before it asks for room again.
    pub(super) fn window(&self, dimensions: usize, workers: usize) -> usize {
        self.lock().room.window(dimensions, workers)
    }

    /// How many vectors were made that the table does not have yet.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let inner = self.lock();
        let fresh = inner.fresh.values();
        fresh
            .filter(|fresh| matches!(fresh, Fresh::Made(_)))
            .count()
    }

    /// What is known of a hash; where nothing is, the caller has to make the vector.
    pub(super) fn resolve(&self, hash: Hash) -> Known {
        let mut inner = self.lock();
        match inner.fresh.get(&hash) {
            Some(Fresh::Made(vector)) => return Known::Here(Arc::clone(vector)),
            Some(Fresh::Claimed) => return Known::Theirs,
            Some(Fresh::Refused(why)) => return Known::Refused(Arc::clone(why)),
            None => {}
        }
        match inner.index.find(hash) {
            Some(place) => Known::Stored(place),
            None => {
                inner.fresh.insert(hash, Fresh::Claimed);
                Known::Yours
            }
        }
    }

    /// The same, where the table turned out not to hold it.
    pub(super) fn resolve_beside_table(&self, hash: Hash) -> Known {
        let mut inner = self.lock();
        match inner.fresh.get(&hash) {
            Some(Fresh::Made(vector)) => Known::Here(Arc::clone(vector)),
            Some(Fresh::Claimed) => Known::Theirs,
            Some(Fresh::Refused(why)) => Known::Refused(Arc::clone(why)),
            None => {
                inner.fresh.insert(hash, Fresh::Claimed);
                Known::Yours
            }
        }
    }

    /// A vector was made.
    pub(super) fn made(&self, hash: Hash, vector: Vector) {
        let mut inner = self.lock();
        if inner.has_lost && inner.room.is_full() {
            // Nobody may come to publish it.
            inner.forget_made();
        }
        inner.room.take(vector.len());
        let before = inner.fresh.insert(hash, Fresh::Made(vector));
        if let Some(Fresh::Made(before)) = before {
            inner.room.give_back(before.len());
        }
    }

    /// A text never gets a vector: whoever asks for it hears why, and does not try.
    pub(super) fn refused(&self, hash: Hash, why: Arc<str>) {
        self.lock().fresh.insert(hash, Fresh::Refused(why));
    }

    /// Whoever was to make a vector will not: the next one who asks is to.
    pub(super) fn give_up(&self, hash: Hash) {
        let mut inner = self.lock();
        if matches!(inner.fresh.get(&hash), Some(Fresh::Claimed)) {
            inner.fresh.remove(&hash);
        }
    }

    /// The file of this number, unless it turned out not to be readable.
    pub(super) fn file(&self, number: u32) -> Option<LoggedFile> {
        let number = usize::try_from(number).ok()?;
        self.lock().files.get(number).cloned().flatten()
    }

    /// A file turned out not to be readable: it is not tried again.
    pub(super) fn leave_out(&self, number: u32, error: &LakeReadError) {
        let taken = usize::try_from(number).ok().and_then(|number| {
            let mut inner = self.lock();
            inner.files.get_mut(number).and_then(Option::take)
        });
        if taken.is_some() {
            self.tell_unreadable(error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
