//! The loop in a world that is told what happens.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::VecDeque;

use chrono::TimeDelta;

use super::*;
use crate::run::config::{Missed, ScheduleConfig};
use crate::run::schedule::timetable::Timetable;

/// A world where time passes by resting and running only.
struct Stage {
    now: DateTime<Utc>,
    until: DateTime<Utc>,
    /// How each run ends, and how long it takes; then all are done in a second.
    script: VecDeque<(Exit, i64)>,
    /// How much the clock jumps, once, when it passes an instant.
    jump: Option<(DateTime<Utc>, TimeDelta)>,
    running: bool,
    lines: Vec<RunLine>,
    longest_rest: Duration,
}

fn at(text: &str) -> DateTime<Utc> {
    format!("2026-06-15T{text}Z").parse().unwrap()
}

impl Stage {
    fn new(now: &str, until: &str) -> Self {
        Self {
            now: at(now),
            until: at(until),
            script: VecDeque::new(),
            jump: None,
            running: false,
            lines: Vec::new(),
            longest_rest: Duration::ZERO,
        }
    }

    fn pass(&mut self, span: TimeDelta) {
        self.now += span;
        if let Some((when, by)) = self.jump
            && self.now >= when
        {
            self.now += by;
            self.until += by;
            self.jump = None;
        }
    }

    fn keep(&mut self, config: &ScheduleConfig, done: &str) -> Result<Vec<String>, Failure> {
        let table = Timetable::new(config).unwrap().unwrap();
        let mut turns = Turns::new(table, config, Some(at(done)), self.now);
        keep(self, &mut turns)?;
        let starts = self.lines.iter().map(|line| &line.started);
        Ok(starts.map(|time| time[11..19].to_owned()).collect())
    }
}

impl World for Stage {
    fn now(&self) -> DateTime<Utc> {
        self.now
    }

    fn random(&mut self) -> f64 {
        0.5
    }

    fn rest(&mut self, span: Duration) -> bool {
        self.longest_rest = self.longest_rest.max(span);
        self.pass(TimeDelta::from_std(span).unwrap());
        self.now >= self.until
    }

    fn attempt(&mut self, _: &Turn) -> Attempt {
        assert!(!self.running, "a run was doubled");
        self.running = true;
        let (exit, seconds) = self.script.pop_front().unwrap_or((Exit::Done, 1));
        let started = self.now;
        self.pass(TimeDelta::seconds(seconds));
        self.running = false;
        Attempt::Ran(Box::new(Ran {
            run: Uuid::nil(),
            started,
            seconds: seconds as f64,
            exit,
            tables: 1,
            rows: 1,
            failure: None,
            hopeless: exit == Exit::Usage,
        }))
    }

    fn tell(&mut self, line: &RunLine, _: Option<&Failure>) {
        self.lines.push(line.clone());
    }
}

fn every(span: u64) -> ScheduleConfig {
    ScheduleConfig {
        every: Some(Duration::from_secs(span)),
        ..ScheduleConfig::default()
    }
}

#[test]
fn runs_when_due_and_says_when_next() {
    let mut stage = Stage::new("10:01:00", "10:46:00");
    let started = stage.keep(&every(900), "10:00:00").unwrap();
    assert_eq!(started, ["10:15:00", "10:30:00", "10:45:00"]);
    let first = &stage.lines[0];
    assert_eq!(first.next.as_deref(), Some("2026-06-15T10:30:00.000Z"));
    assert_eq!((first.event.as_str(), first.exit), ("run", 0));
    assert!(stage.longest_rest <= STEP, "{:?}", stage.longest_rest);
}

#[test]
fn failures_never_end_it_but_a_wrong_configuration_does() {
    let mut stage = Stage::new("10:14:00", "11:01:00");
    stage.script = [
        Exit::Failed,
        Exit::Retry,
        Exit::Retry,
        Exit::Damaged,
        Exit::Overtaken,
    ]
    .map(|exit| (exit, 1))
    .into();
    let started = stage.keep(&every(900), "10:00:00").unwrap();
    // Exit 4 is tried again after 3.75 s and 7.5 s, the others at their next turn.
    let expected = [
        "10:15:00", "10:30:00", "10:30:04", "10:30:13", "10:45:00", "11:00:00",
    ];
    assert_eq!(started, expected);
    let mut stage = Stage::new("10:14:00", "11:01:00");
    stage.script = [(Exit::Usage, 1)].into();
    let failure = stage.keep(&every(900), "10:00:00").unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert_eq!(stage.lines.len(), 1);
}

#[test]
fn a_long_run_is_not_doubled() {
    let mut stage = Stage::new("10:14:00", "11:10:00");
    stage.script = [(Exit::Done, 40 * 60)].into();
    let started = stage.keep(&every(900), "10:00:00").unwrap();
    assert_eq!(started, ["10:15:00", "10:55:00", "11:00:00"]);
}

#[test]
fn a_machine_that_was_suspended_makes_up_for_it_once() {
    for (missed, expected) in [
        (Missed::Once, vec!["10:15:00", "15:07:10", "15:15:00"]),
        (Missed::Skip, vec!["10:15:00", "15:15:00"]),
    ] {
        let mut stage = Stage::new("10:14:00", "10:31:00");
        stage.jump = Some((at("10:22:05"), TimeDelta::minutes(285)));
        let config = ScheduleConfig {
            missed,
            ..every(900)
        };
        let started = stage.keep(&config, "10:00:00").unwrap();
        let near: Vec<_> = started.iter().map(|time| &time[..5]).collect();
        let expected: Vec<_> = expected.iter().map(|time| &time[..5]).collect();
        assert_eq!(near, expected, "{started:?}");
    }
}

#[test]
fn a_clock_set_back_neither_repeats_nor_stalls() {
    // Ten minutes back, just after a turn: that turn does not come again.
    let mut stage = Stage::new("10:14:00", "10:50:00");
    stage.jump = Some((at("10:16:00"), TimeDelta::minutes(-10)));
    let started = stage.keep(&every(900), "10:00:00").unwrap();
    assert_eq!(started, ["10:15:00", "10:30:00"]);
    // Five hours back: the turns of the new time are kept.
    let mut stage = Stage::new("10:14:00", "10:50:00");
    stage.jump = Some((at("10:16:00"), TimeDelta::hours(-5)));
    let started = stage.keep(&every(900), "10:00:00").unwrap();
    assert_eq!(started, ["10:15:00", "05:30:00", "05:45:00"]);
}

#[test]
fn daylight_saving_time_changes_are_lived_through() {
    let config = ScheduleConfig {
        cron: Some("30 2 * * *".to_owned()),
        time_zone: "Europe/Rome".to_owned(),
        ..ScheduleConfig::default()
    };
    for (from, days) in [("2026-03-28T00:00:00Z", 3), ("2026-10-24T00:00:00Z", 3)] {
        let now: DateTime<Utc> = from.parse().unwrap();
        let mut stage = Stage::new("00:00:00", "00:00:00");
        (stage.now, stage.until) = (now, now + TimeDelta::days(days));
        let table = Timetable::new(&config).unwrap().unwrap();
        let mut turns = Turns::new(table, &config, None, now);
        keep(&mut stage, &mut turns).unwrap();
        assert_eq!(stage.lines.len(), 3, "{:?}", stage.lines);
    }
}
