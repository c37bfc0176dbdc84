//! ROWS=: the source and the lake hold the same rows, as readers see it that we
//! did not write (`tests/oracle`), and the files are those that the log names.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::lake::Lake;
use super::outcome::find;

/// What the oracle found; kept although most tests only want it to agree.
pub(crate) struct Rows(pub(crate) Value);

impl Rows {
    /// The number of rows on both sides.
    pub(crate) fn rows(&self) -> u64 {
        self.number("rows")
    }

    /// The files that no entry of the log names.
    pub(crate) fn orphans(&self) -> u64 {
        self.number("orphans")
    }

    /// A number by name.
    pub(crate) fn number(&self, name: &str) -> u64 {
        find(&self.0, name).and_then(Value::as_u64).unwrap_or_default()
    }
}

/// Python with `deltalake`, `polars`, `pyarrow`, `duckdb` and `psycopg`.
pub(crate) fn python() -> PathBuf {
    match std::env::var_os("HIGHWATER_PYTHON") {
        Some(python) => python.into(),
        None => super::root().join("target/py/bin/python"),
    }
}

/// Fails the test unless source table and lake table hold the same rows.
/// `table` is the source's name for it (`public.orders`).
#[track_caller]
pub(crate) fn rows(lake: &Lake, table: &str) -> Rows {
    rows_where(lake, table, None)
}

/// The same for the rows of the source that satisfy a condition.
#[track_caller]
pub(crate) fn rows_where(lake: &Lake, table: &str, filter: Option<&str>) -> Rows {
    let (agree, found) = compare(lake, table, filter);
    assert!(agree, "the lake differs from the source in {table}:\n{found:#}");
    Rows(found)
}

/// Whether they agree, and what was found: for control arms.
#[track_caller]
pub(crate) fn compare(lake: &Lake, table: &str, filter: Option<&str>) -> (bool, Value) {
    let place = lake.place();
    let options: serde_json::Map<_, _> =
        place.options().into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    let question = json!({
        "source": lake.source(),
        "table": table,
        "where": filter,
        "lake": format!("{}/{}", place.url(), table.replace('.', "/")),
        "store": options,
    });
    let script = super::root().join("tests/oracle/rows.py");
    let output = Command::new(python())
        .arg(&script)
        .arg(question.to_string())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; run scripts/test", python().display()));
    let said = String::from_utf8_lossy(&output.stdout);
    let problem = String::from_utf8_lossy(&output.stderr);
    let found = said.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let found: Value =
        found.unwrap_or_else(|| panic!("the oracle failed on {question}\n{said}\n{problem}"));
    (output.status.success(), found)
}
