//! ROWS=: the source and the lake hold the same rows, as readers see it that we
//! did not write (`tests/oracle`), and the files are those that the log names.

use std::collections::BTreeMap;
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

    /// How many rows of the source are not in the lake, as [`Check::compare`]
    /// found.
    pub(crate) fn missing(found: &Value) -> u64 {
        found["readers"]["deltalake"]["missing"]
            .as_u64()
            .unwrap_or_else(|| panic!("the oracle could not compare: {found:#}"))
    }

    /// A number by name.
    pub(crate) fn number(&self, name: &str) -> u64 {
        find(&self.0, name)
            .and_then(Value::as_u64)
            .unwrap_or_default()
    }
}

/// Python with `deltalake`, `polars`, `pyarrow`, `duckdb` and `psycopg`.
pub(crate) fn python() -> PathBuf {
    match std::env::var_os("HIGHWATER_PYTHON") {
        Some(python) => python.into(),
        None => super::root().join("target/py/bin/python"),
    }
}

/// What is asked of the oracle about one table.
pub(crate) struct Check<'a> {
    lake: &'a Lake,
    table: &'a str,
    filter: Option<&'a str>,
    columns: Option<&'a [&'a str]>,
    derived: usize,
}

impl<'a> Check<'a> {
    /// All rows and columns of `table`, by the source's name (`public.orders`).
    pub(crate) fn of(lake: &'a Lake, table: &'a str) -> Self {
        Self {
            lake,
            table,
            filter: None,
            columns: None,
            derived: 0,
        }
    }

    /// Only the rows of the source that satisfy a condition.
    pub(crate) fn filter(mut self, filter: &'a str) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Only these columns were asked for.
    pub(crate) fn columns(mut self, columns: &'a [&'a str]) -> Self {
        self.columns = Some(columns);
        self
    }

    /// The lake has so many columns of its own, made for partitions.
    pub(crate) fn derived(mut self, derived: usize) -> Self {
        self.derived = derived;
        self
    }

    /// Whether they agree, and what was found: for control arms.
    #[track_caller]
    pub(crate) fn compare(self) -> (bool, Value) {
        let place = self.lake.place();
        let options: serde_json::Map<_, _> = place
            .options()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect();
        let question = json!({
            "source": self.lake.source(),
            "table": self.table,
            "where": self.filter,
            "columns": self.columns,
            "derived": self.derived,
            "lake": format!("{}/{}", place.url(), folder(self.lake.source(), self.table)),
            "store": options,
        });
        ask("rows.py", &question)
    }

    /// Fails the test unless source and lake hold the same rows.
    #[track_caller]
    pub(crate) fn agree(self) -> Rows {
        let table = self.table;
        let (agree, found) = self.compare();
        assert!(
            agree,
            "the lake differs from the source in {table}:\n{found:#}"
        );
        Rows(found)
    }
}

/// Fails the test unless source table and lake table hold the same rows.
#[track_caller]
pub(crate) fn rows(lake: &Lake, table: &str) -> Rows {
    Check::of(lake, table).agree()
}

/// The same for the rows of the source that satisfy a condition.
#[track_caller]
pub(crate) fn rows_where(lake: &Lake, table: &str, filter: &str) -> Rows {
    Check::of(lake, table).filter(filter).agree()
}

/// What a query says of tables of the lake, by `deltalake` and DuckDB. `tables`
/// are names for the query, the tables of the source they stand for, and the
/// version that is read where it is not the newest.
#[track_caller]
pub(crate) fn query(
    lake: &Lake,
    tables: &[(&str, &str, Option<u64>)],
    sql: &str,
) -> Vec<Vec<Value>> {
    let place = lake.place();
    let options: BTreeMap<_, _> = place.options().into_iter().collect();
    let tables = tables.iter().map(|(name, table, version)| {
        let folder = folder(lake.source(), table);
        json!({"name": name, "lake": format!("{}/{folder}", place.url()), "version": version})
    });
    let question = json!({
        "tables": tables.collect::<Vec<_>>(), "sql": sql, "store": options,
    });
    let (_, found) = ask("query.py", &question);
    serde_json::from_value(found["rows"].clone()).expect("rows")
}

/// The folder of a table in the lake: `schema/name`, or `name` where the source
/// has no schemas; what is not plain is `~` and two digits for each byte.
fn folder(source: &str, table: &str) -> String {
    let path = if source.starts_with("sqlite:") {
        table.to_owned()
    } else {
        table.replacen('.', "/", 1)
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    path.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("~{byte:02X}")
            }
        })
        .collect()
}

/// Asks one of the scripts in `tests/oracle`: whether all is well, and what was
/// found.
#[track_caller]
pub(crate) fn ask(script: &str, question: &Value) -> (bool, Value) {
    let script = super::root().join("tests/oracle").join(script);
    let output = Command::new(python())
        .arg(&script)
        .arg(question.to_string())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; run scripts/test", python().display()));
    let said = String::from_utf8_lossy(&output.stdout);
    let problem = String::from_utf8_lossy(&output.stderr);
    let found = said
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok());
    let found: Value =
        found.unwrap_or_else(|| panic!("the oracle failed on {question}\n{said}\n{problem}"));
    (output.status.success(), found)
}
