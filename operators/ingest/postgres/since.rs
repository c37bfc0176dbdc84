//! Which rows were written since an earlier snapshot, by their `xmin` (T2).
//!
//! Every transaction below the earlier snapshot's xmin was finished there, so
//! whatever it wrote was seen; every row seen now was written below the present
//! snapshot's xmax. What lies between the two is new. A row keeps its `xmin`
//! when it is frozen, and `xmin` has 32 of the 64 bits: rows older than 2^32
//! transactions may be read once too often, none is ever left out.

use highwater::source::{SourceError, SourceErrorKind, TableRead};

use super::quote;
use super::wire::Session;

/// How many values `xmin` has.
const XIDS: u64 = 1 << 32;
/// Half of them: beyond, the server itself could not compare two.
const MOST_TRANSACTIONS: u64 = 1 << 31;
/// Bootstrap and frozen rows of old servers have xids below this one.
const FIRST_XID: u64 = 3;

/// A snapshot, as far as it orders transactions. Numbers have all 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Every transaction below was finished.
    xmin: u64,
    /// No transaction at or above had begun to write.
    xmax: u64,
}

impl Position {
    /// Reads the text of `pg_current_snapshot()`.
    pub(super) fn parse(text: &str) -> Result<Self, SourceError> {
        let mut parts = text.splitn(3, ':').map(|part| part.parse().ok());
        match (parts.next().flatten(), parts.next().flatten()) {
            (Some(xmin), Some(xmax)) => Ok(Self { xmin, xmax }),
            _ => Err(SourceError::new(
                SourceErrorKind::Failed,
                format!(
                    "the watermark \"{text}\" is not a PostgreSQL snapshot: was another source read before?"
                ),
            )),
        }
    }

    /// The condition that the row with `xmin`, seen at `now`, was written by a
    /// transaction that was not finished here.
    pub(super) fn wrote_since(self, now: Self, xmin: &str) -> String {
        let span = now.xmax.saturating_sub(self.xmin);
        if span == 0 {
            return "false".to_owned();
        }
        if span >= XIDS {
            return "true".to_owned();
        }
        let first = self.xmin % XIDS;
        format!(
            "({xmin}::text::bigint >= {FIRST_XID} AND \
             ({xmin}::text::bigint - {first} + {XIDS}) % {XIDS} < {span})"
        )
    }

    /// Why transactions since this position cannot be told at `now`.
    fn beyond(self, now: Self) -> Option<String> {
        if now.xmax < self.xmax {
            return Some(format!(
                "the server was set back since: it is at transaction {}, the last run saw {}",
                now.xmax, self.xmax
            ));
        }
        let passed = now.xmax - self.xmin;
        (passed >= MOST_TRANSACTIONS).then(|| {
            format!("{passed} transactions have passed since the last run, of which `xmin` tells at most {MOST_TRANSACTIONS} apart")
        })
    }
}

/// Why rows of `read` written since `then` cannot be found at `now`, if so.
pub(super) async fn refusal(
    session: &mut Session,
    read: &TableRead,
    then: &str,
    now: Position,
) -> Result<Option<String>, SourceError> {
    let then = Position::parse(then)?;
    if let Some(reason) = then.beyond(now) {
        return Ok(Some(reason));
    }
    let found = session.query(&parts(read, then, now)).await?;
    if found.rows(0).is_empty() {
        return Ok(Some("the table is not there any more".to_owned()));
    }
    for row in 0..found.rows(0).len() {
        let text = |column| found.text(0, row, column);
        let (name, kind, method) = (text(0)?, text(1)?, text(2)?);
        let what = match (kind, method) {
            ("r" | "m", "heap") | ("p", _) => None,
            ("v", _) => Some("a view, whose rows have no xmin".to_owned()),
            ("f", _) => Some("a foreign table, whose rows have no xmin".to_owned()),
            (_, method) => Some(format!(
                "kept by the access method \"{method}\", whose rows have no xmin"
            )),
        };
        let reason = match what {
            Some(what) => format!("{name} is {what}"),
            None if kind == "m" => {
                format!("{name} is a materialized view, which a refresh writes anew")
            }
            None if text(3)? != "t" => {
                format!("this user may not read xmin of {name}: grant SELECT on the whole table")
            }
            None if text(4)? == "t" => format!(
                "{name} was altered since the last run (attached, renamed, truncated, rewritten, granted): rows \
                 may have come or gone without being written"
            ),
            None => continue,
        };
        return Ok(Some(reason));
    }
    Ok(None)
}

