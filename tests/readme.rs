//! The first command of the README does what the README says.

use crate::kit;

use std::process::Command;

use kit::lake::Running;
use kit::oracle;
use kit::place::Place;

/// The words after `--` of the first line of the README that runs a pipeline.
fn first_command() -> Vec<String> {
    let readme = std::fs::read_to_string(kit::root().join("README.md")).unwrap();
    let line = readme
        .lines()
        .find(|line| line.contains("--bin table-backup -- run"));
    let line = line.expect("a line in README.md with `--bin table-backup -- run`");
    let command = line.split('#').next().unwrap_or_default();
    let arguments = command.split_once(" -- ").expect("arguments after --").1;
    arguments.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_first_command_works_twice() {
    // A copy, because the example writes ./lake.
    let copy = kit::scratch();
    for folder in ["examples", "data"] {
        let from = kit::root().join(folder);
        assert!(
            Command::new("cp")
                .arg("-r")
                .arg(from)
                .arg(copy.path())
                .status()
                .unwrap()
                .success()
        );
    }
    for _ in 0..2 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_table-backup"));
        command.args(first_command()).current_dir(copy.path());
        Running::spawn(&mut command).wait().exits(0);
    }
    let lake = copy.path().join("lake");
    let tables: Vec<_> = std::fs::read_dir(&lake)
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().join("_delta_log").is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(
        tables.len() >= 4,
        "customers, orders, items and reviews are expected, not {tables:?}"
    );
    let source = format!("sqlite:{}", copy.path().join("data/shop.sqlite").display());
    let lake = kit::lake::Lake::at(source, Place::Folder(lake));
    for table in tables {
        assert!(oracle::rows(&lake, &table).rows() > 0, "{table}");
    }
}
