//! A binary with a pipeline that does nothing, driven as a user drives it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::{Arc, Mutex};

use super::*;
use crate::run::report::{TableOutcome, TableReport};

/// Does as its configuration says: the name of the only `include` is what
/// happens.
struct Dummy;

impl Pipeline for Dummy {
    fn name(&self) -> &'static str {
        "dummy"
    }

    fn about(&self) -> &'static str {
        "Does nothing, in the same words as its sisters."
    }

    fn run(&self, config: Config, context: RunContext) -> Result<RunReport, Failure> {
        let mut report = RunReport::new(
            context.run,
            self.name(),
            &config.lake,
            context.started,
            context.memory_limit.0,
        );
        report.warnings.extend(context.warnings.iter().cloned());
        match config.include.first().map(String::as_str) {
            Some("refused") => {
                return Err(
                    Failure::retry(format!("cannot reach {}", config.source.expose()))
                        .because("password canary is wrong")
                        .hint("check the server"),
                );
            }
            Some("panic") => panic!("nobody expected this"),
            Some("table_fails") => report.tables.push(TableReport::failed(
                "orders",
                Failure::failed("permission denied (canary)").hint("grant select on orders"),
            )),
            _ => report.tables.push(TableReport {
                name: format!("workers{}", context.workers()),
                outcome: TableOutcome::Committed,
                rows: context.allowance.limit.0 >> 20,
                ..TableReport::default()
            }),
        }
        report.conclude(context.started, context.started);
        Ok(report)
    }

    fn plan(&self, _: Config, context: RunContext) -> Result<PlanReport, Failure> {
        let mut plan = PlanReport::default();
        plan.memory.origin = context.memory_origin.to_string();
        Ok(plan)
    }

    fn status(&self, config: Config, _: RunContext) -> Result<StatusReport, Failure> {
        Ok(StatusReport {
            lake: config.lake,
            ..StatusReport::default()
        })
    }

    fn init(&self, url: Secret, _: RunContext) -> Result<String, Failure> {
        Ok(format!(
            "source = \"{}\"\n",
            url.with_password("${PASSWORD}")
        ))
    }
}

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Exit code, standard output, standard error.
fn dummy(args: &[&str]) -> (u8, String, String) {
    let (out, err) = (Paper::default(), Paper::default());
    let mut terminal = Terminal {
        out: Box::new(out.clone()),
        err: Box::new(err.clone()),
        interactive: false,
        whole_process: false,
    };
    let args = ["dummy"].iter().chain(args).map(OsString::from);
    let exit = start(&Dummy, args, &mut terminal);
    (exit.code(), out.text(), err.text())
}

/// A folder with a configuration in it.
fn config(more: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.toml");
    let text =
        format!("source = \"postgres://ann:canary@db/shop\"\nlake = \"file:lake\"\n{more}\n");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap().to_owned();
    (folder, file)
}

#[test]
fn a_run_ends_with_its_summary() {
    let (_folder, file) = config("workers = 3\nmemory = \"300MiB\"");
    let (code, out, err) = dummy(&["run", &file, "--progress", "never"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.starts_with("table     mode  outcome    rows  "),
        "{out}"
    );
    assert!(out.contains("workers3  -     committed   300  "), "{out}");
    assert!(
        out.contains("1 table, 300 rows, 0 B read -> 0 B written in"),
        "{out}"
    );
    assert_eq!(
        dummy(&["run", &file, "--progress", "never", "--log", "silent"]).1,
        ""
    );
}

#[test]
fn flags_win_over_the_file() {
    let (_folder, file) = config("workers = 3\nmemory = \"300MiB\"");
    let (_, out, _) = dummy(&[
        "run",
        &file,
        "--workers",
        "2",
        "--memory=400MiB",
        "--progress=never",
    ]);
    assert!(
        out.contains("workers2") && out.contains("400 rows"),
        "{out}"
    );
    let (_, out, _) = dummy(&["plan", &file, "--memory=400MiB"]);
    assert!(out.contains("from --memory"), "{out}");
    let (_, out, _) = dummy(&["plan", &file]);
    assert!(out.contains("from the configuration"), "{out}");
}

#[test]
fn failures_are_one_block_without_secrets() {
    let (_folder, file) = config("");
    let (code, out, err) = dummy(&["run", &file, "--table", "refused", "--progress=never"]);
    assert_eq!((code, out.as_str()), (4, ""));
    assert_eq!(
        err,
        "error: cannot reach postgres://ann:***@db/shop\n  because: password *** is wrong\n  \
         do: check the server\n"
    );
    let (code, _, err) = dummy(&[
        "run",
        &file,
        "--table",
        "refused",
        "--json",
        "--progress=never",
    ]);
    let line: serde_json::Value = serde_json::from_str(&err).unwrap();
    assert_eq!(
        (code, line["event"].as_str(), line["code"].as_u64()),
        (4, Some("exit_error"), Some(4))
    );
    assert!(!err.contains("canary"));
}

#[test]
fn failed_tables_are_reported_and_told() {
    let (folder, file) = config("");
    let report = folder.path().join("report.json");
    let report = report.to_str().unwrap();
    let args = [
        "run",
        &file,
        "--table",
        "table_fails",
        "--report",
        report,
        "--progress=never",
    ];
    let (code, out, err) = dummy(&args);
    assert_eq!(code, 1);
    assert!(out.contains("orders  -     FAILED"), "{out}");
    assert_eq!(
        err,
        "error: table orders: permission denied (***)\n  do: grant select on orders\n"
    );
    let text = std::fs::read_to_string(report).unwrap();
    assert!(!text.contains("canary"), "{text}");
    let written: RunReport = serde_json::from_str(&text).unwrap();
    assert_eq!(written.exit, Exit::Failed);
}

#[test]
fn json_has_one_event_a_line() {
    let (_folder, file) = config("");
    for (args, event) in [
        (
            vec!["run", file.as_str(), "--json", "--progress=never"],
            "summary",
        ),
        (vec!["--json", "plan", file.as_str()], "plan"),
        (vec!["status", "--json", file.as_str()], "lake_status"),
    ] {
        let (code, out, _) = dummy(&args);
        let line: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, line["event"].as_str()), (0, Some(event)));
    }
}

