//! What became of objects.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::wrap;
use super::{Exit, TableError};
use crate::telemetry::units;

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
    /// Requests that were repeated.
    pub retries: u64,
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

/// Failures that are told to people.
const MOST_TOLD: usize = 10;

impl ObjectsReport {
    /// Adds what another process of the run has used. What was counted of objects
    /// comes by way of the tally.
    pub fn join(&mut self, other: &Self) {
        for (kind, count) in &other.requests {
            *self.requests.entry(kind.clone()).or_default() += count;
        }
        self.retries += other.retries;
        self.peak_at_once += other.peak_at_once;
        self.settled_at_once.0 += other.settled_at_once.0;
        self.settled_at_once.1 += other.settled_at_once.1;
    }

    /// The report for people, at most `width` columns wide.
    #[must_use]
    pub fn render(&self, width: usize, verbose: bool) -> String {
        let mut lines = vec![self.headline()];
        if self.extra > 0 {
            lines.push(self.about_extra());
        }
        if self.vanished > 0 {
            lines.push(format!(
                "{} gone between the listing and the copy",
                units::counted(self.vanished, "object")
            ));
        }
        if !self.dry_run && self.copied > 0 {
            lines.push(self.about_speed());
        }
        let requests: Vec<String> = self
            .requests
            .iter()
            .map(|(kind, count)| format!("{kind} {}", units::count(*count)))
            .collect();
        if !requests.is_empty() {
            lines.push(format!(
                "requests: {}; {} repeated",
                requests.join(", "),
                units::count(self.retries)
            ));
        }
        if verbose {
            lines.extend(self.slowest.iter().map(|slow| {
                format!(
                    "slow: {:?}, {}, {:.1} s",
                    slow.key,
                    units::bytes(slow.bytes),
                    slow.seconds
                )
            }));
        }
        let most = if verbose { MOST_NAMED } else { MOST_TOLD };
        for failure in self.failures.iter().take(most) {
            lines.push(format!("! {:?}: {}", failure.key, failure.reason));
        }
        let untold = self
            .failed
            .saturating_sub(most.min(self.failures.len()) as u64);
        if untold > 0 {
            lines.push(format!("! and {} more failed", units::count(untold)));
        }
        lines
            .iter()
            .map(|line| wrap(line, width, 2) + "\n")
            .collect()
    }

    fn headline(&self) -> String {
        let (copied, deleted) = match self.dry_run {
            true => ("to copy", "to delete"),
            false => ("copied", "deleted"),
        };
        let mut parts = vec![
            format!(
                "{} {copied} ({})",
                units::counted(self.copied, "object"),
                units::bytes(self.copied_bytes)
            ),
            format!("{} unchanged", units::count(self.unchanged)),
        ];
        if self.deleted > 0 {
            parts.push(format!("{} {deleted}", units::count(self.deleted)));
        }
        if self.failed > 0 {
            parts.push(format!("{} FAILED", units::count(self.failed)));
        }
        format!("{} -> {}: {}", self.source, self.target, parts.join(", "))
    }

    fn about_extra(&self) -> String {
        let left = self.extra - self.deleted.min(self.extra);
        match left {
            0 => format!(
                "{} only in the target",
                units::counted(self.extra, "object")
            ),
            left => format!(
                "{} only in the target stay (`delete` removes them)",
                units::counted(left, "object")
            ),
        }
    }

    fn about_speed(&self) -> String {
        format!(
            "{} objects/s, {}, at most {} at once",
            units::count(units::whole(self.objects_per_second)),
            units::rate(self.bytes_per_second),
            units::count(self.peak_at_once)
        )
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
