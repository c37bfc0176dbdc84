//! How a table lies in its file: its row ids, its root page, its indexes.

use highwater::dataset::TableName;
use highwater::source::{SourceError, SourceErrorKind};
use rusqlite::Connection;

use super::catalog::{self, DeclaredColumn, Index};
use super::connection::Problem;
use super::literal::identifier;
use super::selection::nearest;

/// One table as it lies in the file, seen by one connection.
pub(super) struct Physical {
    /// The table's name, quoted.
    pub(super) quoted: String,
    /// Its columns as declared.
    pub(super) columns: Vec<DeclaredColumn>,
    /// Its indexes.
    pub(super) indexes: Vec<Index>,
    /// Whether it is STRICT.
    pub(super) strict: bool,
    /// Whether it has no rowid.
    pub(super) without_rowid: bool,
    /// The column that *is* the rowid (INTEGER PRIMARY KEY).
    pub(super) rowid_column: Option<String>,
    /// The expression that reads the rowid; `None` where there is none, or
    /// where columns have taken all of its names.
    pub(super) rowid: Option<String>,
}

impl Physical {
    /// Of the table `name`.
    pub(super) fn of(connection: &Connection, name: &TableName) -> Result<Self, Problem> {
        let listed = catalog::find(connection, &name.name)?
            .filter(catalog::Listed::is_table)
            .ok_or_else(|| {
                SourceError::new(
                    SourceErrorKind::Failed,
                    format!("{name}: this table has gone since the run was planned. Run again"),
                )
            })?;
        let columns = catalog::columns(connection, &listed.name)?;
        let indexes = catalog::indexes(connection, &listed.name)?;
        let rowid_column = (!listed.without_rowid)
            .then(|| rowid_column(&columns, &indexes))
            .flatten();
        let quoted = identifier(&listed.name);
        let rowid = match &rowid_column {
            _ if listed.without_rowid => None,
            Some(column) => Some(identifier(column)),
            None => ["rowid", "_rowid_", "oid"]
                .into_iter()
                .find(|free| !columns.iter().any(|c| c.name.eq_ignore_ascii_case(free)))
                .map(ToOwned::to_owned),
        };
        Ok(Self {
            rowid: rowid.map(|rowid| format!("{quoted}.{rowid}")),
            quoted,
            columns,
            indexes,
            strict: listed.strict,
            without_rowid: listed.without_rowid,
            rowid_column,
        })
    }

    /// Whether `column` is the rowid.
    pub(super) fn is_rowid(&self, column: &str) -> bool {
        self.rowid_column
            .as_ref()
            .is_some_and(|rowid| rowid.eq_ignore_ascii_case(column))
    }

    /// Whether an index over the whole table begins with `column`.
    pub(super) fn leads_index(&self, column: &str) -> bool {
        let leads = |index: &Index| {
            let first = index.columns.first().and_then(Option::as_ref);
            index.whole && first.is_some_and(|first| first.eq_ignore_ascii_case(column))
        };
        self.indexes.iter().any(leads)
    }

    /// `column`, quoted and qualified, if the table has it.
    pub(super) fn qualified(&self, table: &TableName, column: &str) -> Result<String, SourceError> {
        if self
            .columns
            .iter()
            .any(|known| known.name.eq_ignore_ascii_case(column))
        {
            return Ok(format!("{}.{}", self.quoted, identifier(column)));
        }
        let names = self.columns.iter().map(|known| known.name.as_str());
        Err(SourceError::new(
            SourceErrorKind::Usage,
            format!("{table} has no column `{column}`{}", nearest(column, names)),
        ))
    }

    /// A token of the coordinates that splits refer to: `VACUUM` may number rows
    /// anew, and changes the schema version like every DDL statement.
    pub(super) fn layout(
        &self,
        connection: &Connection,
        table: &TableName,
    ) -> rusqlite::Result<String> {
        let version: i64 =
            connection.pragma_query_value(None, "schema_version", |row| row.get(0))?;
        let root: i64 = connection.query_row(
            "SELECT rootpage FROM sqlite_schema WHERE type = 'table' AND lower(name) = lower(?1)",
            [&table.name],
            |row| row.get(0),
        )?;
        Ok(format!("schema {version}, root page {root}"))
    }
}

/// The column that is the rowid: the only one of the primary key, declared
/// exactly INTEGER, and without an index of its own (which `DESC` would give it).
fn rowid_column(columns: &[DeclaredColumn], indexes: &[Index]) -> Option<String> {
    let mut key = columns.iter().filter(|column| column.key_place > 0);
    let only = key.next().filter(|_| key.next().is_none())?;
    let own_index = indexes.iter().any(|index| index.primary);
    (only.declared.eq_ignore_ascii_case("INTEGER") && !own_index).then(|| only.name.clone())
}
