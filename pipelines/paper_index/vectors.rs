//! The table of vectors that all instances share.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use highwater::app::{Failure, RunContext};
use highwater::cancel::Cancel;
use highwater::flow::{Epoch, Event, Settle, Settled};
use highwater::ledger::{
    Change, ChangeKind, DataFile, Ledger, LoggedFile, Rewrite, RewriteKind, Rewriter,
};
use highwater::store::Store;
use highwater::watermark::{Bound, Identity, Mode, Watermark};
use highwater_operators::lake::LakeReadError;
use highwater_operators::vectors::{CacheLimits, Joined, VectorCache, join_small, vectors_schema};
use uuid::Uuid;

use super::memory::fresh_bytes;

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
    /// Opens the table of a lake, for the vectors of one model; `bytes` are for the index
    /// of those that it has, and for new ones until it has them.
    ///
    /// # Errors
    /// Its log cannot be read, or a file for a reason that passes.
    pub(super) async fn open(
        lake: &Store,
        model: &str,
        bytes: u64,
        context: &RunContext,
    ) -> Result<Self, Failure> {
        let store = lake.child(FOLDER);
        let mut keeper = Keeper::open(store.clone(), context.run).await?;
        if keeper.ledger.head().is_none() {
            // Files that no entry names yet are known as ours when there is a log.
            keeper.commit(Vec::new()).await?;
        }
        let files = tidied(&store, context.run, &context.cancel).await?;
        let known = files.iter().map(LoggedFile::rows).sum();
        let fresh_bytes = fresh_bytes(bytes, known);
        let limits = CacheLimits {
            index_bytes: bytes.saturating_sub(fresh_bytes),
            fresh_bytes,
            until: context.cancel.clone(),
        };
        let cache = VectorCache::open(store.objects(), files, model, limits).await;
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

/// The files of the table, of which many small ones are joined before. Where that cannot
/// be done the table is as it was, and as good.
///
/// # Errors
/// The log cannot be read.
async fn tidied(store: &Store, run: Uuid, until: &Cancel) -> Result<Vec<LoggedFile>, Failure> {
    let files = Ledger::open(store.clone()).await?.files().await?;
    match joined(store, &files, run, until).await {
        Ok(false) => Ok(files),
        Ok(true) => Ok(Ledger::open(store.clone()).await?.files().await?),
        Err(failure) => {
            let what = failure.message;
            tracing::warn!("small files of vectors were not joined: {what}");
            // Whoever came first may have joined them.
            Ok(Ledger::open(store.clone()).await?.files().await?)
        }
    }
}

/// Joins small files where there are many, in one commit; whether there were.
async fn joined(
    store: &Store,
    files: &[LoggedFile],
    run: Uuid,
    until: &Cancel,
) -> Result<bool, Failure> {
    let joined = join_small(&store.objects(), files, until).await;
    let joined = joined.map_err(|error| Failure::failed(error.to_string()))?;
    let Some(Joined { removed, added }) = joined else {
        return Ok(false);
    };
    let rewrite = Rewrite {
        run,
        removed,
        added,
        order: None,
        kind: RewriteKind::Layout,
        partition_columns: None,
    };
    let mut rewriter = Rewriter::open(store.clone()).await?;
    rewriter.commit(&rewrite).await?;
    Ok(true)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use arrow::array::{Float32Builder, ListBuilder, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field};
    use object_store::path::Path;
    use object_store::{ObjectStoreExt as _, PutPayload};
    use parquet::arrow::ArrowWriter;

    use super::*;

    /// A file with one vector.
    async fn file(store: &Store, number: u64) -> DataFile {
        let element = Field::new("element", DataType::Float32, true);
        let mut lists = ListBuilder::new(Float32Builder::new()).with_field(element);
        lists.values().append_slice(&[0.6, 0.8]);
        lists.append(true);
        let rows = RecordBatch::try_new(
            vectors_schema(),
            vec![
                // Hashes are found by their upper halves.
                Arc::new(StringArray::from(vec![format!("{number:016x}{:016x}", 0)])),
                Arc::new(StringArray::from(vec!["model"])),
                Arc::new(lists.finish()),
            ],
        );
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, vectors_schema(), None).unwrap();
        writer.write(&rows.unwrap()).unwrap();
        writer.close().unwrap();
        let (path, size) = (format!("f{number:03}.parquet"), bytes.len() as u64);
        let place = Path::from(path.as_str());
        let put = store.objects();
        put.put(&place, PutPayload::from(bytes)).await.unwrap();
        DataFile {
            path,
            rows: 1,
            bytes: size,
            sha256: "0".repeat(64),
            partition: BTreeMap::new(),
            stats: serde_json::json!({"numRecords": 1}),
        }
    }

    /// One commit makes many small files one, and the next run adds to the table as if
    /// nothing had happened; whoever is late leaves it as it is.
    #[tokio::test(flavor = "multi_thread")]
    async fn many_small_files_become_one() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file:{}", folder.path().display());
        let store = Store::open(&url, &BTreeMap::new()).unwrap().child(FOLDER);
        let (run, until) = (Uuid::now_v7(), Cancel::new());
        let mut keeper = Keeper::open(store.clone(), run).await.unwrap();
        let mut files = Vec::new();
        for number in 0..120 {
            files.push(file(&store, number).await);
        }
        keeper.commit(files).await.unwrap();
        let before = keeper.ledger.files().await.unwrap();
        let after = tidied(&store, run, &until).await.unwrap();
        let rows = |files: &[LoggedFile]| files.iter().map(LoggedFile::rows).sum::<u64>();
        assert_eq!((before.len(), rows(&before)), (120, 120));
        assert_eq!((after.len(), rows(&after)), (1, 120));
        // Files that are gone already are not removed again.
        assert!(joined(&store, &before, run, &until).await.is_err());
        assert_eq!(tidied(&store, run, &until).await.unwrap(), after);
        // Who had opened the table before goes on.
        let more = file(&store, 500).await;
        keeper.commit(vec![more]).await.unwrap();
        let limits = CacheLimits {
            index_bytes: 1 << 30,
            fresh_bytes: 1 << 30,
            until,
        };
        let files = Ledger::open(store.clone()).await.unwrap().files().await;
        let cache = VectorCache::open(store.objects(), files.unwrap(), "model", limits);
        let cache = cache.await.unwrap();
        assert_eq!((cache.len(), cache.unreadable()), (121, 0));
    }
}
