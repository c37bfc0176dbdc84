//! `lake-compact` beside others who write, and killed: nothing lost, nothing twice.

use crate::kit;

use std::time::Duration;

use serde_json::json;

use kit::compact::ForeignTable;
use kit::lake::Running;

/// How many data files lie in the table's folder, named by the log or not.
fn data_files(table: &ForeignTable) -> usize {
    let files = std::fs::read_dir(table.path()).unwrap().flatten();
    let parquet = files.filter(|file| file.path().extension().is_some_and(|e| e == "parquet"));
    parquet.count()
}

/// A compaction that has read the log, has written something, has published nothing,
/// and stands still.
fn paused(table: &ForeignTable) -> Running {
    let before = data_files(table);
    let mut running = table.start("run", &["--sort-by", "words,id", "--target", "64KiB"]);
    while running.is_running() && data_files(table) <= before {
        std::thread::sleep(Duration::from_millis(1));
    }
    running.signal("STOP");
    running
}

#[test]
fn appends_come_in_between() {
    let table = ForeignTable::make(20, 5000, &[]);
    let running = paused(&table);
    for number in 0..3 {
        let from = 100_000 + number * 10;
        table.asks(json!({"do": "append", "from": from, "to": from + 10}));
    }
    assert_eq!(table.version(), 22, "it published before the others did");
    running.signal("CONT");
    let outcome = running.wait().exits(0);
    assert_eq!(
        (outcome.number("version"), outcome.number("rows")),
        (23, 100_000)
    );
    // It changed no row of the version before it.
    assert_eq!(table.same(22, 23)["rows"], 100_030);
    // What came meanwhile is compacted the next time.
    table.run(&["--sort-by", "words,id"]).exits(0);
    table.same(22, 24);
    table.asks(json!({"do": "order", "by": ["words", "id"]}));
}

/// The control arm of the test above: a compaction that publishes what it has read
/// as the whole table loses what came in between, and the oracle sees it.
#[test]
fn without_a_rebase_what_came_in_between_is_lost() {
    let table = ForeignTable::make(4, 100, &[]);
    table.asks(json!({"do": "append", "from": 400, "to": 410}));
    table.asks(json!({"do": "overwrite", "with": 3}));
    let question = json!({"do": "same", "before": 4, "after": 5, "table": table.path()});
    let (same, found) = kit::oracle::ask("compact.py", &question);
    assert!(!same && found["missing"] == 20, "{found}");
}

/// Others append as fast as they can.
#[test]
fn appends_come_all_the_time() {
    let table = ForeignTable::make(10, 2000, &[]);
    let running = table.start("run", &["--sort-by", "words,id"]);
    for number in 0..6 {
        let from = 20_000 + number * 10;
        table.asks(json!({"do": "append", "from": from, "to": from + 10}));
    }
    let version = running.wait().exits(0).number("version");
    let found = table.same(version - 1, version);
    println!("published as version {version}: {found}");
    assert_eq!(table.same(table.version(), table.version())["rows"], 20_060);
}

/// Somebody deletes rows out of files that are being rewritten: the rewriting is
/// given up, for its rows would come back.
#[test]
fn a_delete_in_between_wins() {
    let table = ForeignTable::make(20, 5000, &[]);
    let running = paused(&table);
    table.asks(json!({"do": "delete", "where": "tiny = 3"}));
    running.signal("CONT");
    running
        .wait()
        .exits(4)
        .says(&["removed", "nothing was published"]);
    let left = (0..100_000).filter(|n| n % 7 != 3).count();
    assert_eq!(table.same(20, 20)["rows"], left);
    // The next one starts from what is there.
    table.run(&["--sort-by", "words,id"]).exits(0);
    assert_eq!(table.same(20, 21)["rows"], left);
}

/// One of three processes dies in the middle of it: all end, the table is as it was.
#[test]
fn a_process_is_lost() {
    let table = ForeignTable::make(20, 5000, &[]);
    for lost in [1, 0] {
        let before = data_files(&table);
        let more = ["--sort-by", "words,id", "--target", "64KiB"];
        let mut team = table.team(3, &more);
        while team.process(2).is_running() && data_files(&table) <= before {
            std::thread::sleep(Duration::from_millis(1));
        }
        team.take(lost).kill();
        for outcome in team.wait_within(Duration::from_secs(15)) {
            outcome.exits(4).says(&[&format!("process {lost}")]);
        }
        assert_eq!(
            table.version(),
            19,
            "a run without process {lost} published"
        );
        assert_eq!(table.same(19, 19)["rows"], 100_000);
        let spilled = std::fs::read_dir(table.spill()).map_or(0, Iterator::count);
        assert_eq!(spilled, 0, "spill files outlived their process");
    }
    for outcome in table.team(2, &["--sort-by", "words,id"]).wait() {
        outcome.exits(0);
    }
    table.same(19, 20);
    table.asks(json!({"do": "order", "by": ["words", "id"]}));
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
