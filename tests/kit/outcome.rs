//! What a run of the binary came to.

use std::time::Duration;

use serde_json::Value;

use super::s3::SECRET_KEY;

/// The password that tests put where it must never be seen.
pub(crate) const CANARY: &str = "canary-password-7f3a";

/// A process that has ended.
pub(crate) struct Outcome {
    /// The exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it logged.
    pub(crate) stderr: String,
    /// How long it ran.
    pub(crate) wall: Duration,
}

impl Outcome {
    /// Fails the test unless the process exited with `code`, printed no secret
    /// and did not panic.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code; {self}");
        self.cleanly()
    }

    /// Fails the test if the process panicked or printed a secret.
    #[track_caller]
    pub(crate) fn cleanly(self) -> Self {
        let said = self.said();
        for never in ["panicked at", "RUST_BACKTRACE", CANARY, SECRET_KEY] {
            assert!(!said.contains(never), "{never:?} was printed; {self}");
        }
        self
    }

    /// Fails the test unless the output contains each of `words`, in any case.
    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Self {
        let said = self.said().to_lowercase();
        for word in words {
            assert!(
                said.contains(&word.to_lowercase()),
                "{word:?} is not said; {self}"
            );
        }
        self
    }

    /// Everything it printed.
    pub(crate) fn said(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }

    /// The report: the last line of standard output that is a summary.
    #[track_caller]
    pub(crate) fn report(&self) -> Value {
        self.stdout
            .lines()
            .rev()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line.get("event").is_some_and(|event| event == "summary"))
            .unwrap_or_else(|| panic!("no report was printed; {self}"))
    }

    /// The first number of that name anywhere in the report.
    #[track_caller]
    pub(crate) fn number(&self, name: &str) -> u64 {
        let report = self.report();
        let found = find(&report, name).and_then(Value::as_u64);
        found.unwrap_or_else(|| panic!("no number {name:?} in the report {report:#}"))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            code,
            stdout,
            stderr,
            wall,
        } = self;
        write!(
            f,
            "code {code:?} after {wall:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}

/// The first value of that name, breadth first.
pub(crate) fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let mut level = vec![value];
    while !level.is_empty() {
        let mut below = Vec::new();
        for value in level {
            if let Some(found) = value.get(name) {
                return Some(found);
            }
            match value {
                Value::Object(fields) => below.extend(fields.values()),
                Value::Array(items) => below.extend(items),
                _ => {}
            }
        }
        level = below;
    }
    None
}
