//! How a mirrored table is brought up to date: by which method its changes are
//! found, what that method assumes, and when the whole table is compared instead.
//!
//! Everything here is decided from the log, the configuration and the snapshot,
//! before any row is read. The rows are found elsewhere; what was found comes
//! back as a [`Merge`].

mod columns;
mod method;

use std::time::Duration;

use chrono::DateTime;
use xxhash_rust::xxh3::xxh3_128;

pub use columns::{ColumnChange, DROPPED, Difference};

use super::config::{Config, Reconcile, SchemaPolicy, TableConfig};
use super::failure::{Exit, Failure};
use super::prepare::TableShape;
use super::report::TableReport;
use crate::ledger::Head;
use crate::source::{BadRow, CursorRange, Projection, Snapshot, TableRead};
use crate::watermark::{Cursor, Identity, Method, Mode, Reconciled, Tail, Watermark};
use method::{Chosen, choose};

/// What a run is going to do for a mirrored table.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// How changes are found from now on.
    pub method: Method,
    /// Why it is not another method, where that needs saying.
    pub because: Option<String>,
    /// What this run does.
    pub step: Step,
    /// How the columns have changed since the last commit.
    pub columns: Vec<ColumnChange>,
    /// What holds the cursor's bound back.
    pub held_by: Option<String>,
    /// Where the next run goes on, for [`Method::Cursor`].
    pub cursor: Option<Cursor>,
    /// The snapshot's position, where the next run can pass over rows that were
    /// written before it although they are at or above its cursor.
    pub written_before: Option<String>,
    /// The digest of what is asked for.
    pub reading: String,
    /// What the commit before said.
    pub last: Option<Watermark>,
    /// The rows at or above the new watermark, where they were read.
    pub tail: Option<Tail>,
    /// What has changed; set when it was found.
    pub merge: Option<Merge>,
}

/// What a run does for a mirrored table.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Writes the table as a whole; says why, unless it is the first time.
    Load(Option<String>),
    /// Reads the keys of rows that may have changed.
    Since(Box<TableRead>),
    /// Compares all rows, for this reason.
    Compare(String),
    /// The source has not changed at all.
    Nothing,
}

/// What has changed in a table, and what its rewriting takes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Merge {
    /// Paths of the files that go, as the log has them.
    pub removed: Vec<String>,
    /// Rows that are new.
    pub inserted: u64,
    /// Rows that have changed.
    pub updated: u64,
    /// Rows that are gone.
    pub deleted: u64,
    /// Whether the whole table was compared.
    pub compared: bool,
    /// Rows that the comparison could not represent.
    pub bad_rows: Vec<BadRow>,
}

impl Mirror {
    /// Decides what is to be done for the table of `read`.
    ///
    /// # Errors
    /// The configuration asks for what the source cannot do, a policy forbids the
    /// change, or the table came from another source.
    pub async fn decide(
        config: &Config,
        options: &TableConfig,
        read: &TableRead,
        shape: &mut TableShape,
        head: Option<&Head>,
        identity: &Identity,
        snapshot: &dyn Snapshot,
    ) -> Result<Self, Failure> {
        let last = head.map(|head| head.watermark.clone());
        let chosen = choose(config, options, read, last.as_ref(), snapshot).await?;
        let mut mirror = Self {
            method: chosen.method,
            because: chosen.because.clone(),
            step: Step::Load(None),
            columns: Vec::new(),
            held_by: chosen.held_by.clone(),
            cursor: chosen.cursor.clone(),
            written_before: chosen.written_before.clone(),
            reading: digest(read),
            tail: None,
            last,
            merge: None,
        };
        let Some(head) = head else {
            return Ok(mirror);
        };
        check_identity(config, read, head, identity)?;
        let policy = options.schema.unwrap_or(config.schema);
        let anew = mirror.take_columns(policy, read, shape, head)?;
        mirror.step = match anew {
            Some(reason) => Step::Load(Some(reason)),
            None => {
                let reconcile = options.reconcile.unwrap_or(config.reconcile);
                mirror.find_by(chosen, reconcile, read, head, identity, snapshot)
            }
        };
        Ok(mirror)
    }

    /// Applies the policy to columns that have changed. Says why the table must
    /// be written anew, if so.
    fn take_columns(
        &mut self,
        policy: SchemaPolicy,
        read: &TableRead,
        shape: &mut TableShape,
        head: &Head,
    ) -> Result<Option<String>, Failure> {
        let difference = Difference::between(head, shape);
        self.columns.clone_from(&difference.changes);
        if self.columns.is_empty() && !difference.partitions_changed {
            if policy != SchemaPolicy::Rewrite {
                difference.keep_dropped(head, shape);
            }
            return Ok(None);
        }
        let what = difference.to_string();
        match policy {
            SchemaPolicy::Freeze => Err(Failure::new(
                Exit::SchemaRefused,
                format!(
                    "the columns of {} have changed ({what}), and schema = \"freeze\" forbids that",
                    read.table.name
                ),
            )
            .hint(
                "accept it with schema = \"evolve\" or \"rewrite\" for this table, or undo the \
                 change; the table was not touched",
            )),
            SchemaPolicy::Rewrite => Ok(Some(what)),
            SchemaPolicy::Evolve => {
                difference.keep_dropped(head, shape);
                Ok((!difference.only_adds()).then_some(what))
            }
        }
    }

