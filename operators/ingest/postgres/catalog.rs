//! What the database holds: tables, columns, keys and sizes, in one round trip.

use std::collections::HashMap;

use highwater::dataset::{Column, Table, TableName};
use highwater::source::{Discovered, Selection, SourceError, SourceErrorKind, TableOptions};

use super::error::usage;
use super::selection::{Wanted, hint};
use super::types::{self, PgType, PgTypes};
use super::wire::{Results, Session};

/// All in one message. `search_path` is fixed, so that `format_type` names the
/// schema of every type that is not the system's own. A partition is part of
/// its parent and not a table of its own here.
const CATALOG: &str = r"
SET LOCAL search_path = pg_catalog;
SELECT c.oid, n.nspname, c.relname, c.relkind, has_schema_privilege(n.oid, 'USAGE')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
ORDER BY n.nspname, c.relname;
SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, format_type(a.atttypid, a.atttypmod),
  a.attnotnull, has_column_privilege(a.attrelid, a.attnum, 'SELECT')
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.attnum > 0 AND NOT a.attisdropped
  AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
ORDER BY a.attrelid, a.attnum;
SELECT i.indrelid, i.indnkeyatts, i.indkey
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
  AND c.relkind IN ('r', 'p') AND NOT c.relispartition
ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, i.indexrelid;
WITH RECURSIVE used AS (
  SELECT DISTINCT a.atttypid AS oid FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p')
  UNION
  SELECT CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END
  FROM used u JOIN pg_type t ON t.oid = u.oid WHERE t.typtype = 'd' OR t.typelem <> 0
)
SELECT t.oid, n.nspname, t.typname, t.typtype,
  CASE WHEN t.typcategory = 'A' AND t.typlen = -1 AND t.oid NOT IN (22, 30) THEN t.typelem ELSE 0 END,
  t.typbasetype, t.typtypmod
FROM used u JOIN pg_type t ON t.oid = u.oid JOIN pg_namespace n ON n.oid = t.typnamespace;
SELECT c.oid, l.reltuples, greatest(l.relpages, 0), coalesce(pg_relation_size(l.oid), 0),
  coalesce(pg_relation_size(nullif(l.reltoastrelid, 0)), 0),
  current_setting('block_size')
FROM pg_class c
CROSS JOIN LATERAL (
  SELECT c.oid AS relid WHERE c.relkind = 'r'
  UNION ALL
  SELECT p.relid FROM pg_partition_tree(c.oid) p WHERE c.relkind = 'p' AND p.isleaf
) leaf
JOIN pg_class l ON l.oid = leaf.relid
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' AND l.relkind = 'r'";

/// What [`CATALOG`] says, indexed by table.
struct Catalog {
    tables: Vec<Entry>,
    columns: HashMap<u32, Vec<Attribute>>,
    keys: HashMap<u32, Vec<Vec<i16>>>,
    types: PgTypes,
    sizes: HashMap<u32, Size>,
}

struct Entry {
    oid: u32,
    name: TableName,
    has_usage: bool,
}

