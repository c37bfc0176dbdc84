//! The loop of the daemon: wait, start, take note, again.
//!
//! Everything it needs of the world is a [`World`], so that tests can be one.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::turns::{Ended, Step, Turn, Turns};
use crate::run::failure::{Exit, Failure};

/// The longest sleep. The clock is read again after each: one that was set, or a
/// machine that was suspended, is noticed this soon.
const STEP: Duration = Duration::from_secs(10);

/// What the loop sees and does.
pub trait World {
    /// The wall clock.
    fn now(&self) -> DateTime<Utc>;

    /// A number from 0 up to, and without, 1.
    fn random(&mut self) -> f64;

    /// Rests for so long, or less when asked to stop; true when asked to stop.
    fn rest(&mut self, span: Duration) -> bool;

    /// Takes the lease for a turn, runs, and gives it back.
    fn attempt(&mut self, turn: &Turn) -> Attempt;

    /// Tells of an attempt.
    fn tell(&mut self, line: &RunLine, failure: Option<&Failure>);
}

/// What became of one attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Attempt {
    /// There was a run.
    Ran(Box<Ran>),
    /// Another daemon is at it.
    Held(String),
    /// The turn was done by another daemon.
    Done,
    /// Nothing was run: the lease could not be read or written, or the run as a
    /// whole was refused.
    Refused(Failure),
}

/// How a run went.
#[derive(Debug, Clone, PartialEq)]
pub struct Ran {
    /// Its id.
    pub run: Uuid,
    /// When it started.
    pub started: DateTime<Utc>,
    /// How long it took.
    pub seconds: f64,
    /// How it ended.
    pub exit: Exit,
    /// The tables that were selected.
    pub tables: u64,
    /// Rows written.
    pub rows: u64,
    /// What to say of it, if it failed.
    pub failure: Option<Failure>,
    /// Whether the configuration is to blame: then no later run can do better.
    pub hopeless: bool,
}

/// The one line that is written for each turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunLine {
    /// Always `run`.
    pub event: String,
    /// The run's id; none where nothing was run.
    pub run: Option<Uuid>,
    /// When it was due, RFC 3339 in UTC.
    pub due: String,
    /// When it started, RFC 3339 in UTC.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// The exit code that `run` would have given.
    pub exit: u8,
    /// Tables that were selected.
    pub tables: u64,
    /// Rows written.
    pub rows: u64,
    /// Who held the lease, where that is why nothing was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the next one is due, RFC 3339 in UTC.
    pub next: Option<String>,
}

/// Keeps the schedule until it is asked to stop.
///
/// # Errors
/// The configuration cannot work; nothing else ends it.
pub fn keep(world: &mut impl World, turns: &mut Turns) -> Result<(), Failure> {
    loop {
        match turns.step(world.now(), &mut || world.random()) {
            Step::Wait(span) => {
                if world.rest(span.min(STEP)) {
                    return Ok(());
                }
            }
            Step::Start(turn) => {
                attempt(world, turns, &turn)?;
                if world.rest(Duration::ZERO) {
                    return Ok(());
                }
            }
        }
    }
}

fn attempt(world: &mut impl World, turns: &mut Turns, turn: &Turn) -> Result<(), Failure> {
    let began = world.now();
    let attempt = world.attempt(turn);
    let now = world.now();
    turns.ended(turn, how(&attempt), now, &mut || world.random());
    let quiet = match attempt {
        Attempt::Done => true,
        Attempt::Held(_) => turn.told,
        Attempt::Ran(_) | Attempt::Refused(_) => false,
    };
    if !quiet {
        let line = line(Some(turn.due), began, &attempt, turns.next());
        world.tell(&line, failure(&attempt).as_ref());
    }
    match attempt {
        Attempt::Refused(failure) if failure.exit == Exit::Usage => Err(failure),
        Attempt::Ran(ran) if ran.hopeless => Err(ran
            .failure
            .unwrap_or_else(|| Failure::usage("the configuration cannot work"))),
        _ => Ok(()),
    }
}

fn how(attempt: &Attempt) -> Ended {
    match attempt {
        Attempt::Ran(ran) if ran.exit == Exit::Retry => Ended::Retry,
        Attempt::Refused(failure) if failure.exit == Exit::Retry => Ended::Retry,
        Attempt::Held(_) => Ended::Held,
        Attempt::Ran(_) | Attempt::Refused(_) | Attempt::Done => Ended::Over,
    }
}

/// What to print of an attempt that failed.
#[must_use]
pub fn failure(attempt: &Attempt) -> Option<Failure> {
    match attempt {
        Attempt::Ran(ran) => ran.failure.clone(),
        Attempt::Refused(failure) => Some(failure.clone()),
        Attempt::Held(holder) => Some(
            Failure::new(
                Exit::Overtaken,
                format!("nothing was run: the lake is held by {holder}"),
            )
            .hint("nothing: its lease ends with its run, or soon after its death"),
        ),
        Attempt::Done => None,
    }
}

/// The line of an attempt; `began` is when it was made.
#[must_use]
pub fn line(
    due: Option<DateTime<Utc>>,
    began: DateTime<Utc>,
    attempt: &Attempt,
    next: Option<DateTime<Utc>>,
) -> RunLine {
    let failure = failure(attempt);
    let ran = match attempt {
        Attempt::Ran(ran) => Some(ran),
        _ => None,
    };
    let exit = match (ran, &failure) {
        (Some(ran), _) => ran.exit,
        (None, Some(failure)) => failure.exit,
        (None, None) => Exit::Done,
    };
    RunLine {
        event: "run".to_owned(),
        run: ran.map(|ran| ran.run),
        due: spell(due.unwrap_or(began)),
        started: spell(ran.map_or(began, |ran| ran.started)),
        seconds: ran.map_or(0.0, |ran| ran.seconds),
        exit: exit.code(),
        tables: ran.map_or(0, |ran| ran.tables),
        rows: ran.map_or(0, |ran| ran.rows),
        held_by: match attempt {
            Attempt::Held(holder) => Some(holder.clone()),
            _ => None,
        },
        message: failure.map(|failure| failure.message),
        next: next.map(spell),
    }
}

/// A time as lines spell it.
#[must_use]
pub fn spell(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
#[path = "keep_tests.rs"]
mod tests;
