//! [`VectorCache`]: who has a vector, who makes it, who waits for it.
//!
//! All that is decided about a hash is decided here, under one lock: whoever asks first
//! for a vector that nobody has is to make it, whoever asks later waits for him. A worker
//! makes what it has taken upon itself before it waits for others, so that no two wait
//! for each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt as _, TryStreamExt as _};
use highwater::ledger::{DataFile, LoggedFile};
use object_store::ObjectStore;

use super::index::{ENTRY_BYTES, Index, Place, RECENT_BYTES};
use super::rows::{hash_in, names_schema, vector_in, vectors_schema};
use crate::lake::{LakeReadError, TableFile, all_rows};

/// The first 128 bits of the SHA-256 of a text.
pub type Hash = u128;

/// A vector.
pub(super) type Vector = Arc<[f32]>;

/// Rows decoded at once, where only names are read.
const NAMES_AT_ONCE: usize = 8192;

/// Rows decoded at once, with their vectors.
const VECTORS_AT_ONCE: usize = 256;

/// Files that are read at once when the index is made.
const FILES_AT_ONCE: usize = 8;

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
}

/// A vector that is not in the table yet.
#[derive(Debug)]
enum Fresh {
    Claimed,
    Made(Vector),
}

#[derive(Debug)]
struct Inner {
    fresh: HashMap<Hash, Fresh>,
    index: Index,
    files: Vec<LoggedFile>,
}

/// The vectors of one model. Shared by all workers of a process and by all tables of
/// chunks of a lake.
#[derive(Debug)]
pub struct VectorCache {
    folder: Arc<dyn ObjectStore>,
    model: String,
    inner: Mutex<Inner>,
}

impl VectorCache {
    /// Of the table in `folder`, of whose `files` it learns the names, within
    /// `index_bytes` of memory.
    ///
    /// # Errors
    /// A file cannot be read.
    pub async fn open(
        folder: Arc<dyn ObjectStore>,
        files: Vec<LoggedFile>,
        model: &str,
        index_bytes: u64,
    ) -> Result<Self, LakeReadError> {
        let inner = Inner {
            fresh: HashMap::new(),
            index: Index::within(index_bytes),
            files: Vec::new(),
        };
        let cache = Self {
            folder,
            model: model.to_owned(),
            inner: Mutex::new(inner),
        };
        cache.learn(files).await?;
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
        self.learn(files.collect()).await
    }

    async fn learn(&self, files: Vec<LoggedFile>) -> Result<(), LakeReadError> {
        let names = futures::stream::iter(files).map(|file| async move {
            let opened = TableFile::open(Arc::clone(&self.folder), &file, &names_schema()).await?;
            let batches: Vec<_> = all_rows(opened, NAMES_AT_ONCE).try_collect().await?;
            let hashes = batches.iter().flat_map(|batch| {
                (0..batch.num_rows()).map(|row| hash_in(batch, row, &self.model))
            });
            Ok::<_, LakeReadError>((file, hashes.collect::<Vec<_>>()))
        });
        let mut names = names.buffered(FILES_AT_ONCE);
        while let Some((file, hashes)) = names.try_next().await? {
            let mut inner = self.lock();
            let number = u32::try_from(inner.files.len()).unwrap_or(u32::MAX);
            for hash in hashes.iter().flatten() {
                if matches!(inner.fresh.get(hash), Some(Fresh::Made(_))) {
                    inner.fresh.remove(hash);
                }
            }
            inner.index.add(number, hashes.into_iter());
            inner.files.push(file);
        }
        Ok(())
    }

    /// What was made was not published, and is not waited for: it would stay in memory
    /// until the end of the run. A text that comes again is embedded again.
    pub fn forget_made(&self) {
        let mut inner = self.lock();
        inner
            .fresh
            .retain(|_, fresh| matches!(fresh, Fresh::Claimed));
    }

    /// What is known of a hash; where nothing is, the caller has to make the vector.
    pub(super) fn resolve(&self, hash: Hash) -> Known {
        let mut inner = self.lock();
        match inner.fresh.get(&hash) {
            Some(Fresh::Made(vector)) => return Known::Here(Arc::clone(vector)),
            Some(Fresh::Claimed) => return Known::Theirs,
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
            None => {
                inner.fresh.insert(hash, Fresh::Claimed);
                Known::Yours
            }
        }
    }

    /// A vector was made.
    pub(super) fn made(&self, hash: Hash, vector: Vector) {
        self.lock().fresh.insert(hash, Fresh::Made(vector));
    }

    /// Whoever was to make a vector will not: the next one who asks is to.
    pub(super) fn give_up(&self, hash: Hash) {
        let mut inner = self.lock();
        if matches!(inner.fresh.get(&hash), Some(Fresh::Claimed)) {
            inner.fresh.remove(&hash);
        }
    }

    /// Vectors of the table by their places; `None` where another text's is there.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) async fn fetch(
        &self,
        mut wanted: Vec<(Hash, Place)>,
    ) -> Result<HashMap<Hash, Vector>, LakeReadError> {
        wanted.sort_unstable_by_key(|(_, place)| *place);
        let mut found = HashMap::with_capacity(wanted.len());
        for of_file in wanted.chunk_by(|(_, a), (_, b)| a.file == b.file) {
            let number = of_file.first().map_or(0, |(_, place)| place.file);
            let file = usize::try_from(number).ok();
            let file = file.and_then(|number| self.lock().files.get(number).cloned());
            let Some(file) = file else { continue };
            self.fetch_from(&file, of_file, &mut found).await?;
        }
        Ok(found)
    }

    async fn fetch_from(
        &self,
        file: &LoggedFile,
        wanted: &[(Hash, Place)],
        found: &mut HashMap<Hash, Vector>,
    ) -> Result<(), LakeReadError> {
        let file = TableFile::open(Arc::clone(&self.folder), file, &vectors_schema()).await?;
        let mut first = 0;
        for group in 0..file.row_groups() {
            let end = first + file.row_count(group);
            let inside = |(_, place): &&(Hash, Place)| (first..end).contains(&u64::from(place.row));
            let inside: Vec<_> = wanted.iter().filter(inside).collect();
            if inside.is_empty() {
                first = end;
                continue;
            }
            let mut rows = file.rows(group, VECTORS_AT_ONCE)?;
            while let Some(batch) = rows.try_next().await? {
                let after = first + batch.num_rows() as u64;
                for (hash, place) in &inside {
                    let at = u64::from(place.row);
                    if !(first..after).contains(&at) {
                        continue;
                    }
                    let row = usize::try_from(at - first).unwrap_or(usize::MAX);
                    if hash_in(&batch, row, &self.model) == Some(*hash)
                        && let Some(vector) = vector_in(&batch, row)
                    {
                        found.insert(*hash, vector);
                    }
                }
                first = after;
            }
            first = end;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
