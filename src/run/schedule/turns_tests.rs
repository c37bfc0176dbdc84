//! Turns under a clock that is told what to say.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    format!("2026-06-15T{text}Z").parse().unwrap()
}

fn config(change: impl FnOnce(&mut ScheduleConfig)) -> ScheduleConfig {
    let mut config = ScheduleConfig {
        every: Some(Duration::from_secs(900)),
        ..ScheduleConfig::default()
    };
    change(&mut config);
    config
}

fn turns(config: &ScheduleConfig, done: &str, now: &str) -> Turns {
    let table = Timetable::new(config).unwrap().unwrap();
    Turns::new(table, config, Some(at(done)), at(now))
}

/// The turn that starts at `now`, or the seconds to wait.
fn step(turns: &mut Turns, now: &str) -> Result<DateTime<Utc>, u64> {
    match turns.step(at(now), &mut || 0.5) {
        Step::Start(turn) => Ok(turn.due),
        Step::Wait(span) => Err(span.as_secs()),
    }
}

fn end(turns: &mut Turns, due: &str, how: Ended, now: &str) {
    let turn = Turn {
        due: at(due),
        believable: at(due) + SET_BACK,
        told: false,
    };
    turns.ended(&turn, how, at(now), &mut || 0.5);
}

#[test]
fn a_turn_starts_when_it_is_due_and_only_once() {
    let mut turns = turns(&config(|_| {}), "10:00:00", "10:05:00");
    assert_eq!(step(&mut turns, "10:05:00"), Err(600));
    assert_eq!(step(&mut turns, "10:15:00.2"), Ok(at("10:15:00")));
    end(&mut turns, "10:15:00", Ended::Over, "10:17:00");
    assert_eq!(step(&mut turns, "10:17:00"), Err(780));
    assert_eq!(turns.next(), Some(at("10:30:00")));
}

#[test]
fn nothing_was_missed_where_nothing_ever_ran() {
    let config = config(|_| {});
    let table = Timetable::new(&config).unwrap().unwrap();
    let mut turns = Turns::new(table, &config, None, at("10:05:00"));
    assert_eq!(step(&mut turns, "10:05:00"), Err(600));
}

#[test]
fn jitter_stays_in_its_bounds_and_is_drawn_once() {
    let config = config(|config| config.jitter = Some(Duration::from_secs(60)));
    for drawn in [0.0, 0.25, 0.999] {
        let mut turns = turns(&config, "10:00:00", "10:05:00");
        let mut draws = 0;
        let mut random = || {
            draws += 1;
            drawn
        };
        let Step::Wait(span) = turns.step(at("10:05:00"), &mut random) else {
            panic!("too early");
        };
        let Step::Wait(later) = turns.step(at("10:06:00"), &mut random) else {
            panic!("too early");
        };
        assert_eq!(span, later + Duration::from_secs(60), "the start moved");
        assert!((600..660).contains(&span.as_secs()), "{span:?}");
        assert_eq!(draws, 1);
    }
    let mut turns = turns(&config, "10:00:00", "10:05:00");
    assert_eq!(step(&mut turns, "10:15:29"), Err(1));
    assert_eq!(step(&mut turns, "10:15:30"), Ok(at("10:15:00")));
}

#[test]
fn one_run_makes_up_for_all_that_were_missed() {
    let mut turns = turns(&config(|_| {}), "07:00:00", "10:05:00");
    assert_eq!(step(&mut turns, "10:05:00"), Ok(at("10:00:00")));
    end(&mut turns, "10:00:00", Ended::Over, "10:06:00");
    assert_eq!(step(&mut turns, "10:06:00"), Err(540));
}

#[test]
fn missed_turns_are_skipped_where_that_is_wanted() {
    let config = config(|config| config.missed = Missed::Skip);
    let mut late = turns(&config, "07:00:00", "10:05:00");
    assert_eq!(step(&mut late, "10:05:00"), Err(600));
    // Within a minute it is not missed.
    let mut early = turns(&config, "07:00:00", "10:00:30");
    assert_eq!(step(&mut early, "10:00:30"), Ok(at("10:00:00")));
}

#[test]
fn a_run_that_outlasts_its_turn_is_followed_by_one() {
    let mut turns = turns(&config(|_| {}), "10:00:00", "10:15:00");
    assert_eq!(step(&mut turns, "10:15:00"), Ok(at("10:15:00")));
    end(&mut turns, "10:15:00", Ended::Over, "10:50:00");
    assert_eq!(step(&mut turns, "10:50:00"), Ok(at("10:45:00")));
    end(&mut turns, "10:45:00", Ended::Over, "10:51:00");
    assert_eq!(step(&mut turns, "10:51:00"), Err(540));
}

/// A suspended machine and a clock that is set forward look the same.
#[test]
fn time_that_was_slept_through_holds_missed_turns() {
    for (missed, expected) in [
        (Missed::Once, Ok(at("18:30:00"))),
        (Missed::Skip, Err(13 * 60)),
    ] {
        let config = config(|config| config.missed = missed);
        let mut turns = turns(&config, "10:00:00", "10:05:00");
        assert_eq!(step(&mut turns, "10:05:00"), Err(600));
        assert_eq!(step(&mut turns, "18:32:00"), expected);
    }
}

