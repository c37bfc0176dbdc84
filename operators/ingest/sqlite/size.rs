//! Estimates of rows and bytes, at a cost that does not grow with the file.

use highwater::dataset::TableName;
use rusqlite::{Connection, OptionalExtension};

use super::literal::identifier;
use super::physical::Physical;

/// Up to this file size `dbstat` is asked, which reads every page once and
/// gives exact figures.
const COUNTED_BYTES: u64 = 32 << 20;

/// Rows looked at in larger files.
const SAMPLED_ROWS: u32 = 100;

/// What is known of the file as a whole.
pub(super) struct Sizes {
    file_bytes: u64,
    has_statistics: bool,
    has_dbstat: bool,
}

impl Sizes {
    /// Of the file behind `connection`.
    pub(super) fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let pages: u64 = pragma(connection, "page_count")?;
        let page_bytes: u64 = pragma(connection, "page_size")?;
        let has_statistics = connection.query_row(
            "SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_stat1'",
            [],
            |row| row.get(0),
        )?;
        let has_dbstat = connection.prepare("SELECT 1 FROM dbstat LIMIT 0").is_ok();
        Ok(Self {
            file_bytes: pages * page_bytes,
            has_statistics,
            has_dbstat,
        })
    }

    /// Rows, where something tells, and bytes of one table.
    pub(super) fn estimate(
        &self,
        connection: &Connection,
        name: &TableName,
        physical: &Physical,
    ) -> rusqlite::Result<(Option<u64>, u64)> {
        if self.has_dbstat && self.file_bytes <= COUNTED_BYTES {
            return counted(connection, &name.name);
        }
        let row_bytes = sampled_row_bytes(connection, physical)?;
        let Some(row_bytes) = row_bytes else {
            return Ok((Some(0), 0));
        };
        let rows = match self.by_statistics(connection, &name.name)? {
            Some(rows) => Some(rows),
            None => rowid_span(connection, physical)?,
        };
        // Row ids may have gaps; the file cannot hold more than it is large.
        let fits = self.file_bytes / row_bytes.max(1);
        let rows = rows.map(|rows| rows.min(fits));
        Ok((
            rows,
            rows.map_or(self.file_bytes, |rows| rows.saturating_mul(row_bytes)),
        ))
    }

    fn by_statistics(&self, connection: &Connection, table: &str) -> rusqlite::Result<Option<u64>> {
        if !self.has_statistics {
            return Ok(None);
        }
        let stat: Option<Option<String>> = connection
            .query_row(
                "SELECT stat FROM sqlite_stat1 WHERE lower(tbl) = lower(?1) \
                 ORDER BY length(stat) DESC LIMIT 1",
                [table],
                |row| row.get(0),
            )
            .optional()?;
        let rows = stat.flatten();
        Ok(rows.and_then(|stat| stat.split(' ').next().and_then(|rows| rows.parse().ok())))
    }
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    let value: i64 = connection.pragma_query_value(None, name, |row| row.get(0))?;
    Ok(u64::try_from(value).unwrap_or(0))
}

/// Exact rows and payload bytes of a small file's table.
fn counted(connection: &Connection, table: &str) -> rusqlite::Result<(Option<u64>, u64)> {
    // Cells of inner pages are rows too in a WITHOUT ROWID table, and only
    // there do they have a payload.
    let (rows, bytes): (i64, i64) = connection.query_row(
        "SELECT coalesce(sum(CASE WHEN pagetype = 'leaf' OR payload > 0 AND pagetype = 'internal' \
         THEN ncell END), 0), coalesce(sum(payload), 0) \
         FROM dbstat WHERE name = ?1",
        [table],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok((u64::try_from(rows).ok(), u64::try_from(bytes).unwrap_or(0)))
}

/// Mean bytes of some rows; `None` for an empty table. `octet_length` does not
/// load the value.
fn sampled_row_bytes(
    connection: &Connection,
    physical: &Physical,
) -> rusqlite::Result<Option<u64>> {
    let widths: Vec<_> = physical
        .columns
        .iter()
        .map(|column| {
            format!(
                "1 + coalesce(octet_length({}), 0)",
                identifier(&column.name)
            )
        })
        .collect();
    let sql = format!(
        "SELECT avg(width) FROM (SELECT {} AS width FROM main.{} LIMIT {SAMPLED_ROWS})",
        widths.join(" + "),
        physical.quoted
    );
    let mean: Option<f64> = connection.query_row(&sql, [], |row| row.get(0))?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(mean.map(|mean| mean.ceil() as u64))
}

/// The number of row ids between the least and the greatest: at least as many
/// as there are rows.
fn rowid_span(connection: &Connection, physical: &Physical) -> rusqlite::Result<Option<u64>> {
    let Some((least, greatest)) = rowid_ends(connection, physical)? else {
        return Ok(None);
    };
    Ok(Some(greatest.abs_diff(least).saturating_add(1)))
}

/// The least and the greatest row id. Two queries: each is one step down the
/// tree, while both in one would scan the table.
pub(super) fn rowid_ends(
    connection: &Connection,
    physical: &Physical,
) -> rusqlite::Result<Option<(i64, i64)>> {
    let Some(rowid) = &physical.rowid else {
        return Ok(None);
    };
    let end = |which: &str| -> rusqlite::Result<Option<i64>> {
        let sql = format!("SELECT {which}({rowid}) FROM main.{}", physical.quoted);
        connection.query_row(&sql, [], |row| row.get(0))
    };
    Ok(end("min")?.zip(end("max")?))
}
