//! One consistent view for all readers: an exported snapshot (T1).

use std::sync::Arc;

use async_trait::async_trait;
use highwater::source::{
    CursorRange, Reader, Snapshot, SourceError, SourceErrorKind, Split, SplitPlan, TableRead,
};
use highwater::watermark::Bound;
use tokio::sync::Mutex;

use super::connect::{connect, connect_to};
use super::error::usage;
use super::quote;
use super::reader::PgReader;
use super::url::Target;
use super::wire::Session;

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A snapshot of one database. The session that took it stays open as long as
/// this value, or any reader of it, lives.
pub(super) struct PgSnapshot(Arc<Shared>);

/// What the snapshot and its readers share.
pub(super) struct Shared {
    target: Target,
    /// `None` after its connection had to be closed in the middle of a read.
    coordinator: Mutex<Option<Session>>,
    /// The snapshot's name at the server; absent where it could not be exported.
    exported: Option<String>,
    endpoint: super::url::Endpoint,
    bound: Bound,
    readers: usize,
}

impl PgSnapshot {
    /// Takes a snapshot.
    pub(super) async fn take(target: &Target, readers: usize) -> Result<Self, SourceError> {
        let mut session = connect(target).await?;
        session.query(BEGIN).await?;
        // Not under a savepoint: subtransactions cannot export.
        let exported = match session.try_query("SELECT pg_export_snapshot()").await? {
            Ok(results) => Some(results.text(0, 0, 0)?.to_owned()),
            Err(refusal) => {
                tracing::warn!(reason = %refusal.message, "the server does not export its snapshot: one reader only");
                session.query("ROLLBACK").await?;
                session.query(BEGIN).await?;
                None
            }
        };
        let seen = session
            .query(
                "SELECT pg_current_snapshot()::text, \
                 to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
            )
            .await?;
        let bound = Bound {
            position: seen.text(0, 0, 0)?.to_owned(),
            at: seen.text(0, 0, 1)?.to_owned(),
        };
        let endpoint = session.place().endpoint().clone();
        let readers = if exported.is_some() {
            readers.max(1)
        } else {
            1
        };
        Ok(Self(Arc::new(Shared {
            target: target.clone(),
            coordinator: Mutex::new(Some(session)),
            exported,
            endpoint,
            bound,
            readers,
        })))
    }
}

impl Shared {
    /// Whether each reader has a session of its own.
    pub(super) fn is_exported(&self) -> bool {
        self.exported.is_some()
    }

    /// A new session that sees the snapshot.
    pub(super) async fn open(&self) -> Result<Session, SourceError> {
        let Some(name) = &self.exported else {
            return Err(gone());
        };
        // The very server: a snapshot means nothing to another one.
        let mut session = connect_to(&self.target, &self.endpoint).await?;
        let join = format!("{BEGIN}; SET TRANSACTION SNAPSHOT {}", quote::literal(name));
        match session.try_query(&join).await? {
            Ok(_) => Ok(session),
            Err(refusal) => {
                let place = session.place();
                let what =
                    format!("PostgreSQL at {place} does not know the run's snapshot any more");
                let mut error = refusal.while_doing(&what);
                error.kind = SourceErrorKind::Unavailable;
                Err(error)
            }
        }
    }

    /// The session that took the snapshot, for one query or one read.
    pub(super) async fn coordinator(&self) -> tokio::sync::MutexGuard<'_, Option<Session>> {
        self.coordinator.lock().await
    }
}

/// The snapshot's own session is closed.
pub(super) fn gone() -> SourceError {
    SourceError::new(
        SourceErrorKind::Unavailable,
        "the session that held the snapshot is closed; run again",
    )
}

#[async_trait]
impl Snapshot for PgSnapshot {
    fn bound(&self) -> &Bound {
        &self.0.bound
    }

    async fn split(&self, read: &TableRead, target_bytes: u64) -> Result<SplitPlan, SourceError> {
        let mut guard = self.0.coordinator().await;
        let session = guard.as_mut().ok_or_else(gone)?;
        let layout = Layout::of(session, read).await?;
        let cursor_max = match &read.cursor {
            None => None,
            Some(cursor) => cursor_max(session, read, cursor).await?,
        };
        Ok(SplitPlan {
            splits: layout.splits(target_bytes),
            cursor_max,
            layout: layout.token,
        })
    }

    fn max_readers(&self) -> usize {
        self.0.readers
    }

    async fn count(&self, _read: &TableRead) -> Result<u64, SourceError> {
        todo!()
    }

    async fn can_read_since(
        &self,
        _read: &TableRead,
        _position: &str,
    ) -> Result<Result<(), String>, SourceError> {
        todo!()
    }

    async fn cursor_bound(
        &self,
        _read: &TableRead,
        _column: &str,
        _margin: std::time::Duration,
    ) -> Result<highwater::source::CursorBound, SourceError> {
        todo!()
    }

    async fn reader(&self) -> Result<Box<dyn Reader>, SourceError> {
        Ok(Box::new(PgReader::open(Arc::clone(&self.0)).await?))
    }
}

/// How a table lies on disk, as far as splits need it.
#[derive(Debug)]
struct Layout {
    token: String,
    pages: u64,
    bytes: u64,
    /// Whether ranges of pages can be read by themselves.
    by_page: bool,
}

impl Layout {
    /// Page ranges need a heap of our own (not a partitioned parent), a server
    /// that scans ranges of `ctid` (14), and permission on the whole table. A
    /// cursor with an index is better served by that index.
    async fn of(session: &mut Session, read: &TableRead) -> Result<Self, SourceError> {
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
            return Err(usage(format!(
                "{} is not there any more: it was dropped or renamed",
                read.table.name
            )));
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

    fn splits(&self, target_bytes: u64) -> Vec<Split> {
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

/// The greatest cursor value in the snapshot, among the rows that are wanted.
async fn cursor_max(
    session: &mut Session,
    read: &TableRead,
    cursor: &CursorRange,
) -> Result<Option<String>, SourceError> {
    let column = quote::identifier(&cursor.column);
    let filter = read
        .filter
        .as_ref()
        .map_or_else(String::new, |filter| format!(" WHERE ({filter}\n)"));
    let sql = format!(
        "SELECT max({column})::text FROM {}{filter}",
        quote::table(&read.table.name)
    );
    session.query("SAVEPOINT highwater_cursor").await?;
    let found = session.try_query(&sql).await?;
    session
        .query("ROLLBACK TO SAVEPOINT highwater_cursor; RELEASE SAVEPOINT highwater_cursor")
        .await?;
    match found {
        Ok(found) => Ok(found.value(0, 0, 0).map(ToOwned::to_owned)),
        Err(refusal) => Err(refusal.while_doing(&format!(
            "looking for the greatest {} of {}",
            cursor.column, read.table.name
        ))),
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
