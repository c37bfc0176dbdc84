//! [`Rewriter`]: the rows of a Delta table in other files, whoever writes the table.
//!
//! A rewrite adds and removes files in one entry, and changes no row (or drops
//! rows that a newer one of the same key stands for). It reads what was there when
//! it began; what others append meanwhile stays beside it, and where others
//! removed a file that it has rewritten nothing is published: its rows would come
//! back. A table of ours keeps its watermark and its commit number, under a record
//! that says so: the next run goes on as if nothing had happened.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use delta_kernel::snapshot::{Snapshot, SnapshotRef};
use delta_kernel::transaction::UpdateTableOperation;
use delta_kernel::{Engine, FilteredEngineData};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::change::{Laid, add_line, check_file};
use super::checkpoint;
use super::committer::{Lines, LogCommitter, Outcome};
use super::data_file::DataFile;
use super::error::LedgerError;
use super::executor::{blocking, engine};
use super::files::{self, LoggedFile};
use super::record::{CommitRecord, FORMAT, RewriteKind};
use super::schema::{Layout, arrow_schema};
use super::table::{ENGINE_INFO, MOST_REBASES, hash_of_entry, settled};
use super::view::{self, FEATURES_OF_ROWS, Head, View, kernel_error};
use super::{DOMAIN, ROOT, now, seal};
use crate::store::{Patience, PutOnce, Store};

/// What one rewrite publishes.
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// The run.
    pub run: Uuid,
    /// Paths of the files that were rewritten, as the log has them.
    pub removed: Vec<String>,
    /// The durable files that hold their rows.
    pub added: Vec<DataFile>,
    /// The order of the rows in the added files, for whoever compacts again.
    pub order: Option<String>,
    /// What became of the rows.
    pub kind: RewriteKind,
    /// The partition columns after the rewrite, where they change: then all files
    /// must be among the removed ones.
    pub partition_columns: Option<Vec<String>>,
}

/// What became of a rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewritten {
    /// The version that it made.
    pub version: u64,
    /// How many commits of others it followed.
    pub rebased: u64,
}

/// The handle of a table whose files are rewritten.
pub struct Rewriter {
    store: Store,
    engine: Arc<dyn Engine>,
    patience: Patience,
    state: State,
}

/// The table at one version.
#[derive(Clone)]
struct State {
    snapshot: SnapshotRef,
    /// Present where the table is ours.
    view: Option<View>,
    partition_columns: Vec<String>,
}

impl fmt::Debug for Rewriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rewriter")
            .field("url", &self.store.url().as_str())
            .finish_non_exhaustive()
    }
}

impl Rewriter {
    /// Reads the log of the table at `store`. Call within a tokio runtime, and
    /// keep using it within the same one.
    ///
    /// # Errors
    /// There is no table; it needs what we cannot write, which is named; the log
    /// cannot be read.
    pub async fn open(store: Store) -> Result<Self, LedgerError> {
        let engine = engine(&store);
        let state = read(&store, &engine).await?;
        let url = store.url().to_string();
        let (probed, probe) = (state.clone(), Arc::clone(&engine));
        // The kernel refuses what it cannot write when a transaction is made:
        // better now than after the work.
        let nothing = LogCommitter {
            store: store.clone(),
            patience: Patience::default(),
            runtime: Handle::current(),
            lines: Arc::new(Lines {
                layout: probed.layout(None)?,
                adds: Vec::new(),
            }),
            id: None,
            new_layout: false,
            outcome: Arc::default(),
        };
        blocking(move || {
            Arc::clone(&probed.snapshot)
                .update_table(UpdateTableOperation::Optimize, ENGINE_INFO, false)
                .build(probe.as_ref(), Box::new(nothing))
                .map(drop)
                .map_err(|error| kernel_error(&url, &error))
        })
        .await?;
        Ok(Self {
            store,
            engine,
            patience: Patience::default(),
            state,
        })
    }

    /// The table's schema.
    ///
    /// # Errors
    /// It has no Arrow form.
    pub fn schema(&self) -> Result<SchemaRef, LedgerError> {
        Ok(Arc::new(arrow_schema(&self.state.snapshot.schema())?))
    }

