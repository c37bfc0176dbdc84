//! [`PastTable`]: a table as it was, to be read only.
//!
//! The time of a version is what Delta readers take for it: the in-commit
//! timestamp where the table has the feature (ours do not), else when the store
//! last modified the log entry. It is the store's clock, not the publisher's
//! (C5); a log that was copied elsewhere has the times of the copy.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use delta_kernel::Engine;
use delta_kernel::history_manager::{HistoryCommitType, latest_version_as_of};

use super::error::LedgerError;
use super::executor::{blocking, engine};
use super::files::LoggedFile;
use super::record::CommitRecord;
use super::view::{self, Head, View};
use crate::store::Store;

/// Which state of a table is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// A version.
    Version(u64),
    /// The newest version that is not younger.
    Time(DateTime<Utc>),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "version {version}"),
            Self::Time(time) => write!(f, "{}", time.to_rfc3339_opts(SecondsFormat::Millis, true)),
        }
    }
}

/// A table as it was at one version.
pub struct PastTable {
    store: Store,
    engine: Arc<dyn Engine>,
    view: View,
}

impl fmt::Debug for PastTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PastTable")
            .field("url", &self.store.url().as_str())
            .field("version", &self.view.head.version)
            .finish_non_exhaustive()
    }
}

impl PastTable {
    /// Opens the table at `store` as it was; call within a tokio runtime.
    ///
    /// # Errors
    /// [`LedgerError::NoSuchVersion`], also where `prune` has removed it; the log
    /// cannot be read.
    pub async fn open(store: Store, at: At) -> Result<Self, LedgerError> {
        let engine = engine(&store);
        let Some(now) = view::read(&store, &engine).await? else {
            return Err(no_such_version(&store, at, "it holds no table".to_owned()));
        };
        let newest = now.head.version;
        let version = match at {
            At::Version(version) if version > newest => {
                let why = format!("the newest is version {newest}");
                return Err(no_such_version(&store, at, why));
            }
            At::Version(version) => version,
            At::Time(time) => version_at(&store, &engine, &now, at, time).await?,
        };
        let read = view::read_at(&store, &engine, version).await;
        let view = read.map_err(|error| match error {
            LedgerError::Damaged { what, .. } => no_such_version(&store, at, what),
            other => other,
        })?;
        Ok(Self {
            store,
            engine,
            view,
        })
    }

    /// The table at that version.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.view.head
    }

    /// The record of the newest commit of ours at that version.
    #[must_use]
    pub fn record(&self) -> &CommitRecord {
        &self.view.record
    }

    /// The data files of that version. `prune` may have removed them where the
    /// version is no longer retained.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn files(&self) -> Result<Vec<LoggedFile>, LedgerError> {
        let url = self.store.url().to_string();
        self.view.files(&self.engine, url).await
    }
}

async fn version_at(
    store: &Store,
    engine: &Arc<dyn Engine>,
    now: &View,
    at: At,
    time: DateTime<Utc>,
) -> Result<u64, LedgerError> {
    let (snapshot, engine) = (Arc::clone(&now.snapshot), Arc::clone(engine));
    let store = store.clone();
    blocking(move || {
        let millis = time.timestamp_millis();
        let readable = HistoryCommitType::Recreatable;
        latest_version_as_of(&snapshot, engine.as_ref(), millis, readable)
            .map(|commit| commit.version)
            .map_err(|error| no_such_version(&store, at, error.to_string()))
    })
    .await
}

fn no_such_version(store: &Store, at: At, why: String) -> LedgerError {
    LedgerError::NoSuchVersion {
        url: store.url().to_string(),
        wanted: at.to_string(),
        why,
    }
}
