//! What became of objects.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Exit, TableError};

/// Failures that are named in a report; the rest is counted.
pub const MOST_NAMED: usize = 100;

/// What a run of `object-sync` did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectsReport {
    /// URL of the source, without secrets.
    pub source: String,
    /// URL of the target, without secrets.
    pub target: String,
    /// Whether nothing was done but comparing.
    pub dry_run: bool,
    /// Objects of the source that were looked at.
    pub source_objects: u64,
    /// Objects of the target that were looked at.
    pub target_objects: u64,
    /// Objects copied, or to be copied.
    pub copied: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Of these, objects that the target did not have at all.
    #[serde(default)]
    pub missing: u64,
    /// Of these, objects that the store copied by itself.
    pub copied_by_store: u64,
    /// Objects that are the same on both sides.
    pub unchanged: u64,
    /// Objects that only the target has.
    pub extra: u64,
    /// Of these, objects that were removed.
    pub deleted: u64,
    /// Objects that could not be copied or removed.
    pub failed: u64,
    /// Of these, names that cannot be an object, or not in the target.
    pub refused: u64,
    /// Objects that were gone when their turn came; they are no failures.
    pub vanished: u64,
    /// Requests, by what they asked for.
    pub requests: BTreeMap<String, u64>,
    /// Requests that a run would send beside those of the comparison, by what they ask
    /// for; of dry runs only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub planned: BTreeMap<String, u64>,
    /// Requests that were repeated.
    pub retries: u64,
    /// Reads that were late and asked a second time.
    #[serde(default)]
    pub hedged: u64,
    /// Of these, reads whose second answer came first.
    #[serde(default)]
    pub hedges_won: u64,
    /// The greatest number of objects that were copied at once.
    pub peak_at_once: u64,
    /// How many at once the run had settled on, small objects and parts of large.
    pub settled_at_once: (u64, u64),
    /// Objects a second.
    pub objects_per_second: f64,
    /// Bytes a second.
    pub bytes_per_second: f64,
    /// The slowest objects, slowest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slowest: Vec<SlowObject>,
    /// The first objects that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailedObject>,
    /// The first objects that differ; of dry runs only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differing: Vec<DifferingObject>,
    /// The version of the record after the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_version: Option<u64>,
    /// Why the run ended early, or did less than it was asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TableError>,
}

/// An object that took long.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SlowObject {
    /// Its key.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// An object that was not copied or removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailedObject {
    /// Its key.
    pub key: String,
    /// Why.
    pub reason: String,
}

/// How an object differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// The target does not have it.
    Missing,
    /// The target has another one.
    Differs,
    /// Only the target has it.
    Extra,
}

/// An object that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DifferingObject {
    /// Its key.
    pub key: String,
    /// How it differs.
    pub how: Difference,
}

impl ObjectsReport {
    /// Adds what another process of the run has used. What was counted of objects
    /// comes by way of the tally.
    pub fn join(&mut self, other: &Self) {
        for (kind, count) in &other.requests {
            *self.requests.entry(kind.clone()).or_default() += count;
        }
        self.retries += other.retries;
        self.hedged += other.hedged;
        self.hedges_won += other.hedges_won;
        self.peak_at_once += other.peak_at_once;
        self.settled_at_once.0 += other.settled_at_once.0;
        self.settled_at_once.1 += other.settled_at_once.1;
    }

    /// Passes every text that may hold a secret through `change`.
    pub fn map_texts(&mut self, change: impl Fn(&str) -> String) {
        for failure in &mut self.failures {
            failure.reason = change(&failure.reason);
        }
        if let Some(error) = &mut self.error {
            error.map_texts(change);
        }
    }

    /// The exit code of a verification: a difference before anything else. What only
    /// the target has is one where a run would remove it.
    #[must_use]
    pub fn exit_of_verify(&self) -> Exit {
        match self.copied + self.deleted {
            0 => self.exit(),
            _ => Exit::Damaged,
        }
    }

    /// The exit code that follows from it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match &self.error {
            Some(error) => error.exit,
            None if self.failed > 0 => Exit::Quarantined,
            None => Exit::Done,
        }
    }

    /// Fills in rates over the time that copying took.
    pub fn rates(&mut self, took: Duration) {
        let seconds = took.as_secs_f64().max(1e-3);
        self.objects_per_second = self.copied as f64 / seconds;
        self.bytes_per_second = self.copied_bytes as f64 / seconds;
    }
}
