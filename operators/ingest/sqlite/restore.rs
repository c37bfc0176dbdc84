//! A table of SQLite as the target of a restore, in one transaction: created
//! under a temporary name, filled, read back by the rules that read sources, and
//! then renamed. A transaction that does not end is rolled back by SQLite.
//!
//! What came from SQLite is given back in the type that it was declared with, so
//! that affinity makes of each value what it was: a literal its storage class,
//! exact text its number. What came from elsewhere becomes integers, reals, blobs
//! and exact text.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef};
use async_trait::async_trait;
use highwater::dataset::{Column, Fidelity, Table, TableName};
use highwater::source::{SourceError, SourceErrorKind};
use rusqlite::Connection;
use rusqlite::types::{Value, ValueRef};
use uuid::Uuid;

use super::connection::{Problem, said};
use super::literal::identifier;
use super::page::{Layout, Page};
use super::rule::{ANY, Rule};
use super::{catalog, location};
use crate::restore::{Restore, Tally, Target, exists, failed, null_or_text, stored_as};

/// How long other writers are waited for.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Opens a transaction in which `job`'s table is filled.
pub(crate) fn restore_into(url: &str, job: &Restore) -> Result<Box<dyn Target>, SourceError> {
    let path = location::path_of(url)?;
    let name = match &job.table.name.schema {
        // SQLite has no schemas: the usual one of each kind of database goes
        // without saying, any other becomes part of the name.
        Some(schema) if !matches!(schema.as_str(), "main" | "public") => {
            format!("{schema}.{}", job.table.name.name)
        }
        _ => job.table.name.name.clone(),
    };
    let at = |problem: Problem| problem.at(&path);
    let mut target = SqliteTarget {
        connection: Connection::open(&path).map_err(|error| said(&path, error))?,
        temporary: format!("highwater_restore_{}", Uuid::now_v7().simple()),
        replaces: false,
        columns: Vec::new(),
        rules: Vec::new(),
        schema: job.table.schema(),
        name,
        path: path.clone(),
    };
    target.begin(job).map_err(at)?;
    Ok(Box::new(target))
}

struct SqliteTarget {
    connection: Connection,
    path: PathBuf,
    name: String,
    temporary: String,
    replaces: bool,
    /// As they are read back.
    columns: Vec<Column>,
    rules: Vec<Rule>,
    schema: SchemaRef,
}

impl SqliteTarget {
    fn begin(&mut self, job: &Restore) -> Result<(), Problem> {
        self.connection.busy_timeout(LOCK_WAIT)?;
        // Renaming must not look into views of the table that is replaced.
        self.connection.execute_batch(
            "PRAGMA legacy_alter_table = ON; PRAGMA foreign_keys = OFF; BEGIN IMMEDIATE",
        )?;
        if let Some(found) = catalog::find(&self.connection, &self.name)? {
            if !found.is_table() {
                let what = format!(
                    "{} is a {} in the target; restore under another name (--as)",
                    self.name, found.kind
                );
                return Err(SourceError::new(SourceErrorKind::Usage, what).into());
            }
            if !job.replace {
                return Err(exists(format!("table {} in the target", self.name)).into());
            }
            self.replaces = true;
        }
        let from_sqlite = job.origin == "sqlite";
        let columns = job.table.columns.iter();
        self.columns = columns
            .map(|column| match from_sqlite {
                true => declared_as_before(column, job.types.get(&column.name)),
                false => declared_anew(column),
            })
            .collect();
        let table = self.table();
        self.schema = table.schema();
        let rules = self.columns.iter().map(|column| {
            let what = || failed(format!("SQLite has no place for {}", column.lake_type));
            Rule::of(column).ok_or_else(what)
        });
        self.rules = rules.collect::<Result<_, _>>()?;
        let mut parts: Vec<String> = self.columns.iter().map(definition).collect();
        if !job.table.key.is_empty() {
            let key: Vec<String> = job.table.key_names().map(identifier).collect();
            parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
        }
        let create = format!(
            "CREATE TABLE {} ({})",
            identifier(&self.temporary),
            parts.join(", ")
        );
        Ok(self.connection.execute_batch(&create)?)
    }

    /// The table under its temporary name.
    fn table(&self) -> Table {
        Table {
            name: TableName {
                schema: None,
                name: self.temporary.clone(),
            },
            columns: self.columns.clone(),
            key: Vec::new(),
            estimated_rows: None,
            estimated_bytes: 0,
        }
    }

    fn insert(&self, rows: &RecordBatch) -> Result<(), Problem> {
        let places = vec!["?"; self.columns.len()].join(", ");
        let insert = format!(
            "INSERT INTO {} VALUES ({places})",
            identifier(&self.temporary)
        );
        let mut statement = self.connection.prepare_cached(&insert)?;
        for row in 0..rows.num_rows() {
            let columns = self.rules.iter().zip(rows.columns());
            let values = columns.map(|(rule, column)| value(*rule, column.as_ref(), row));
            let values = values.collect::<Result<Vec<Value>, SourceError>>()?;
            statement.execute(rusqlite::params_from_iter(values))?;
        }
        Ok(())
    }

    fn look(&self, tally: &mut Tally) -> Result<(), Problem> {
        let layout = Arc::new(Layout::rows(&self.table())?);
        let names: Vec<String> = self.columns.iter().map(|c| identifier(&c.name)).collect();
        let select = format!(
            "SELECT {} FROM {}",
            names.join(", "),
            identifier(&self.temporary)
        );
        let mut statement = self.connection.prepare(&select)?;
        let mut rows = statement.query([])?;
        let mut page = Page::new(&layout);
        while let Some(row) = rows.next()? {
            let cells = (0..self.columns.len()).map(|at| row.get_ref(at));
            let cells = cells.collect::<rusqlite::Result<Vec<ValueRef<'_>>>>()?;
            page.push(None, &cells, layout.row_bytes(&cells));
            if page.is_full() || page.bytes() >= tally.batch_bytes() {
                count(std::mem::replace(&mut page, Page::new(&layout)), tally)?;
            }
        }
        Ok(count(page, tally)?)
    }

