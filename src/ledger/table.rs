//! [`Ledger`]: the handle of one table, and the loop that commits.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use delta_kernel::transaction::create_table::create_table;
use delta_kernel::transaction::{CommitResult, UpdateTableOperation};
use delta_kernel::{Engine, FilteredEngineData, KernelError};
use object_store::ObjectStoreExt as _;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::change::{Change, ChangeKind, Prepared};
use super::checkpoint;
use super::committer::{LogCommitter, Outcome, log_path};
use super::error::LedgerError;
use super::executor::{blocking, engine};
use super::files::{self, LoggedFile};
use super::past::{At, PastTable};
use super::record::{CommitRecord, FORMAT};
use super::view::{self, Head, View, kernel_error};
use super::{APP_ID, DOMAIN, ROOT, seal, sha256_hex};
use crate::store::{Patience, PutOnce, Store, StoreError};

/// How many commits of others in a row are followed before giving up.
pub(super) const MOST_REBASES: usize = 100;

pub(super) const ENGINE_INFO: &str = concat!("highwater/", env!("CARGO_PKG_VERSION"));

/// The handle of one table's folder: what its log says, and the way to add to it.
pub struct Ledger {
    store: Store,
    engine: Arc<dyn Engine>,
    patience: Patience,
    view: Option<View>,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("url", &self.store.url().as_str())
            .finish_non_exhaustive()
    }
}

/// What became of one attempt to publish.
enum Attempt {
    Committed { version: u64 },
    Conflict,
}

impl Ledger {
    /// Reads the log of the table at `store`, the child of the table's folder. A
    /// folder that does not exist is a table to come, and so is one in which a
    /// load of ours was interrupted: a [`LoadLog`](super::LoadLog) entry tells that
    /// it is ours, so begin one before the first data file is written. Call within a tokio
    /// runtime, and keep using the ledger within the same one.
    ///
    /// # Errors
    /// The folder is somebody else's, or needs what we cannot do, or cannot be read.
    pub async fn open(store: Store) -> Result<Self, LedgerError> {
        let engine = engine(&store);
        let view = view::read(&store, &engine).await?;
        if view.is_none() {
            view::refuse_foreign(&store).await?;
        }
        Ok(Self {
            store,
            engine,
            patience: Patience::default(),
            view,
        })
    }

    /// The same, with another patience for answers that were lost (C1).
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// What the log says; `None` while the table has no commit.
    #[must_use]
    pub fn head(&self) -> Option<&Head> {
        self.view.as_ref().map(|view| &view.head)
    }

    /// What tells the table from one that is made anew at the same place; `None` while
    /// it has no commit.
    #[must_use]
    pub fn table_id(&self) -> Option<&str> {
        let view = self.view.as_ref()?;
        Some(view.snapshot.table_configuration().metadata().id())
    }

    /// The record of the newest commit of ours.
    #[must_use]
    pub fn record(&self) -> Option<&CommitRecord> {
        self.view.as_ref().map(|view| &view.record)
    }

    /// The data files of the table as of [`head`](Self::head).
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn files(&self) -> Result<Vec<LoggedFile>, LedgerError> {
        let Some(view) = &self.view else {
            return Ok(Vec::new());
        };
        view.files(&self.engine, self.url()).await
    }

    /// The table as it was, to be read only.
    ///
    /// # Errors
    /// There is no such version, or no longer; the log cannot be read.
    pub async fn open_at(store: Store, at: At) -> Result<PastTable, LedgerError> {
        PastTable::open(store, at).await
    }

