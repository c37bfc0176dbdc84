//! The entries of a log against each other, and against its checkpoints (C7).

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _};
use uuid::Uuid;

use super::super::committer::log_path;
use super::super::entries::{self, Added, Entry, LogFolder, Pruned};
use super::super::error::LedgerError;
use super::super::files::LoggedFile;
use super::super::past::{At, PastTable};
use super::super::{checkpoint, record::CommitRecord};
use super::{Finding, FindingKind};
use crate::store::{Store, StoreError};

/// How many entries are read at once.
const READS: usize = 16;

/// The retained part of a log.
pub(super) struct Log {
    /// Each entry, or why it cannot be understood.
    pub(super) entries: BTreeMap<u64, Result<Entry, String>>,
    /// The run that created the table, where that is still known.
    pub(super) born: Option<Uuid>,
    folder: LogFolder,
}

/// Reads all entries that `prune` has not given up.
pub(super) async fn read(store: &Store, pruned: Pruned) -> Result<Log, StoreError> {
    let folder = LogFolder::list(store).await?;
    let retained = folder.entries.range(pruned.log_starts..);
    let versions: Vec<u64> = retained.map(|(version, _)| *version).collect();
    let entries: Vec<Option<_>> = futures::stream::iter(versions)
        .map(|version| async move {
            let bytes = entries::read(store, &log_path(version)).await?;
            Ok::<_, StoreError>(bytes.map(|bytes| (version, Entry::parse(&bytes))))
        })
        .buffered(READS)
        .try_collect()
        .await?;
    let mut log = Log {
        entries: entries.into_iter().flatten().collect(),
        born: pruned.born,
        folder,
    };
    log.born = log.record(0).map(|record| record.run).or(log.born);
    Ok(log)
}