    fn swap(&self) -> Result<(), Problem> {
        if self.replaces {
            let drop = format!("DROP TABLE {}", identifier(&self.name));
            self.connection.execute_batch(&drop)?;
        }
        let (from, to) = (identifier(&self.temporary), identifier(&self.name));
        let rename = format!("ALTER TABLE {from} RENAME TO {to}; COMMIT");
        Ok(self.connection.execute_batch(&rename)?)
    }
}

fn count(page: Page, tally: &mut Tally) -> Result<(), SourceError> {
    let finished = page.finish()?;
    for row in finished.bad {
        tally.refuse(row);
    }
    tally.add(&finished.rows)
}

/// A column that came from SQLite: what it declares, and the rule it was read by.
fn declared_as_before(column: &Column, choice: Option<&String>) -> Column {
    let untyped = column.source_type.trim().eq_ignore_ascii_case(ANY);
    let literal = match choice {
        None => untyped,
        Some(choice) => Rule::named(choice) == Some(Rule::Literal),
    };
    // What the rule of a text column is read from.
    let fidelity = if literal && column.lake_type == DataType::Utf8 {
        Fidelity::Text(String::new())
    } else {
        Fidelity::Exact
    };
    Column {
        fidelity,
        ..column.clone()
    }
}

/// A column that came from elsewhere.
fn declared_anew(column: &Column) -> Column {
    let stored = stored_as(&column.lake_type);
    let declared = match &stored {
        DataType::Boolean => "BOOLEAN",
        DataType::Int64 => "INTEGER",
        DataType::Float64 => "REAL",
        DataType::Binary => "BLOB",
        _ => "TEXT",
    };
    Column {
        source_type: declared.to_owned(),
        lake_type: stored,
        fidelity: Fidelity::Exact,
        ..column.clone()
    }
}

fn definition(column: &Column) -> String {
    let name = identifier(&column.name);
    let declared = &column.source_type;
    let plain = |c: char| c.is_ascii_alphanumeric() || " _(),.+-".contains(c);
    match declared.as_str() {
        ANY => name,
        // A name that is not made of plain words must have been quoted.
        declared if !declared.chars().all(plain) => format!("{name} {}", identifier(declared)),
        declared => format!("{name} {declared}"),
    }
}

/// The value to be given to SQLite.
fn value(rule: Rule, column: &dyn Array, row: usize) -> Result<Value, SourceError> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match rule {
        Rule::Long => Value::Integer(column.as_primitive::<Int64Type>().value(row)),
        Rule::Boolean => Value::Integer(column.as_boolean().value(row).into()),
        Rule::Binary => Value::Blob(column.as_binary::<i32>().value(row).to_vec()),
        Rule::Double => match column.as_primitive::<Float64Type>().value(row) {
            real if real.is_nan() => {
                return Err(failed(
                    "SQLite stores NaN as NULL: the table cannot be restored there; restore it to \
                     PostgreSQL or to files",
                ));
            }
            real => Value::Real(real),
        },
        Rule::Literal => {
            let text = column.as_string::<i32>().value(row);
            parse(text)
                .ok_or_else(|| failed(format!("`{text:.100}` is not a literal of SQLite")))?
        }
        Rule::Text | Rule::Date | Rule::Timestamp | Rule::Instant | Rule::Decimal { .. } => {
            Value::Text(null_or_text(column, row)?.unwrap_or_default())
        }
    })
}

/// The value of a literal that [`super::literal::exact`] wrote.
fn parse(text: &str) -> Option<Value> {
    let inside = |text: &str, open: &str| {
        let inside = text.strip_prefix(open)?.strip_suffix('\'')?;
        Some(inside.to_owned())
    };
    if let Some(text) = inside(text, "'") {
        return Some(Value::Text(text.replace("''", "'")));
    }
    if let Some(digits) = inside(text, "x'") {
        let digit = |digit: &u8| {
            char::from(*digit)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        };
        let bytes = digits.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        });
        return Some(Value::Blob(bytes.collect::<Option<_>>()?));
    }
    match text.parse() {
        Ok(whole) => Some(Value::Integer(whole)),
        // 9.0e+999 is infinity here too.
        Err(_) => text.parse().ok().map(Value::Real),
    }
}

#[async_trait]
impl Target for SqliteTarget {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn inexact(&self) -> Vec<String> {
        Vec::new()
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<(), SourceError> {
        self.insert(rows).map_err(|problem| problem.at(&self.path))
    }

    async fn read_back(&mut self, tally: &mut Tally) -> Result<(), SourceError> {
        self.look(tally).map_err(|problem| problem.at(&self.path))
    }

    async fn publish(self: Box<Self>) -> Result<(), SourceError> {
        self.swap().map_err(|problem| problem.at(&self.path))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ingest::sqlite::literal;

    #[test]
    fn literals_come_back() {
        for value in [
            Value::Integer(i64::MIN),
            Value::Real(1e300),
            Value::Real(1.0),
            Value::Real(f64::NEG_INFINITY),
            Value::Text("it's ''".into()),
            Value::Text("'".into()),
            Value::Text(String::new()),
            Value::Blob(vec![0, 255]),
            Value::Blob(vec![]),
        ] {
            let text = literal::exact(ValueRef::from(&value)).unwrap();
            assert_eq!(parse(&text), Some(value), "{text}");
        }
        for text in ["x'0'", "abc", "'"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
