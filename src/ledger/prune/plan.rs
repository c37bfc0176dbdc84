//! What is retained, and what may go.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::super::checkpoint;
use super::super::committer::log_path;
use super::super::entries::{self, Entry, LogFolder, Pruned, load_folders};
use super::super::error::LedgerError;
use super::super::executor::engine;
use super::super::load_log::{LoadError, LoadLog};
use super::super::verify::Evidence;
use super::super::view::{self, Head, View};
use super::{Keep, PruneOutcome, names, staged};
use crate::store::{Store, StoreError};

/// How many entries are read at once.
const READS: usize = 16;
/// How many names of others are told.
const MOST_NAMES: usize = 5;

/// What would be removed, and the head that this was decided by.
#[derive(Debug)]
pub(in crate::ledger) struct Plan {
    basis: Basis,
    pub(in crate::ledger) pruned: Pruned,
    pub(in crate::ledger) log: Vec<Path>,
    pub(in crate::ledger) data: Vec<Path>,
    pub(in crate::ledger) loads: Vec<Path>,
    pub(in crate::ledger) staged: Vec<PathBuf>,
    pub(in crate::ledger) outcome: PruneOutcome,
}

/// What must still be so when the plan is carried out.
#[derive(Debug, PartialEq)]
struct Basis {
    head: Head,
    /// Files that the open load names.
    loading: BTreeSet<String>,
}

impl Plan {
    /// `None` where there is no table: a first load may be under way.
    pub(in crate::ledger) async fn make(
        store: &Store,
        evidence: &Evidence,
        keep: &Keep,
        now: DateTime<Utc>,
    ) -> Result<Option<Self>, LedgerError> {
        let loads = load_folders(store).await?;
        let folder = LogFolder::list(store).await?;
        let engine = engine(store);
        let Some(now_there) = view::read(store, &engine).await? else {
            return Ok(None);
        };
        let basis = Basis::of(store, &now_there).await?;
        let head = &basis.head;
        let before = Pruned::read(store).await?;
        let born = match folder.entries.contains_key(&0) {
            true => entry(store, 0).await?.record.map(|record| record.run),
            false => before.born,
        };
        if let Some(found) = evidence.forbids(head, &loads, born) {
            return Err(LedgerError::NotPruned {
                url: store.url().to_string(),
                why: found,
            });
        }
        let oldest = oldest_retained(&folder, head.version, keep, now).max(before.oldest_retained);
        let mut referenced = retained_files(store, oldest, head.version).await?;
        let named = now_there.files(&engine, store.url().to_string()).await?;
        referenced.extend(named.iter().flat_map(|file| both_forms(&file.path)));
        #[cfg(test)]
        let blind = keep.blind_to_loads;
        #[cfg(not(test))]
        let blind = false;
        if !blind {
            referenced.extend(basis.loading.iter().flat_map(|path| both_forms(path)));
        }
        let log_starts = log_starts(&folder, oldest).max(before.log_starts);
        let versions = folder.entries.range(before.oldest_retained..oldest).count() as u64;
        let mut plan = Self {
            pruned: Pruned {
                log_starts,
                oldest_retained: oldest,
                born,
            },
            log: Vec::new(),
            data: Vec::new(),
            loads: Vec::new(),
            staged: Vec::new(),
            outcome: PruneOutcome {
                version: Some(head.version),
                oldest_retained: Some(oldest),
                versions,
                ..PruneOutcome::default()
            },
            basis,
        };
        plan.add_log(&folder);
        plan.add_files(store, &referenced, keep, now).await?;
        (plan.staged, plan.outcome.staged) = staged::find(store, now, keep.young).await?;
        Ok(Some(plan))
    }

    /// Whether the table is as it was when the plan was made (C4).
    pub(in crate::ledger) async fn still_holds(&self, store: &Store) -> Result<bool, LedgerError> {
        let Some(now_there) = view::read(store, &engine(store)).await? else {
            return Ok(false);
        };
        Ok(Basis::of(store, &now_there).await? == self.basis)
    }

    /// Entries and checkpoints whose part a later checkpoint has taken over.
    fn add_log(&mut self, folder: &LogFolder) {
        let starts = self.pruned.log_starts;
        let entries = folder.entries.range(..starts);
        let entries = entries.map(|(version, (_, size))| (log_path(*version), *size));
        let checkpoints = folder.checkpoints.range(..starts);
        let checkpoints = checkpoints.map(|(version, size)| (checkpoint::path(*version), *size));
        let others = folder
            .others
            .iter()
            .filter(|(version, ..)| *version < starts);
        let others = others.map(|(_, path, size)| (path.clone(), *size));
        for (path, size) in entries.chain(checkpoints).chain(others) {
            self.outcome.log.add(size);
            self.log.push(path);
        }
    }

