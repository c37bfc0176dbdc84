//! The query of one split.

use highwater::source::{CursorRange, SourceError, Split, TableRead};

use super::quote;
use super::since::Position;

/// What to `COPY` for one split of `read`, in a snapshot at `now`.
pub(super) fn select(
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
fn or_null(condition: String, read: &TableRead, cursor: &CursorRange) -> String {
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
