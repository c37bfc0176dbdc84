//! Rows by their keys: through the index of the key, one key after the other;
//! where a key's stored forms cannot be listed, by one walk through the table.

use std::collections::HashSet;

use arrow::array::RecordBatch;
use highwater::source::{Projection, SourceError, SourceErrorKind, TableRead};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Rows};

use super::connection::Problem;
use super::key::{Exact, ways};
use super::physical::Physical;
use super::query::Query;
use super::reader::Filling;
use super::rule::Rule;

/// A key, column by column.
type Key = Vec<Exact>;

/// The key columns of a table.
struct KeyColumns<'a> {
    /// Their positions among the table's columns.
    positions: &'a [usize],
    names: Vec<&'a str>,
    rules: Vec<Rule>,
}

/// Puts the rows of `read` whose key is among `keys` into `filling`.
pub(super) fn fetch(
    connection: &Connection,
    read: &TableRead,
    keys: &RecordBatch,
    filling: &mut Filling<'_>,
) -> Result<(), Problem> {
    let columns = KeyColumns::of(read, keys)?;
    let wanted: Vec<Key> = (0..keys.num_rows())
        .map(|row| columns.key(read, keys, row))
        .collect::<Result<_, _>>()?;
    let physical = Physical::of(connection, &read.table.name)?;
    if columns.rules.iter().all(|&rule| ways(rule) > 0) {
        let places = columns.rules.iter().map(|&rule| ways(rule));
        let places: Vec<_> = columns.names.iter().copied().zip(places).collect();
        let query = Query::by_key(&physical, read, &places)?;
        // A collation that only its application knows cannot be asked for.
        if let Ok(mut statement) = query.prepare(connection, read) {
            for key in wanted {
                let values: Vec<Value> = key
                    .iter()
                    .zip(&columns.rules)
                    .flat_map(|(value, &rule)| value.candidates(rule))
                    .collect();
                let found = query.run_with(&mut statement, &values)?;
                columns.take(read, query.has_rowid, found, filling, |found| *found == key)?;
            }
            return Ok(());
        }
    }
    let read = &TableRead {
        projection: Projection::Rows,
        cursor: None,
        since: None,
        ..read.clone()
    };
    let wanted: HashSet<Key> = wanted.into_iter().collect();
    let query = Query::rows(&physical, read, None)?;
    let mut statement = query.prepare(connection, read)?;
    let found = query.run(&mut statement)?;
    columns.take(read, query.has_rowid, found, filling, |found| {
        wanted.contains(found)
    })
}

impl<'a> KeyColumns<'a> {
    fn of(read: &'a TableRead, keys: &RecordBatch) -> Result<Self, SourceError> {
        let table = &read.table;
        let columns = table
            .key
            .iter()
            .filter_map(|&position| table.columns.get(position));
        let (names, rules): (Vec<_>, Vec<_>) = columns
            .filter_map(|column| Some((column.name.as_str(), Rule::of(column)?)))
            .unzip();
        if names.is_empty() || names.len() != table.key.len() || names.len() != keys.num_columns() {
            return Err(SourceError::new(
                SourceErrorKind::Usage,
                format!(
                    "{}: keys of {} columns were asked for, the table's key has {}",
                    table.name,
                    keys.num_columns(),
                    table.key.len()
                ),
            ));
        }
        Ok(Self {
            positions: &table.key,
            names,
            rules,
        })
    }

    /// The key in `row` of the batch.
    fn key(&self, read: &TableRead, keys: &RecordBatch, row: usize) -> Result<Key, SourceError> {
        let values = keys
            .columns()
            .iter()
            .zip(&self.names)
            .map(|(column, name)| {
                Exact::kept(column, row).ok_or_else(|| {
                SourceError::new(
                    SourceErrorKind::Failed,
                    format!(
                        "{}.{name}: row {row} of the keys ({}) is not the key of a row in SQLite",
                        read.table.name,
                        column.data_type()
                    ),
                )
            })
            });
        values.collect()
    }

    /// The key of a stored row; `None` where the lake cannot hold it.
    fn stored(&self, cells: &[ValueRef<'_>]) -> Option<Key> {
        let values = self.positions.iter().zip(&self.rules);
        values
            .map(|(&position, &rule)| Exact::stored(rule, *cells.get(position)?))
            .collect()
    }

    /// Fills in those of the rows `found` that are `wanted`.
    fn take(
        &self,
        read: &TableRead,
        has_rowid: bool,
        mut found: Rows<'_>,
        filling: &mut Filling<'_>,
        wanted: impl Fn(&Key) -> bool,
    ) -> Result<(), Problem> {
        while let Some(row) = found.next()? {
            let rowid = if has_rowid { row.get(0)? } else { None };
            let cells = (1..=read.table.columns.len())
                .map(|position| row.get_ref(position))
                .collect::<Result<Vec<_>, _>>()?;
            if self.stored(&cells).is_some_and(|key| wanted(&key)) {
                filling.row(rowid, &cells)?;
            }
        }
        Ok(())
    }
}