    /// The partition columns.
    #[must_use]
    pub fn partition_columns(&self) -> &[String] {
        &self.state.partition_columns
    }

    /// The version that was read.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.state.snapshot.version()
    }

    /// What tells the table from one that is made anew at the same place.
    #[must_use]
    pub fn table_id(&self) -> &str {
        self.state.snapshot.table_configuration().metadata().id()
    }

    /// What our last commit says; `None` for tables of others.
    #[must_use]
    pub fn head(&self) -> Option<&Head> {
        self.state.view.as_ref().map(|view| &view.head)
    }

    /// The table's folder.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The data files of the version that was read.
    ///
    /// # Errors
    /// The log cannot be read; rows were deleted without rewriting their file
    /// (deletion vectors), or a file lies outside the table's folder.
    pub async fn files(&self) -> Result<Vec<LoggedFile>, LedgerError> {
        let (snapshot, engine) = (Arc::clone(&self.state.snapshot), Arc::clone(&self.engine));
        let url = self.url();
        let found = blocking(move || {
            let mut found = Vec::new();
            files::visit(&snapshot, engine.as_ref(), |file| found.push(file))
                .map_err(|error| kernel_error(&url, &error))?;
            Ok(found)
        })
        .await?;
        let unsupported = |what: String| LedgerError::Unsupported {
            url: self.url(),
            what,
        };
        if let Some(file) = found.iter().find(|file| file.deleted_rows > 0) {
            let what = format!("deletion vectors (rows of {} are deleted)", file.path);
            return Err(unsupported(what));
        }
        if let Some(file) = found.iter().find(|file| file.path.contains("://")) {
            let what = format!("a file outside its folder ({})", file.path);
            return Err(unsupported(what));
        }
        Ok(found)
    }

    /// Publishes the rewrite in one entry, after whatever others have published.
    ///
    /// # Errors
    /// [`LedgerError::FilesGone`]: somebody removed a file that was rewritten;
    /// [`LedgerError::ChangedBySomebodyElse`]; [`LedgerError::Store`] of kind
    /// `Unknown` where it could not be found out whether the entry was published;
    /// whatever else says that nothing was published.
    pub async fn commit(&mut self, rewrite: &Rewrite) -> Result<Rewritten, LedgerError> {
        let columns = rewrite.partition_columns.as_deref();
        let columns = columns.unwrap_or(&self.state.partition_columns);
        let written = chrono::Utc::now().timestamp_millis();
        let laid = Laid {
            data_change: rewrite.kind == RewriteKind::Newest,
            order: rewrite.order.as_deref(),
        };
        let add = |file: &DataFile| {
            check_file(file, columns)?;
            Ok(add_line(file, written, laid))
        };
        let adds = rewrite.added.iter().map(add);
        let lines = Arc::new(Lines {
            layout: self.state.layout(rewrite.partition_columns.clone())?,
            adds: adds.collect::<Result<_, LedgerError>>()?,
        });
        let basis = self.version();
        for _ in 0..MOST_REBASES {
            let state = read(&self.store, &self.engine).await?;
            self.check(&state)?;
            if let Some(version) = self.attempt(&state, rewrite, &lines).await? {
                self.go_on(version).await;
                return Ok(Rewritten {
                    version,
                    rebased: version.saturating_sub(basis + 1),
                });
            }
            // Normally the listing shows at once what was there first.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(LedgerError::Busy {
            url: self.url(),
            attempts: MOST_REBASES,
        })
    }

    fn url(&self) -> String {
        self.store.url().to_string()
    }

    /// The table must still have the shape that the rows were written in.
    fn check(&self, now: &State) -> Result<(), LedgerError> {
        match changed(&self.state, now) {
            None => Ok(()),
            Some(what) => Err(LedgerError::ChangedBySomebodyElse {
                url: self.url(),
                version: now.snapshot.version(),
                what: what.to_owned(),
            }),
        }
    }

    /// Puts one entry after `state`; `None` where another came first.
    async fn attempt(
        &self,
        state: &State,
        rewrite: &Rewrite,
        lines: &Arc<Lines>,
    ) -> Result<Option<u64>, LedgerError> {
        let version = state.snapshot.version() + 1;
        let record = self.record_for(state, rewrite).await?;
        let outcome: Outcome = Arc::new(Mutex::new(None));
        let committer = Box::new(LogCommitter {
            store: self.store.clone(),
            patience: self.patience,
            runtime: Handle::current(),
            lines: Arc::clone(lines),
            id: record.as_ref().map(|record| record.id),
            new_layout: rewrite.partition_columns.is_some(),
            outcome: Arc::clone(&outcome),
        });
        let domain = record
            .map(|record| serde_json::to_string(&record))
            .transpose();
        let domain =
            domain.map_err(|error| LedgerError::Invalid(format!("the watermark: {error}")))?;
        let transaction = Transaction {
            snapshot: Arc::clone(&state.snapshot),
            removed: rewrite.removed.clone(),
            all: rewrite.partition_columns.is_some(),
            metrics: [
                ("numRemovedFiles", rewrite.removed.len()),
                ("numAddedFiles", rewrite.added.len()),
            ],
            data_change: rewrite.kind == RewriteKind::Newest,
            order: rewrite.order.clone(),
            domain,
        };
        let (engine, url) = (Arc::clone(&self.engine), self.url());
        blocking(move || {
            let told = transaction.commit(engine.as_ref(), committer, &url)?;
            // The outcome of the put is the truth; see `Ledger`.
            let outcome = outcome.lock().ok().and_then(|mut outcome| outcome.take());
            match (outcome, told) {
                (Some(Ok(PutOnce::Committed)), _) => Ok(Some(version)),
                (Some(Ok(PutOnce::Lost { .. })), _) => Ok(None),
                (Some(Err(error)), _) => Err(error.into()),
                (None, Err(error)) => Err(kernel_error(&url, &error)),
                (None, Ok(())) => Err(LedgerError::Invalid("nothing was published".to_owned())),
            }
        })
        .await
    }

    /// The record that keeps a table of ours what it is. Where another program
    /// has changed the table none is written: the next run must still see that.
    async fn record_for(
        &self,
        state: &State,
        rewrite: &Rewrite,
    ) -> Result<Option<CommitRecord>, LedgerError> {
        let ours = state.view.as_ref();
        let Some(view) = ours.filter(|view| !view.head.changed_by_others) else {
            return Ok(None);
        };
        let id = Uuid::now_v7();
        let watermark = &view.record.to;
        Ok(Some(CommitRecord {
            format: FORMAT,
            id,
            run: rewrite.run,
            at: now(),
            commit: view.record.commit,
            version: view.head.version + 1,
            from: Some(watermark.clone()),
            to: watermark.clone(),
            previous: hash_of_entry(&self.store, view.head.version).await?,
            seal: Some(seal::blank(id)),
            rewrite: Some(rewrite.kind),
        }))
    }

    /// The commit is public whatever becomes of this.
    async fn go_on(&mut self, version: u64) {
        match read(&self.store, &self.engine).await {
            Ok(state) => self.state = state,
            Err(error) => {
                tracing::warn!(%error, version, "committed, but the log cannot be read back now");
                return;
            }
        }
        let snapshot = &self.state.snapshot;
        if self.state.view.is_some()
            && checkpoint::is_due(snapshot)
            && let Err(error) = checkpoint::write(&self.store, &self.engine, snapshot).await
        {
            tracing::warn!(%error, "committed, but no checkpoint of the log could be written");
        }
    }
}

