//! Reads splits by `COPY (SELECT ...) TO STDOUT (FORMAT binary)`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use highwater::dataset::TableName;
use highwater::source::{
    self, CursorRange, Emit, Reader, SourceError, SourceErrorKind, Split, TableRead,
};

use super::copy::Copy;
use super::decode::{BatchShape, Rows};
use super::projection::Projection;
use super::since::Position;
use super::snapshot::{Shared, gone};
use super::wire::Session;
use super::{fetch, layout, quote};

/// A reader on one snapshot, with a session of its own where the snapshot could
/// be exported.
pub(super) struct PgReader {
    snapshot: Arc<Shared>,
    session: Option<Session>,
    /// What the batches of the split read last looked like.
    shape: Option<(Alike, BatchShape)>,
}

impl PgReader {
    /// Opens a reader.
    pub(super) async fn open(snapshot: Arc<Shared>) -> Result<Self, SourceError> {
        let session = if snapshot.is_exported() {
            Some(snapshot.open().await?)
        } else {
            None
        };
        Ok(Self {
            snapshot,
            session,
            shape: None,
        })
    }
}

#[async_trait]
impl Reader for PgReader {
    async fn read(
        &mut self,
        read: &TableRead,
        split: &Split,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError> {
        self.run(read, Wanted::Split(split), out).await
    }

    /// Keys are compared by the source: under an equality that is not by the
    /// letter (`citext`, some ICU collations), rows may come whose key differs
    /// from all of `keys`; whoever minds looks again.
    async fn fetch(
        &mut self,
        read: &TableRead,
        keys: &RecordBatch,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError> {
        if keys.num_rows() == 0 {
            return Ok(());
        }
        self.run(read, Wanted::Keys(keys), out).await
    }
}

/// Which rows of a table are read.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    Split(&'a Split),
    Keys(&'a RecordBatch),
}

/// One query, and what its rows become.
struct Job {
    settings: &'static str,
    select: String,
    projection: Projection,
    /// Whose batches will look like these, where any will.
    alike: Option<Alike>,
}

/// Batches of one table, of whole rows or of keys.
type Alike = (TableName, bool);

impl Wanted<'_> {
    /// `ONLY ` where the table holds its rows itself, which a split by pages says.
    async fn only(
        self,
        session: &mut Session,
        read: &TableRead,
    ) -> Result<&'static str, SourceError> {
        match self {
            Self::Split(split) if split.start.is_some() => Ok("ONLY "),
            _ => layout::only(session, &read.table.name).await,
        }
    }

    fn job(self, read: &TableRead, only: &str, now: Position) -> Result<Job, SourceError> {
        match self {
            Self::Split(split) => {
                let projection = Projection::of(read, now, split.start.is_some())?;
                let keys = matches!(read.projection, source::Projection::Keys { .. });
                Ok(Job {
                    settings: "",
                    select: select(read, split, only, now, &projection.expressions)?,
                    projection,
                    alike: Some((read.table.name.clone(), keys)),
                })
            }
            Self::Keys(keys) => {
                let projection = Projection::rows(&read.table, false)?;
                Ok(Job {
                    settings: fetch::SETTINGS,
                    select: fetch::select(read, keys, only, &projection.expressions)?,
                    projection,
                    alike: None,
                })
            }
        }
    }
}

impl PgReader {
    /// Reads with a session of its own, or with the snapshot's, and puts it back
    /// only when it is at rest: a connection in the middle of a `COPY` is closed,
    /// never used again.
    async fn run(
        &mut self,
        read: &TableRead,
        wanted: Wanted<'_>,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError> {
        let snapshot = Arc::clone(&self.snapshot);
        if snapshot.is_exported() {
            let mut session = match self.session.take() {
                Some(session) => session,
                None => snapshot.open().await?,
            };
            let (outcome, at_rest) = self.run_by(&mut session, read, wanted, out).await;
            self.session = at_rest.then_some(session);
            return outcome;
        }
        let mut slot = snapshot.coordinator().await;
        let mut session = slot.take().ok_or_else(gone)?;
        let (outcome, at_rest) = self.run_by(&mut session, read, wanted, out).await;
        *slot = at_rest.then_some(session);
        outcome
    }

    /// The same; also says whether the session may be used again.
    async fn run_by(
        &mut self,
        session: &mut Session,
        read: &TableRead,
        wanted: Wanted<'_>,
        out: &mut dyn Emit,
    ) -> (Result<(), SourceError>, bool) {
        let only = match wanted.only(session, read).await {
            Ok(only) => only,
            // The table is gone, or the connection.
            Err(error) => {
                let at_rest = error.kind == SourceErrorKind::Usage;
                return (Err(error), at_rest);
            }
        };
        let job = match wanted.job(read, only, self.snapshot.position()) {
            Ok(job) => job,
            Err(error) => return (Err(error), true),
        };
        let target = usize::try_from(out.batch_bytes())
            .unwrap_or(usize::MAX)
            .min(super::copy::BATCH_LIMIT);
        let Job {
            settings,
            select,
            projection,
            alike,
        } = job;
        // A few rows by key say nothing of the batches of a table, nor they of them.
        let last = self.shape.take();
        let known = match (&alike, &last) {
            (Some(alike), Some((known, shape))) if known == alike => Some(shape.clone()),
            _ => None,
        };
        let Projection {
            decoders,
            located,
            schema,
            key,
            ..
        } = projection;
        let rows = Rows::new(schema, key, decoders, located, target, known);
        let mut copy = Copy::new(session, &read.table.name, rows, out);
        let outcome = copy.run(settings, &select).await;
        self.shape = match alike {
            Some(alike) => copy.shape().map(|shape| (alike, shape)),
            None => last,
        };
        match outcome {
            Ok(Ok(())) => (Ok(()), true),
            // Refused by the server, which has ended the COPY: back to the savepoint.
            Ok(Err(refusal)) => {
                let back = "ROLLBACK TO SAVEPOINT highwater_copy; RELEASE SAVEPOINT highwater_copy";
                let rolled_back = session.query(back).await.is_ok();
                let what = format!("reading {}", read.table.name);
                (Err(refusal.while_doing(&what)), rolled_back)
            }
            Err(error) => (Err(error), false),
        }
    }
}

