//! Discovery: from the schema and the user's selection to the lake's tables.

use highwater::dataset::{Column, Table, TableName};
use highwater::source::{Discovered, Selection, SourceError, SourceErrorKind, TableOptions};
use rusqlite::Connection;

use super::catalog::{self, DeclaredColumn, Listed};
use super::connection::Problem;
use super::literal::identifier;
use super::physical::Physical;
use super::rule::{ANY, Declared, Rule};
use super::selection::{Chosen, nearest};
use super::size::Sizes;

/// The tables of `selection`, in name order, each with its own error.
pub(super) fn discover(
    connection: &Connection,
    path: &std::path::Path,
    selection: &Selection,
) -> Result<Vec<Discovered>, Problem> {
    let chosen = Chosen::new(selection)?;
    let all = catalog::listed(connection)?;
    let mut found = unknown_names(&chosen, selection, &all);
    let sizes = Sizes::of(connection)?;
    for listed in all
        .iter()
        .filter(|listed| listed.is_table() && chosen.takes(&listed.name))
    {
        let name = TableName {
            schema: None,
            name: listed.name.clone(),
        };
        let options = selection.options(&name);
        let table = one(connection, &name, &options, &sizes).map_err(|problem| problem.at(path));
        found.push(Discovered { name, table });
    }
    found.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(found)
}

/// Names that the user wrote and that no table has.
fn unknown_names(chosen: &Chosen, selection: &Selection, all: &[Listed]) -> Vec<Discovered> {
    let tables = || {
        all.iter()
            .filter(|listed| listed.is_table())
            .map(|listed| listed.name.as_str())
    };
    let included = chosen
        .named()
        .filter(|name| !tables().any(|t| t.eq_ignore_ascii_case(name)));
    // Options are found by their exact name, so a wrong case would be lost.
    let optioned = selection
        .tables
        .keys()
        .filter(|name| !tables().any(|t| t == name.as_str()));
    let mut unknown: Vec<&str> = included.chain(optioned.map(String::as_str)).collect();
    unknown.sort_unstable();
    unknown.dedup();
    let explained = unknown.into_iter().map(|name| {
        let other = all
            .iter()
            .find(|listed| listed.name.eq_ignore_ascii_case(name));
        let message = match other {
            Some(listed) if !listed.is_table() => {
                let table = if listed.kind == "view" { "" } else { " table" };
                format!(
                    "`{name}` is a {}{table}: only ordinary tables are read",
                    listed.kind
                )
            }
            _ => format!("there is no table `{name}`{}", nearest(name, tables())),
        };
        Discovered {
            name: TableName {
                schema: None,
                name: name.to_owned(),
            },
            table: Err(SourceError::new(SourceErrorKind::Usage, message)),
        }
    });
    explained.collect()
}

fn one(
    connection: &Connection,
    name: &TableName,
    options: &TableOptions,
    sizes: &Sizes,
) -> Result<Table, Problem> {
    let physical = Physical::of(connection, name)?;
    check_options(name, &physical, options)?;
    let selected: Vec<&DeclaredColumn> = physical
        .columns
        .iter()
        .filter(|column| is_selected(column, options))
        .collect();
    if selected.is_empty() {
        return Err(usage(format!("{name}: no column is left to read")).into());
    }
    let columns = selected
        .iter()
        .map(|column| lake_column(name, column, &physical, options))
        .collect::<Result<Vec<_>, _>>()?;
    let (estimated_rows, estimated_bytes) = sizes.estimate(connection, name, &physical)?;
    let key = key_columns(connection, &physical)?;
    let place = |key: &String| columns.iter().position(|column| column.name == *key);
    // A key is whole or none: a part of it does not tell rows apart.
    let key = key
        .iter()
        .map(place)
        .collect::<Option<Vec<_>>>()
        .unwrap_or_default();
    let table = Table {
        name: name.clone(),
        columns,
        key,
        estimated_rows,
        estimated_bytes,
    };
    check_reading(connection, &physical, &table, options)?;
    Ok(table)
}

fn is_selected(column: &DeclaredColumn, options: &TableOptions) -> bool {
    let is = |name: &String| name.eq_ignore_ascii_case(&column.name);
    (options.columns.is_empty() || options.columns.iter().any(is))
        && !options.exclude_columns.iter().any(is)
}

