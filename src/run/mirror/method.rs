//! Which method finds a table's changes, and from where it goes on.

use std::time::Duration;

use chrono::{DateTime, FixedOffset};

use crate::run::config::{Config, MethodChoice, TableConfig};
use crate::run::failure::Failure;
use crate::source::{CursorBound, CursorRange, Projection, Snapshot, TableRead};
use crate::watermark::{Cursor, Method, Watermark};

/// A method, and the read that finds the keys of changed rows.
pub(super) struct Chosen {
    pub(super) method: Method,
    /// Why it is not the one that was asked for, or why all rows are compared.
    pub(super) because: Option<String>,
    pub(super) held_by: Option<String>,
    /// Where the next run goes on.
    pub(super) cursor: Option<Cursor>,
    /// The snapshot's position, where the next run can pass over rows that were
    /// written before it.
    pub(super) written_before: Option<String>,
    /// Reads the keys of rows that may have changed since the last run; or why
    /// all rows must be compared this time.
    pub(super) keys: Result<Box<TableRead>, String>,
}

/// Chooses the method for the table of `read`.
pub(super) async fn choose(
    config: &Config,
    options: &TableConfig,
    read: &TableRead,
    last: Option<&Watermark>,
    snapshot: &dyn Snapshot,
) -> Result<Chosen, Failure> {
    let choice = options.method.unwrap_or(config.method);
    let name = &read.table.name;
    if read.table.key.is_empty() {
        if matches!(choice, MethodChoice::Xid | MethodChoice::Cursor) {
            return Err(Failure::usage(format!(
                "table {name} has no key, so its changes can only be found by comparing all rows"
            ))
            .hint("remove `method` for this table, or give the table a primary key"));
        }
        return Ok(by_diff("it has no key"));
    }
    let wanted = options.cursor.as_ref();
    let wanted = wanted.filter(|_| matches!(choice, MethodChoice::Auto | MethodChoice::Cursor));
    let mut why_not_cursor = None;
    if let Some(column) = wanted {
        match by_cursor(config, column, read, last, snapshot).await? {
            Ok(chosen) => return Ok(chosen),
            Err(reason) => why_not_cursor = Some(reason),
        }
    }
    if choice == MethodChoice::Cursor {
        let reason = why_not_cursor.unwrap_or_else(|| "no column is named".to_owned());
        return Err(Failure::usage(format!(
            "table {name}: method = \"cursor\" is not possible: {reason}"
        ))
        .hint("name a column with `cursor`, mend what is said above, or use method = \"auto\""));
    }
    if choice == MethodChoice::Diff {
        return Ok(by_diff("method = \"diff\""));
    }
    match (by_xid(read, last, snapshot).await?, choice) {
        (Ok(mut chosen), _) => {
            if let Some(reason) = why_not_cursor {
                chosen.because = Some(format!("no cursor, because {reason}"));
            }
            Ok(chosen)
        }
        (Err(reason), MethodChoice::Xid) => Err(Failure::usage(format!(
            "table {name}: method = \"xid\" is not possible: {reason}"
        ))
        .hint("use method = \"auto\" or \"diff\"")),
        (Err(reason), _) => Ok(by_diff(&reason)),
    }
}

fn by_diff(reason: &str) -> Chosen {
    Chosen {
        method: Method::Diff,
        because: Some(reason.to_owned()),
        held_by: None,
        cursor: None,
        written_before: None,
        keys: Err(reason.to_owned()),
    }
}

/// T2; the inner error says why this table's rows do not tell who wrote them.
async fn by_xid(
    read: &TableRead,
    last: Option<&Watermark>,
    snapshot: &dyn Snapshot,
) -> Result<Result<Chosen, String>, Failure> {
    let now = &snapshot.bound().position;
    if let Err(reason) = snapshot.can_read_since(read, now).await? {
        return Ok(Err(reason));
    }
    let keys = match last {
        None => Err("it is new".to_owned()),
        Some(last) => snapshot
            .can_read_since(read, &last.bound.position)
            .await?
            .map(|()| {
                Box::new(TableRead {
                    since: Some(last.bound.position.clone()),
                    projection: Projection::Keys {
                        tail_from: Some(now.clone()),
                    },
                    ..read.clone()
                })
            }),
    };
    Ok(Ok(Chosen {
        method: Method::Xid,
        because: None,
        held_by: None,
        cursor: None,
        written_before: None,
        keys,
    }))
}

