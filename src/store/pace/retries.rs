//! How often a request is tried, and how soon again.
//!
//! Pauses double and are drawn at random, so that many that failed together do
//! not come back together. All retries share a budget that requests which end
//! well pay into: when most fail, a store is asked less, not more.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::store::objects::ObjectError;

/// How often, and how soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often at most, the first time included.
    pub attempts: u32,
    /// The mean of the first pause; each further one is twice as long.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    /// Half a minute or more: a server restarts in less.
    fn default() -> Self {
        Self {
            attempts: 10,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
        }
    }
}

impl RetryPolicy {
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

/// Retries of one run. Cloning shares the budget.
#[derive(Debug, Clone)]
pub struct Retries {
    policy: RetryPolicy,
    began: Instant,
    budget: Arc<Mutex<Budget>>,
    made: Arc<AtomicU64>,
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
        }
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
    /// The last failure.
    pub async fn ask<T, F: Future<Output = Result<T, ObjectError>>>(
        &self,
        mut request: impl FnMut() -> F,
        mut failed: impl FnMut(&ObjectError),
    ) -> Result<T, ObjectError> {
        let mut attempt = 1;
        loop {
            match request().await {
                Ok(done) => {
                    let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
                    budget.succeeded();
                    return Ok(done);
                }
                Err(error) => {
                    failed(&error);
                    if !error.passes() || attempt >= self.policy.attempts {
                        return Err(error);
                    }
                    self.pause(attempt, &error).await;
                    attempt += 1;
                }
            }
        }
    }

    /// Waits before the next attempt.
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
        tokio::time::sleep(pause.max(turn)).await;
    }

    /// How often a request is tried.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.policy.attempts
    }
}
