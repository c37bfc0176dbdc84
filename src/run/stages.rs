//! Time spent by stage, for the report: counters that workers add to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A duration that grows.
#[derive(Debug, Default)]
pub struct Stage(AtomicU64);

impl Stage {
    /// Adds time spent.
    pub fn add(&self, spent: Duration) {
        let nanos = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// The stages of a run. Stages overlap and are summed over workers, so that
/// together they may be longer than the run.
#[derive(Debug, Default)]
pub struct Stages {
    /// Discovery, snapshot, splits, opening of tables.
    pub plan: Stage,
    /// Finding what has changed.
    pub find: Stage,
    /// Reading and decoding, over all readers, with the waiting for the source.
    pub read: Stage,
    /// Making text of documents, with the waiting for a process that does; of
    /// `paper-index` only, as is the next one.
    pub extract: Stage,
    /// Making vectors here, over all workers: processor time, not that of the clock.
    pub embed: Stage,
    /// Encoding and compressing, over all workers.
    pub encode: Stage,
    /// Files open at the store, over all files.
    pub upload: Stage,
    /// Recording epochs and publishing tables.
    pub commit: Stage,
}

impl Stages {
    /// Seconds by stage.
    #[must_use]
    pub fn seconds(&self) -> BTreeMap<String, f64> {
        let always = [
            ("plan", &self.plan),
            ("find", &self.find),
            ("read", &self.read),
            ("encode", &self.encode),
            ("upload", &self.upload),
            ("commit", &self.commit),
        ];
        let seldom = [("extract", &self.extract), ("embed", &self.embed)];
        let seldom = seldom
            .into_iter()
            .filter(|(_, stage)| !stage.total().is_zero());
        always
            .into_iter()
            .chain(seldom)
            .map(|(name, stage)| (name.to_owned(), stage.total().as_secs_f64()))
            .collect()
    }
}
