//! Tables that `deltalake` wrote, and the binary that lays them out anew.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::lake::Running;
use super::oracle::ask;
use super::outcome::Outcome;
use super::team::{Team, hosts_file, key_file};

/// One Delta table of many small files.
pub(crate) struct ForeignTable {
    folder: TempDir,
}

impl ForeignTable {
    /// A place for a table that is not there yet.
    pub(crate) fn empty() -> Self {
        Self {
            folder: super::scratch(),
        }
    }

    /// A table of so many files of so many rows each.
    pub(crate) fn make(files: u64, rows: u64, partition_by: &[&str]) -> Self {
        let table = Self::empty();
        table.asks(json!({
            "do": "make", "files": files, "rows": rows, "partition_by": partition_by,
        }));
        table
    }

    /// The table's folder.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("table")
    }

    /// A folder for spill files.
    pub(crate) fn spill(&self) -> PathBuf {
        self.folder.path().join("spill")
    }

    /// Asks the oracle about this table.
    #[track_caller]
    pub(crate) fn asks(&self, question: Value) -> Value {
        asks(&self.path(), question)
    }

    /// The newest version.
    pub(crate) fn version(&self) -> u64 {
        self.asks(json!({"do": "files"}))["version"]
            .as_u64()
            .unwrap()
    }

    /// How many files there are.
    pub(crate) fn files(&self) -> u64 {
        self.asks(json!({"do": "files"}))["files"].as_u64().unwrap()
    }

    /// Fails the test unless two versions hold the same rows.
    #[track_caller]
    pub(crate) fn same(&self, before: u64, after: u64) -> Value {
        self.asks(json!({"do": "same", "before": before, "after": after}))
    }

    /// Starts a verb on this table.
    pub(crate) fn start(&self, verb: &str, more: &[&str]) -> Running {
        start(&self.path(), &self.spill(), verb, more)
    }

    /// Starts a run in so many processes of two workers.
    pub(crate) fn team(&self, processes: usize, more: &[&str]) -> Team {
        let folder = self.folder.path();
        let hosts = hosts_file(folder, processes);
        let key = key_file(folder, "key");
        let (hosts, key) = (hosts.to_string_lossy(), key.to_string_lossy());
        let member = |process: usize| {
            let process = process.to_string();
            let mut arguments = vec!["--process", &process, "--hosts", &hosts];
            arguments.extend(["--cluster-key-file", &key, "--join-timeout", "30s"]);
            arguments.extend(more);
            self.start("run", &arguments)
        };
        Team::of((0..processes).map(member).collect())
    }

    /// Runs to the end.
    #[track_caller]
    pub(crate) fn run(&self, more: &[&str]) -> Outcome {
        self.start("run", more).wait()
    }
}

/// Asks the oracle about the table in a folder; fails the test if all is not well.
#[track_caller]
pub(crate) fn asks(table: &Path, mut question: Value) -> Value {
    question["table"] = json!(table);
    let (ok, found) = ask("compact.py", &question);
    assert!(ok, "{question}: {found:#}");
    found
}

/// Starts a verb on a lake or a table.
pub(crate) fn start(lake: &Path, spill: &Path, verb: &str, more: &[&str]) -> Running {
    let lake = format!("file:{}", lake.display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_lake-compact"));
    command.args([verb, "--lake", &lake, "--progress", "never", "--json"]);
    if verb == "run" || verb == "plan" {
        if !more.contains(&"--workers") {
            command.args(["--workers", "2"]);
        }
        if !more.contains(&"--memory") {
            command.args(["--memory", "512MiB"]);
        }
    }
    command.arg("--spill").arg(spill);
    Running::spawn(command.args(more))
}

/// Starts the binary with these arguments and no others.
pub(crate) fn command(arguments: &[&str]) -> Running {
    Running::spawn(Command::new(env!("CARGO_BIN_EXE_lake-compact")).args(arguments))
}
