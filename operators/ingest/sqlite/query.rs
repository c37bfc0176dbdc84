//! The SQL that reads a split.

use highwater::dataset::TableName;
use highwater::source::{CursorRange, Projection, SourceError, SourceErrorKind, Split, TableRead};
use rusqlite::types::Value;
use rusqlite::{Connection, Rows, Statement, params_from_iter};

use super::connection::said;
use super::cursor;
use super::physical::Physical;

/// Why rows written since an earlier state cannot be found (T2).
pub(super) const NO_WRITERS: &str =
    "SQLite does not keep who wrote a row or when: compare all rows, or name a cursor column";

/// A statement with what is bound to it.
pub(super) struct Query {
    sql: String,
    bound: Vec<Value>,
    /// Whether the first result column is the rowid (else it is NULL).
    pub(super) has_rowid: bool,
}

impl Query {
    /// The rows of `split` (of the whole table where none is given): first the
    /// rowid, then the columns of `read`, and for keys whether it is in the tail.
    pub(super) fn rows(
        physical: &Physical,
        read: &TableRead,
        split: Option<&Split>,
    ) -> Result<Self, SourceError> {
        let name = &read.table.name;
        if read.since.is_some() {
            return Err(SourceError::new(
                SourceErrorKind::Failed,
                format!("{name}: {NO_WRITERS}"),
            ));
        }
        let mut query = Self {
            sql: String::new(),
            bound: Vec::new(),
            has_rowid: false,
        };
        // The planner is left alone only where it may use the cursor's index:
        // NOT INDEXED walks the table in rowid order, without sorting rows.
        let by_index = read.cursor.is_some() && split.is_none_or(is_whole);
        let (rowid, how, order) = match &physical.rowid {
            Some(rowid) if by_index => (rowid.as_str(), "", String::new()),
            Some(rowid) => (rowid.as_str(), " NOT INDEXED", format!(" ORDER BY {rowid}")),
            None => ("NULL", "", String::new()),
        };
        query.has_rowid = physical.rowid.is_some();
        let mut columns = vec![rowid.to_owned()];
        for column in &read.table.columns {
            columns.push(physical.qualified(name, &column.name)?);
        }
        if let Projection::Keys { tail_from } = &read.projection {
            columns.push(query.tail(physical, read, tail_from.as_deref())?);
        }
        let condition = query.conditions(physical, read, split)?;
        query.sql = format!(
            "SELECT {} FROM main.{}{how}{condition}{order}",
            columns.join(", "),
            physical.quoted
        );
        Ok(query)
    }

    /// The greatest value of the cursor column among the rows that `read` wants,
    /// wherever it was read to before.
    pub(super) fn cursor_max(
        physical: &Physical,
        read: &TableRead,
        cursor: &CursorRange,
    ) -> Result<Self, SourceError> {
        let column = physical.qualified(&read.table.name, &cursor.column)?;
        let mut query = Self {
            sql: String::new(),
            bound: Vec::new(),
            has_rowid: false,
        };
        let everything = TableRead {
            cursor: None,
            ..read.clone()
        };
        let condition = query.conditions(physical, &everything, None)?;
        query.sql = format!(
            "SELECT max({column}) FROM main.{}{condition}",
            physical.quoted
        );
        Ok(query)
    }

    /// How many rows `read` wants, wherever a cursor stands.
    pub(super) fn count(physical: &Physical, read: &TableRead) -> Result<Self, SourceError> {
        let mut query = Self {
            sql: String::new(),
            bound: Vec::new(),
            has_rowid: false,
        };
        let everything = TableRead {
            cursor: None,
            ..read.clone()
        };
        let condition = query.conditions(physical, &everything, None)?;
        query.sql = format!("SELECT count(*) FROM main.{}{condition}", physical.quoted);
        Ok(query)
    }

    /// The rows whose key columns (`columns`, by name) are among so many values
    /// each, to be bound at every run: first the rowid, then the columns of
    /// `read`. Nothing is bound to it yet.
    pub(super) fn by_key(
        physical: &Physical,
        read: &TableRead,
        columns: &[(&str, usize)],
    ) -> Result<Self, SourceError> {
        let name = &read.table.name;
        let mut query = Self {
            sql: String::new(),
            bound: Vec::new(),
            has_rowid: physical.rowid.is_some(),
        };
        let mut selected = vec![physical.rowid.clone().unwrap_or_else(|| "NULL".to_owned())];
        for column in &read.table.columns {
            selected.push(physical.qualified(name, &column.name)?);
        }
        let mut conditions = Vec::new();
        for &(column, values) in columns {
            let column = physical.qualified(name, column)?;
            let places: Vec<_> = (0..values).map(|_| query.bind(Value::Null)).collect();
            conditions.push(format!("{column} IN ({})", places.join(", ")));
        }
        query.bound.clear();
        conditions.extend(read.filter.as_ref().map(|filter| format!("(\n{filter}\n)")));
        let condition = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        query.sql = format!(
            "SELECT {} FROM main.{}{condition}",
            selected.join(", "),
            physical.quoted
        );
        Ok(query)
    }

