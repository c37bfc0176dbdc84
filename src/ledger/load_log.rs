//! [`LoadLog`]: the finished epochs of a load that is not complete.
//!
//! A load is published by one Delta commit at its end. Until then its epochs
//! are entries `_highwater/loads/<from>/NNNNN.json` beside the table, each put
//! only if absent: `from` is the commit the load started from, so that a load is
//! forgotten by the commit that ends it. Two runs that work on one load meet at
//! the next entry: one gets it, the other was overtaken and stops. Entries and
//! files are never deleted here (C4).

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::load_state::{Attempt, Begin, Epoch, Event, LoadState, Writer, apply};
use super::now;
use crate::store::{Patience, PutOnce, Store, StoreError, put_once};

/// The version of an entry's form; a reader refuses what it does not know.
const FORMAT: u32 = 1;

/// How many entries are read at once.
const READS: usize = 16;

/// A failure at a load log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),

    /// Another run took the load over.
    #[error(
        "another run ({by_run}, process {pid} on {host}, {at}) took over the load at {url}; this \
         run stops, what both recorded is kept"
    )]
    Overtaken {
        /// The table's folder.
        url: String,
        /// The other run.
        by_run: Uuid,
        /// Its machine.
        host: String,
        /// Its process.
        pid: u32,
        /// When, by its clock.
        at: String,
    },

    /// An entry cannot be understood.
    #[error(
        "the load log entry {path} cannot be read: {what}. Remove the folder it is in to start \
         the load anew; the table itself is not affected"
    )]
    Unreadable {
        /// The entry.
        path: String,
        /// What is wrong.
        what: String,
    },

    /// The calls came in an order that makes no sense; a fault of the caller.
    #[error("not a valid step of a load: {0}")]
    Order(String),
}

/// One entry, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    format: u32,
    /// Makes the bytes ours beyond doubt (C1).
    id: Uuid,
    at: String,
    writer: Writer,
    event: Event,
}

/// The load log of the load that would make commit `from + 1`.
#[derive(Debug)]
pub struct LoadLog {
    store: Store,
    folder: Path,
    patience: Patience,
    next: u32,
    state: Option<LoadState>,
    /// Set by `begin` and `resume`: only then may epochs be recorded.
    writer: Option<Writer>,
}

impl LoadLog {
    /// Reads what is recorded of the load that starts from commit `from` of the
    /// table at `store`.
    ///
    /// # Errors
    /// The store fails, or an entry cannot be understood.
    pub async fn open(store: &Store, from: i64) -> Result<Self, LoadError> {
        let folder = Path::from(format!("_highwater/loads/{from:020}"));
        let mut log = Self {
            store: store.clone(),
            folder,
            patience: Patience::default(),
            next: 0,
            state: None,
            writer: None,
        };
        log.replay().await?;
        Ok(log)
    }

    /// The same, with another patience for answers that were lost (C1).
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// What is recorded; `None` before the load begins and after it started over.
    #[must_use]
    pub fn state(&self) -> Option<&LoadState> {
        self.state.as_ref()
    }

    /// Records what is going to be read.
    ///
    /// # Errors
    /// [`LoadError::Overtaken`] if another run began first.
    pub async fn begin(&mut self, begin: Begin) -> Result<(), LoadError> {
        if self.state.is_some() {
            return Err(LoadError::Order(
                "it has begun; resume it or start over".to_owned(),
            ));
        }
        let writer = begin.writer.clone();
        self.append(writer.clone(), Event::Begin(Box::new(begin)))
            .await?;
        self.writer = Some(writer);
        Ok(())
    }

    /// Goes on with the load, and fences the run that worked on it before: its
    /// next entry is lost.
    ///
    /// # Errors
    /// [`LoadError::Overtaken`] if another run does something first.
    pub async fn resume(&mut self, attempt: Attempt) -> Result<(), LoadError> {
        if self.state.is_none() {
            return Err(LoadError::Order("there is nothing to resume".to_owned()));
        }
        let writer = attempt.writer.clone();
        self.append(writer.clone(), Event::Attempt(attempt)).await?;
        self.writer = Some(writer);
        Ok(())
    }

