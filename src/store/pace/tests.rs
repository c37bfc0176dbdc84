//! The pace on a clock of its own, against servers made of arithmetic.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use proptest::prelude::*;

use super::climb::{Bounds, Climb, Step};
use super::rate::Tokens;
use super::retries::{Budget, RetryPolicy};

/// How long a request takes when the server works on so many, this one included, in
/// seconds; `None` where the server refuses it.
type Server<'a> = dyn Fn(u32) -> Option<f64> + 'a;

/// A request on its way: when it ends and when it began, in nanoseconds; whether it was
/// refused.
type OnItsWay = Reverse<(u64, u64, bool)>;

/// The steps of a climb that always has more to ask, for so many seconds.
fn run(server: &Server<'_>, seconds: f64) -> Vec<Step> {
    let mut climb = Climb::new(Bounds::default());
    let mut steps = Vec::new();
    let mut ends: BinaryHeap<OnItsWay> = BinaryHeap::new();
    let (mut now, mut served) = (0_u64, 0_u32);
    let at = Duration::from_nanos;
    // A little noise, always the same.
    let mut seed = 7_u64;
    let mut noise = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        0.9 + 0.2 * ((seed >> 40) as f64 / (1_u64 << 24) as f64)
    };
    while (now as f64) < seconds * 1e9 {
        while u32::try_from(ends.len()).unwrap() < climb.slots() {
            let in_use = u32::try_from(ends.len()).unwrap() + 1;
            climb.taken(at(now), in_use);
            let took = server(served + 1);
            served += u32::from(took.is_some());
            let length = took.unwrap_or(0.005) * noise();
            ends.push(Reverse((now + (length * 1e9) as u64, now, took.is_none())));
        }
        let Reverse((end, began, refused)) = ends.pop().unwrap();
        now = end;
        served -= u32::from(!refused);
        steps.extend(climb.ended(at(now), at(now - began), 1.0, refused));
    }
    steps
}

/// The throughput of the last third of the time.
fn settled(steps: &[Step]) -> f64 {
    let end = steps.last().unwrap().at;
    let (mut units, mut before) = (0.0, end * 2 / 3);
    for step in steps.iter().filter(|step| step.at > end * 2 / 3) {
        units += step.rate * (step.at - before).as_secs_f64();
        before = step.at;
    }
    units / (end / 3).as_secs_f64()
}

/// A server of so many requests a second, each of which takes `latency` at least.
fn capacity(per_second: f64, latency: f64) -> impl Fn(u32) -> Option<f64> {
    move |in_use| Some(latency.max(f64::from(in_use) / per_second))
}

#[test]
fn long_lines_are_filled_within_seconds() {
    // 50 ms and no limit: the best is the most that is allowed.
    let steps = run(&capacity(1e9, 0.05), 10.0);
    let best = f64::from(Bounds::default().most) / 0.05;
    let after_five: Vec<_> = steps
        .iter()
        .filter(|step| step.at > Duration::from_secs(5))
        .collect();
    let mean = after_five.iter().map(|step| step.rate).sum::<f64>() / after_five.len() as f64;
    assert!(mean > 0.9 * best, "{mean} of {best}");
}

#[test]
fn what_a_server_can_do_is_reached_with_few_at_once() {
    let steps = run(&capacity(2_000.0, 0.01), 30.0);
    assert!(settled(&steps) > 0.9 * 2_000.0, "{}", settled(&steps));
    let slots = steps.last().unwrap().slots;
    // 20 would do.
    assert!((16..=40).contains(&slots), "{slots}");
}

/// Best at 24 at once; beyond it every one more costs all of them.
fn collapsing(in_use: u32) -> Option<f64> {
    let n = f64::from(in_use);
    let per_second = if n <= 24.0 {
        n * 50.0
    } else {
        1_200.0 * (24.0 / n).powi(2)
    };
    Some(n / per_second)
}

#[test]
fn a_server_that_collapses_is_kept_near_its_best() {
    let steps = run(&collapsing, 60.0);
    assert!(settled(&steps) > 0.85 * 1_200.0, "{}", settled(&steps));
    // The control arm: more and more at once would get next to nothing.
    let greedy = 512.0 / collapsing(512).unwrap();
    assert!(greedy < 0.1 * 1_200.0, "{greedy}");
}

