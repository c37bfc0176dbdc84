//! Rows by their keys, through the index of the key.
//!
//! Equality is the source's own: a `citext` key or one under a collation that
//! is not deterministic may bring rows that were not asked for by the letter,
//! and numbers that the lake keeps shortened (by choice) are compared shortened.

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use highwater::dataset::Column;
use highwater::source::{SourceError, TableRead};

use super::error::usage;
use super::literal::constant;
use super::quote;

/// With these, the planner has only one way that is not dearer than any other:
/// the index, once a key. The statistics of a table that was never analysed
/// would lead it elsewhere. They end with the savepoint.
pub(super) const SETTINGS: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; \
    SET LOCAL enable_mergejoin = off; ";

/// The query for the rows of `read` whose key is among `keys`. Each row once,
/// even where two keys are equal in the source's eyes.
pub(super) fn select(
    read: &TableRead,
    keys: &RecordBatch,
    only: &str,
    expressions: &str,
) -> Result<String, SourceError> {
    let table = &read.table;
    let columns: Vec<&Column> = table
        .key
        .iter()
        .filter_map(|&position| table.columns.get(position))
        .collect();
    if columns.is_empty() || columns.len() != keys.num_columns() {
        return Err(usage(format!(
            "{}: keys of {} columns were asked for, the table's key has {}",
            table.name,
            keys.num_columns(),
            columns.len()
        )));
    }
    let rows: Vec<String> = (0..keys.num_rows())
        .map(|row| {
            let values = columns.iter().zip(keys.columns()).map(|(column, values)| {
                constant(values, row, compared_as(column)).map_err(|error| {
                    usage(format!(
                        "{}, key column {}: {error}",
                        table.name, column.name
                    ))
                })
            });
            Ok(format!(
                "({})",
                values.collect::<Result<Vec<_>, _>>()?.join(", ")
            ))
        })
        .collect::<Result<_, SourceError>>()?;
    let key: Vec<String> = columns.iter().map(|column| compared(column)).collect();
    // On lines of its own, so that a comment at its end does not swallow ours.
    let filter = read
        .filter
        .as_ref()
        .map_or_else(String::new, |filter| format!(" AND ({filter}\n)"));
    Ok(format!(
        "SELECT {expressions} FROM {only}{} WHERE ({}) IN (VALUES {}){filter}",
        quote::table(&table.name),
        key.join(", "),
        rows.join(", ")
    ))
}

/// The type in which keys are compared: the column's own, and its index serves.
/// Numbers that the lake keeps as a float are not the source's any more, so
/// they are compared as that.
fn compared_as(column: &Column) -> &str {
    match (&column.lake_type, column.source_type.as_str()) {
        (_, "real" | "double precision") => &column.source_type,
        (DataType::Float32, _) => "real",
        (DataType::Float64, _) => "double precision",
        _ => &column.source_type,
    }
}

fn compared(column: &Column) -> String {
    let name = quote::identifier(&column.name);
    let wanted = compared_as(column);
    if wanted == column.source_type {
        name
    } else {
        format!("{name}::{wanted}")
    }
}