    /// Records one finished epoch. Its files must be durable.
    ///
    /// # Errors
    /// [`LoadError::Overtaken`] if another run took over.
    pub async fn epoch(&mut self, epoch: Epoch) -> Result<(), LoadError> {
        let writer = self.own_writer(epoch.run)?;
        self.append(writer, Event::Epoch(epoch)).await
    }

    /// Forgets the recorded epochs; the load may begin anew. Their files stay
    /// until garbage collection (C4).
    ///
    /// # Errors
    /// [`LoadError::Overtaken`] if another run took over.
    pub async fn start_over(&mut self, writer: Writer, reason: &str) -> Result<(), LoadError> {
        self.append(
            writer,
            Event::StartOver {
                reason: reason.to_owned(),
            },
        )
        .await?;
        self.writer = None;
        Ok(())
    }

    fn own_writer(&self, run: Uuid) -> Result<Writer, LoadError> {
        let writer = self.writer.clone().filter(|writer| writer.run == run);
        writer.ok_or_else(|| LoadError::Order("begin or resume the load first".to_owned()))
    }

    fn path(&self, number: u32) -> Path {
        self.folder.clone().join(format!("{number:05}.json"))
    }

    async fn append(&mut self, writer: Writer, event: Event) -> Result<(), LoadError> {
        // Checked before it is written: a log that contradicts itself stays so.
        let mut state = self.state.clone();
        apply(&mut state, event.clone()).map_err(LoadError::Order)?;
        let path = self.path(self.next);
        let entry = Entry {
            format: FORMAT,
            id: Uuid::now_v7(),
            at: now(),
            writer,
            event,
        };
        let bytes = serde_json::to_vec(&entry)
            .map_err(|error| LoadError::Order(format!("the entry has no JSON form: {error}")))?;
        match put_once(&self.store, &path, Bytes::from(bytes), self.patience).await? {
            PutOnce::Committed => {
                self.next += 1;
                self.state = state;
                Ok(())
            }
            PutOnce::Lost { existing } => {
                let other = self.parse(&path, &existing)?;
                Err(LoadError::Overtaken {
                    url: self.store.url().to_string(),
                    by_run: other.writer.run,
                    host: other.writer.host,
                    pid: other.writer.pid,
                    at: other.at,
                })
            }
        }
    }

    async fn replay(&mut self) -> Result<(), LoadError> {
        let objects = self.store.objects();
        let doing = format!("read {}", self.store.url_of(&self.folder));
        let failed = |error: object_store::Error| StoreError::from_object_store(&error, &doing);
        let mut paths: Vec<Path> = objects
            .list(Some(&self.folder))
            .map_ok(|object| object.location)
            .try_collect()
            .await
            .map_err(failed)?;
        paths.sort_unstable();
        let entries: Vec<(Path, Bytes)> = futures::stream::iter(paths)
            .map(|path| {
                let objects = &objects;
                async move {
                    let bytes = objects.get(&path).await?.bytes().await?;
                    Ok::<_, object_store::Error>((path, bytes))
                }
            })
            .buffered(READS)
            .try_collect()
            .await
            .map_err(failed)?;
        for (path, bytes) in entries {
            let unreadable = |what: String| LoadError::Unreadable {
                path: self.store.url_of(&path),
                what,
            };
            let expected = self.path(self.next);
            if path != expected {
                let what = format!("{expected} should come before it");
                return Err(unreadable(what));
            }
            let entry = self.parse(&path, &bytes)?;
            apply(&mut self.state, entry.event).map_err(unreadable)?;
            self.next += 1;
        }
        Ok(())
    }

    fn parse(&self, path: &Path, bytes: &[u8]) -> Result<Entry, LoadError> {
        #[derive(Deserialize)]
        struct Form {
            format: u32,
        }
        let unreadable = |what: String| LoadError::Unreadable {
            path: self.store.url_of(path),
            what,
        };
        let form: Form =
            serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
        if form.format != FORMAT {
            let what = format!("it has form {}, this program knows {FORMAT}", form.format);
            return Err(unreadable(what));
        }
        serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))
    }
}