/// The query of one split.
fn select(
    read: &TableRead,
    split: &Split,
    only: &str,
    now: Position,
    expressions: &str,
) -> Result<String, SourceError> {
    let mut conditions = Vec::new();
    if let Some(start) = split.start.filter(|&start| start > 0) {
        conditions.push(format!("ctid >= '({start},0)'::tid"));
    }
    if let Some(end) = split.end {
        conditions.push(format!("ctid < '({end},0)'::tid"));
    }
    if let Some(cursor) = &read.cursor {
        conditions.extend(cursor_conditions(read, cursor));
    }
    if let Some(since) = &read.since {
        conditions.push(Position::parse(since)?.wrote_since(now, "xmin"));
    }
    // On lines of its own, so that a comment at its end does not swallow ours.
    conditions.extend(read.filter.as_ref().map(|filter| format!("({filter}\n)")));
    let filter = if conditions.is_empty() {
        String::new()
    } else {
        format!(" WHERE {}", conditions.join(" AND "))
    };
    Ok(format!(
        "SELECT {expressions} FROM {only}{}{filter}",
        quote::table(&read.table.name)
    ))
}

fn cursor_conditions(read: &TableRead, cursor: &CursorRange) -> Vec<String> {
    let column = quote::identifier(&cursor.column);
    let value = |text: &String| cursor_value(read, cursor, text);
    let from = cursor
        .from
        .as_ref()
        .map(|from| or_null(format!("{column} >= {}", value(from)), read, cursor));
    let to = cursor.to.as_ref().map(|to| match cursor.from {
        Some(_) => or_null(format!("{column} <= {}", value(to)), read, cursor),
        None => format!("({column} <= {} OR {column} IS NULL)", value(to)),
    });
    from.into_iter().chain(to).collect()
}

/// The condition, or that the cursor has no value, where such rows are wanted
/// and can be.
pub(super) fn or_null(condition: String, read: &TableRead, cursor: &CursorRange) -> String {
    let mut columns = read.table.columns.iter();
    let may_be_null = columns.any(|found| found.name == cursor.column && found.nullable);
    if cursor.nulls && may_be_null {
        format!(
            "({condition} OR {} IS NULL)",
            quote::identifier(&cursor.column)
        )
    } else {
        condition
    }
}

/// A value of the cursor's column.
pub(super) fn cursor_value(read: &TableRead, cursor: &CursorRange, text: &str) -> String {
    let mut columns = read.table.columns.iter();
    match columns.find(|found| found.name == cursor.column) {
        Some(found) => format!("{}::{}", quote::literal(text), found.source_type),
        // An untyped constant takes the column's type.
        None => quote::literal(text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use highwater::dataset::{Table, TableName};

    fn read(filter: Option<&str>, cursor: Option<CursorRange>) -> TableRead {
        let name = TableName {
            schema: Some("s".into()),
            name: "t".into(),
        };
        let table = Table {
            name,
            columns: vec![],
            key: vec![],
            estimated_rows: None,
            estimated_bytes: 0,
        };
        TableRead {
            table,
            filter: filter.map(Into::into),
            cursor,
            since: None,
            projection: Default::default(),
        }
    }

    fn split(start: Option<i64>, end: Option<i64>) -> Split {
        Split {
            ordinal: 0,
            start,
            end,
            estimated_bytes: 0,
        }
    }

    fn query(read: &TableRead, split: &Split, only: &str) -> String {
        let now = Position::parse("100:120:").unwrap();
        select(read, split, only, now, "x").unwrap()
    }

    #[test]
    fn queries_of_splits() {
        assert_eq!(
            query(&read(None, None), &split(None, None), ""),
            "SELECT x FROM \"s\".\"t\""
        );
        assert_eq!(
            query(&read(None, None), &split(Some(0), None), "ONLY "),
            "SELECT x FROM ONLY \"s\".\"t\""
        );
        assert_eq!(
            query(
                &read(Some("a OR b -- why"), None),
                &split(Some(3), Some(9)),
                "ONLY "
            ),
            "SELECT x FROM ONLY \"s\".\"t\" WHERE ctid >= '(3,0)'::tid AND ctid < '(9,0)'::tid AND (a OR b -- why\n)"
        );
        let cursor = CursorRange {
            column: "c".into(),
            from: None,
            to: Some("5".into()),
            nulls: false,
        };
        assert_eq!(
            query(&read(None, Some(cursor)), &split(None, None), ""),
            "SELECT x FROM \"s\".\"t\" WHERE (\"c\" <= '5' OR \"c\" IS NULL)"
        );
    }

    #[test]
    fn rows_since_a_position_within_their_split_and_condition() {
        let mut read = read(Some("a"), None);
        read.since = Some("90:95:90".into());
        let sql = query(&read, &split(Some(3), None), "ONLY ");
        assert!(
            sql.contains("WHERE ctid >= '(3,0)'::tid AND (xmin::text::bigint >= 3 AND"),
            "{sql}"
        );
        assert!(
            sql.contains("- 90 + 4294967296) % 4294967296 < 30) AND (a\n)"),
            "{sql}"
        );
        read.since = Some("schema_version=1".into());
        let now = Position::parse("100:120:").unwrap();
        assert!(select(&read, &split(None, None), "", now, "x").is_err());
    }
}