/// T3; the inner error says why the cursor cannot be trusted.
async fn by_cursor(
    config: &Config,
    column: &str,
    read: &TableRead,
    last: Option<&Watermark>,
    snapshot: &dyn Snapshot,
) -> Result<Result<Chosen, String>, Failure> {
    if !read.table.columns.iter().any(|known| known.name == column) {
        return Err(Failure::usage(format!(
            "table {} has no column {column} to use as a cursor",
            read.table.name
        )));
    }
    let from = last
        .and_then(|last| last.cursor.as_ref())
        .filter(|last| last.column == column)
        .and_then(|last| last.value.clone());
    let now = &snapshot.bound().position;
    let tells_writers = snapshot.can_read_since(read, now).await?.is_ok();
    let margin = Duration::from_secs(config.cursor_margin_seconds);
    let bound = snapshot.cursor_bound(read, column, margin).await?;
    let held = matches!(bound, CursorBound::Held { .. });
    let (limit, held_by) = match bound {
        CursorBound::Unknown { reason } => return Ok(Err(reason)),
        CursorBound::Below { value, held_by } => (Some(value), held_by),
        CursorBound::Held { by } => (None, Some(by)),
        CursorBound::Unbounded => (None, None),
    };
    let range = |from: Option<String>| CursorRange {
        column: column.to_owned(),
        from,
        to: None,
        nulls: true,
    };
    // Only its greatest value is wanted.
    let all = TableRead {
        cursor: Some(range(None)),
        ..read.clone()
    };
    let greatest = snapshot.split(&all, u64::MAX).await?.cursor_max;
    // Also where no run has recorded one: without a cursor all rows are compared.
    let next = if held {
        from.clone()
    } else {
        next_cursor(from.clone(), greatest, limit)
    };
    // Rows at the watermark come again (T3). Where the source tells who wrote a
    // row, those that the last run has read are passed over (T2): a bulk update
    // gives many rows one stamp.
    let position = last.map(|last| &last.bound.position);
    let since = match position {
        Some(position) => snapshot.can_read_since(read, position).await?.is_ok(),
        None => false,
    };
    let keys = match &from {
        None => Err("no run has recorded a cursor yet".to_owned()),
        Some(from) => Ok(Box::new(TableRead {
            cursor: Some(range(Some(from.clone()))),
            since: position.filter(|_| since).cloned(),
            projection: Projection::Keys {
                tail_from: next.clone(),
            },
            ..read.clone()
        })),
    };
    Ok(Ok(Chosen {
        method: Method::Cursor,
        because: None,
        held_by,
        cursor: Some(Cursor {
            column: column.to_owned(),
            value: next,
        }),
        written_before: tells_writers.then(|| now.clone()),
        keys,
    }))
}

/// `min(greatest, limit)`, but never below where the last run stopped. Values are
/// texts of one session of the source.
fn next_cursor(
    last: Option<String>,
    greatest: Option<String>,
    limit: Option<String>,
) -> Option<String> {
    let next = match (greatest, limit) {
        (None, _) => return last,
        (Some(greatest), None) => greatest,
        (Some(greatest), Some(limit)) => match (time(&greatest), time(&limit)) {
            (Some(g), Some(l)) if g <= l => greatest,
            // What is no time that can be compared ("infinity") is no bound.
            _ => limit,
        },
    };
    match (last.as_deref().and_then(time), time(&next)) {
        (Some(last_time), Some(next_time)) if next_time < last_time => last,
        _ => Some(next),
    }
}

fn time(text: &str) -> Option<DateTime<FixedOffset>> {
    // Without a zone both texts are of the same session, so any zone will do.
    DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z")
        .or_else(|_| DateTime::parse_from_str(&format!("{text}+00"), "%Y-%m-%d %H:%M:%S%.f%#z"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(last: &str, greatest: &str, limit: &str) -> Option<String> {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        next_cursor(text(last), text(greatest), text(limit))
    }

    #[test]
    fn a_cursor_stays_below_the_limit_and_never_goes_back() {
        let day = |day: u8| format!("2026-01-{day:02} 10:00:00.5+00");
        let (one, two, three) = (day(1), day(2), day(3));
        for (last, greatest, limit, wanted) in [
            ("", two.as_str(), three.as_str(), two.as_str()),
            ("", &three, &two, &two),
            (&two, &three, &one, &two),
            (&one, "", &three, &one),
            ("", "", &three, ""),
            (&one, "infinity", &three, &three),
            (&one, &two, "", &two),
            ("", "41", "", "41"),
            // The same instant in another zone.
            (
                "",
                "2026-01-02 12:00:00+02",
                "2026-01-02 10:00:01+00",
                "2026-01-02 12:00:00+02",
            ),
        ] {
            let wanted = Some(wanted.to_owned()).filter(|text| !text.is_empty());
            assert_eq!(
                next(last, greatest, limit),
                wanted,
                "{last} {greatest} {limit}"
            );
        }
    }
}
