//! So many bytes, or requests, a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How much may come at once after a pause: this long at the full rate.
const BURST: Duration = Duration::from_millis(250);

/// A rate that is kept. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Rate {
    per_second: f64,
    began: Instant,
    tokens: Arc<Mutex<Tokens>>,
}

impl Rate {
    /// So many units a second, at least one.
    #[must_use]
    pub fn new(per_second: u64) -> Self {
        Self::of((per_second as f64).max(1.0))
    }

    /// So many units a minute, at least one.
    #[must_use]
    pub fn per_minute(units: u64) -> Self {
        Self::of((units as f64).max(1.0) / 60.0)
    }

    fn of(per_second: f64) -> Self {
        Self {
            per_second,
            began: Instant::now(),
            tokens: Arc::new(Mutex::new(Tokens::full(per_second))),
        }
    }

    /// Waits until `units` more keep the rate. More than a burst is taken on
    /// credit: who comes next waits for it.
    pub async fn take(&self, units: u64) {
        let wait = {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.take(units as f64, self.per_second, self.began.elapsed())
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

/// What may be taken at once, and when that was so.
#[derive(Debug)]
pub(super) struct Tokens {
    left: f64,
    at: Duration,
}

impl Tokens {
    pub(super) fn full(per_second: f64) -> Self {
        Self {
            left: (per_second * BURST.as_secs_f64()).max(1.0),
            at: Duration::ZERO,
        }
    }

    /// Takes `units` and says how long to wait before they are used.
    pub(super) fn take(&mut self, units: f64, per_second: f64, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        let most = (per_second * BURST.as_secs_f64()).max(1.0);
        self.left = (self.left + passed * per_second).min(most) - units;
        self.at = now.max(self.at);
        if self.left >= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(-self.left / per_second).unwrap_or(Duration::MAX)
    }
}
