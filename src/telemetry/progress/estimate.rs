//! How fast it goes, and how long it will take: told only once it can be known.

use std::collections::VecDeque;
use std::time::Duration;

use super::Snapshot;

/// The speed is that of the last so many seconds.
const WINDOW: Duration = Duration::from_secs(15);
/// No time left is told before so long...
const EARLIEST: Duration = Duration::from_secs(3);
/// ...and before this share of the whole was read by this run.
const LEAST_SHARE: f64 = 0.02;

/// Speed and time left, from what was seen so far.
#[derive(Debug, Default)]
pub(super) struct Estimate {
    seen: VecDeque<(Duration, u64)>,
    left: Option<Duration>,
    share: Option<f64>,
}

impl Estimate {
    pub(super) fn observe(&mut self, now: &Snapshot) {
        let fresh = now.sum(|table| table.read.saturating_sub(table.resumed_bytes));
        self.seen.push_back((now.elapsed, fresh));
        while self
            .seen
            .get(1)
            .is_some_and(|(at, _)| now.elapsed.saturating_sub(*at) > WINDOW)
        {
            self.seen.pop_front();
        }
        self.share = share_done(now);
        self.left = self.time_left(now, fresh);
    }

    /// Source bytes per second, once there are two looks to compare.
    pub(super) fn bytes_per_second(&self) -> Option<f64> {
        let ((from, before), (to, after)) = (self.seen.front()?, self.seen.back()?);
        let seconds = to.checked_sub(*from)?.as_secs_f64();
        (seconds > 0.5).then(|| after.saturating_sub(*before) as f64 / seconds)
    }

    /// The share of all source bytes that is done, from 0 to 1, where every
    /// table is announced with its size.
    pub(super) fn share(&self) -> Option<f64> {
        self.share
    }

    /// The time left, where it can be trusted.
    pub(super) fn left(&self) -> Option<Duration> {
        self.left
    }

    fn time_left(&self, now: &Snapshot, fresh: u64) -> Option<Duration> {
        self.share?;
        let speed = self.bytes_per_second().filter(|speed| *speed > 0.0)?;
        let whole = now.sum(|table| table.estimated_bytes.max(table.read));
        if now.elapsed < EARLIEST || (fresh as f64) < LEAST_SHARE * whole as f64 {
            return None;
        }
        let left = now
            .tables
            .iter()
            .filter(|table| !table.done)
            .map(|table| table.estimated_bytes.saturating_sub(table.read))
            .fold(0, u64::saturating_add);
        Duration::try_from_secs_f64(left as f64 / speed)
            .ok()
            .filter(|left| !left.is_zero())
    }
}

/// `None` while tables are missing, have no size, or turn out larger than was
/// thought.
fn share_done(now: &Snapshot) -> Option<f64> {
    let known = now.tables.iter().all(|table| {
        table.done || table.estimated_bytes > 0 && table.read <= table.estimated_bytes
    });
    let whole = now.sum(|table| {
        if table.done {
            table.read
        } else {
            table.estimated_bytes
        }
    });
    (now.planned && known && whole > 0).then(|| now.sum(|table| table.read) as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::TableView;
    use super::*;

    fn at(seconds: u64, read: u64, estimated: u64) -> Snapshot {
        let table = TableView {
            read,
            estimated_bytes: estimated,
            ..Default::default()
        };
        Snapshot {
            told: None,
            elapsed: Duration::from_secs(seconds),
            planned: true,
            tables: vec![table],
        }
    }

    #[test]
    fn time_left_follows_the_present_speed() {
        let mut estimate = Estimate::default();
        for second in 0..=30 {
            // 10 bytes a second, then 20.
            let read = if second <= 10 {
                second * 10
            } else {
                100 + (second - 10) * 20
            };
            estimate.observe(&at(second, read, 1_000));
        }
        assert_eq!(estimate.bytes_per_second(), Some(20.0));
        assert_eq!(estimate.left(), Some(Duration::from_secs(25)));
        assert_eq!(estimate.share(), Some(0.5));
    }

    #[test]
    fn nothing_is_told_that_cannot_be_known() {
        let told = |looks: &[Snapshot]| {
            let mut estimate = Estimate::default();
            looks.iter().for_each(|look| estimate.observe(look));
            estimate.left()
        };
        assert!(told(&[at(0, 0, 1_000), at(10, 500, 1_000)]).is_some());
        // Too early, too little, size unknown, larger than thought.
        assert_eq!(told(&[at(0, 0, 1_000), at(2, 500, 1_000)]), None);
        assert_eq!(told(&[at(0, 0, 1_000), at(10, 5, 1_000)]), None);
        assert_eq!(told(&[at(0, 0, 0), at(10, 500, 0)]), None);
        assert_eq!(told(&[at(0, 0, 400), at(10, 500, 400)]), None);
        // The list of tables is not complete.
        let mut planning = at(10, 500, 1_000);
        planning.planned = false;
        assert_eq!(told(&[at(0, 0, 1_000), planning]), None);
    }

    #[test]
    fn what_an_earlier_run_did_is_no_speed() {
        let mut estimate = Estimate::default();
        let mut look = at(0, 600, 1_000);
        look.tables[0].resumed_bytes = 600;
        estimate.observe(&look);
        look.elapsed = Duration::from_secs(10);
        look.tables[0].read = 700;
        estimate.observe(&look);
        assert_eq!(estimate.bytes_per_second(), Some(10.0));
        assert_eq!(estimate.left(), Some(Duration::from_secs(30)));
    }
}
