//! `verify` and `prune`, as a user calls them: damage gives exit 5 and words, and
//! what retention keeps is still read by others.

use crate::kit;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use kit::lake::{Lake, Running};
use kit::oracle::{python, rows};
use kit::outcome::Outcome;
use kit::place::Place;
use kit::shop;

/// A lake with one table of `runs` versions, in SQLite and back.
fn lake(place: Option<Place>, runs: u64) -> Lake {
    let mut lake = match place {
        Some(place) => Lake::at("", place),
        None => Lake::local(""),
    };
    let path = lake.folder().join("shop.sqlite");
    shop::sqlite_orders(&path, 2000);
    lake.set_source(format!("sqlite:{}", path.display()));
    lake.set(r#"mode = "full""#);
    for run in 0..runs {
        let database = rusqlite::Connection::open(&path).unwrap();
        let change = format!("update orders set note = 'run {run}' where id % 3 = 0");
        database.execute_batch(&change).unwrap();
        lake.run().exits(0);
    }
    lake
}

fn verb(lake: &Lake, verb: &str, flags: &[&str]) -> Outcome {
    let config = lake.config();
    let config = config.to_string_lossy();
    let mut arguments = vec![verb, &config];
    arguments.extend(flags);
    Running::start(&arguments).wait()
}

fn data_files(lake: &Lake) -> Vec<String> {
    let mut files = lake.place().list("orders/");
    files.retain(|path| path.contains("/part-"));
    files
}

fn folder(lake: &Lake) -> PathBuf {
    match lake.place() {
        Place::Folder(folder) => folder.clone(),
        Place::Bucket(..) => panic!("not a folder"),
    }
}

#[test]
fn an_undamaged_lake_is_told_so_and_damage_by_name() {
    for place in [None, Some(Place::s3())] {
        let lake = lake(place, 3);
        let said = verb(&lake, "verify", &["--share", "1"]).exits(0);
        let said = said.says(&["orders", "ok", "no damage", "share all"]);
        assert!(said.stdout.lines().count() < 10, "{said}");
        verb(&lake, "verify", &["--full", "--json"])
            .exits(0)
            .says(&[r#""event":"verified""#, r#""decoded_rows":2000"#]);
        // One bit of the newest file.
        let newest = data_files(&lake).pop().unwrap();
        let mut bytes = lake.place().read(&newest).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        lake.place().write(&newest, &bytes);
        verb(&lake, "verify", &[]).exits(0);
        verb(&lake, "verify", &["--share", "1"]).exits(5).says(&[
            "DAMAGED: 1",
            "file changed",
            "its SHA-256 is",
            "do: restore the file",
        ]);
        verb(&lake, "verify", &["--share", "1", "--table", "order?"]).exits(5);
        verb(&lake, "verify", &["--table", "nothing"]).exits(2);
        verb(&lake, "verify", &["--share", "8/7"]).exits(2);
    }
}

#[test]
fn a_log_that_was_rolled_back_is_found_by_the_run_reports() {
    let lake = lake(None, 3);
    let log = folder(&lake).join("orders/_delta_log");
    let last = format!("{:020}.json", 2);
    let entry = fs::read(log.join(&last)).unwrap();
    fs::remove_file(log.join(&last)).unwrap();
    verb(&lake, "verify", &[]).exits(5).says(&[
        "log rolled back",
        "left version 2",
        "version 1",
        "_highwater/runs/",
    ]);
    let flags = ["--unsafe-min-age", "0s"];
    verb(&lake, "prune", &flags)
        .exits(5)
        .says(&["nothing was removed"]);
    assert_eq!(
        data_files(&lake).len(),
        3,
        "no file was taken for a leftover"
    );
    fs::write(log.join(&last), entry).unwrap();
    verb(&lake, "verify", &["--full"]).exits(0);
    fs::remove_dir_all(folder(&lake).join("orders")).unwrap();
    verb(&lake, "verify", &[])
        .exits(5)
        .says(&["folder is gone"]);
}

#[test]
fn prune_removes_what_retention_gives_up_and_nothing_else() {
    for place in [None, Some(Place::s3())] {
        let mut lake = lake(place, 4);
        lake.set(r#"retention = { age = "1ms", versions = 2 }"#);
        // The clocks of buckets show seconds: what is of this one is young.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        // Every file is younger than a week.
        let said = verb(&lake, "prune", &[])
            .exits(0)
            .says(&["removed 0 files"]);
        assert!(said.stdout.contains("too young"), "{said}");
        let flags = ["--unsafe-min-age", "1ms", "--dry-run"];
        verb(&lake, "prune", &flags)
            .exits(0)
            .says(&["would remove", "orders", "warning"]);
        assert_eq!(data_files(&lake).len(), 4, "a dry run removes nothing");
        verb(&lake, "prune", &["--unsafe-min-age", "1ms", "--json"])
            .exits(0)
            .says(&[r#""event":"pruned""#, r#""oldest_retained":2"#]);
        assert_eq!(data_files(&lake).len(), 2);
        verb(&lake, "verify", &["--full"]).exits(0);
        assert_eq!(rows(&lake, "orders").rows(), 2000);
        lake.run().exits(0);
        verb(&lake, "verify", &["--full"]).exits(0);
        rows(&lake, "orders");
    }
}

#[test]
fn a_retained_version_is_read_by_others_after_a_prune() {
    let mut lake = lake(None, 4);
    lake.set(r#"retention = { age = "1ms", versions = 2 }"#);
    verb(&lake, "prune", &["--unsafe-min-age", "1ms"]).exits(0);
    let table = folder(&lake).join("orders");
    let count = "import sys, deltalake\n\
                 for v in (2, 3): print(len(deltalake.DeltaTable(sys.argv[1], version=v).to_pyarrow_table()))";
    let output = Command::new(python())
        .arg("-c")
        .arg(count)
        .arg(table)
        .output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), "2000\n2000", "{output:?}");
}