#[test]
fn a_clock_set_back_a_little_runs_nothing_again() {
    let mut turns = turns(&config(|_| {}), "10:00:00", "10:15:00");
    assert_eq!(step(&mut turns, "10:15:00.1"), Ok(at("10:15:00")));
    end(&mut turns, "10:15:00", Ended::Over, "10:15:01");
    for now in ["10:14:59.5", "10:15:00", "10:05:00"] {
        assert!(step(&mut turns, now).is_err(), "again at {now}");
    }
    assert_eq!(step(&mut turns, "10:30:00"), Ok(at("10:30:00")));
}

#[test]
fn a_clock_set_back_by_hours_is_not_slept_out() {
    let mut turns = turns(&config(|_| {}), "10:00:00", "10:05:00");
    end(&mut turns, "10:00:00", Ended::Retry, "10:05:00");
    // Five hours back: nothing at once, and the next turn of the new time.
    assert_eq!(step(&mut turns, "05:06:00"), Err(3));
    end(&mut turns, "10:00:00", Ended::Over, "05:06:05");
    assert_eq!(step(&mut turns, "05:06:06"), Err(8 * 60 + 54));
    assert_eq!(step(&mut turns, "05:15:00"), Ok(at("05:15:00")));
    // What a wrong clock has done is no reason to leave a turn out.
    let Step::Start(turn) = turns.step(at("05:15:00"), &mut || 0.5) else {
        panic!("not due");
    };
    assert!(!turn.is_covered_by(at("10:00:00")));
    assert!(turn.is_covered_by(at("05:15:00")) && turn.is_covered_by(at("05:20:00")));
    assert!(!turn.is_covered_by(at("05:00:00")));
}

#[test]
fn failures_that_pass_are_tried_again_less_and_less_often() {
    let config = config(|config| {
        config.every = None;
        config.cron = Some("0 10 * * *".to_owned());
    });
    let mut turns = turns(&config, "09:00:00", "09:00:00");
    let mut now = at("10:00:00");
    let mut pauses = Vec::new();
    for _ in 0..15 {
        let turn = match turns.step(now, &mut || 1.0) {
            Step::Start(turn) => turn,
            Step::Wait(span) => panic!("{span:?} too early"),
        };
        assert_eq!(turn.due, at("10:00:00"));
        turns.ended(&turn, Ended::Retry, now, &mut || 1.0);
        let Step::Wait(span) = turns.step(now, &mut || 1.0) else {
            panic!("no pause");
        };
        pauses.push(span.as_secs());
        now += TimeDelta::from_std(span).unwrap();
    }
    assert_eq!(pauses[..4], [5, 10, 20, 40]);
    assert_eq!(
        now,
        at("10:00:00") + TimeDelta::days(1),
        "the next turn comes in between"
    );
    let Step::Start(turn) = turns.step(now, &mut || 1.0) else {
        panic!("not due");
    };
    assert_eq!(turn.due, now);
    turns.ended(&turn, Ended::Over, now, &mut || 1.0);
    assert_eq!(turns.failures, 0);
}

#[test]
fn pauses_differ_from_daemon_to_daemon() {
    let pause = |drawn: f64| {
        let mut turns = turns(&config(|_| {}), "10:00:00", "10:00:00");
        let Step::Start(turn) = turns.step(at("10:15:00"), &mut || 0.0) else {
            panic!("not due");
        };
        turns.ended(&turn, Ended::Retry, at("10:15:00"), &mut || drawn);
        match turns.step(at("10:15:00"), &mut || 0.0) {
            Step::Wait(span) => span.as_millis(),
            Step::Start(_) => 0,
        }
    };
    assert_eq!((pause(0.0), pause(0.5)), (2500, 3750));
}

#[test]
fn a_turn_that_another_holds_is_looked_at_again() {
    let mut turns = turns(&config(|_| {}), "10:00:00", "10:15:00");
    end(&mut turns, "10:15:00", Ended::Held, "10:15:01");
    assert_eq!(step(&mut turns, "10:15:02"), Err(9));
    let Step::Start(turn) = turns.step(at("10:15:11"), &mut || 0.5) else {
        panic!("its holder may have died");
    };
    assert_eq!((turn.due, turn.told), (at("10:15:00"), true));
    // The turn is over; and where missed turns are skipped, so is one of another.
    turns.ended(&turn, Ended::Over, at("10:15:12"), &mut || 0.5);
    assert_eq!(step(&mut turns, "10:15:12"), Err(14 * 60 + 48));
    let skip = config(|config| config.missed = Missed::Skip);
    let mut turns = self::turns(&skip, "10:00:00", "10:15:00");
    end(&mut turns, "10:15:00", Ended::Held, "10:15:01");
    assert_eq!(step(&mut turns, "10:15:12"), Err(14 * 60 + 48));
}
