//! Who may still commit, and below which time nobody can any more (T3).
//!
//! `now()` is a transaction's start, so a row may become visible long after the
//! time that it carries. What was open *before* the snapshot was taken says how
//! far back such rows can lie: whoever was open then and is not finished by the
//! snapshot is in the list, whoever begins later carries a later time.

use std::time::Duration;

use highwater::source::{CursorBound, SourceError, TableRead};

use super::error::usage;
use super::quote;
use super::wire::{Results, Session};

/// A transaction carries the time at which its first message *arrived*, and
/// shows it a moment later. A backend that is seen as active without a
/// transaction counts by its query's start; one that is stopped by the system
/// just before that is covered by never going closer to the clock than this.
const LEAST_MARGIN: Duration = Duration::from_secs(1);

/// One message. The clock is read first: who is not in the list yet begins after
/// it. Prepared transactions are read last: one that was prepared meanwhile is in
/// either list. Only sessions of this database can write its rows; what runs
/// autovacuum writes none. A session with `track_activities = off` hides.
const OBSERVE: &str = "
SELECT clock_timestamp()::text, pg_is_in_recovery(), pg_has_role(current_user, 'pg_read_all_stats', 'USAGE');
SELECT coalesce(xact_start, query_start)::text,
  format('process %s (%s, user %s, %s)', pid, coalesce(nullif(application_name, ''), 'no application name'),
    coalesce(usename, 'none'), coalesce(state, backend_type)),
  greatest(extract(epoch FROM clock_timestamp() - coalesce(xact_start, query_start)), 0)::bigint
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type <> 'autovacuum worker'
  AND (xact_start IS NOT NULL OR state = 'active' AND backend_type = 'client backend')
ORDER BY coalesce(xact_start, query_start) LIMIT 1;
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'disabled' LIMIT 1;
SELECT gid, owner, greatest(extract(epoch FROM clock_timestamp() - prepared), 0)::bigint
FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared LIMIT 1";

/// What was open before a snapshot; else why that could not be known.
pub(super) type Observed = Result<Writers, String>;

/// What was open before a snapshot.
#[derive(Debug)]
pub(super) struct Writers {
    clock: String,
    oldest: Option<Oldest>,
    /// A prepared transaction, for people.
    prepared: Option<String>,
}

/// The transaction that has been open longest.
#[derive(Debug)]
struct Oldest {
    start: String,
    who: String,
}

/// Looks who is writing. To be called before the snapshot is taken, outside of
/// any transaction.
pub(super) async fn observe(session: &mut Session) -> Result<Observed, SourceError> {
    match session.try_query(OBSERVE).await? {
        Ok(found) => Writers::read(&found),
        Err(refusal) => Ok(Err(format!(
            "the server does not show its sessions: {}",
            refusal.message
        ))),
    }
}

impl Writers {
    fn read(found: &Results) -> Result<Observed, SourceError> {
        if found.text(0, 0, 1)? == "t" {
            return Ok(Err("this server is a standby, which does not know the open transactions of its primary: \
                 read from the primary"
                .to_owned()));
        }
        if found.text(0, 0, 2)? != "t" {
            return Ok(Err("this user cannot see the transactions of other sessions: GRANT pg_read_all_stats to it"
                .to_owned()));
        }
        if let Some(pid) = found.value(2, 0, 0) {
            return Ok(Err(format!(
                "process {pid} hides its transactions (track_activities is off): turn it on"
            )));
        }
        let oldest = match found.value(1, 0, 0) {
            None => None,
            Some(start) => Some(Oldest {
                start: start.to_owned(),
                who: format!(
                    "{}, open for {} s",
                    found.text(1, 0, 1)?,
                    found.text(1, 0, 2)?
                ),
            }),
        };
        let prepared = match found.value(3, 0, 0) {
            None => None,
            Some(gid) => Some(format!(
                "prepared transaction \"{gid}\" (user {}), pending for {} s",
                found.text(3, 0, 1)?,
                found.text(3, 0, 2)?
            )),
        };
        Ok(Ok(Self {
            clock: found.text(0, 0, 0)?.to_owned(),
            oldest,
            prepared,
        }))
    }

