//! What to do next, given what was done and what the clock says now.
//!
//! No state but the last turn that was dealt with, and a turn that is to be tried
//! again. Everything else follows from the timetable and the clock at the moment
//! of asking, so that a machine that slept, and a clock that was set, need no
//! special care: time that has passed holds missed turns. A clock that was set
//! *back* could make a turn come again. Up to an hour (or the time between two
//! turns, if that is less) the turn is remembered and not run again; further back
//! the clock had been wrong, what it said is forgotten, and the next turn of the
//! new time is waited for: nobody sleeps for the hours that the clock lost.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::timetable::Timetable;
use crate::run::config::{Missed, ScheduleConfig};

/// A turn that starts later than this is a missed one.
const LATE: TimeDelta = TimeDelta::minutes(1);
/// How far a clock may be set back without a turn being run again.
const SET_BACK: TimeDelta = TimeDelta::hours(1);
/// The first pause after a failure that passes; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// How soon a turn that another daemon holds is looked at again: when that
/// daemon has died, the turn is still to be done.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// A wait whose end is not known.
const LONG: Duration = Duration::from_secs(3600);

/// A number from 0 up to, and without, 1.
pub type Random<'a> = &'a mut dyn FnMut() -> f64;

/// One turn of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// When it is due.
    pub due: DateTime<Utc>,
    /// A turn that was done later than this was done by a wrong clock.
    pub believable: DateTime<Utc>,
    /// Whether it was told already that another daemon holds it.
    pub told: bool,
}

impl Turn {
    /// Whether doing `done` was doing this one, or a later one.
    #[must_use]
    pub fn is_covered_by(&self, done: DateTime<Utc>) -> bool {
        self.due <= done && done <= self.believable
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing, for so long; then ask again. Asking earlier does no harm.
    Wait(Duration),
    /// This turn, now.
    Start(Turn),
}

/// What became of a turn, as far as the next one depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It is dealt with: done, or failed in a way that waiting does not mend.
    Over,
    /// It failed for a reason that passes.
    Retry,
    /// Another daemon is at it.
    Held,
}

/// The turns that lie ahead.
#[derive(Debug)]
pub struct Turns {
    table: Timetable,
    missed: Missed,
    jitter: Duration,
    /// The last turn that was dealt with.
    last: DateTime<Utc>,
    /// The turn for which a jitter was drawn, and that jitter.
    drawn: Option<(DateTime<Utc>, TimeDelta)>,
    again: Option<Again>,
    failures: u32,
}

/// A turn that is to be tried again.
#[derive(Debug, Clone, Copy)]
struct Again {
    due: DateTime<Utc>,
    since: DateTime<Utc>,
    pause: TimeDelta,
    held: bool,
}

impl Again {
    fn start(&self) -> DateTime<Utc> {
        self.since + self.pause
    }
}

impl Turns {
    /// The turns of `table` after the last one that was done; where nothing was
    /// ever done, those after `now`.
    #[must_use]
    pub fn new(
        table: Timetable,
        config: &ScheduleConfig,
        done: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            table,
            missed: config.missed,
            jitter: config.jitter.unwrap_or_default(),
            last: done.unwrap_or(now),
            drawn: None,
            again: None,
            failures: 0,
        }
    }

    /// What to do at `now`.
    pub fn step(&mut self, now: DateTime<Utc>, random: Random<'_>) -> Step {
        self.follow_the_clock(now);
        let planned = self.planned(now, random);
        let again = self
            .again
            .map(|again| (again.due, again.start(), again.held));
        let first = [planned.map(|(due, start)| (due, start, false)), again]
            .into_iter()
            .flatten()
            .min_by_key(|&(due, start, _)| (start.max(now), std::cmp::Reverse(due)));
        match first {
            None => Step::Wait(LONG),
            Some((_, start, _)) if start > now => {
                Step::Wait((start - now).to_std().unwrap_or_default())
            }
            Some((due, _, told)) => Step::Start(Turn {
                due,
                believable: now + self.forgiven(now),
                told,
            }),
        }
    }

    /// Takes note of what became of `turn`.
    pub fn ended(&mut self, turn: &Turn, how: Ended, now: DateTime<Utc>, random: Random<'_>) {
        self.last = self.last.max(turn.due);
        let again = |pause: Duration, held| {
            Some(Again {
                due: turn.due,
                since: now,
                pause: TimeDelta::from_std(pause).unwrap_or(SET_BACK),
                held,
            })
        };
        (self.failures, self.again) = match (how, self.missed) {
            (Ended::Over, _) => (0, None),
            (Ended::Retry, _) => {
                let pause = self.pause(now).mul_f64(0.5 + random() / 2.0);
                (self.failures.saturating_add(1), again(pause, false))
            }
            // If its holder dies, it is a turn that was missed.
            (Ended::Held, Missed::Once) => (self.failures, again(LOOK_AGAIN, true)),
            (Ended::Held, Missed::Skip) => (self.failures, None),
        };
    }

    /// When something is started next, jitter aside.
    #[must_use]
    pub fn next(&self) -> Option<DateTime<Utc>> {
        let retry = self
            .again
            .filter(|again| !again.held)
            .map(|again| again.start());
        self.table.after(self.last).into_iter().chain(retry).min()
    }

    /// The turn that comes next, or is missing, and when it starts.
    fn planned(
        &mut self,
        now: DateTime<Utc>,
        random: Random<'_>,
    ) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        loop {
            let due = self.table.after(self.last)?;
            if due > now {
                return Some((due, due + self.jitter(due, random)));
            }
            let turn = self.table.latest(now).map_or(due, |latest| latest.max(due));
            let start = turn + self.jitter(turn, random);
            let late = now > start + LATE.min(self.table.gap(turn) / 2);
            match self.missed {
                Missed::Once if late || turn > due => return Some((turn, now)),
                Missed::Skip if late => self.last = turn,
                Missed::Once | Missed::Skip => return Some((turn, start)),
            }
        }
    }

    /// Drawn once for each turn, so that asking again does not move its start.
    fn jitter(&mut self, due: DateTime<Utc>, random: Random<'_>) -> TimeDelta {
        match self.drawn {
            Some((turn, jitter)) if turn == due => jitter,
            _ => {
                let jitter = TimeDelta::from_std(self.jitter.mul_f64(random()));
                let jitter = jitter.unwrap_or_default();
                self.drawn = Some((due, jitter));
                jitter
            }
        }
    }

    /// How long to wait after one more failure, at most: twice as long each
    /// time, never longer than from turn to turn.
    fn pause(&self, now: DateTime<Utc>) -> Duration {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(20));
        doubled.min(self.table.gap(now).to_std().unwrap_or(FIRST_PAUSE))
    }

    fn forgiven(&self, now: DateTime<Utc>) -> TimeDelta {
        SET_BACK.min(self.table.gap(now))
    }

    fn follow_the_clock(&mut self, now: DateTime<Utc>) {
        if self.last > now + self.forgiven(now) {
            self.last = now;
        }
        if let Some(again) = &mut self.again {
            again.since = again.since.min(now);
        }
    }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
