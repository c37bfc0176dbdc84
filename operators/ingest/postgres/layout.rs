//! How a table lies on disk, and what can be said of it without reading its rows out.

use highwater::dataset::TableName;
use highwater::source::{CursorRange, SourceError, Split, TableRead};

use super::error::usage;
use super::quote;
use super::wire::Session;

/// How a table lies on disk, as far as splits need it.
#[derive(Debug)]
pub(super) struct Layout {
    /// Differs when the table was written anew.
    pub(super) token: String,
    pages: u64,
    bytes: u64,
    /// Whether ranges of pages can be read by themselves.
    by_page: bool,
}

impl Layout {
    /// Page ranges need a heap of our own (not a partitioned parent), a server
    /// that scans ranges of `ctid` (14), and permission on the whole table. A
    /// cursor with an index is better served by that index.
    pub(super) async fn of(session: &mut Session, read: &TableRead) -> Result<Self, SourceError> {
        let name = quote::literal(&quote::table(&read.table.name));
        let cursor = quote::literal(
            read.cursor
                .as_ref()
                .map_or("", |cursor| cursor.column.as_str()),
        );
        let sql = format!(
            "SELECT c.relkind, coalesce(am.amname, ''), has_table_privilege(c.oid, 'SELECT'), \
             current_setting('server_version_num')::int >= 140000, \
             pg_relation_size(c.oid) / current_setting('block_size')::bigint, \
             pg_relation_size(c.oid) + coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0), \
             CASE WHEN c.relkind = 'p' THEN (SELECT string_agg(coalesce(pg_relation_filenode(p.relid), 0)::text, ',' \
               ORDER BY p.relid) FROM pg_partition_tree(c.oid) p WHERE p.isleaf) \
               ELSE pg_relation_filenode(c.oid)::text END, \
             EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
               WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND a.attname = {cursor}) \
             FROM pg_class c LEFT JOIN pg_am am ON am.oid = c.relam WHERE c.oid = to_regclass({name})"
        );
        let found = session.query(&sql).await?;
        if found.rows(0).is_empty() {
            return Err(dropped(&read.table.name));
        }
        let flag = |column| Ok::<_, SourceError>(found.text(0, 0, column)? == "t");
        let number = |column| {
            found
                .value(0, 0, column)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0)
        };
        let is_heap = found.text(0, 0, 0)? == "r" && found.text(0, 0, 1)? == "heap";
        Ok(Self {
            token: found.value(0, 0, 6).unwrap_or_default().to_owned(),
            pages: number(4),
            bytes: if is_heap {
                number(5)
            } else {
                read.table.estimated_bytes
            },
            by_page: is_heap && flag(2)? && flag(3)? && !(read.cursor.is_some() && flag(7)?),
        })
    }

    /// Ranges of pages of about `target_bytes` each.
    pub(super) fn splits(&self, target_bytes: u64) -> Vec<Split> {
        if !self.by_page {
            return vec![Split {
                ordinal: 0,
                start: None,
                end: None,
                estimated_bytes: self.bytes,
            }];
        }
        // Values kept out of line are read with the page that points to them.
        let page_bytes = (self.bytes / self.pages.max(1)).max(1);
        let step = (target_bytes / page_bytes).max(1);
        let count = self.pages.div_ceil(step).max(1);
        // Even shares, rather than a last one that is almost empty.
        let edge = |ordinal: u64| {
            i64::try_from(u128::from(self.pages) * u128::from(ordinal) / u128::from(count)).ok()
        };
        (0..count)
            .filter_map(|ordinal| {
                let (start, end) = (edge(ordinal)?, edge(ordinal + 1)?);
                Some(Split {
                    ordinal: u32::try_from(ordinal).ok()?,
                    start: Some(start),
                    // The last one has no end: rows may lie past the size seen here.
                    end: (ordinal + 1 < count).then_some(end),
                    estimated_bytes: u64::try_from(end - start).unwrap_or(0) * page_bytes,
                })
            })
            .collect()
    }
}

fn dropped(table: &TableName) -> SourceError {
    usage(format!(
        "{table} is not there any more: it was dropped or renamed"
    ))
}

/// `ONLY ` for a table that holds its rows itself: those that inherit from it are
/// tables of their own. Nothing for a partitioned one, whose rows lie elsewhere.
pub(super) async fn only(
    session: &mut Session,
    table: &TableName,
) -> Result<&'static str, SourceError> {
    let name = quote::literal(&quote::table(table));
    let sql = format!("SELECT relkind FROM pg_class WHERE oid = to_regclass({name})");
    let found = session.query(&sql).await?;
    match found.value(0, 0, 0) {
        None => Err(dropped(table)),
        Some("r") => Ok("ONLY "),
        Some(_) => Ok(""),
    }
}

/// How many rows are wanted, wherever a cursor or an earlier bound stands.
pub(super) async fn count(session: &mut Session, read: &TableRead) -> Result<u64, SourceError> {
    let found = aggregate(session, read, "count(*)", "counting the rows").await?;
    Ok(found.and_then(|count| count.parse().ok()).unwrap_or(0))
}

/// The greatest cursor value in the snapshot, among the rows that are wanted.
pub(super) async fn cursor_max(
    session: &mut Session,
    read: &TableRead,
    cursor: &CursorRange,
) -> Result<Option<String>, SourceError> {
    let greatest = format!("max({})::text", quote::identifier(&cursor.column));
    let doing = format!("looking for the greatest {}", cursor.column);
    aggregate(session, read, &greatest, &doing).await
}

/// One value over all rows that meet the condition. A condition that is refused
/// does not break the snapshot.
async fn aggregate(
    session: &mut Session,
    read: &TableRead,
    expression: &str,
    doing: &str,
) -> Result<Option<String>, SourceError> {
    let table = &read.table.name;
    let only = only(session, table).await?;
    let filter = read
        .filter
        .as_ref()
        .map_or_else(String::new, |filter| format!(" WHERE ({filter}\n)"));
    let sql = format!(
        "SELECT {expression} FROM {only}{}{filter}",
        quote::table(table)
    );
    session.query("SAVEPOINT highwater_aggregate").await?;
    let found = session.try_query(&sql).await?;
    session
        .query("ROLLBACK TO SAVEPOINT highwater_aggregate; RELEASE SAVEPOINT highwater_aggregate")
        .await?;
    match found {
        Ok(found) => Ok(found.value(0, 0, 0).map(ToOwned::to_owned)),
        Err(refusal) => Err(refusal.while_doing(&format!("{doing} of {table}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn splits_cover_every_page_once(pages in 0_u64..100_000, bytes in 0_u64..1 << 40, target in 1_u64..1 << 34) {
            let bytes = bytes.max(pages * 8192);
            let layout = Layout { token: String::new(), pages, bytes, by_page: true };
            let splits = layout.splits(target);
            prop_assert_eq!(splits[0].start, Some(0));
            prop_assert_eq!(splits.last().unwrap().end, None);
            for pair in splits.windows(2) {
                prop_assert_eq!(pair[0].end, pair[1].start);
                prop_assert!(pair[0].start < pair[0].end);
                prop_assert_eq!(pair[0].ordinal + 1, pair[1].ordinal);
            }
        }
    }
}
