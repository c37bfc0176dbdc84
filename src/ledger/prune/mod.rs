//! The one place that deletes (C4).
//!
//! A version is retained while it is young, or among the newest, or the one that
//! was current when the young ones began: a lake with `age = "30d"` can be read
//! as of any moment of the last 30 days. A data file goes only if no retained
//! version references it, no open load names it, and it is older than any run
//! that may still be about to name it; ages are the store's (C5). Files that are
//! not named as ours are never touched.
//!
//! The order survives a crash anywhere: first a note of what is given up, so that
//! nobody takes a half-removed past for damage; then old log entries, whose part
//! a checkpoint has taken over; then data files, which no retained entry names.
//! What a crash leaves is found again by the next prune, for it looks at the
//! folder and not at the log.
//!
//! | file | what it holds |
//! |---|---|
//! | `plan` | what is retained, and what may go |
//! | `names` | which names are ours to remove |
//! | `staged` | unfinished uploads in local folders |

mod names;
pub(in crate::ledger) mod plan;
mod staged;

use std::time::Duration;

use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::entries::Pruned;
use super::error::LedgerError;
use super::verify::Evidence;
use crate::store::{Store, StoreError, remove_pruned};
use plan::Plan;

/// A table that is committed to between every plan and its execution is given up
/// after so many plans, until the next prune.
const MOST_PLANS: usize = 5;

/// What stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Versions that are younger.
    pub age: Duration,
    /// So many of the newest versions.
    pub versions: u64,
    /// Files that are younger, whoever references them: a run may be about to
    /// name them. See [`safe_age`].
    pub young: Duration,
    /// Takes the check on open loads away: a control arm.
    #[cfg(test)]
    pub(super) blind_to_loads: bool,
}

impl Keep {
    /// Keeps versions by `age` and by number, and files younger than `young`.
    #[must_use]
    pub const fn new(age: Duration, versions: u64, young: Duration) -> Self {
        Self {
            age,
            versions,
            young,
            #[cfg(test)]
            blind_to_loads: false,
        }
    }
}

/// The age below which no file is removed: seven days, or twice the longest run
/// (C4).
#[must_use]
pub fn safe_age(longest_run: Duration) -> Duration {
    const WEEK: Duration = Duration::from_secs(7 * 86_400);
    WEEK.max(longest_run.saturating_mul(2))
}

/// Some objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Amount {
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// What was removed from one table, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PruneOutcome {
    /// The newest version; `None` where there is no table.
    pub version: Option<u64>,
    /// The oldest version that is retained.
    pub oldest_retained: Option<u64>,
    /// Versions that are given up.
    pub versions: u64,
    /// Data files.
    pub data: Amount,
    /// Log entries and checkpoints.
    pub log: Amount,
    /// Load log entries of loads that are over.
    pub loads: Amount,
    /// Uploads that never ended.
    pub staged: Amount,
    /// Files that nothing references but that are too young to be removed.
    pub young: Amount,
    /// Files that are not named as ours; they stay.
    pub foreign: Amount,
    /// Some of their names.
    pub foreign_names: Vec<String>,
}

/// Prunes the table at `store`, or only says what would go. `now` is the store's
/// present, and `evidence` what run reports say of the table.
///
/// # Errors
/// [`LedgerError::NotPruned`] where the log lacks commits: their files would be
/// taken for leftovers. [`LedgerError::Busy`]; the log or the store fails. What
/// was not removed stays until the next prune.
pub async fn prune_table(
    store: &Store,
    evidence: &Evidence,
    keep: &Keep,
    now: DateTime<Utc>,
    dry_run: bool,
) -> Result<PruneOutcome, LedgerError> {
    for _ in 0..MOST_PLANS {
        let Some(plan) = Plan::make(store, evidence, keep, now).await? else {
            return Ok(PruneOutcome::default());
        };
        if dry_run {
            return Ok(plan.outcome);
        }
        // C4: the head once more, right before anything goes.
        if plan.still_holds(store).await? {
            carry_out(store, &plan).await?;
            return Ok(plan.outcome);
        }
    }
    Err(LedgerError::Busy {
        url: store.url().to_string(),
        attempts: MOST_PLANS,
    })
}

async fn carry_out(store: &Store, plan: &Plan) -> Result<(), LedgerError> {
    if plan.outcome.versions > 0 || !plan.log.is_empty() {
        note(store, plan.pruned).await?;
    }
    for part in [&plan.log, &plan.data, &plan.loads] {
        remove_pruned(store, part).await?;
    }
    staged::remove(&plan.staged).await?;
    Ok(())
}

async fn note(store: &Store, pruned: Pruned) -> Result<(), LedgerError> {
    let path: Path = Pruned::path();
    let text = serde_json::to_string(&pruned)
        .map_err(|error| LedgerError::Invalid(format!("the note of a prune: {error}")))?;
    let put = store
        .objects()
        .put(&path, PutPayload::from(text + "\n"))
        .await;
    put.map_err(|error| {
        StoreError::from_object_store(&error, &format!("write {}", store.url_of(&path)))
    })?;
    Ok(())
}
