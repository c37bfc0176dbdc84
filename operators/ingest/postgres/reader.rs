//! Reads splits by `COPY (SELECT ...) TO STDOUT (FORMAT binary)`.

use std::sync::Arc;

use async_trait::async_trait;
use highwater::dataset::TableName;
use highwater::source::{CursorRange, Emit, Reader, SourceError, Split, TableRead};

use super::copy::Copy;
use super::decode::{BatchShape, Rows};
use super::projection::Projection;
use super::quote;
use super::snapshot::{Shared, gone};
use super::wire::Session;

/// A reader on one snapshot, with a session of its own where the snapshot could
/// be exported.
pub(super) struct PgReader {
    snapshot: Arc<Shared>,
    session: Option<Session>,
    /// What the batches of the table read last looked like.
    shape: Option<(TableName, BatchShape)>,
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
        if !self.snapshot.is_exported() {
            let mut coordinator = self.snapshot.coordinator().await;
            return read_by(&mut coordinator, &mut self.shape, read, split, out).await;
        }
        if self.session.is_none() {
            self.session = Some(self.snapshot.open().await?);
        }
        read_by(&mut self.session, &mut self.shape, read, split, out).await
    }

    async fn fetch(
        &mut self,
        _read: &TableRead,
        _keys: &arrow::array::RecordBatch,
        _out: &mut dyn Emit,
    ) -> Result<(), SourceError> {
        todo!()
    }
}

/// Reads with the session in `slot`, and puts it back only when it is at rest: a
/// connection in the middle of a `COPY` is closed, never used again.
async fn read_by(
    slot: &mut Option<Session>,
    shape: &mut Option<(TableName, BatchShape)>,
    read: &TableRead,
    split: &Split,
    out: &mut dyn Emit,
) -> Result<(), SourceError> {
    let mut session = slot.take().ok_or_else(gone)?;
    let (outcome, at_rest) = read_split(&mut session, shape, read, split, out).await;
    if at_rest {
        *slot = Some(session);
    }
    outcome
}

/// Reads one split; also says whether the session may be used again.
async fn read_split(
    session: &mut Session,
    shape: &mut Option<(TableName, BatchShape)>,
    read: &TableRead,
    split: &Split,
    out: &mut dyn Emit,
) -> (Result<(), SourceError>, bool) {
    let projection = match Projection::new(&read.table, split.start.is_some()) {
        Ok(projection) => projection,
        Err(error) => return (Err(error), true),
    };
    let select = select(read, split, &projection.expressions);
    let target = usize::try_from(out.batch_bytes())
        .unwrap_or(usize::MAX)
        .min(super::copy::BATCH_LIMIT);
    let known = shape.take().filter(|(name, _)| *name == read.table.name);
    let known = known.map(|(_, shape)| shape);
    let rows = Rows::new(
        &read.table,
        projection.decoders,
        projection.located,
        target,
        known,
    );
    let mut copy = Copy::new(session, &read.table.name, rows, out);
    let outcome = copy.run(&select).await;
    *shape = copy.shape().map(|shape| (read.table.name.clone(), shape));
    match outcome {
        Ok(Ok(())) => (Ok(()), true),
        // Refused by the server, which has ended the COPY: back to the savepoint.
        Ok(Err(refusal)) => {
            let rolled_back = session
                .query("ROLLBACK TO SAVEPOINT highwater_copy")
                .await
                .is_ok();
            (
                Err(refusal.while_doing(&format!("reading {}", read.table.name))),
                rolled_back,
            )
        }
        Err(error) => (Err(error), false),
    }
}

/// The query of one split.
fn select(read: &TableRead, split: &Split, expressions: &str) -> String {
    // A split by pages names the heap itself; without, the table is a
    // partitioned one, whose rows lie in its partitions.
    let only = if split.start.is_some() { "ONLY " } else { "" };
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
    // On lines of its own, so that a comment at its end does not swallow ours.
    conditions.extend(read.filter.as_ref().map(|filter| format!("({filter}\n)")));
    let filter = if conditions.is_empty() {
        String::new()
    } else {
        format!(" WHERE {}", conditions.join(" AND "))
    };
    format!(
        "SELECT {expressions} FROM {only}{}{filter}",
        quote::table(&read.table.name)
    )
}

fn cursor_conditions(read: &TableRead, cursor: &CursorRange) -> Vec<String> {
    let column = quote::identifier(&cursor.column);
    let source_type = read
        .table
        .columns
        .iter()
        .find(|found| found.name == cursor.column);
    let value = |text: &String| match source_type {
        Some(found) => format!("{}::{}", quote::literal(text), found.source_type),
        // An untyped constant takes the column's type.
        None => quote::literal(text),
    };
    let from = cursor
        .from
        .as_ref()
        .map(|from| format!("{column} >= {}", value(from)));
    let to = cursor.to.as_ref().map(|to| match cursor.from {
        Some(_) => format!("{column} <= {}", value(to)),
        None => format!("({column} <= {} OR {column} IS NULL)", value(to)),
    });
    from.into_iter().chain(to).collect()
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn queries_of_splits() {
        assert_eq!(
            select(&read(None, None), &split(None, None), "x"),
            "SELECT x FROM \"s\".\"t\""
        );
        assert_eq!(
            select(&read(None, None), &split(Some(0), None), "x"),
            "SELECT x FROM ONLY \"s\".\"t\""
        );
        assert_eq!(
            select(
                &read(Some("a OR b -- why"), None),
                &split(Some(3), Some(9)),
                "x"
            ),
            "SELECT x FROM ONLY \"s\".\"t\" WHERE ctid >= '(3,0)'::tid AND ctid < '(9,0)'::tid AND (a OR b -- why\n)"
        );
        let cursor = CursorRange {
            column: "c".into(),
            from: None,
            to: Some("5".into()),
        };
        assert_eq!(
            select(&read(None, Some(cursor)), &split(None, None), "x"),
            "SELECT x FROM \"s\".\"t\" WHERE (\"c\" <= '5' OR \"c\" IS NULL)"
        );
    }
}