struct Attribute {
    number: i16,
    name: String,
    type_oid: u32,
    modifier: i32,
    spelled: String,
    not_null: bool,
    may_select: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Size {
    bytes: u64,
    /// Rows by the server's statistics, brought up to the present size; `None`
    /// where a part was never analysed.
    rows: Option<u64>,
}

/// The tables of `selection` as they are now, in name order.
pub(super) async fn discover(
    session: &mut Session,
    selection: &Selection,
) -> Result<Vec<Discovered>, SourceError> {
    let results = session
        .query(&format!("BEGIN READ ONLY;{CATALOG};COMMIT"))
        .await?;
    select(&Catalog::read(&results)?, selection)
}

/// The tables of `selection` as the session's transaction sees them, which stays
/// as it is.
pub(super) async fn discover_within(
    session: &mut Session,
    selection: &Selection,
) -> Result<Vec<Discovered>, SourceError> {
    let results = session
        .query(&format!(
            "SAVEPOINT catalog;{CATALOG};ROLLBACK TO SAVEPOINT catalog;RELEASE SAVEPOINT catalog"
        ))
        .await?;
    select(&Catalog::read(&results)?, selection)
}

fn select(catalog: &Catalog, selection: &Selection) -> Result<Vec<Discovered>, SourceError> {
    let wanted = Wanted::new(selection)?;
    let names: Vec<TableName> = catalog
        .tables
        .iter()
        .map(|entry| entry.name.clone())
        .collect();
    wanted.check_schemas(&names)?;
    let mut found: Vec<Discovered> = catalog
        .tables
        .iter()
        .filter(|entry| wanted.takes(&entry.name))
        .map(|entry| Discovered {
            name: entry.name.clone(),
            table: catalog.table(entry, &selection.options(&entry.name)),
        })
        .collect();
    found.extend(
        wanted
            .missing(&names)
            .into_iter()
            .map(|(name, error)| Discovered {
                name,
                table: Err(error),
            }),
    );
    found.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(found)
}

impl Catalog {
    fn read(results: &Results) -> Result<Self, SourceError> {
        let mut catalog = Self {
            tables: Vec::new(),
            columns: HashMap::new(),
            keys: HashMap::new(),
            types: PgTypes::new(),
            sizes: HashMap::new(),
        };
        for row in (0..results.rows(0).len()).map(|row| Cells {
            results,
            set: 0,
            row,
        }) {
            let name = TableName {
                schema: Some(row.text(1)?.to_owned()),
                name: row.text(2)?.to_owned(),
            };
            catalog.tables.push(Entry {
                oid: row.number(0)?,
                name,
                has_usage: row.flag(4)?,
            });
        }
        for row in (0..results.rows(1).len()).map(|row| Cells {
            results,
            set: 1,
            row,
        }) {
            catalog
                .columns
                .entry(row.number(0)?)
                .or_default()
                .push(Attribute {
                    number: row.number(1)?,
                    name: row.text(2)?.to_owned(),
                    type_oid: row.number(3)?,
                    modifier: row.number(4)?,
                    spelled: row.text(5)?.to_owned(),
                    not_null: row.flag(6)?,
                    may_select: row.flag(7)?,
                });
        }
        for row in (0..results.rows(2).len()).map(|row| Cells {
            results,
            set: 2,
            row,
        }) {
            let count: usize = row.number(1)?;
            let key = row
                .text(2)?
                .split_whitespace()
                .take(count)
                .filter_map(|number| number.parse().ok())
                .collect();
            catalog.keys.entry(row.number(0)?).or_default().push(key);
        }
        for row in (0..results.rows(3).len()).map(|row| Cells {
            results,
            set: 3,
            row,
        }) {
            let element: u32 = row.number(4)?;
            catalog.types.insert(
                row.number(0)?,
                PgType {
                    schema: row.text(1)?.to_owned(),
                    name: row.text(2)?.to_owned(),
                    kind: row.text(3)?.chars().next().unwrap_or('b'),
                    element: (element != 0).then_some(element),
                    base: row.number(5)?,
                    modifier: row.number(6)?,
                },
            );
        }
        for row in (0..results.rows(4).len()).map(|row| Cells {
            results,
            set: 4,
            row,
        }) {
            let leaf = Size::leaf(
                row.number(1)?,
                row.number(2)?,
                row.number(3)?,
                row.number(4)?,
                row.number(5)?,
            );
            let size = catalog.sizes.entry(row.number(0)?).or_insert(Size {
                bytes: 0,
                rows: Some(0),
            });
            size.bytes += leaf.bytes;
            size.rows = size.rows.zip(leaf.rows).map(|(sum, rows)| sum + rows);
        }
        Ok(catalog)
    }

    fn table(&self, entry: &Entry, options: &TableOptions) -> Result<Table, SourceError> {
        let all = self.columns.get(&entry.oid).map_or(&[][..], Vec::as_slice);
        check_names(&entry.name, all, options)?;
        let taken: Vec<&Attribute> = all
            .iter()
            .filter(|column| is_taken(&column.name, options))
            .collect();
        check_privileges(entry, &taken)?;
        if taken.is_empty() {
            return Err(usage(format!("{} has no column to take", entry.name)));
        }
        let mut columns = Vec::with_capacity(taken.len());
        for attribute in &taken {
            columns.push(self.column(&entry.name, attribute, options)?);
        }
        let size = self.sizes.get(&entry.oid).copied().unwrap_or_default();
        Ok(Table {
            name: entry.name.clone(),
            key: self.key(entry.oid, &taken),
            estimated_rows: Some(
                size.rows
                    .unwrap_or_else(|| size.bytes / guessed_row_bytes(&columns)),
            ),
            estimated_bytes: size.bytes,
            columns,
        })
    }

    fn column(
        &self,
        table: &TableName,
        attribute: &Attribute,
        options: &TableOptions,
    ) -> Result<Column, SourceError> {
        let default = types::map(&self.types, attribute.type_oid, attribute.modifier);
        let mapping = match options.types.get(&attribute.name) {
            None => default,
            Some(choice) => types::choose(&self.types, attribute.type_oid, &default, choice)
                .map_err(|why| usage(format!("column {} of {table}: {why}", attribute.name)))?,
        };
        Ok(Column {
            name: attribute.name.clone(),
            source_type: attribute.spelled.clone(),
            lake_type: mapping.lake_type,
            nullable: !attribute.not_null,
            fidelity: mapping.fidelity,
        })
    }

