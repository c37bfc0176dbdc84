//! How often a request is tried, and how soon again.
//!
//! Pauses double and are drawn at random, so that many that failed together do
//! not come back together. All retries share a budget that requests which end
//! well pay into: when most fail, a store is asked less, not more. Where every
//! request has failed for minutes, or the user wants to end, nothing is tried again.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::store::objects::{ObjectError, ObjectErrorKind};

/// How often, and how soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often at most, the first time included.
    pub attempts: u32,
    /// The mean of the first pause; each further one is twice as long.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// A place none of whose answers was good for so long is away: that objects fail
    /// one after the other, each at its own pace, would take for ever.
    pub away_after: Duration,
}

impl Default for RetryPolicy {
    /// Half a minute or more: a server restarts in less.
    fn default() -> Self {
        Self {
            attempts: 10,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
            away_after: Duration::from_secs(120),
        }
    }
}

impl RetryPolicy {
    /// How often a request is tried that failed like this: what is broken at rest
    /// does not mend.
    fn attempts_after(&self, error: &ObjectError) -> u32 {
        match error.kind {
            ObjectErrorKind::Corrupt => self.attempts.min(CORRUPT_ATTEMPTS),
            _ => self.attempts,
        }
    }

    /// How long to wait after attempt `attempt` (from 1); `draw` is at random from
    /// 0 to 1.
    #[must_use]
    pub fn pause(&self, attempt: u32, wanted: Option<Duration>, draw: f64) -> Duration {
        let doubled = self
            .first_pause
            .saturating_mul(1 << attempt.saturating_sub(1).min(16));
        let drawn = doubled.min(self.longest_pause).mul_f64(0.5 + draw);
        drawn.max(wanted.unwrap_or_default())
    }
}

/// How often content is read that is not what was written, at most.
const CORRUPT_ATTEMPTS: u32 = 4;

/// What is on its way may end for so long when the run is to stop.
const LAST_CALL: Duration = Duration::from_secs(3);

/// Retries of one run and one place. Cloning shares everything.
#[derive(Debug, Clone)]
pub struct Retries {
    policy: RetryPolicy,
    began: Instant,
    budget: Arc<Mutex<Budget>>,
    made: Arc<AtomicU64>,
    cancel: Cancel,
    failing_since: Arc<Mutex<Option<Instant>>>,
}

/// Retries that may be made at once.
#[derive(Debug)]
pub(super) struct Budget {
    left: f64,
    at: Duration,
}

/// What the budget holds at most, and at the beginning.
const MOST: f64 = 100.0;
/// What a request that ends well adds.
const OF_SUCCESS: f64 = 0.5;
/// What each second adds: without it a store that was away would stay so.
const OF_SECOND: f64 = 5.0;

impl Budget {
    pub(super) fn new() -> Self {
        Self {
            left: MOST,
            at: Duration::ZERO,
        }
    }

    pub(super) fn succeeded(&mut self) {
        self.left = (self.left + OF_SUCCESS).min(MOST);
    }

    /// Takes one retry, and says how long to wait for it.
    pub(super) fn take(&mut self, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = now.max(self.at);
        self.left = (self.left + passed * OF_SECOND).min(MOST) - 1.0;
        Duration::try_from_secs_f64((-self.left).max(0.0) / OF_SECOND).unwrap_or_default()
    }
}

