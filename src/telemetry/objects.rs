//! What becomes of objects, counted while it happens.
//!
//! One [`ObjectTally`] per run: the operators count, the progress line and the
//! report read.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::run::Failure;
use crate::run::report::{
    Difference, DifferingObject, FailedObject, MOST_NAMED, ObjectsReport, SlowObject,
};

/// Slow objects that are named.
const MOST_SLOW: usize = 10;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters of one run; each is documented by the field of [`ObjectsReport`] that
/// it becomes.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct ObjectTally {
    pub source_objects: Count,
    pub target_objects: Count,
    pub to_copy: Count,
    pub to_copy_bytes: Count,
    pub copied: Count,
    pub copied_bytes: Count,
    pub missing: Count,
    pub copied_by_store: Count,
    pub unchanged: Count,
    pub extra: Count,
    pub deleted: Count,
    pub failed: Count,
    pub refused: Count,
    pub vanished: Count,
    /// Errors that the run may have; see `max_errors`.
    most_errors: Option<u64>,
    /// Set when nothing more is to be begun.
    stop: AtomicBool,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    slowest: BinaryHeap<Reverse<(Duration, u64, String)>>,
    failures: Vec<FailedObject>,
    ended_by: Option<Failure>,
    differing: Vec<DifferingObject>,
    planned: BTreeMap<String, u64>,
}