    /// How changes are found in a table whose files stay.
    fn find_by(
        &mut self,
        chosen: Chosen,
        reconcile: Reconcile,
        read: &TableRead,
        head: &Head,
        identity: &Identity,
        snapshot: &dyn Snapshot,
    ) -> Step {
        let last = &head.watermark;
        let bound = snapshot.bound();
        let reason = if last.mode != Mode::Mirror {
            Some("it was kept in another mode before".to_owned())
        } else if last.source != *identity {
            Some("the source has another history since (T7)".to_owned())
        } else if head.changed_by_others {
            Some("another program has changed the table in the lake".to_owned())
        } else if !self.columns.is_empty() {
            Some("columns have changed".to_owned())
        } else if last.reading != self.reading {
            Some("other columns or rows are asked for".to_owned())
        } else if last.catching_up {
            Some("the last load was continued under a later snapshot".to_owned())
        } else if reconcile == Reconcile::Always {
            Some("reconcile = \"always\"".to_owned())
        } else {
            None
        };
        if let Some(reason) = reason {
            return Step::Compare(reason);
        }
        if last.bound.position == bound.position {
            return Step::Nothing;
        }
        match chosen.keys {
            Err(reason) => Step::Compare(reason),
            Ok(_) if is_due(last.reconciled.as_ref(), reconcile, &bound.at) => {
                Step::Compare("reconciliation is due".to_owned())
            }
            Ok(keys) => Step::Since(Box::new(TableRead {
                table: read.table.clone(),
                filter: read.filter.clone(),
                ..*keys
            })),
        }
    }

    /// Whether the commit says anything that the one before does not.
    #[must_use]
    pub fn is_news(&self, watermark: &Watermark) -> bool {
        let Some(last) = &self.last else { return true };
        let forgets = |watermark: &Watermark| Watermark {
            bound: last.bound.clone(),
            tail: None,
            held_by: None,
            // A comparison is news by itself only where changes are found
            // without one.
            reconciled: match self.method {
                Method::Diff => None,
                _ => watermark.reconciled.clone(),
            },
            ..watermark.clone()
        };
        !self.columns.is_empty()
            || forgets(watermark) != forgets(last)
            || is_far(&last.bound.position, &watermark.bound.position)
    }

    /// The parts of the watermark that are a mirror's own.
    #[must_use]
    pub fn watermark(&self, plain: Watermark) -> Watermark {
        let at = plain.bound.at.clone();
        let merge = self.merge.as_ref();
        let reconciled = match (&self.step, merge) {
            (Step::Load(_), _) => Some(Reconciled {
                at,
                ..Reconciled::default()
            }),
            (_, Some(merge)) if merge.compared => Some(Reconciled {
                at,
                inserted: merge.inserted,
                updated: merge.updated,
                deleted: merge.deleted,
            }),
            _ => self.last.as_ref().and_then(|last| last.reconciled.clone()),
        };
        Watermark {
            method: Some(self.method),
            cursor: self.cursor.clone(),
            reading: self.reading.clone(),
            tail: match &self.step {
                Step::Nothing => self.last.as_ref().and_then(|last| last.tail.clone()),
                _ => self.tail.clone(),
            },
            reconciled,
            held_by: self.held_by.clone(),
            ..plain
        }
    }

    /// Reads the keys of all rows, and tells which are in the tail.
    #[must_use]
    pub fn all_keys(&self, read: &TableRead) -> TableRead {
        let cursor = self.cursor.as_ref();
        TableRead {
            cursor: cursor.map(|cursor| CursorRange {
                column: cursor.column.clone(),
                from: None,
                to: None,
                nulls: true,
            }),
            projection: Projection::Keys {
                tail_from: cursor.and_then(|cursor| cursor.value.clone()),
            },
            ..read.clone()
        }
    }

    /// Reads the keys of the rows that the next run will read again; `None` where
    /// that would be all of them.
    #[must_use]
    pub fn tail_read(&self, read: &TableRead) -> Option<TableRead> {
        let from = self.cursor.as_ref()?.value.clone()?;
        let mut tail = self.all_keys(read);
        tail.since.clone_from(&self.written_before);
        if let Some(range) = &mut tail.cursor {
            range.from = Some(from);
        }
        Some(tail)
    }