impl State {
    /// The table's shape, perhaps with other partition columns.
    fn layout(&self, partition_columns: Option<Vec<String>>) -> Result<Layout, LedgerError> {
        let schema = self.snapshot.schema();
        let schema_string = serde_json::to_string(schema.as_ref())
            .map_err(|error| LedgerError::Invalid(format!("the schema: {error}")))?;
        Ok(Layout {
            schema: schema.as_ref().clone(),
            schema_string,
            partition_columns: partition_columns.unwrap_or_else(|| self.partition_columns.clone()),
            timestamp_ntz: false,
        })
    }
}

/// The first thing that another program must not change while files are rewritten.
fn changed(then: &State, now: &State) -> Option<&'static str> {
    let (was, is) = (
        then.snapshot.table_configuration(),
        now.snapshot.table_configuration(),
    );
    if is.logical_schema() != was.logical_schema() {
        Some("columns")
    } else if now.partition_columns != then.partition_columns {
        Some("partition columns")
    } else if is.protocol() != was.protocol() {
        Some("protocol (table features)")
    } else if is.metadata().id() != was.metadata().id() {
        Some("identity (it was created anew)")
    } else {
        None
    }
}

/// Reads the log of the table at `store`.
async fn read(store: &Store, engine: &Arc<dyn Engine>) -> Result<State, LedgerError> {
    let url = store.url().to_string();
    if !view::has_log(store).await? {
        return Err(LedgerError::NoTable { url });
    }
    let engine = Arc::clone(engine);
    blocking(move || {
        let snapshot = Snapshot::builder_for(ROOT)
            .build(engine.as_ref())
            .map_err(|error| kernel_error(&url, &error))?;
        view::check_features(&snapshot, FEATURES_OF_ROWS, &url)?;
        let view = match view::view(Arc::clone(&snapshot), engine.as_ref(), &url) {
            Ok(view) => Some(view),
            Err(LedgerError::NotOurs { .. }) => None,
            Err(error) => return Err(error),
        };
        let configuration = snapshot.table_configuration();
        let partition_columns = configuration.logical_partition_columns().to_vec();
        Ok(State {
            snapshot,
            view,
            partition_columns,
        })
    })
    .await
}

