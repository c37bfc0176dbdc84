//! `object-sync`: what is recorded of copies, and when.

use crate::kit;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use kit::objects::{Side, assert_equal, noise, number, start, sync};
use kit::s3::{Action, Rule};

fn folder() -> (tempfile::TempDir, Side) {
    let home = kit::scratch();
    let side = Side::Folder(home.path().join("things"));
    fs::create_dir_all(home.path().join("things")).unwrap();
    (home, side)
}

/// Rows that the record in a folder has, by the log alone.
fn recorded_rows(target: &Path) -> u64 {
    let log = target.join("_highwater/objects/_delta_log");
    let entries = fs::read_dir(log).into_iter().flatten().flatten();
    let entries = entries.filter(|entry| entry.path().extension().is_some_and(|x| x == "json"));
    let lines = entries.flat_map(|entry| {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    let rows = lines.filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(&line).ok()?;
        let stats = line["add"]["stats"].as_str()?;
        serde_json::from_str::<serde_json::Value>(stats).ok()?["numRecords"].as_u64()
    });
    rows.sum()
}

#[test]
fn what_takes_long_holds_back_no_record_but_its_own() {
    const OTHERS: u64 = 200;
    let from = Side::bucket();
    let (home, to) = folder();
    for number in 0..OTHERS {
        from.put(&format!("k{number:03}"), noise(number, 1_000));
    }
    // Among the first that are found.
    from.put("k000-slow", noise(1, 1_000));
    let (faults, slow) = (from.server().faults(), from.path("k000-slow"));
    faults.add(Rule::new(
        "GET",
        &slow,
        Action::Delay(Duration::from_secs(600)),
    ));
    let running = start("run", &from, &to, &[]);
    let begun = Instant::now();
    while recorded_rows(&home.path().join("things")) < OTHERS {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{} of {OTHERS} are recorded",
            recorded_rows(&home.path().join("things"))
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    running.kill();
    faults.clear();
    let outcome = sync(&from, &to, &["--against", "ledger"]).exits(0);
    assert_eq!(
        (number(&outcome, "copied"), number(&outcome, "unchanged")),
        (1, OTHERS)
    );
    assert_equal(&from, &to);
}

#[test]
fn a_file_that_was_written_over_is_found_without_a_record() {
    let ((_a, from), (_b, to)) = (folder(), folder());
    from.put("a", noise(1, 1_000));
    from.put("b", noise(2, 1_000));
    let more = ["--no-ledger"];
    sync(&from, &to, &more).exits(0);
    let outcome = sync(&from, &to, &more).exits(0);
    assert_eq!(number(&outcome, "copied"), 0);
    // Of the same size, and later than its source.
    to.put("b", noise(3, 1_000));
    let outcome = sync(&from, &to, &more).exits(0);
    assert_eq!(number(&outcome, "copied"), 1);
    assert_equal(&from, &to);
}

#[test]
fn between_folders_bytes_keep_to_the_rate_too() {
    let ((_a, from), (_b, to)) = (folder(), folder());
    for number in 0..30 {
        from.put(&format!("k{number}"), noise(number, 100_000));
    }
    // A quarter of a second's bytes may come at once.
    let least = Duration::from_secs(2);
    let begun = Instant::now();
    let outcome = sync(&from, &to, &["--bandwidth", "1MB"]).exits(0);
    let took = begun.elapsed();
    assert!(took > least, "3 MB within {took:?}");
    assert_eq!(
        outcome.report()["objects"]["requests"],
        serde_json::json!({}),
        "folders take no requests"
    );
    assert_equal(&from, &to);
}