    /// Publishes files and watermark in one entry. Commits of other programs
    /// that come first are followed (their entry stays, ours comes after); a
    /// commit of another run of ours is not: this run was overtaken (C3).
    /// Nothing is ever deleted (C4).
    ///
    /// # Errors
    /// [`LedgerError::Overtaken`]; [`LedgerError::Store`] of kind `Unknown`
    /// where it could not be found out whether the entry was published (the next
    /// run does); whatever else says that nothing was published.
    pub async fn commit(&mut self, change: Change) -> Result<Head, LedgerError> {
        let prepared = Arc::new(Prepared::new(change)?);
        for _ in 0..MOST_REBASES {
            let view = view::read(&self.store, &self.engine).await?;
            self.check_basis(view.as_ref(), &prepared)?;
            let record = self.record_for(view.as_ref(), &prepared).await?;
            match self.attempt(view.as_ref(), &prepared, &record).await? {
                Attempt::Committed { version } => {
                    let head = self.adopt(view, &prepared, record, version).await?;
                    self.checkpoint_when_due().await;
                    return Ok(head);
                }
                Attempt::Conflict => {
                    // Normally the listing shows at once what was there first.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        Err(LedgerError::Busy {
            url: self.url(),
            attempts: MOST_REBASES,
        })
    }

    fn url(&self) -> String {
        self.store.url().to_string()
    }

    /// C3, before every attempt: the log must still say what this run started
    /// from.
    fn check_basis(&self, now: Option<&View>, prepared: &Prepared) -> Result<(), LedgerError> {
        let from = prepared.change.from;
        let Some(now) = now else {
            return match from {
                0 => Ok(()),
                expected => Err(LedgerError::RolledBack {
                    url: self.url(),
                    expected,
                    found: "nothing".to_owned(),
                }),
            };
        };
        let started_from = self.view.as_ref().filter(|view| view.head.commit == from);
        let expected = started_from.map(|view| &view.head.watermark);
        if now.head.commit < from {
            let found = format!("commit {}", now.head.commit);
            return Err(LedgerError::RolledBack {
                url: self.url(),
                expected: from,
                found,
            });
        }
        if now.head.commit != from || expected.is_some_and(|to| *to != now.head.watermark) {
            return Err(LedgerError::Overtaken {
                url: self.url(),
                by_run: now.record.run,
                commit: now.record.commit,
                at: now.record.at.clone(),
            });
        }
        if let Some(what) = started_from.and_then(|view| now.changed_since(view)) {
            return Err(LedgerError::ChangedBySomebodyElse {
                url: self.url(),
                version: now.head.version,
                what: what.to_owned(),
            });
        }
        match prepared.change.kind {
            ChangeKind::Replace => Ok(()),
            ChangeKind::Append | ChangeKind::Merge { .. } => {
                let current = now.snapshot.schema();
                prepared.appends_to(&current, &now.head.partition_columns, &self.url())
            }
        }
    }

    /// The record of the entry to come, chained to the entry before it (C7).
    async fn record_for(
        &self,
        view: Option<&View>,
        prepared: &Prepared,
    ) -> Result<CommitRecord, LedgerError> {
        let previous = match view {
            Some(view) => self.hash_of_entry(view.head.version).await?,
            None => None,
        };
        let id = Uuid::now_v7();
        Ok(CommitRecord {
            format: FORMAT,
            id,
            run: prepared.change.run,
            at: prepared.at.clone(),
            commit: prepared.change.from + 1,
            version: view.map_or(0, |view| view.head.version + 1),
            from: view.map(|view| view.head.watermark.clone()),
            to: prepared.change.watermark.clone(),
            previous,
            seal: Some(seal::blank(id)),
            rewrite: None,
        })
    }

    /// SHA-256 of one entry; `None` where log retention has removed it.
    async fn hash_of_entry(&self, version: u64) -> Result<Option<String>, LedgerError> {
        hash_of_entry(&self.store, version).await
    }

    /// Publishes once, at the version after `view`.
    async fn attempt(
        &self,
        view: Option<&View>,
        prepared: &Arc<Prepared>,
        record: &CommitRecord,
    ) -> Result<Attempt, LedgerError> {
        let version = view.map_or(0, |view| view.head.version + 1);
        let outcome: Outcome = Arc::new(Mutex::new(None));
        let committer = Box::new(LogCommitter {
            store: self.store.clone(),
            patience: self.patience,
            runtime: Handle::current(),
            lines: Arc::clone(&prepared.lines),
            id: Some(record.id),
            new_layout: view.is_some_and(|view| is_new_layout(view, prepared)),
            outcome: Arc::clone(&outcome),
        });
        let snapshot = view.map(|view| Arc::clone(&view.snapshot));
        let engine = Arc::clone(&self.engine);
        let prepared = Arc::clone(prepared);
        let url = self.url();
        let domain = serde_json::to_string(record)
            .map_err(|error| LedgerError::Invalid(format!("the watermark: {error}")))?;
        blocking(move || {
            let transaction = Transaction {
                prepared,
                domain,
                engine: engine.as_ref(),
                url: &url,
            };
            let told = match snapshot {
                None => transaction.create(committer)?,
                Some(snapshot) => transaction.update(snapshot, committer)?,
            };
            // The outcome of the put is the truth. What the kernel makes of it
            // afterwards (statistics of its own) may fail without meaning.
            let outcome = outcome.lock().ok().and_then(|mut outcome| outcome.take());
            match (outcome, told) {
                (Some(Ok(PutOnce::Committed)), _) => Ok(Attempt::Committed { version }),
                (Some(Ok(PutOnce::Lost { .. })), _) => Ok(Attempt::Conflict),
                (Some(Err(error)), _) => Err(error.into()),
                (None, Err(KernelError::TableAlreadyExistsAtPath(_))) => Ok(Attempt::Conflict),
                (None, Err(error)) => Err(kernel_error(&url, &error)),
                (None, Ok(())) => Err(LedgerError::Invalid("nothing was published".to_owned())),
            }
        })
        .await
    }

    /// The commit is public: makes it the head.
    async fn adopt(
        &mut self,
        before: Option<View>,
        prepared: &Prepared,
        record: CommitRecord,
        version: u64,
    ) -> Result<Head, LedgerError> {
        let kept = match prepared.change.kind {
            ChangeKind::Replace => None,
            ChangeKind::Append | ChangeKind::Merge { .. } => before.as_ref().map(|view| &view.head),
        };
        let head = Head {
            version,
            changed_by_others: false,
            commit: record.commit,
            watermark: record.to.clone(),
            schema: Arc::new(super::schema::arrow_schema(&prepared.lines.layout.schema)?),
            partition_columns: prepared.lines.layout.partition_columns.clone(),
            rows: kept.map_or(0, |head| head.rows) + prepared.rows,
            files: kept.map_or(0, |head| head.files) + prepared.lines.adds.len() as u64,
            bytes: kept.map_or(0, |head| head.bytes) + prepared.bytes,
            run: record.run,
            at: record.at.clone(),
        };
        // Published is published: a log that cannot be read now is no failure of
        // this commit, only of the next thing that is done with this handle.
        match view::read(&self.store, &self.engine).await {
            Ok(view) => self.view = view.filter(|view| view.record.id == record.id),
            Err(error) => {
                tracing::warn!(%error, "committed, but the log cannot be read back now");
                self.view = None;
            }
        }
        Ok(self.head().cloned().unwrap_or(head))
    }

    /// The commit is public whatever becomes of this: readers only have more
    /// entries to read.
    async fn checkpoint_when_due(&self) {
        let Some(view) = &self.view else { return };
        if !checkpoint::is_due(&view.snapshot) {
            return;
        }
        if let Err(error) = checkpoint::write(&self.store, &self.engine, &view.snapshot).await {
            tracing::warn!(%error, "committed, but no checkpoint of the log could be written");
        }
    }
}

/// SHA-256 of one entry; `None` where log retention has removed it.
pub(super) async fn hash_of_entry(
    store: &Store,
    version: u64,
) -> Result<Option<String>, LedgerError> {
    let path = log_path(version);
    let failed = |error: &object_store::Error| {
        let doing = format!("read {}", store.url_of(&path));
        LedgerError::from(StoreError::from_object_store(error, &doing))
    };
    match store.objects().get(&path).await {
        Ok(found) => {
            let entry = found.bytes().await.map_err(|error| failed(&error))?;
            Ok(Some(sha256_hex(&entry)))
        }
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed(&error)),
    }
}