/// The table and its partitions, and whether one of them was altered since
/// `then`. Rows that come with an `ATTACH PARTITION` or a change of names keep
/// the `xmin` they had; that such a thing happened shows in the `xmin` of the
/// table's own row in the catalog. A table *created* since is all new: the
/// catalog's row of its `ctid` is written then and never again.
fn parts(read: &TableRead, then: Position, now: Position) -> String {
    format!(
        "SELECT c.oid::regclass::text, c.relkind, coalesce(am.amname, ''), has_table_privilege(root.oid, 'SELECT'), \
         {altered} AND NOT coalesce({created}, false) \
         FROM (SELECT to_regclass({name})::oid AS oid) root \
         CROSS JOIN LATERAL (SELECT root.oid UNION SELECT p.relid::oid FROM pg_partition_tree(root.oid) p) part \
         JOIN pg_class c ON c.oid = part.oid LEFT JOIN pg_am am ON am.oid = c.relam \
         LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = -1 \
         ORDER BY c.oid = root.oid DESC, c.oid",
        altered = then.wrote_since(now, "c.xmin"),
        created = then.wrote_since(now, "a.xmin"),
        name = quote::literal(&quote::table(&read.table.name)),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use proptest::prelude::*;

    /// What the condition says, worked out here: `xmin` is what the row keeps.
    fn holds(then: Position, now: Position, xmin: u64) -> bool {
        let condition = then.wrote_since(now, "x");
        if let Ok(constant) = condition.parse() {
            return constant;
        }
        let number = |after: &str| -> u64 {
            let rest = condition.split(after).nth(1).unwrap();
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap()
        };
        let (first, span) = (number("bigint - "), number("% 4294967296 < "));
        xmin >= number(">= ") && (xmin + XIDS - first) % XIDS < span
    }

    proptest! {
        #[test]
        fn no_writer_since_is_left_out_across_epochs(
            xmin in 3_u64..1 << 40,
            passed in 1_u64..MOST_TRANSACTIONS,
            writer in 0_u64..MOST_TRANSACTIONS,
        ) {
            let then = Position { xmin, xmax: xmin };
            let now = Position { xmin, xmax: xmin + passed };
            let writer = xmin + writer % passed;
            // The server hands out no xid whose 32 bits are special.
            prop_assume!(writer % XIDS >= FIRST_XID);
            prop_assert!(holds(then, now, writer % XIDS));
            if xmin > FIRST_XID && (xmin - 1) % XIDS >= FIRST_XID {
                prop_assert!(!holds(then, now, (xmin - 1) % XIDS), "finished before");
            }
        }
    }

    #[test]
    fn special_rows_and_quiet_servers_have_nothing_new() {
        let at = |text: &str| Position::parse(text).unwrap();
        assert_eq!(at("100:100:").wrote_since(at("100:100:"), "xmin"), "false");
        for frozen in [1, 2] {
            assert!(!holds(
                at("4294967294:4294967294:"),
                at("4294967400:4294967400:"),
                frozen
            ));
        }
        assert!(holds(at("10:20:10,12"), at("21:21:"), 10));
        assert!(!holds(at("10:20:10,12"), at("21:21:"), 9));
        assert_eq!(
            at("10:20:").wrote_since(at("4294967400:4294967400:"), "x"),
            "true"
        );
    }

    #[test]
    fn positions_that_cannot_be_continued() {
        let at = |text: &str| Position::parse(text).unwrap();
        assert!(at("10:20:10").beyond(at("15:20:15")).is_none());
        assert!(
            at("10:20:")
                .beyond(at("15:19:"))
                .unwrap()
                .contains("set back")
        );
        let far = format!("{0}:{0}:", 10 + MOST_TRANSACTIONS);
        assert!(
            at("10:20:")
                .beyond(at(&far))
                .unwrap()
                .contains("have passed")
        );
        for text in ["", "10", "a:b:", "schema_version=1"] {
            assert!(Position::parse(text).is_err(), "{text}");
        }
    }
}