    /// The first unique key (the primary one first) whose columns are all taken
    /// and never NULL.
    fn key(&self, oid: u32, taken: &[&Attribute]) -> Vec<usize> {
        let position = |number: &i16| {
            taken
                .iter()
                .position(|column| column.number == *number && column.not_null)
        };
        let keys = self.keys.get(&oid).map_or(&[][..], Vec::as_slice);
        keys.iter()
            .filter(|key| !key.is_empty())
            .find_map(|key| key.iter().map(position).collect::<Option<Vec<_>>>())
            .unwrap_or_default()
    }
}

fn is_taken(name: &String, options: &TableOptions) -> bool {
    (options.columns.is_empty() || options.columns.contains(name))
        && !options.exclude_columns.contains(name)
}

/// Every column that the options name must be there.
fn check_names(
    table: &TableName,
    columns: &[Attribute],
    options: &TableOptions,
) -> Result<(), SourceError> {
    let named = options
        .columns
        .iter()
        .chain(&options.exclude_columns)
        .chain(options.types.keys());
    let has = |name: &String| columns.iter().any(|column| column.name == *name);
    match named.into_iter().find(|name| !has(name)) {
        None => Ok(()),
        Some(name) => {
            let hint = hint(name, columns.iter().map(|column| column.name.clone()));
            Err(usage(format!("{table} has no column \"{name}\"{hint}")))
        }
    }
}

fn check_privileges(entry: &Entry, taken: &[&Attribute]) -> Result<(), SourceError> {
    let refused = |what: String| Err(SourceError::new(SourceErrorKind::Refused, what));
    let name = &entry.name;
    let denied: Vec<&str> = taken
        .iter()
        .filter(|column| !column.may_select)
        .map(|column| column.name.as_str())
        .collect();
    if !entry.has_usage {
        let schema = name.schema.as_deref().unwrap_or_default();
        return refused(format!(
            "no permission on {name}: grant USAGE on schema {schema} to this user, or exclude the table"
        ));
    }
    if denied.is_empty() {
        return Ok(());
    }
    if denied.len() == taken.len() {
        return refused(format!(
            "no permission on {name}: grant SELECT on it to this user, or exclude the table"
        ));
    }
    refused(format!(
        "no permission on columns {} of {name}: grant SELECT on them to this user, or leave them out by exclude_columns",
        denied.join(", ")
    ))
}

impl Size {
    /// One heap. `reltuples` belongs to the size at the last `ANALYZE`
    /// (`relpages`); like the planner, it is scaled to the size now.
    fn leaf(rows: f64, pages: u64, heap: u64, toast: u64, block: u64) -> Self {
        let now = heap / block.max(1);
        let rows = match (rows >= 0.0, pages) {
            (false, _) => None,
            (true, 0) => (heap == 0).then_some(0),
            // A float-to-integer cast saturates; an estimate may.
            (true, pages) => Some((rows * now as f64 / pages as f64) as u64),
        };
        Self {
            bytes: heap + toast,
            rows,
        }
    }
}

/// Bytes of a row as the heap keeps it, by its types alone.
fn guessed_row_bytes(columns: &[Column]) -> u64 {
    let widths = columns
        .iter()
        .map(|column| column.lake_type.primitive_width().unwrap_or(32) as u64);
    28 + widths.sum::<u64>()
}

/// One row of a result, read by position.
struct Cells<'a> {
    results: &'a Results,
    set: usize,
    row: usize,
}

impl<'a> Cells<'a> {
    fn text(&self, column: usize) -> Result<&'a str, SourceError> {
        self.results.text(self.set, self.row, column)
    }

    fn flag(&self, column: usize) -> Result<bool, SourceError> {
        Ok(self.text(column)? == "t")
    }

    fn number<T: std::str::FromStr>(&self, column: usize) -> Result<T, SourceError> {
        let text = self.text(column)?;
        text.parse().map_err(|_| {
            SourceError::new(
                SourceErrorKind::Failed,
                format!("the catalog says \"{text}\" where a number belongs"),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_estimates_follow_the_size() {
        let leaf = |rows, pages, heap| Size::leaf(rows, pages, heap, 8192, 8192);
        assert_eq!(
            leaf(1000.0, 10, 20 * 8192),
            Size {
                bytes: 21 * 8192,
                rows: Some(2000)
            }
        );
        assert_eq!(leaf(-1.0, 0, 8192).rows, None);
        assert_eq!(leaf(0.0, 0, 0).rows, Some(0));
        assert_eq!(leaf(0.0, 0, 8192).rows, None);
    }
}