/// One transaction of the kernel.
struct Transaction {
    snapshot: SnapshotRef,
    removed: Vec<String>,
    /// Whether no other file may be there.
    all: bool,
    metrics: [(&'static str, usize); 2],
    data_change: bool,
    order: Option<String>,
    domain: Option<String>,
}

impl Transaction {
    fn commit(
        self,
        engine: &dyn Engine,
        committer: Box<LogCommitter>,
        url: &str,
    ) -> Result<Result<(), delta_kernel::KernelError>, LedgerError> {
        let removed = self.find(engine, url)?;
        let metrics = self.metrics;
        let metrics = metrics.map(|(name, count)| (name, Some(count.to_string())));
        let mut transaction = self
            .snapshot
            .update_table(
                UpdateTableOperation::Optimize,
                ENGINE_INFO,
                self.data_change,
            )
            .with_operation_parameters([("order", self.order)])
            .with_operation_metrics(metrics);
        if let Some(domain) = self.domain {
            transaction = transaction.with_domain_metadata(DOMAIN, domain);
        }
        Ok(transaction
            .build(engine, committer)
            .and_then(|mut transaction| {
                for files in removed {
                    transaction.remove_files(files);
                }
                transaction.commit(engine).and_then(settled)
            }))
    }

    /// The log's own words for the files to remove. All must be there.
    fn find(&self, engine: &dyn Engine, url: &str) -> Result<Vec<FilteredEngineData>, LedgerError> {
        let failed = |error| kernel_error(url, &error);
        let (found, missing) =
            files::select(&self.snapshot, engine, &self.removed).map_err(failed)?;
        let mut others = 0_usize;
        if self.all {
            files::visit(&self.snapshot, engine, |_| others += 1).map_err(failed)?;
            others = others.saturating_sub(self.removed.len());
        }
        if missing > 0 {
            return Err(LedgerError::FilesGone {
                url: url.to_owned(),
                version: self.snapshot.version(),
                files: missing,
            });
        }
        if others > 0 {
            return Err(LedgerError::ChangedBySomebodyElse {
                url: url.to_owned(),
                version: self.snapshot.version(),
                what: format!("files ({others} came while the table was partitioned anew)"),
            });
        }
        Ok(found)
    }
}