impl Retries {
    /// Retries by a policy.
    #[must_use]
    pub fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            began: Instant::now(),
            budget: Arc::new(Mutex::new(Budget::new())),
            made: Arc::default(),
            cancel: Cancel::new(),
            failing_since: Arc::default(),
        }
    }

    /// Those of another place: its failures are told apart, the rest is shared.
    #[must_use]
    pub fn of_another_place(&self) -> Self {
        Self {
            failing_since: Arc::default(),
            ..self.clone()
        }
    }

    /// The same until a run is asked to end: from then on nothing is tried again, and
    /// what is on its way is given up soon.
    #[must_use]
    pub fn until(self, cancel: Cancel) -> Self {
        Self { cancel, ..self }
    }

    /// What the work comes to; `None` if it was given up because the run is to stop.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.given_up() => None,
        }
    }

    async fn given_up(&self) {
        self.cancel.cancelled().await;
        tokio::time::sleep(LAST_CALL).await;
    }

    /// How many retries were made.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Asks until it goes well, or for the last time, or fails for good.
    /// `failed` hears of every failure.
    ///
    /// # Errors
    /// The last failure; [`ObjectErrorKind::Away`] if nothing has gone well for long;
    /// [`ObjectErrorKind::Stopped`].
    pub async fn ask<T, F: Future<Output = Result<T, ObjectError>>>(
        &self,
        mut request: impl FnMut() -> F,
        mut failed: impl FnMut(&ObjectError),
    ) -> Result<T, ObjectError> {
        let mut attempt = 1;
        loop {
            let Some(asked) = self.unless_stopped(request()).await else {
                return Err(ObjectError::stopped());
            };
            match asked {
                Ok(done) => {
                    self.succeeded();
                    return Ok(done);
                }
                Err(error) => {
                    failed(&error);
                    if !error.passes() {
                        return Err(error);
                    }
                    if self.is_away(&error) {
                        return Err(self.away(error));
                    }
                    if attempt >= self.policy.attempts_after(&error) {
                        return Err(error);
                    }
                    self.pause(attempt, &error).await;
                    attempt += 1;
                }
            }
        }
    }

    fn succeeded(&self) {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        budget.succeeded();
        let mut since = self
            .failing_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *since = None;
    }

    /// A request has failed: whether all have for long.
    fn is_away(&self, error: &ObjectError) -> bool {
        if error.kind == ObjectErrorKind::Corrupt {
            // It answered.
            return false;
        }
        let mut since = self
            .failing_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        since.get_or_insert_with(Instant::now).elapsed() > self.policy.away_after
    }

    /// Waits before the next attempt, unless the run is to stop.
    pub async fn pause(&self, attempt: u32, error: &ObjectError) {
        self.made.fetch_add(1, Ordering::Relaxed);
        let pause = self
            .policy
            .pause(attempt, error.retry_after, fastrand::f64());
        let turn = {
            let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
            budget.take(self.began.elapsed())
        };
        tracing::debug!(attempt, ?pause, "{error}; trying again");
        // In time, or at once where nothing is worth waiting for.
        let _ = tokio::time::timeout(pause.max(turn), self.cancel.cancelled()).await;
    }

    fn away(&self, error: ObjectError) -> ObjectError {
        let what = format!(
            "{}; nothing has gone well for {} s: run again when the store answers",
            error.message,
            self.policy.away_after.as_secs()
        );
        ObjectError::new(ObjectErrorKind::Away, &error.key, what)
    }

    /// How often a request is tried.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.policy.attempts
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::AtomicU32;

    use super::*;

    fn broken() -> ObjectError {
        ObjectError::new(ObjectErrorKind::Broken, "k", "cannot read k")
    }

    /// Retries that would go on for longer than any test.
    fn patient(away_after: Duration) -> Retries {
        Retries::new(RetryPolicy {
            attempts: u32::MAX,
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(1),
            away_after,
        })
    }

    #[tokio::test]
    async fn a_store_of_which_nothing_goes_well_is_away() {
        let (limit, began) = (Duration::from_millis(300), Instant::now());
        let failed = async || Err::<(), _>(broken());
        let error = patient(limit).ask(failed, |_| ()).await.unwrap_err();
        assert!(began.elapsed() > limit);
        assert_eq!(error.kind, ObjectErrorKind::Away);
        assert!(error.ends_the_run());
    }

    #[tokio::test]
    async fn a_store_that_answers_some_is_not() {
        let (limit, began) = (Duration::from_millis(300), Instant::now());
        let retries = patient(limit);
        let (others, asked) = (retries.clone(), AtomicU32::new(0));
        let well = async || Ok::<(), ObjectError>(());
        let ask = || async {
            // Another request, which the same store answers.
            others.ask(well, |_| ()).await.unwrap();
            asked.fetch_add(1, Ordering::Relaxed);
            match began.elapsed() > 2 * limit {
                true => Ok(()),
                false => Err(broken()),
            }
        };
        retries.ask(ask, |_| ()).await.unwrap();
        assert!(asked.into_inner() > 2);
    }

    #[tokio::test]
    async fn who_is_asked_to_end_waits_for_nothing() {
        let cancel = Cancel::new();
        let slow = RetryPolicy {
            first_pause: Duration::from_secs(600),
            longest_pause: Duration::from_secs(600),
            ..RetryPolicy::default()
        };
        let retries = Retries::new(slow).until(cancel.clone());
        let began = Instant::now();
        let asked = tokio::spawn(async move {
            let failed = async || Err::<(), _>(broken());
            retries.ask(failed, |_| ()).await
        });
        tokio::task::yield_now().await;
        cancel.cancel();
        assert!(asked.await.unwrap().is_err());
        assert!(began.elapsed() < Duration::from_secs(300));
    }
}