    /// `min(clock, oldest start) - margin`, and who holds it back.
    async fn bound(
        &self,
        session: &mut Session,
        margin: Duration,
    ) -> Result<CursorBound, SourceError> {
        let instant = |text: &str| format!("{}::timestamptz", quote::literal(text));
        let clock = instant(&self.clock);
        let oldest = self
            .oldest
            .as_ref()
            .map_or_else(|| clock.clone(), |oldest| instant(&oldest.start));
        let margin = format!(
            "interval '{} seconds {} microseconds'",
            // An interval's parts have 31 bits; 68 years are enough.
            i32::try_from(margin.as_secs()).unwrap_or(i32::MAX),
            margin.subsec_micros()
        );
        let sql = format!(
            "SELECT (least({clock}, {oldest}) - {margin})::text, {oldest} < {clock} - {margin}"
        );
        let found = session.query(&sql).await?;
        let holds = found.text(0, 0, 1)? == "t";
        Ok(CursorBound::Below {
            value: found.text(0, 0, 0)?.to_owned(),
            held_by: self
                .oldest
                .as_ref()
                .filter(|_| holds)
                .map(|oldest| oldest.who.clone()),
        })
    }
}

/// How far `column` of `read` can be trusted, given who was `observed`.
pub(super) async fn cursor_bound(
    session: &mut Session,
    read: &TableRead,
    column: &str,
    margin: Duration,
    observed: &Observed,
) -> Result<CursorBound, SourceError> {
    let unknown = |reason: String| Ok(CursorBound::Unknown { reason });
    let unit = match Stamp::of(session, read, column).await? {
        Ok(stamp) => stamp.unit,
        Err(reason) => return unknown(reason),
    };
    let writers = match observed {
        Ok(writers) => writers,
        Err(reason) => return unknown(reason.clone()),
    };
    if let Some(prepared) = &writers.prepared {
        return Ok(CursorBound::Held {
            by: prepared.clone(),
        });
    }
    writers
        .bound(session, margin.max(LEAST_MARGIN).saturating_add(unit))
        .await
}

/// A column that can be stamped with `now()`.
struct Stamp {
    /// What the column rounds to: a stamp may be stored as up to half of it
    /// earlier, and a bound compared as up to half of it later.
    unit: Duration,
}

impl Stamp {
    async fn of(
        session: &mut Session,
        read: &TableRead,
        column: &str,
    ) -> Result<Result<Self, String>, SourceError> {
        let sql = format!(
            "SELECT a.atttypid::regtype::text, a.atttypmod, \
             EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indkey[0] = a.attnum \
               AND i.indisvalid AND i.indpred IS NULL) \
             FROM pg_attribute a WHERE a.attrelid = to_regclass({}) AND a.attname = {} \
             AND a.attnum > 0 AND NOT a.attisdropped",
            quote::literal(&quote::table(&read.table.name)),
            quote::literal(column)
        );
        let found = session.query(&sql).await?;
        let Some(type_name) = found.value(0, 0, 0) else {
            return Err(usage(format!(
                "{} has no column \"{column}\"",
                read.table.name
            )));
        };
        let reason = match type_name {
            "timestamp with time zone" => None,
            "timestamp without time zone" => Some(
                "its type is timestamp without time zone, which follows the TimeZone of each writer: \
                 make it timestamptz"
                    .to_owned(),
            ),
            other => Some(format!("its type is {other}: only a timestamptz can be stamped with now()")),
        };
        if let Some(reason) = reason {
            return Ok(Err(format!("{column}: {reason}")));
        }
        if found.text(0, 0, 2)? != "t" {
            return Ok(Err(format!(
                "no index of {} begins with {column}: create one",
                read.table.name
            )));
        }
        let unit = match found.text(0, 0, 1)?.parse::<u32>() {
            Ok(digits @ 0..6) => Duration::from_micros(10_u64.pow(6 - digits)),
            _ => Duration::ZERO,
        };
        Ok(Ok(Self { unit }))
    }
}
