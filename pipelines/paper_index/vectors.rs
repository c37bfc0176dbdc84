//! The table of vectors that all instances share.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use highwater::app::{Failure, RunContext};
use highwater::flow::{Epoch, Event, Settle, Settled};
use highwater::ledger::{Change, ChangeKind, DataFile, Ledger, LoggedFile};
use highwater::store::Store;
use highwater::watermark::{Bound, Identity, Mode, Watermark};
use highwater_operators::lake::LakeReadError;
use highwater_operators::vectors::{VectorCache, vectors_schema};
use uuid::Uuid;

/// The folder of the table, below the lake.
pub(super) const FOLDER: &str = "_highwater/vectors";

/// Two runs of one lake write to it at the same time: so often one of them begins anew
/// on top of what the other has written.
const ATTEMPTS: u32 = 20;

/// The table, opened once for all instances of a run.
pub(super) struct Vectors {
    pub(super) cache: Arc<VectorCache>,
    pub(super) store: Store,
    run: Uuid,
}

impl Vectors {
    /// Opens the table of a lake, for the vectors of one model, known by an index of at
    /// most so many bytes.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) async fn open(
        lake: &Store,
        model: &str,
        index_bytes: u64,
        context: &RunContext,
    ) -> Result<Self, Failure> {
        let store = lake.child(FOLDER);
        let mut keeper = Keeper::open(store.clone(), context.run).await?;
        if keeper.ledger.head().is_none() {
            // Files that no entry names yet are known as ours when there is a log.
            keeper.commit(Vec::new()).await?;
        }
        let files = keeper.ledger.files().await?;
        let cache = VectorCache::open(store.objects(), files, model, index_bytes).await;
        Ok(Self {
            cache: Arc::new(cache.map_err(|error| unreadable(&error))?),
            store,
            run: context.run,
        })
    }

    /// Who publishes new vectors of one flow; what it fails of goes to `failure`.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) async fn keeper(
        &self,
        failure: Arc<Mutex<Option<Failure>>>,
    ) -> Result<Keeper, Failure> {
        let keeper = Keeper::open(self.store.clone(), self.run).await?;
        Ok(Keeper {
            cache: Some(Arc::clone(&self.cache)),
            failure,
            ..keeper
        })
    }
}

/// How many vectors a lake has.
///
/// # Errors
/// The log of their table cannot be read.
pub(super) async fn count(lake: &Store) -> Result<u64, Failure> {
    let ledger = Ledger::open(lake.child(FOLDER)).await?;
    if ledger.head().is_none() {
        return Ok(0);
    }
    let files = ledger.files().await?;
    Ok(files.iter().map(LoggedFile::rows).sum())
}

/// A file of the lake that cannot be read, as a failure of the run.
pub(super) fn unreadable(error: &LakeReadError) -> Failure {
    let what = error.to_string();
    match error.passes {
        true => Failure::retry(what),
        false => Failure::failed(what),
    }
}

/// Publishes files of new vectors.
pub(super) struct Keeper {
    ledger: Ledger,
    store: Store,
    run: Uuid,
    cache: Option<Arc<VectorCache>>,
    failure: Arc<Mutex<Option<Failure>>>,
}

impl Keeper {
    async fn open(store: Store, run: Uuid) -> Result<Self, Failure> {
        Ok(Self {
            ledger: Ledger::open(store.clone()).await?,
            store,
            run,
            cache: None,
            failure: Arc::default(),
        })
    }

    /// Adds files. Whoever else has added some meanwhile does no harm: a vector is a
    /// vector, whoever made it.
    async fn commit(&mut self, files: Vec<DataFile>) -> Result<(), Failure> {
        let mut attempt = 1;
        loop {
            let bound = Bound {
                position: self.run.to_string(),
                at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            };
            let source = Identity {
                kind: "vectors".to_owned(),
                id: String::new(),
                history: String::new(),
            };
            let change = Change {
                run: self.run,
                schema: vectors_schema(),
                partition_columns: Vec::new(),
                kind: ChangeKind::Append,
                files: files.clone(),
                watermark: Watermark::new(source, Mode::Append, bound),
                from: self.ledger.head().map_or(0, |head| head.commit),
            };
            match self.ledger.commit(change).await {
                Ok(_) => return Ok(()),
                Err(error) => {
                    let failure = Failure::from(error);
                    if failure.exit != highwater::app::Exit::Overtaken || attempt >= ATTEMPTS {
                        return Err(failure);
                    }
                    attempt += 1;
                    self.ledger = Ledger::open(self.store.clone()).await?;
                }
            }
        }
    }

    /// The chunks have their vectors all the same: later runs embed some again.
    fn fail(&self, failure: Failure) {
        tracing::warn!("new vectors were not kept: {}", failure.message);
        if let Some(cache) = &self.cache {
            cache.forget_made();
        }
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(failure);
    }

    async fn keep(&mut self, files: Vec<DataFile>) -> Result<(), Failure> {
        self.commit(files.clone()).await?;
        match &self.cache {
            Some(cache) => cache
                .published(&files)
                .await
                .map_err(|error| unreadable(&error)),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Settle for Keeper {
    async fn settle(&mut self, _epoch: Epoch, events: Vec<Event>) -> Settled {
        let mut files = Vec::new();
        for event in events {
            match event {
                Event::File { file, .. } => files.push(file),
                Event::Failed { failure, .. } => self.fail(Failure::failed(failure.message)),
                _ => {}
            }
        }
        if !files.is_empty()
            && let Err(failure) = self.keep(files).await
        {
            self.fail(failure);
        }
        Settled::default()
    }
}