impl ObjectTally {
    /// A tally that stops the run after more errors than this.
    #[must_use]
    pub fn new(most_errors: Option<u64>) -> Self {
        Self {
            most_errors,
            ..Self::default()
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object is to be copied; `missing` says that the target does not have it.
    pub fn differs(&self, key: &str, bytes: u64, missing: bool) {
        self.to_copy.add(1);
        self.to_copy_bytes.add(bytes);
        self.missing.add(missing.into());
        let how = match missing {
            true => Difference::Missing,
            false => Difference::Differs,
        };
        self.name(key, how, self.to_copy.get());
    }

    /// Only the target has an object.
    pub fn is_extra(&self, key: &str) {
        self.extra.add(1);
        self.name(key, Difference::Extra, self.extra.get());
    }

    fn name(&self, key: &str, how: Difference, nth: u64) {
        if nth <= MOST_NAMED as u64 {
            let key = key.to_owned();
            self.told().differing.push(DifferingObject { key, how });
        }
    }

    /// A run would send so many requests more.
    pub fn would_ask(&self, kind: &str, count: u64) {
        if count > 0 {
            *self.told().planned.entry(kind.to_owned()).or_default() += count;
        }
    }

    /// An object was copied.
    pub fn copied(&self, key: &str, bytes: u64, took: Duration) {
        self.copied.add(1);
        self.copied_bytes.add(bytes);
        self.slow(key, bytes, took);
    }

    fn slow(&self, key: &str, bytes: u64, took: Duration) {
        let mut told = self.told();
        let slow = told.slowest.peek().map(|Reverse((least, ..))| *least);
        let full = told.slowest.len() >= MOST_SLOW;
        if full && slow.is_some_and(|least| took <= least) {
            return;
        }
        if full {
            told.slowest.pop();
        }
        told.slowest.push(Reverse((took, bytes, key.to_owned())));
    }

    /// An object failed.
    pub fn failed(&self, key: &str, reason: &str) {
        self.failed.add(1);
        tracing::warn!("{key:?}: {reason}");
        let failed = FailedObject {
            key: key.to_owned(),
            reason: reason.to_owned(),
        };
        let mut told = self.told();
        if told.failures.len() < MOST_NAMED {
            told.failures.push(failed);
        }
        drop(told);
        if self
            .most_errors
            .is_some_and(|most| self.failed.get() > most)
        {
            self.stop();
        }
    }

    /// Something failed that makes it senseless to go on.
    pub fn end(&self, failure: Failure) {
        self.told().ended_by.get_or_insert(failure);
        self.stop();
    }

    /// What ended the run, if something did.
    #[must_use]
    pub fn ended_by(&self) -> Option<Failure> {
        self.told().ended_by.clone()
    }

    /// Whether more objects have failed than may.
    #[must_use]
    pub fn has_too_many_errors(&self) -> bool {
        self.most_errors
            .is_some_and(|most| self.failed.get() > most)
    }

    /// Nothing more is begun; what is on its way is finished.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether nothing more is to be begun.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Adds what another process has counted.
    pub fn join(&self, other: &ObjectsReport) {
        let (to_copy, bytes) = match other.dry_run {
            true => (&self.to_copy, &self.to_copy_bytes),
            false => (&self.copied, &self.copied_bytes),
        };
        to_copy.add(other.copied);
        bytes.add(other.copied_bytes);
        self.source_objects.add(other.source_objects);
        self.target_objects.add(other.target_objects);
        self.missing.add(other.missing);
        self.copied_by_store.add(other.copied_by_store);
        self.unchanged.add(other.unchanged);
        self.extra.add(other.extra);
        self.deleted.add(other.deleted);
        self.failed.add(other.failed);
        self.refused.add(other.refused);
        self.vanished.add(other.vanished);
        for slow in &other.slowest {
            self.slow(
                &slow.key,
                slow.bytes,
                Duration::try_from_secs_f64(slow.seconds).unwrap_or_default(),
            );
        }
        let mut told = self.told();
        told.failures.extend_from_slice(&other.failures);
        told.failures.truncate(MOST_NAMED);
        told.differing.extend_from_slice(&other.differing);
        for (kind, count) in &other.planned {
            *told.planned.entry(kind.clone()).or_default() += count;
        }
    }

    /// Writes the numbers into a report. Of a dry run, what would be copied counts
    /// as copied.
    pub fn fill(&self, report: &mut ObjectsReport) {
        let (copied, bytes) = match report.dry_run {
            true => (&self.to_copy, &self.to_copy_bytes),
            false => (&self.copied, &self.copied_bytes),
        };
        report.source_objects = self.source_objects.get();
        report.target_objects = self.target_objects.get();
        report.copied = copied.get();
        report.copied_bytes = bytes.get();
        report.missing = self.missing.get();
        report.copied_by_store = self.copied_by_store.get();
        report.unchanged = self.unchanged.get();
        report.extra = self.extra.get();
        report.deleted = self.deleted.get();
        report.failed = self.failed.get();
        report.refused = self.refused.get();
        report.vanished = self.vanished.get();
        let told = self.told();
        report.failures.clone_from(&told.failures);
        if report.dry_run {
            report.differing.clone_from(&told.differing);
            report.differing.sort_by(|a, b| a.key.cmp(&b.key));
            report.planned.clone_from(&told.planned);
        }
        let mut slowest: Vec<_> = told.slowest.iter().map(|Reverse(slow)| slow).collect();
        slowest.sort_unstable_by(|a, b| b.cmp(a));
        let slowest = slowest.into_iter().map(|(took, bytes, key)| SlowObject {
            key: key.clone(),
            bytes: *bytes,
            seconds: took.as_secs_f64(),
        });
        report.slowest = slowest.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_are_kept_and_errors_end_the_run() {
        let tally = ObjectTally::new(Some(1));
        for seconds in 0..100 {
            tally.copied(
                &format!("k{seconds}"),
                1,
                Duration::from_secs(seconds * 7 % 100),
            );
        }
        tally.failed("a", "why");
        assert!(!tally.is_stopped());
        tally.failed("b", "why");
        assert!(tally.is_stopped() && tally.has_too_many_errors());
        let mut report = ObjectsReport::default();
        tally.fill(&mut report);
        assert_eq!(
            (report.copied, report.failed, report.slowest.len()),
            (100, 2, 10)
        );
        let seconds: Vec<_> = report.slowest.iter().map(|slow| slow.seconds).collect();
        assert_eq!(seconds.first(), Some(&99.0));
        assert!(seconds.is_sorted_by(|a, b| a >= b));
    }
}
