//! Turns in UTC, for schedules whose clocks change.

#![allow(clippy::unwrap_used)]

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn cron(pattern: &str, zone: &str) -> Timetable {
    Timetable::cron(pattern, zone).unwrap()
}

/// The first turns after an instant, as hours and minutes of UTC.
fn turns(table: &Timetable, from: &str, count: usize) -> Vec<String> {
    std::iter::successors(table.after(at(from)), |&turn| table.after(turn))
        .take(count)
        .map(|turn| turn.format("%d %H:%M").to_string())
        .collect()
}

#[test]
fn every_is_the_same_whoever_asks_and_whenever() {
    let table = Timetable::every(Duration::from_secs(900)).unwrap();
    for from in ["2026-03-01T10:00:00Z", "2026-03-01T10:14:59.999Z"] {
        assert_eq!(turns(&table, from, 2), ["01 10:15", "01 10:30"]);
    }
    assert_eq!(
        table.latest(at("2026-03-01T10:15:00Z")),
        Some(at("2026-03-01T10:15:00Z"))
    );
    assert_eq!(
        table.gap(at("2026-03-01T10:00:00Z")),
        TimeDelta::minutes(15)
    );
    let before_1970 = at("1969-12-31T23:59:00Z");
    assert_eq!(table.after(before_1970), Some(at("1970-01-01T00:00:00Z")));
}

#[test]
fn a_named_time_in_the_gap_runs_after_it_once() {
    // Clocks go from 02:00 (+1) to 03:00 (+2) at 01:00 UTC.
    let table = cron("30 2 * * *", "Europe/Rome");
    let from = "2026-03-28T00:00:00Z";
    assert_eq!(turns(&table, from, 3), ["28 01:30", "29 01:00", "30 00:30"]);
    let lists = cron("0 2,14 * * *", "Europe/Rome");
    assert_eq!(
        turns(&lists, "2026-03-28T22:00:00Z", 2),
        ["29 01:00", "29 12:00"]
    );
}

#[test]
fn a_named_time_that_comes_twice_runs_in_the_first_hour() {
    // Clocks go from 03:00 (+2) to 02:00 (+1) at 01:00 UTC.
    let table = cron("30 2 * * *", "Europe/Rome");
    let from = "2026-10-24T12:00:00Z";
    assert_eq!(turns(&table, from, 2), ["25 00:30", "26 01:30"]);
    // Asked during the second hour: never a turn in the past, nor a second one.
    assert_eq!(turns(&table, "2026-10-25T01:10:00Z", 1), ["26 01:30"]);
}

#[test]
fn what_repeats_goes_on_over_both_changes() {
    let table = cron("*/30 * * * *", "Europe/Rome");
    assert_eq!(
        turns(&table, "2026-03-29T00:20:00Z", 3),
        ["29 00:30", "29 01:00", "29 01:30"]
    );
    assert_eq!(
        turns(&table, "2026-10-24T23:50:00Z", 6),
        [
            "25 00:00", "25 00:30", "25 01:00", "25 01:30", "25 02:00", "25 02:30"
        ]
    );
}

/// The control arm: `croner` alone, asked during the second of two equal hours,
/// answers with a time that has passed; a daemon would run without end.
#[test]
fn control_arm_the_search_alone_goes_back_in_time() {
    let now = at("2026-10-25T01:10:00Z");
    let found = parse_cron("*/15 * * * *")
        .unwrap()
        .find_next_occurrence(&now.with_timezone(&Tz::Europe__Rome), false)
        .unwrap();
    assert!(found < now, "{found}: the wrapping is not needed any more");
    assert_eq!(
        cron("*/15 * * * *", "Europe/Rome").after(now),
        Some(at("2026-10-25T01:15:00Z"))
    );
}

#[test]
fn the_other_way_round_the_world() {
    // Lord Howe: half an hour. Clocks go back from 02:00 (+11) to 01:30 (+10:30).
    let table = cron("45 1 * * *", "Australia/Lord_Howe");
    assert_eq!(
        turns(&table, "2026-04-04T00:00:00Z", 2),
        ["04 14:45", "05 15:15"]
    );
    // New York, both changes of a year lie before the next turn.
    let yearly = cron("0 12 1 1 *", "America/New_York");
    assert_eq!(
        yearly.after(at("2026-01-01T18:00:00Z")),
        Some(at("2027-01-01T17:00:00Z"))
    );
}

#[test]
fn every_instant_of_two_changes_has_its_next_turn_ahead() {
    for (pattern, zone) in [
        ("*/7 * * * *", "Europe/Rome"),
        ("15 1,2,3 * * *", "Europe/Rome"),
        ("*/20 * * * * *", "America/New_York"),
        ("0 */2 * * *", "Australia/Lord_Howe"),
    ] {
        let table = cron(pattern, zone);
        for day in ["2026-03-29", "2026-10-25", "2026-11-01", "2026-04-05"] {
            let start = at(&format!("{day}T00:00:00Z"));
            for minute in 0..8 * 60 {
                let now = start + TimeDelta::seconds(minute * 61);
                let next = table.after(now).unwrap();
                assert!(next > now, "{pattern} {zone} at {now}: {next}");
                assert_eq!(table.after(next - TimeDelta::milliseconds(1)), Some(next));
                let latest = table.latest(now).unwrap();
                assert!(latest <= now && table.after(latest) == Some(next));
            }
        }
    }
}

#[test]
fn the_latest_turn_is_found_however_long_ago() {
    for (pattern, latest) in [
        ("* * * * * *", "2026-06-15T12:00:00Z"),
        ("0 2 * * *", "2026-06-15T02:00:00Z"),
        ("0 2 1 * *", "2026-06-01T02:00:00Z"),
        ("0 0 29 2 *", "2024-02-29T00:00:00Z"),
    ] {
        let found = cron(pattern, "UTC").latest(at("2026-06-15T12:00:00.5Z"));
        assert_eq!(found, Some(at(latest)), "{pattern}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let complaint = |result: Result<Timetable, Complaint>| {
        let complaint = result.unwrap_err();
        (
            complaint.key,
            format!("{}; {}", complaint.message, complaint.hint),
        )
    };
    for (pattern, words) in [
        ("0 25 * * *", "is no cron expression"),
        ("0 2 * *", "is no cron expression"),
        ("", "is no cron expression"),
        ("0 0 30 2 *", "never comes"),
    ] {
        let (key, said) = complaint(Timetable::cron(pattern, "UTC"));
        println!("{said}");
        assert_eq!(key, "cron");
        assert!(said.contains(words), "{said}");
    }
    for (zone, near) in [
        ("Europe/Roma", "did you mean \"Europe/Rome\"?"),
        ("europe/rome", "did you mean \"Europe/Rome\"?"),
        ("Rome", "did you mean \"Europe/Rome\"?"),
        ("here", "write a name such as"),
    ] {
        let (key, said) = complaint(Timetable::cron("0 2 * * *", zone));
        println!("{said}");
        assert_eq!(key, "time_zone");
        assert!(said.contains(near), "{said}");
    }
    assert_eq!(complaint(Timetable::every(Duration::ZERO)).0, "every");
}