/// Refuses options that name columns which do not exist.
fn check_options(
    name: &TableName,
    physical: &Physical,
    options: &TableOptions,
) -> Result<(), SourceError> {
    let named = options
        .columns
        .iter()
        .chain(&options.exclude_columns)
        .chain(options.types.keys());
    for column in named {
        physical.qualified(name, column)?;
    }
    Ok(())
}

fn lake_column(
    table: &TableName,
    column: &DeclaredColumn,
    physical: &Physical,
    options: &TableOptions,
) -> Result<Column, SourceError> {
    let rowid = physical.is_rowid(&column.name);
    let chosen = options
        .types
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(&column.name));
    let (rule, fidelity) = match chosen {
        None => Declared {
            name: &column.declared,
            strict: physical.strict,
            rowid,
        }
        .rule(),
        Some((_, wanted)) => {
            let rule = Rule::named(wanted).ok_or_else(|| {
                usage(format!(
                    "{table}.{}: `{wanted}` is not a type{} Known are {}",
                    column.name,
                    nearest(wanted, Rule::names()),
                    Rule::names().collect::<Vec<_>>().join(", "),
                ))
            })?;
            (rule, rule.fidelity())
        }
    };
    Ok(Column {
        name: column.name.clone(),
        source_type: Some(&column.declared)
            .filter(|declared| !declared.is_empty())
            .map_or_else(|| ANY.to_owned(), Clone::clone),
        lake_type: rule.lake_type(),
        nullable: !column.not_null && !rowid,
        fidelity,
    })
}

/// The names of the columns that tell rows apart: the primary key, else the
/// smallest unique index whose columns are all NOT NULL.
fn key_columns(connection: &Connection, physical: &Physical) -> rusqlite::Result<Vec<String>> {
    if let Some(rowid) = &physical.rowid_column {
        return Ok(vec![rowid.clone()]);
    }
    let mut primary: Vec<_> = physical
        .columns
        .iter()
        .filter(|column| column.key_place > 0)
        .collect();
    primary.sort_by_key(|column| column.key_place);
    let names = primary
        .iter()
        .map(|column| column.name.clone())
        .collect::<Vec<_>>();
    // SQLite lets NULL into the primary key of an ordinary table, by an old
    // defect that it keeps: such a key is one only while no row makes use of it.
    let never_null =
        physical.without_rowid || physical.strict || primary.iter().all(|column| column.not_null);
    if !names.is_empty() && (never_null || !any_null(connection, physical, &names)?) {
        return Ok(names);
    }
    let not_null = |name: &String| {
        physical
            .columns
            .iter()
            .any(|column| column.name == *name && column.not_null)
    };
    let unique = physical
        .indexes
        .iter()
        .filter(|index| index.unique)
        .filter_map(|index| {
            let columns = index.columns.iter().cloned().collect::<Option<Vec<_>>>()?;
            (!columns.is_empty() && columns.iter().all(not_null)).then_some(columns)
        });
    Ok(unique.min_by_key(Vec::len).unwrap_or_default())
}

fn any_null(
    connection: &Connection,
    physical: &Physical,
    columns: &[String],
) -> rusqlite::Result<bool> {
    let tests: Vec<_> = columns
        .iter()
        .map(|name| format!("{}.{} IS NULL", physical.quoted, identifier(name)))
        .collect();
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM main.{} WHERE {})",
        physical.quoted,
        tests.join(" OR ")
    );
    connection.query_row(&sql, [], |row| row.get(0))
}

/// Prepares what will be read, so that a wrong filter shows before the run.
fn check_reading(
    connection: &Connection,
    physical: &Physical,
    table: &Table,
    options: &TableOptions,
) -> Result<(), SourceError> {
    let read = highwater::source::TableRead {
        table: table.clone(),
        filter: options.filter.clone(),
        cursor: None,
        since: None,
        projection: Default::default(),
    };
    super::query::Query::rows(physical, &read, None)?.check(connection, &read)
}

fn usage(message: String) -> SourceError {
    SourceError::new(SourceErrorKind::Usage, message)
}
