//! `lake-compact` beside others who write, and killed: nothing lost, nothing twice.

use crate::kit;

use std::time::Duration;

use serde_json::json;

use kit::compact::ForeignTable;

/// Others append as fast as they can: their rows stay, and so do ours.
#[test]
fn appends_come_in_between() {
    let table = ForeignTable::make(30, 2000, &[]);
    let running = table.start("run", &["--sort-by", "words,id"]);
    for number in 0..6 {
        let from = 60_000 + number * 10;
        table.asks(json!({"do": "append", "from": from, "to": from + 10}));
    }
    let outcome = running.wait().exits(0);
    let version = outcome.number("version");
    println!("published as version {version}");
    assert_eq!(outcome.number("rows") % 10, 0);
    let rows =
        table.asks(json!({"do": "same", "before": table.version(), "after": table.version()}));
    assert_eq!(rows["rows"], 60_060);
    // What it published changed no row of the version before it.
    table.same(version - 1, version);
}

/// Somebody deletes rows out of files that are being rewritten: the rewriting is
/// given up, for its rows would come back.
#[test]
fn a_delete_in_between_wins() {
    let table = ForeignTable::make(40, 5000, &[]);
    let running = table.start("run", &["--sort-by", "words,id", "--workers", "1"]);
    table.asks(json!({"do": "delete", "where": "tiny = 3"}));
    let outcome = running.wait().cleanly();
    let found =
        table.asks(json!({"do": "same", "before": table.version(), "after": table.version()}));
    let left = (0..200_000).filter(|n| n % 7 != 3).count();
    match outcome.code {
        Some(4) => {
            let outcome = outcome.says(&["removed"]);
            drop(outcome);
        }
        // It was done before the delete.
        Some(0) => assert!(outcome.number("version") < table.version()),
        _ => panic!("{outcome}"),
    }
    assert_eq!(found["rows"], left);
    // The next one starts from what is there.
    table.run(&["--sort-by", "words,id"]).exits(0);
    let found = table.same(table.version() - 1, table.version());
    assert_eq!(found["rows"], left);
}

#[test]
fn a_kill_leaves_the_table_and_no_leftovers() {
    let mut random = kit::Random::seeded();
    let table = ForeignTable::make(20, 5000, &[]);
    let mut done = 19;
    for round in 0..kit::size("HIGHWATER_KILLS", 6) {
        let order = if round % 2 == 0 { "words,id" } else { "id" };
        let running = table.start("run", &["--sort-by", order, "--memory", "192MiB"]);
        std::thread::sleep(Duration::from_millis(50 + random.below(1500)));
        running.kill();
        let version = table.version();
        assert!(
            version == done || version == done + 1,
            "{version} after {done}"
        );
        assert_eq!(table.same(19, version)["rows"], 100_000);
        done = version;
        let spilled = std::fs::read_dir(table.spill()).map_or(0, Iterator::count);
        assert_eq!(spilled, 0, "spill files outlived their process");
    }
    table.run(&["--sort-by", "day,id"]).exits(0);
    table.same(19, done + 1);
    table.asks(json!({"do": "order", "by": ["day", "id"]}));
}
