//! What the schema says: tables, columns, unique keys. Plain rows of SQLite's
//! own pragmas; what they mean for the lake is decided elsewhere.

use rusqlite::Connection;

/// One entry of the schema.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    /// Its name.
    pub(super) name: String,
    /// `table`, `view`, `virtual` or `shadow`.
    pub(super) kind: String,
    /// Whether it is a WITHOUT ROWID table.
    pub(super) without_rowid: bool,
    /// Whether it is a STRICT table.
    pub(super) strict: bool,
}

impl Listed {
    /// Whether rows of its own are kept in it (not a view, not the inside or
    /// the face of an index).
    pub(super) fn is_table(&self) -> bool {
        self.kind == "table"
    }
}

/// Everything in the schema but SQLite's own, in name order.
pub(super) fn listed(connection: &Connection) -> rusqlite::Result<Vec<Listed>> {
    let mut statement = connection.prepare(
        "SELECT name, type, wr, strict FROM pragma_table_list WHERE schema = 'main' \
         AND lower(substr(name, 1, 7)) <> 'sqlite_' ORDER BY name",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Listed {
            name: row.get(0)?,
            kind: row.get(1)?,
            without_rowid: row.get(2)?,
            strict: row.get(3)?,
        })
    })?;
    rows.collect()
}

/// The entry called `table`, as SQLite compares names.
pub(super) fn find(connection: &Connection, table: &str) -> rusqlite::Result<Option<Listed>> {
    let all = listed(connection)?;
    Ok(all
        .into_iter()
        .find(|listed| listed.name.eq_ignore_ascii_case(table)))
}

/// One column as declared.
#[derive(Debug, Clone)]
pub(super) struct DeclaredColumn {
    /// Its name.
    pub(super) name: String,
    /// Its type as declared; may be empty.
    pub(super) declared: String,
    /// Whether it is declared NOT NULL.
    pub(super) not_null: bool,
    /// Its place in the primary key, from 1; 0 outside of it.
    pub(super) key_place: i64,
}

/// The columns of `table` with generated ones, in order.
pub(super) fn columns(
    connection: &Connection,
    table: &str,
) -> rusqlite::Result<Vec<DeclaredColumn>> {
    let mut statement = connection.prepare(
        "SELECT name, type, \"notnull\", pk FROM pragma_table_xinfo(?1, 'main') \
         WHERE hidden <> 1 ORDER BY cid",
    )?;
    let rows = statement.query_map([table], |row| {
        Ok(DeclaredColumn {
            name: row.get(0)?,
            declared: row.get(1)?,
            not_null: row.get(2)?,
            key_place: row.get(3)?,
        })
    })?;
    rows.collect()
}

/// One index.
#[derive(Debug, Clone)]
pub(super) struct Index {
    /// Whether it forbids repeats in the whole table.
    pub(super) unique: bool,
    /// Whether it was made by PRIMARY KEY.
    pub(super) primary: bool,
    /// Whether it holds all rows.
    pub(super) whole: bool,
    /// Its columns in order; `None` for an expression.
    pub(super) columns: Vec<Option<String>>,
}

/// The indexes of `table`.
pub(super) fn indexes(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Index>> {
    let mut statement = connection.prepare(
        "SELECT name, \"unique\", origin, partial FROM pragma_index_list(?1, 'main') ORDER BY seq",
    )?;
    let mut columns = connection
        .prepare("SELECT name FROM pragma_index_xinfo(?1, 'main') WHERE key = 1 ORDER BY seqno")?;
    let mut found = Vec::new();
    let mut rows = statement.query([table])?;
    while let Some(row) = rows.next()? {
        let (name, partial): (String, bool) = (row.get(0)?, row.get(3)?);
        let names = columns.query_map([name], |row| row.get(0))?;
        found.push(Index {
            unique: row.get::<_, bool>(1)? && !partial,
            primary: row.get::<_, String>(2)? == "pk",
            whole: !partial,
            columns: names.collect::<Result<_, _>>()?,
        });
    }
    Ok(found)
}
