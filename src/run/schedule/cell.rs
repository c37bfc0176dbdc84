//! One small object that is replaced only if it is still what was read.
//!
//! Stores do that by `If-Match`. Where one cannot (local folders), a second
//! object, put only if absent, keeps others away while the first is compared and
//! replaced; one that its owner left behind by dying is swept away when it is
//! old. Answers that are lost are found out by reading back (C1). Only times of
//! the store are compared (C5).

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion};

use crate::store::{Store, StoreError};

/// How often, and with what pause, the guard of a cell is asked for.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// The object.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    store: Store,
    path: Path,
    guard: Path,
    clock: Path,
    /// The age at which what others left behind is swept away.
    stale: Duration,
}

/// What was read, or written.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) content: Bytes,
    /// By the store's clock.
    pub(super) modified: DateTime<Utc>,
    version: UpdateVersion,
}

/// What became of a replacement.
#[derive(Debug)]
pub(super) enum Swap {
    /// Ours is there.
    Done(Seen),
    /// Another was faster.
    Changed,
}

impl Cell {
    pub(super) fn new(store: Store, name: &str, stale: Duration) -> Self {
        let path = |name: String| Path::from(format!("_highwater/{name}"));
        Self {
            store,
            path: path(format!("{name}.json")),
            guard: path(format!("{name}.guard")),
            clock: path(format!("{name}.clock")),
            stale,
        }
    }

    /// The object as it is; `None` where there is none.
    pub(super) async fn read(&self) -> Result<Option<Seen>, StoreError> {
        let failed = |error: Error| self.failed("read", &error);
        let found = match self.store.objects().get(&self.path).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let (modified, version) = (
            found.meta.last_modified,
            UpdateVersion {
                e_tag: found.meta.e_tag.clone(),
                version: found.meta.version.clone(),
            },
        );
        let content = found.bytes().await.map_err(failed)?;
        Ok(Some(Seen {
            content,
            modified,
            version,
        }))
    }

    /// The store's present: the time it gives to an object written now (C5).
    pub(super) async fn present(&self) -> Result<DateTime<Utc>, StoreError> {
        let objects = self.store.objects();
        let written = objects.put(&self.clock, PutPayload::new()).await;
        let told = match written {
            Ok(_) => objects.head(&self.clock).await,
            Err(error) => Err(error),
        };
        told.map(|meta| meta.last_modified)
            .map_err(|error| self.failed("tell the time by", &error))
    }

    /// Puts `content`, which nobody else can write, in the place of `seen`.
    pub(super) async fn swap(
        &self,
        seen: Option<&Seen>,
        content: Bytes,
    ) -> Result<Swap, StoreError> {
        let mode = seen.map_or(PutMode::Create, |seen| {
            PutMode::Update(seen.version.clone())
        });
        match self.put(&content, mode).await {
            Ok(()) => self.read_back(&content).await,
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                self.guarded(seen, content).await
            }
            // Our own, sent twice by the client, would look like this, too.
            Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => {
                self.read_back(&content).await
            }
            Err(error) => Err(self.failed("write", &error)),
        }
    }

    async fn put(&self, content: &Bytes, mode: PutMode) -> Result<(), Error> {
        let options = PutOptions {
            mode,
            ..PutOptions::default()
        };
        let payload = PutPayload::from_bytes(content.clone());
        let objects = self.store.objects();
        let put = objects.put_opts(&self.path, payload, options).await;
        put.map(|_| ())
    }

    async fn read_back(&self, content: &Bytes) -> Result<Swap, StoreError> {
        Ok(match self.read().await? {
            Some(seen) if seen.content == *content => Swap::Done(seen),
            _ => Swap::Changed,
        })
    }

    /// For stores that cannot compare: whoever puts the guard may compare.
    async fn guarded(&self, seen: Option<&Seen>, content: Bytes) -> Result<Swap, StoreError> {
        if !self.enter().await? {
            return Ok(Swap::Changed);
        }
        let swapped = self.compare_and_put(seen, &content).await;
        self.leave().await;
        swapped
    }

    async fn compare_and_put(
        &self,
        seen: Option<&Seen>,
        content: &Bytes,
    ) -> Result<Swap, StoreError> {
        let now = self.read().await?;
        if now.as_ref().map(|now| &now.content) != seen.map(|seen| &seen.content) {
            return Ok(Swap::Changed);
        }
        let put = self.put(content, PutMode::Overwrite).await;
        put.map_err(|error| self.failed("write", &error))?;
        self.read_back(content).await
    }

    /// Puts the guard; false where others kept it all the time.
    async fn enter(&self) -> Result<bool, StoreError> {
        for attempt in 1..=ATTEMPTS {
            let options = PutOptions {
                mode: PutMode::Create,
                ..PutOptions::default()
            };
            let objects = self.store.single_shot();
            let put = objects.put_opts(&self.guard, PutPayload::new(), options);
            match put.await {
                Ok(_) => return Ok(true),
                Err(Error::AlreadyExists { .. }) if attempt == ATTEMPTS => {
                    self.sweep().await?;
                }
                Err(Error::AlreadyExists { .. }) => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(self.failed("guard", &error)),
            }
        }
        Ok(false)
    }

    /// Takes away a guard whose owner has died; the next one to come may enter.
    async fn sweep(&self) -> Result<(), StoreError> {
        let Ok(guard) = self.store.objects().head(&self.guard).await else {
            return Ok(());
        };
        let age = self.present().await? - guard.last_modified;
        if age.to_std().is_ok_and(|age| age > self.stale) {
            self.leave().await;
        }
        Ok(())
    }

    async fn leave(&self) {
        if let Err(error) = self.store.objects().delete(&self.guard).await {
            tracing::debug!(%error, "the guard of the lease stays until it is old");
        }
    }

    fn failed(&self, doing: &str, error: &Error) -> StoreError {
        let place = self.store.url_of(&self.path);
        StoreError::from_object_store(error, &format!("{doing} {place}"))
    }
}