    /// Adds what is known of the mirror to a report.
    #[must_use]
    pub fn tell(&self, report: TableReport) -> TableReport {
        let merge = self.merge.as_ref();
        TableReport {
            method: Some(self.method),
            inserted: merge.map_or(0, |merge| merge.inserted),
            updated: merge.map_or(0, |merge| merge.updated),
            deleted: merge.map_or(0, |merge| merge.deleted),
            because: match &self.step {
                Step::Load(reason) => reason.clone(),
                // Where that is the method, it needs no reason.
                Step::Compare(reason) if self.method != Method::Diff => Some(reason.clone()),
                Step::Compare(_) | Step::Since(_) | Step::Nothing => None,
            },
            columns: self.columns.clone(),
            held_by: self.held_by.clone(),
            ..report
        }
    }

    /// What the run is going to do, in a few words.
    #[must_use]
    pub fn action(&self) -> Option<String> {
        Some(match &self.step {
            Step::Load(None) => return None,
            Step::Load(Some(reason)) => format!("write the table anew: {reason}"),
            Step::Compare(_) if self.method == Method::Diff => {
                "compare all rows and merge what differs".to_owned()
            }
            Step::Compare(reason) => format!("compare all rows and merge what differs: {reason}"),
            Step::Nothing => "nothing: the source has not changed".to_owned(),
            Step::Since(read) => match &read.cursor {
                Some(range) => format!(
                    "merge rows with {} >= {}",
                    range.column,
                    range.from.as_deref().unwrap_or("(beginning)")
                ),
                None => "merge rows written since the last run".to_owned(),
            },
        })
    }
}

/// T7: a table of another source is not touched unless the user says so.
fn check_identity(
    config: &Config,
    read: &TableRead,
    head: &Head,
    identity: &Identity,
) -> Result<(), Failure> {
    let was = &head.watermark.source;
    let same = (&was.kind, &was.id) == (&identity.kind, &identity.id);
    if same || config.accept_other_source {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "table {} in the lake came from another source ({} {}, now {} {})",
        read.table.name, was.kind, was.id, identity.kind, identity.id
    ))
    .hint(
        "if this is the same data on a new server, run once with --accept-other-source: all rows \
         are compared, and what differs is merged; else use another lake",
    ))
}

/// A digest of what is asked for: where it changes, values may change that were
/// not written anew.
fn digest(read: &TableRead) -> String {
    let table = &read.table;
    let columns: Vec<_> = table
        .columns
        .iter()
        .map(|column| {
            let lake_type = column.lake_type.to_string();
            (&column.name, &column.source_type, lake_type)
        })
        .collect();
    let asked = serde_json::json!([columns, table.key, read.filter]);
    format!("{:032x}", xxh3_128(asked.to_string().as_bytes()))
}

/// Whether the last comparison is older than the period; both times are of the
/// source's clock. A time that cannot be read is too old.
fn is_due(last: Option<&Reconciled>, reconcile: Reconcile, now: &str) -> bool {
    let Some(period) = reconcile.period() else {
        return false;
    };
    let last = last.and_then(|last| DateTime::parse_from_rfc3339(&last.at).ok());
    let now = DateTime::parse_from_rfc3339(now).ok();
    match (last, now) {
        (Some(last), Some(now)) => {
            let age = (now - last).to_std().unwrap_or(Duration::ZERO);
            age >= period
        }
        _ => true,
    }
}

/// Whether transaction ids have moved so far that the position must be recorded
/// even without a change: they are compared modulo 2^32 (T2).
fn is_far(last: &str, now: &str) -> bool {
    const FAR: u64 = 1 << 28;
    let first = |position: &str| {
        position
            .split(':')
            .next()
            .and_then(|x| x.parse::<u64>().ok())
    };
    match (first(last), first(now)) {
        (Some(last), Some(now)) => now.saturating_sub(last) > FAR,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_is_due_by_the_sources_clock() {
        let last = Reconciled {
            at: "2026-01-01T00:00:00Z".to_owned(),
            ..Reconciled::default()
        };
        for (reconcile, now, due) in [
            (Reconcile::Daily, "2026-01-01T23:59:59Z", false),
            (Reconcile::Daily, "2026-01-02T00:00:00Z", true),
            (Reconcile::Never, "2036-01-02T00:00:00Z", false),
            // A clock that went back makes nothing due.
            (Reconcile::Hourly, "2025-12-31T00:00:00Z", false),
            (Reconcile::Weekly, "yesterday", true),
        ] {
            assert_eq!(is_due(Some(&last), reconcile, now), due, "{now}");
        }
        assert!(is_due(None, Reconcile::Weekly, "2026-01-01T00:00:00Z"));
    }

    #[test]
    fn positions_move_far_only_by_transaction_ids() {
        assert!(!is_far("700:710:705", "900:900:"));
        assert!(is_far("700:710:705", "300000900:300000900:"));
        assert!(!is_far("abc", "300000900:300000900:"));
    }
}