#[test]
fn refusals_are_heard() {
    for (most, took) in [(40, 0.02), (40, 0.05), (200, 0.05), (8, 0.05)] {
        let steps = run(&|served: u32| (served <= most).then_some(took), 30.0);
        let last = steps.last().unwrap().slots;
        assert!(last <= most + most.div_ceil(8), "{last} of {most}");
        // Of few, one less is a tenth.
        let share = settled(&steps) / (f64::from(most) / took);
        assert!(
            share > if most < 10 { 0.8 } else { 0.9 },
            "{share} of {most}"
        );
    }
}

#[test]
fn a_server_that_takes_less_than_before_is_followed() {
    let calls = Cell::new(0_u32);
    let falling = |served: u32| {
        calls.set(calls.get() + 1);
        let most = if calls.get() < 10_000 { 40 } else { 20 };
        (served <= most).then_some(0.05)
    };
    let steps = run(&falling, 60.0);
    assert!(calls.get() > 20_000);
    assert!(settled(&steps) > 0.85 * 20.0 / 0.05, "{}", settled(&steps));
}

#[test]
fn refusals_that_have_nothing_to_do_with_the_number_are_borne() {
    for one_in in [5, 30] {
        let calls = Cell::new(0_u64);
        let server = capacity(2_000.0, 0.01);
        let stormy = |served: u32| {
            calls.set(
                calls
                    .get()
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1),
            );
            match (calls.get() >> 33).is_multiple_of(one_in) {
                true => None,
                false => server(served),
            }
        };
        let steps = run(&stormy, 30.0);
        // Falling at each, as if it were too much, would end at a twentieth.
        assert!(
            settled(&steps) > 0.8 * 2_000.0,
            "1 in {one_in}: {}",
            settled(&steps)
        );
    }
}

#[test]
fn who_has_nothing_to_ask_does_not_grow() {
    let mut climb = Climb::new(Bounds::default());
    for second in 0..100_u64 {
        let now = Duration::from_millis(second * 250);
        climb.taken(now, 3);
        let took = Duration::from_millis(200);
        climb.ended(now + took, took, 1.0, false);
    }
    assert_eq!(climb.slots(), Bounds::default().start);
}

proptest! {
    #[test]
    fn slots_stay_within_their_bounds(
        least in 1_u32..20, most in 1_u32..100, start in 0_u32..200,
        events in proptest::collection::vec((0_u64..400, any::<bool>(), 0.0_f64..10.0), 0..300),
    ) {
        let mut climb = Climb::new(Bounds { start, least, most });
        let mut now = Duration::ZERO;
        for (pause, overload, units) in events {
            now += Duration::from_millis(pause);
            climb.taken(now, climb.slots());
            climb.ended(now, Duration::from_millis(pause), units, overload);
            prop_assert!(climb.slots() >= 1 && climb.slots() <= most.max(1));
        }
    }

    #[test]
    fn a_rate_is_kept(
        per_second in 1.0_f64..1e9,
        asks in proptest::collection::vec((0_u64..500, 0.0_f64..2.0), 1..50),
    ) {
        let mut tokens = Tokens::full(per_second);
        let (mut now, mut taken, mut end) = (Duration::ZERO, 0.0, Duration::ZERO);
        for (pause, share) in asks {
            now += Duration::from_millis(pause);
            taken += share * per_second;
            end = now + tokens.take(share * per_second, per_second, now);
        }
        // What was taken before `end`, beside the burst, took its time.
        let most = end.as_secs_f64().mul_add(per_second, per_second.mul_add(0.26, 1.0));
        prop_assert!(taken <= most * 1.001, "{} of {}", taken, most);
    }

    #[test]
    fn pauses_double_and_obey(attempt in 1_u32..30, draw in 0.0_f64..1.0, wanted in 0_u64..60) {
        let policy = RetryPolicy::default();
        let wanted = Duration::from_secs(wanted);
        let pause = policy.pause(attempt, Some(wanted), draw);
        prop_assert!(pause >= wanted);
        prop_assert!(pause <= wanted.max(policy.longest_pause.mul_f64(1.5)));
    }
}

#[test]
fn retries_wait_when_nothing_goes_well() {
    let mut budget = Budget::new();
    let second = Duration::from_secs(1);
    let waits: Vec<_> = (0..200).map(|_| budget.take(second)).collect();
    assert!(waits[50].is_zero());
    assert!(waits[199] > Duration::from_secs(10), "{:?}", waits[199]);
    for _ in 0..1000 {
        budget.succeeded();
    }
    assert!(budget.take(second).is_zero());
}
