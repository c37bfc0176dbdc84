//! `object-sync`: how it ends when it is asked to, and how it lists what has no folders.

use crate::kit;

use std::time::{Duration, Instant};

use kit::objects::{Side, assert_equal, noise, number, start, sync};
use kit::s3::{Action, Rule};

/// How long what is on its way may still take.
const GIVEN_UP: Duration = Duration::from_secs(3);

/// Waits until something was asked for.
fn wait_for(side: &Side, method: &str, count: usize) {
    let begun = Instant::now();
    while side.server().faults().count(|seen| seen.method == method) < count {
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(60), "no {count} {method}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn who_is_asked_to_end_does_not_wait_for_who_never_answers() {
    // Of the source, and of the target: objects that nobody hears of again.
    for stalled in ["GET", "PUT"] {
        let (from, to) = (Side::bucket(), Side::bucket());
        for number in 0..200 {
            from.put(&format!("k{number}"), noise(number, 1000));
        }
        let stalls = if stalled == "GET" { &from } else { &to };
        let rule = Rule::new(stalled, "*data/k*", Action::Stall);
        stalls.server().faults().add(rule.after(20));
        let mut running = start("run", &from, &to, &[]);
        wait_for(stalls, stalled, 25);
        // The control arm: who is not asked waits longer than who is.
        std::thread::sleep(GIVEN_UP + Duration::from_secs(2));
        assert!(running.is_running(), "{stalled}: it did not wait");
        let asked = Instant::now();
        running.signal("TERM");
        running.wait().exits(130);
        // A request alone would wait for half a minute, and be repeated.
        let took = asked.elapsed();
        assert!(
            took >= GIVEN_UP,
            "{stalled}: {took:?}: what is on its way has time"
        );
        assert!(took < Duration::from_secs(20), "{stalled}: {took:?}");
        stalls.server().faults().clear();
        sync(&from, &to, &["--delete"]).exits(0);
        assert_equal(&from, &to);
    }
}

#[test]
fn an_interrupted_listing_makes_nothing_extra() {
    let (from, to) = (Side::bucket(), Side::bucket());
    for number in 0..300 {
        from.put(&format!("k{number}"), noise(number, 10));
    }
    sync(&from, &to, &[]).exits(0);
    // The source's listing never arrives, the target's does.
    let rule = Rule::new("GET", "*", Action::Stall);
    from.server().faults().add(rule.after(2));
    let running = start("run", &from, &to, &["--delete", "--max-delete", "100%"]);
    std::thread::sleep(Duration::from_secs(2));
    running.signal("TERM");
    running.wait().exits(130);
    assert_eq!(to.all().len(), 300, "nothing was removed");
    // The control arm: a listing as short as what had arrived, and no interruption.
    from.server().faults().clear();
    (1..300).for_each(|number| from.remove(&format!("k{number}")));
    sync(&from, &to, &["--delete", "--max-delete", "100%"]).exits(0);
    assert_eq!(to.all().len(), 1);
}

#[test]
fn cuts_are_found_on_both_sides_of_our_own_records() {
    let (from, to) = (Side::bucket(), Side::bucket());
    // In the order of bytes: capitals, our own, small letters.
    for number in 0..1_500 {
        from.put(&format!("Z{number:05}"), "x");
        from.put(&format!("o{number:05}"), "x");
    }
    from.put("_highwater/objects/anything", "x");
    sync(&from, &to, &[]).exits(0);
    assert_equal(&from, &to);
    let after_o = from.server().faults().count(|seen| {
        seen.query.contains("start-after=data%2Fo") && seen.query.contains("max-keys=1000")
    });
    assert!(after_o > 0, "what comes after them is cut, too");
}

#[test]
fn a_flat_bucket_is_listed_side_by_side() {
    let looks = |side: &Side| {
        let faults = side.server().faults();
        faults.count(|seen| seen.query.contains("max-keys=1&"))
    };
    let (from, to) = (Side::bucket(), Side::bucket());
    for number in 0..2_500 {
        from.put(&format!("o{number:05}"), "x");
    }
    sync(&from, &to, &[]).exits(0);
    assert_equal(&from, &to);
    assert!((4..=48).contains(&looks(&from)), "{}", looks(&from));
    let begins = from
        .server()
        .faults()
        .count(|seen| seen.query.contains("start-after") && seen.query.contains("max-keys=1000"));
    assert!(begins >= 2, "listed from several places: {begins}");
    let again = sync(&from, &to, &["--delete"]).exits(0);
    assert_eq!(
        (number(&again, "copied"), number(&again, "unchanged")),
        (0, 2_500)
    );

    // A small one is not asked for cuts.
    let (small, to) = (Side::bucket(), Side::bucket());
    (0..500).for_each(|number| small.put(&format!("o{number:05}"), "x"));
    sync(&small, &to, &[]).exits(0);
    assert_equal(&small, &to);
    assert_eq!(looks(&small), 0);
}
