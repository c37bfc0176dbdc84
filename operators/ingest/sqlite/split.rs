//! Cutting a table into rowid ranges.

use highwater::source::{CursorRange, Split, SplitPlan, TableRead};
use rusqlite::Connection;

use super::connection::Problem;
use super::cursor;
use super::physical::Physical;
use super::query::Query;
use super::size::rowid_ends;

/// More splits than this cost more to hand out than they balance.
const MOST_SPLITS: u64 = 4096;

/// The splits of `read`, of about `target_bytes` each.
pub(super) fn plan(
    connection: &Connection,
    read: &TableRead,
    target_bytes: u64,
) -> Result<SplitPlan, Problem> {
    let physical = Physical::of(connection, &read.table.name)?;
    let cursor_max = match &read.cursor {
        Some(range) => cursor_max(connection, &physical, read, range)?,
        None => None,
    };
    let bytes = read.table.estimated_bytes;
    let ends = match &read.cursor {
        // The index finds the few new rows; every rowid range would search it again.
        Some(range) if range.from.is_some() && physical.leads_index(&range.column) => None,
        _ => rowid_ends(connection, &physical)?,
    };
    let splits = match ends {
        Some((least, greatest)) => cut(least, greatest, bytes.div_ceil(target_bytes.max(1)), bytes),
        None => vec![Split {
            ordinal: 0,
            start: None,
            end: None,
            estimated_bytes: bytes,
        }],
    };
    let layout = physical.layout(connection, &read.table.name)?;
    Ok(SplitPlan {
        splits,
        cursor_max,
        layout,
    })
}

fn cursor_max(
    connection: &Connection,
    physical: &Physical,
    read: &TableRead,
    range: &CursorRange,
) -> Result<Option<String>, Problem> {
    let query = Query::cursor_max(physical, read, range)?;
    let mut statement = query.prepare(connection, read)?;
    let mut rows = query.run(&mut statement)?;
    Ok(match rows.next()? {
        Some(row) => cursor::written(row.get_ref(0)?),
        None => None,
    })
}

/// `least..=greatest` in `parts` ranges of equal width. The first has no start
/// and the last no end, so that together they cover every rowid there is.
fn cut(least: i64, greatest: i64, parts: u64, bytes: u64) -> Vec<Split> {
    let width = u128::from(greatest.abs_diff(least)) + 1;
    let parts = u128::from(parts.clamp(1, MOST_SPLITS)).min(width);
    let boundary = |part: u128| -> Option<i64> {
        if part == 0 || part >= parts {
            return None;
        }
        // Inside least..=greatest by construction, so the conversion never fails.
        let offset = i128::try_from(width * part / parts).ok()?;
        i64::try_from(i128::from(least) + offset).ok()
    };
    let each = bytes / u64::try_from(parts).unwrap_or(1).max(1);
    (0..parts)
        .zip(0..)
        .map(|(part, ordinal)| Split {
            ordinal,
            start: boundary(part),
            end: boundary(part + 1),
            estimated_bytes: each,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_rowid_is_in_exactly_one_split(
            ends in (any::<i64>(), any::<i64>()),
            parts in 0u64..6000,
            probes in prop::collection::vec(any::<i64>(), 1..20),
        ) {
            let (least, greatest) = (ends.0.min(ends.1), ends.0.max(ends.1));
            let splits = cut(least, greatest, parts, 1 << 30);
            for rowid in probes.into_iter().chain([least, greatest, i64::MIN, i64::MAX]) {
                let holds = |split: &&Split| {
                    split.start.is_none_or(|start| start <= rowid) && split.end.is_none_or(|end| rowid < end)
                };
                prop_assert_eq!(splits.iter().filter(holds).count(), 1);
            }
            prop_assert!(splits.iter().all(|s| s.start.zip(s.end).is_none_or(|(a, b)| a < b)));
        }
    }
}