#[test]
fn wrong_configuration_names_file_and_line() {
    let (_folder, file) = config("inclde = []");
    let (code, _, err) = dummy(&["run", &file]);
    assert_eq!(code, 2);
    assert_eq!(
        err,
        format!(
            "error: {file}:3:1: unknown key `inclde` at the top level\n  do: did you mean `include`?\n"
        )
    );
}

#[test]
fn wrong_usage_is_exit_2() {
    let (_folder, file) = config("");
    for (args, words) in [
        (
            vec!["run", file.as_str(), "--workers", "0"],
            "at least 1 is needed",
        ),
        (
            vec!["run", file.as_str(), "--memory", "1MiB"],
            "a run needs at least 128 MiB",
        ),
        (
            vec!["run", file.as_str(), "--memory", "many"],
            "\"many\" is no size",
        ),
        (vec!["run"], "CONFIG"),
        (vec!["rum", "x"], "'run'"),
        (vec!["run", file.as_str(), "--table", "[a"], "is no glob"),
        (
            vec!["run", file.as_str(), "--report", "/no/such/r.json"],
            "its folder does not exist",
        ),
        (
            vec!["run", file.as_str(), "--memory=128MiB", "--workers=9"],
            "too little for 9 workers",
        ),
    ] {
        let (code, _, err) = dummy(&args);
        println!("{err}");
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(words), "{err}");
    }
}

#[test]
fn help_and_schema_and_completions_are_for_reading() {
    let (code, out, _) = dummy(&["--help"]);
    println!("{out}");
    assert_eq!(code, 0);
    assert!(
        out.contains("Does nothing, in the same words") && out.contains("Exit codes"),
        "{out}"
    );
    let (_, out, _) = dummy(&["run", "--help"]);
    println!("{out}");
    let (code, out, _) = dummy(&["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert_eq!(schema["properties"]["source"]["type"], "string");
    assert_eq!(schema["additionalProperties"], false);
    let (code, out, _) = dummy(&["completions", "bash"]);
    assert_eq!(code, 0);
    assert!(out.contains("dummy"), "{out}");
}

#[test]
fn init_writes_a_new_file_only_and_no_password() {
    let (folder, _) = config("");
    let file = folder.path().join("new.toml");
    let file = file.to_str().unwrap();
    let url = "postgres://ann:canary@db/shop";
    let (code, out, _) = dummy(&["init", url]);
    assert_eq!(
        (code, out.as_str()),
        (0, "source = \"postgres://ann:${PASSWORD}@db/shop\"\n")
    );
    let (code, _, err) = dummy(&["init", url, "--output", file]);
    assert_eq!(
        (code, err),
        (0, format!("wrote {file}; next: dummy plan {file}\n"))
    );
    let (code, _, err) = dummy(&["init", url, "--output", file]);
    assert_eq!(code, 2);
    assert!(
        err.starts_with(&format!("error: {file} exists already\n")),
        "{err}"
    );
}

#[test]
fn a_panic_is_exit_1() {
    let (_folder, file) = config("");
    assert_eq!(
        dummy(&["run", &file, "--table", "panic", "--progress=never"]).0,
        1
    );
}