    async fn add_files(
        &mut self,
        store: &Store,
        referenced: &HashSet<String>,
        keep: &Keep,
        now: DateTime<Utc>,
    ) -> Result<(), LedgerError> {
        let doing = format!("list {}", store.url());
        let listing = store.objects().list(None);
        let objects: Vec<ObjectMeta> = listing
            .try_collect()
            .await
            .map_err(|error| StoreError::from_object_store(&error, &doing))?;
        let tables_below = tables_below(&objects);
        for object in objects {
            let path = object.location.as_ref();
            let old = is_older(object.last_modified, keep.young, now);
            let ended = ended_load(path).is_some_and(|from| from < self.basis.head.commit);
            if ended && old {
                self.outcome.loads.add(object.size);
                self.loads.push(object.location);
            } else if path.starts_with("_delta_log/") || path.starts_with("_highwater/") {
                // Not data.
            } else if tables_below
                .iter()
                .any(|table| path.starts_with(table.as_str()))
                || !names::is_data(object.location.filename().unwrap_or_default())
            {
                if !referenced.contains(path) {
                    self.foreign(path, object.size);
                }
            } else if !referenced.contains(path) && old {
                self.outcome.data.add(object.size);
                self.data.push(object.location);
            } else if !referenced.contains(path) {
                self.outcome.young.add(object.size);
            }
        }
        Ok(())
    }

    fn foreign(&mut self, path: &str, size: u64) {
        self.outcome.foreign.add(size);
        if self.outcome.foreign_names.len() < MOST_NAMES {
            self.outcome.foreign_names.push(path.to_owned());
        }
    }
}

impl Basis {
    async fn of(store: &Store, view: &View) -> Result<Self, LedgerError> {
        let head = view.head.clone();
        let load = LoadLog::open(store, head.commit).await;
        let load = load.map_err(|error| match error {
            LoadError::Store(error) => LedgerError::Store(error),
            other => LedgerError::NotPruned {
                url: store.url().to_string(),
                why: other.to_string(),
            },
        })?;
        let files = load.state().into_iter().flat_map(|state| &state.files);
        Ok(Self {
            loading: files.map(|file| file.path.clone()).collect(),
            head,
        })
    }
}

/// The oldest version that is retained: young, or among the newest, or current
/// when the young ones began.
fn oldest_retained(folder: &LogFolder, head: u64, keep: &Keep, now: DateTime<Utc>) -> u64 {
    let by_number = (head + 1).saturating_sub(keep.versions.max(1));
    let old = folder
        .entries
        .iter()
        .take_while(|(_, (modified, _))| is_older(*modified, keep.age, now));
    let by_age = old.map(|(version, _)| *version).last();
    // Where none is old, all are young: down to the first that is there.
    let first = folder.entries.keys().next().copied().unwrap_or_default();
    by_number.min(by_age.unwrap_or(first))
}

/// Where the log may begin: at the last checkpoint that all retained versions can
/// be read from.
fn log_starts(folder: &LogFolder, oldest: u64) -> u64 {
    let checkpoints = folder.checkpoints.range(..=oldest).rev();
    let whole = |version: &u64| folder.entries.contains_key(version);
    checkpoints
        .map(|(version, _)| *version)
        .find(whole)
        .unwrap_or_default()
}

/// Every file that a version from `oldest` to `head` references: those of
/// `oldest`, and what later entries add.
async fn retained_files(
    store: &Store,
    oldest: u64,
    head: u64,
) -> Result<HashSet<String>, LedgerError> {
    let engine = engine(store);
    let base = view::read_at(store, &engine, oldest).await?;
    let base = base.files(&engine, store.url().to_string()).await?;
    let mut files: HashSet<String> = base
        .iter()
        .flat_map(|file| both_forms(&file.path))
        .collect();
    let mut entries = futures::stream::iter(oldest + 1..=head)
        .map(|version| entry(store, version))
        .buffered(READS);
    while let Some(entry) = entries.try_next().await? {
        files.extend(entry.adds.iter().flat_map(|(path, _)| both_forms(path)));
    }
    Ok(files)
}

/// An entry that must be there and be readable: else nothing is removed.
async fn entry(store: &Store, version: u64) -> Result<Entry, LedgerError> {
    let path = log_path(version);
    let damaged = |what: String| LedgerError::Damaged {
        url: store.url().to_string(),
        what,
    };
    let bytes = entries::read(store, &path).await?;
    let bytes = bytes.ok_or_else(|| damaged(format!("entry {version} is missing")))?;
    Entry::parse(&bytes).map_err(|what| damaged(format!("entry {version}: {what}")))
}

/// A file's name in the store, from its name in the log; and the name in the log
/// too, in case that somebody did not escape it.
fn both_forms(path: &str) -> impl Iterator<Item = String> + use<> {
    let decoded = Path::from_url_path(path).ok().map(String::from);
    decoded.into_iter().chain([path.to_owned()])
}

/// By the store's clock alone (C5); what is from the future is young.
fn is_older(modified: DateTime<Utc>, age: Duration, now: DateTime<Utc>) -> bool {
    (now - modified).to_std().is_ok_and(|passed| passed > age)
}

/// The commit that the load of a load log entry began from.
fn ended_load(path: &str) -> Option<i64> {
    let rest = path.strip_prefix("_highwater/loads/")?;
    rest.split_once('/')?.0.parse().ok()
}

/// Folders below this one that are tables of their own.
fn tables_below(objects: &[ObjectMeta]) -> BTreeSet<String> {
    let table = |object: &ObjectMeta| {
        let path = object.location.as_ref();
        let sign = ["/_delta_log/", "/_highwater/"];
        let end = sign.iter().filter_map(|sign| path.find(sign)).min()?;
        path.get(..=end).map(str::to_owned)
    };
    objects.iter().filter_map(table).collect()
}