    /// Whether a row is at or above where the next run goes on. Only a cursor's
    /// value can say: SQLite does not keep when a row was written.
    fn tail(
        &mut self,
        physical: &Physical,
        read: &TableRead,
        from: Option<&str>,
    ) -> Result<String, SourceError> {
        let (Some(from), Some(cursor)) = (from, &read.cursor) else {
            return Ok("0".to_owned());
        };
        let column = physical.qualified(&read.table.name, &cursor.column)?;
        let from = self.bind(cursor::read(from)?);
        let without = i32::from(cursor.nulls);
        Ok(format!("coalesce({column} >= {from}, {without})"))
    }

    fn conditions(
        &mut self,
        physical: &Physical,
        read: &TableRead,
        split: Option<&Split>,
    ) -> Result<String, SourceError> {
        let mut all = Vec::new();
        if let (Some(rowid), Some(split)) = (&physical.rowid, split) {
            if let Some(start) = split.start {
                all.push(format!("{rowid} >= {}", self.bind(Value::Integer(start))));
            }
            if let Some(end) = split.end {
                all.push(format!("{rowid} < {}", self.bind(Value::Integer(end))));
            }
        }
        if let Some(range) = &read.cursor {
            let column = physical.qualified(&read.table.name, &range.column)?;
            all.extend(self.cursor_conditions(&column, range)?);
        }
        if let Some(filter) = &read.filter {
            // On a line of its own: the user's text may end in a comment.
            all.push(format!("(\n{filter}\n)"));
        }
        Ok(if all.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", all.join(" AND "))
        })
    }

    fn cursor_conditions(
        &mut self,
        column: &str,
        range: &CursorRange,
    ) -> Result<Vec<String>, SourceError> {
        let from = range.from.as_deref().map(cursor::read).transpose()?;
        let to = range.to.as_deref().map(cursor::read).transpose()?;
        let nulls = range.nulls;
        let mut all = Vec::new();
        match (from, to) {
            (None, None) => {}
            (None, Some(to)) => {
                all.push(format!(
                    "({column} <= {} OR {column} IS NULL)",
                    self.bind(to)
                ));
            }
            (Some(from), to) => {
                let mut range = format!("{column} >= {}", self.bind(from));
                if let Some(to) = to {
                    range += &format!(" AND {column} <= {}", self.bind(to));
                }
                all.push(if nulls {
                    format!("({range} OR {column} IS NULL)")
                } else {
                    range
                });
            }
        }
        Ok(all)
    }

    fn bind(&mut self, value: Value) -> String {
        self.bound.push(value);
        format!("?{}", self.bound.len())
    }

    /// Prepares it and forgets it.
    pub(super) fn check(
        &self,
        connection: &Connection,
        read: &TableRead,
    ) -> Result<(), SourceError> {
        self.prepare(connection, read).map(drop)
    }

    /// Prepares it; a wrong filter is the user's to mend.
    pub(super) fn prepare<'c>(
        &self,
        connection: &'c Connection,
        read: &TableRead,
    ) -> Result<Statement<'c>, SourceError> {
        connection.prepare(&self.sql).map_err(|error| {
            let path = connection.path().unwrap_or_default();
            let unprepared = said(std::path::Path::new(path), error);
            match &read.filter {
                Some(filter) if unprepared.kind == SourceErrorKind::Failed => {
                    filter_refused(&read.table.name, filter, unprepared)
                }
                _ => unprepared,
            }
        })
    }

    /// Runs it with other values bound.
    pub(super) fn run_with<'s>(
        &self,
        statement: &'s mut Statement<'_>,
        values: &[Value],
    ) -> rusqlite::Result<Rows<'s>> {
        statement.query(params_from_iter(values))
    }

    /// Runs it.
    pub(super) fn run<'s>(&self, statement: &'s mut Statement<'_>) -> rusqlite::Result<Rows<'s>> {
        statement.query(params_from_iter(&self.bound))
    }
}

fn is_whole(split: &Split) -> bool {
    split.start.is_none() && split.end.is_none()
}

fn filter_refused(table: &TableName, filter: &str, cause: SourceError) -> SourceError {
    SourceError::new(
        SourceErrorKind::Usage,
        format!("{table}: SQLite does not accept the condition `{filter}`: {cause}"),
    )
    .caused_by(cause)
}