impl Log {
    /// What is wrong with the log by itself.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = self.gaps();
        for (version, entry) in &self.entries {
            match entry {
                Err(what) => findings.push(changed(*version, format!("it is no entry: {what}"))),
                Ok(entry) => findings.extend(self.entry(*version, entry)),
            }
        }
        findings.extend(self.order());
        findings
    }

    /// The record of one entry, where it is ours and can be read.
    pub(super) fn record(&self, version: u64) -> Option<&CommitRecord> {
        self.entries.get(&version)?.as_ref().ok()?.record.as_ref()
    }

    fn gaps(&self) -> Vec<Finding> {
        let (Some((&first, _)), Some((&last, _))) = (
            self.entries.first_key_value(),
            self.entries.last_key_value(),
        ) else {
            return Vec::new();
        };
        let mut findings = Vec::new();
        // Retention leaves a checkpoint in the place of what it removed.
        if first > 0 && !self.folder.checkpoints.contains_key(&first) {
            findings.push(missing(0, first - 1));
        }
        let versions: Vec<u64> = self.entries.keys().copied().collect();
        for pair in versions.windows(2) {
            if let [before, after] = *pair
                && after > before + 1
            {
                findings.push(missing(before + 1, after - 1));
            }
        }
        let newest = self.folder.checkpoints.last_key_value();
        if let Some((&checkpoint, _)) = newest.filter(|(version, _)| **version > last) {
            findings.push(missing(last + 1, checkpoint));
        }
        findings
    }

    fn entry(&self, version: u64, entry: &Entry) -> Vec<Finding> {
        let mut findings = Vec::new();
        if entry.sealed == Some(false) {
            findings.push(changed(version, "it is not what was sealed".to_owned()));
        }
        match (entry.commit, &entry.record) {
            (Some(commit), Some(record)) if commit != record.commit => {
                let what = format!("its txn is commit {commit}, its record {}", record.commit);
                findings.push(changed(version, what));
            }
            (Some(_), None) => {
                let what = "it is a commit of ours without its record";
                findings.push(changed(version, what.to_owned()));
            }
            (None, Some(record)) if record.rewrite.is_none() => {
                let what = "it has our record, but no txn of ours";
                findings.push(changed(version, what.to_owned()));
            }
            _ => {}
        }
        let previous = entry.record.as_ref().and_then(|r| r.previous.as_ref());
        let before = version.checked_sub(1).and_then(|v| self.entries.get(&v));
        if let (Some(previous), Some(Ok(before))) = (previous, before)
            && before.sha256 != *previous
        {
            let what = format!("entry {version} knew it with another content");
            findings.push(changed(version - 1, what));
        }
        findings
    }

    /// Our commits, one after the other (C3).
    fn order(&self) -> Vec<Finding> {
        let ours = self.entries.iter().filter_map(|(version, entry)| {
            let record = entry.as_ref().ok()?.record.as_ref()?;
            Some((*version, record))
        });
        let ours: Vec<(u64, &CommitRecord)> = ours.collect();
        let mut findings = Vec::new();
        for pair in ours.windows(2) {
            let [(_, before), (version, record)] = *pair else {
                continue;
            };
            let mut wrong = |what: String| {
                let path = log_path(version);
                findings.push(Finding::new(FindingKind::LogOrder, path, what).advise(RESTORE));
            };
            if record.rewrite.is_some() {
                if record.commit != before.commit || record.to != before.to {
                    wrong("it laid rows out anew, but says another commit".to_owned());
                }
            } else if record.commit != before.commit + 1 {
                wrong(format!(
                    "it is commit {}, the one before it is {}",
                    record.commit, before.commit
                ));
            } else if record.from.as_ref() != Some(&before.to) {
                wrong("it does not start where the commit before it ended".to_owned());
            }
        }
        findings
    }

    /// Whether the newest state, read by way of a checkpoint, is what the entries
    /// say without it.
    pub(super) async fn against_head(
        &self,
        store: &Store,
        version: u64,
        files: &[LoggedFile],
    ) -> Result<Option<Finding>, LedgerError> {
        let first = self.entries.first_key_value().map(|(first, _)| *first);
        let newest = self.folder.checkpoints.last_key_value().map(|(v, _)| *v);
        let (Some(first), Some(newest)) = (first, newest) else {
            return Ok(None);
        };
        let readable = self.entries.values().all(Result::is_ok);
        if newest <= first || !readable {
            return Ok(None);
        }
        let mut state = BTreeMap::new();
        if first > 0 {
            let base = PastTable::open(store.clone(), At::Version(first)).await?;
            state.extend(base.files().await?.iter().map(logged));
        }
        let after = if first > 0 { first + 1 } else { 0 };
        for entry in self.entries.range(after..=version).map(|(_, entry)| entry) {
            let Ok(entry) = entry else { continue };
            for path in &entry.removes {
                state.remove(path);
            }
            state.extend(entry.adds.iter().cloned());
        }
        let head: BTreeMap<String, Added> = files.iter().map(logged).collect();
        let same = state == head;
        Ok((!same).then(|| {
            let what = "with it the table has other files than by the entries alone";
            Finding::new(
                FindingKind::CheckpointDiffers,
                checkpoint::path(newest),
                what,
            )
            .advise("remove the checkpoint and _last_checkpoint; the next runs write new ones")
        }))
    }
}

const RESTORE: &str = "restore the entry from a copy of the lake; without one, restore the table from its source by \
     a run into a new folder";

fn logged(file: &LoggedFile) -> (String, Added) {
    let added = Added {
        bytes: file.bytes,
        sha256: file.sha256.clone(),
    };
    (file.path.clone(), added)
}

fn changed(version: u64, what: String) -> Finding {
    Finding::new(FindingKind::LogChanged, log_path(version), what).advise(RESTORE)
}

fn missing(from: u64, to: u64) -> Finding {
    let what = if from == to {
        format!("entry {from} is missing")
    } else {
        format!("entries {from} to {to} are missing")
    };
    Finding::new(FindingKind::LogGap, log_path(from), what).advise(RESTORE)
}