fn is_new_layout(view: &View, prepared: &Prepared) -> bool {
    *view.snapshot.schema() != prepared.lines.layout.schema
        || view.head.partition_columns != prepared.lines.layout.partition_columns
}

/// One transaction of the kernel.
struct Transaction<'a> {
    prepared: Arc<Prepared>,
    domain: String,
    engine: &'a dyn Engine,
    url: &'a str,
}

impl Transaction<'_> {
    /// Version 0: the table and its first data, in one entry.
    fn create(&self, committer: Box<LogCommitter>) -> Result<Result<(), KernelError>, LedgerError> {
        // The types decide on the table features; the names and the partition
        // columns are put into the entry by the committer.
        let types = Arc::new(self.prepared.lines.layout.nameless()?);
        let created = create_table(ROOT, types, ENGINE_INFO, true)
            .with_table_properties([("delta.feature.domainMetadata", "supported")])
            .with_transaction_id(APP_ID, self.prepared.change.from + 1)
            .with_domain_metadata(DOMAIN, self.domain.clone())
            .with_operation_parameters(self.parameters())
            .with_operation_metrics(self.metrics())
            .build(self.engine, committer)
            .and_then(|transaction| transaction.commit(self.engine).and_then(settled));
        Ok(created)
    }

    /// A version of a table that exists.
    fn update(
        &self,
        snapshot: delta_kernel::snapshot::SnapshotRef,
        committer: Box<LogCommitter>,
    ) -> Result<Result<(), KernelError>, LedgerError> {
        let removed = match &self.prepared.change.kind {
            ChangeKind::Append => Vec::new(),
            ChangeKind::Replace => files::scan(&snapshot, self.engine)
                .map_err(|error| kernel_error(self.url, &error))?,
            ChangeKind::Merge { removed } => self.find(&snapshot, removed)?,
        };
        let updated = snapshot
            .update_table(UpdateTableOperation::Write, ENGINE_INFO, true)
            .with_transaction_id(APP_ID, self.prepared.change.from + 1)
            .with_domain_metadata(DOMAIN, self.domain.clone())
            .with_operation_parameters(self.parameters())
            .with_operation_metrics(self.metrics())
            .build(self.engine, committer)
            .and_then(|mut transaction| {
                removed
                    .into_iter()
                    .for_each(|files| transaction.remove_files(files));
                transaction.commit(self.engine).and_then(settled)
            });
        Ok(updated)
    }

    /// The log's own words for the files to remove. All must be there: another
    /// program may have rewritten one, and then its rows would be doubled.
    fn find(
        &self,
        snapshot: &delta_kernel::snapshot::SnapshotRef,
        paths: &[String],
    ) -> Result<Vec<FilteredEngineData>, LedgerError> {
        let (found, missing) = files::select(snapshot, self.engine, paths)
            .map_err(|error| kernel_error(self.url, &error))?;
        if missing > 0 {
            return Err(LedgerError::ChangedBySomebodyElse {
                url: self.url.to_owned(),
                version: snapshot.version(),
                what: format!("data files ({missing} that this run was rewriting are gone)"),
            });
        }
        Ok(found)
    }

    fn parameters(&self) -> [(&'static str, Option<String>); 2] {
        let mode = match self.prepared.change.kind {
            ChangeKind::Replace => "Overwrite",
            ChangeKind::Append => "Append",
            ChangeKind::Merge { .. } => "Merge",
        };
        let columns = serde_json::json!(self.prepared.lines.layout.partition_columns).to_string();
        [
            ("mode", Some(mode.to_owned())),
            ("partitionBy", Some(columns)),
        ]
    }

    fn metrics(&self) -> [(&'static str, Option<String>); 3] {
        [
            ("numFiles", Some(self.prepared.lines.adds.len().to_string())),
            ("numOutputRows", Some(self.prepared.rows.to_string())),
            ("numOutputBytes", Some(self.prepared.bytes.to_string())),
        ]
    }
}

/// The committer has recorded what happened; only errors are news.
pub(super) fn settled<S>(result: CommitResult<S>) -> Result<(), KernelError> {
    match result {
        CommitResult::Committed(_) | CommitResult::Conflicted(_) => Ok(()),
        CommitResult::Retryable(retryable) => Err(retryable.error),
    }
}
