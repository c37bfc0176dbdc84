//! Compares the lake with its source (`verify --against-source`): every row of
//! both, by hash, in one snapshot of the source.
//!
//! A source may have been written since the last commit. Where it can tell which
//! rows were (T2), those are no damage; where it cannot, only a source that has
//! stood still proves a difference to be one.

use std::collections::{BTreeMap, HashSet};

use highwater::app::Failure;
use highwater::ledger::verify::{Finding, FindingKind};
use highwater::run::mirror::Step;
use highwater::run::prepare::{Prepared, PreparedTable};
use highwater::run::report::AgainstSource;
use highwater_operators::transform::fingerprint::{Hash, hash_key};

use super::compare::{Compared, Differences, Sides};
use super::find::{Find, key_read};

/// Compares all tables that the lake has; by name.
pub(super) fn against_source(
    find: &mut Find<'_>,
    prepared: &Prepared,
) -> Result<BTreeMap<String, Result<AgainstSource, Failure>>, Failure> {
    let mut compared = find.compare(sides(find, prepared)?)?;
    let written = written_since(find, prepared)?;
    let mut all = BTreeMap::new();
    for (number, table) in committed(prepared) {
        let outcome = match compared.remove(&number) {
            Some(compared) => Ok(judge(table, compared, written.get(&number))),
            None => Err(find
                .failed
                .remove(&number)
                .unwrap_or_else(|| Failure::failed("it was not compared; please report this"))),
        };
        all.insert(table.name().to_string(), outcome);
    }
    Ok(all)
}

/// The tables that the lake has, by position.
fn committed(prepared: &Prepared) -> impl Iterator<Item = (usize, &PreparedTable)> {
    let tables = prepared.tables.iter().enumerate();
    tables.filter(|(_, table)| table.ledger.head().is_some())
}

fn sides(find: &Find<'_>, prepared: &Prepared) -> Result<Vec<Sides>, Failure> {
    committed(prepared)
        .map(|(number, table)| {
            Ok(Sides {
                number,
                read: table.read.clone(),
                splits: table.splits.clone(),
                lake: find.lake_table(table)?,
            })
        })
        .collect()
}

/// Hashes of keys of rows that were written since the last commit, where the
/// source can tell.
fn written_since(
    find: &mut Find<'_>,
    prepared: &Prepared,
) -> Result<BTreeMap<usize, HashSet<Hash>>, Failure> {
    let reads = prepared.tables.iter().enumerate();
    let reads = reads.filter_map(|(number, table)| {
        let mirror = table.mirror.as_ref()?;
        matches!(mirror.step, Step::Since(_)).then(|| key_read(number, table, None))?
    });
    let keys = find.read_keys(reads.collect())?;
    let written = keys.into_iter().filter(|(_, keys)| !keys.too_many);
    Ok(written
        .map(|(number, keys)| {
            let hashes = keys.keys.iter().map(|key| hash_key(number, key));
            (number, hashes.collect())
        })
        .collect())
}

fn judge(
    table: &PreparedTable,
    compared: Compared,
    written: Option<&HashSet<Hash>>,
) -> AgainstSource {
    let head = table.ledger.head();
    let was = head.map(|head| &head.watermark.bound);
    let now = &table.snapshot_bound;
    let stood_still = was.is_some_and(|was| was.position == now.position);
    let differences = match compared {
        Compared::Done(differences) => *differences,
        Compared::TooMany => {
            let what = "more rows differ than can be told apart in memory";
            return AgainstSource {
                bound: now.clone(),
                lake_rows: head.map_or(0, |head| head.rows),
                findings: vec![differs(what.to_owned(), stood_still)],
                ..AgainstSource::default()
            };
        }
    };
    let (changed, deleted, repeated) = differences.count(written);
    let mut findings = Vec::new();
    if changed > 0 {
        let what = format!("{changed} rows are not what the source has");
        let what = match written {
            Some(_) => format!("{what}, and were not written since the last commit"),
            None => what,
        };
        findings.push(differs(what, stood_still || written.is_some()));
    }
    if deleted > 0 {
        let what = format!("{deleted} rows are not in the source");
        findings.push(differs(what, stood_still));
    }
    AgainstSource {
        bound: now.clone(),
        lake_rows: head.map_or(0, |head| head.rows),
        differing: changed + deleted,
        written_since: repeated,
        findings,
    }
}

/// A difference is damage where the source cannot have made it since.
fn differs(what: String, is_damage: bool) -> Finding {
    if is_damage {
        Finding::new(FindingKind::SourceDiffers, ".", what).advise(
            "run once with reconcile = \"always\": all rows are compared, and what differs is mended",
        )
    } else {
        let what = format!("{what}; it was written since the last commit, so that may be why");
        Finding::new(FindingKind::Note, ".", what).advise("run, then verify again")
    }
}

impl Differences {
    /// Rows that the source has otherwise, rows that it has not, and rows that it
    /// says were written since.
    fn count(&self, written: Option<&HashSet<Hash>>) -> (u64, u64, u64) {
        let is_written = |key: &&Hash| written.is_some_and(|written| written.contains(*key));
        let repeated = self.keys.iter().filter(is_written).count() as u64;
        let rest = self.keys.iter().filter(|key| !is_written(key));
        let (changed, deleted): (Vec<&Hash>, Vec<&Hash>) =
            rest.partition(|key| self.in_source.contains(*key));
        let new: u64 = self.new.values().sum();
        let gone: u64 = self.gone.values().sum();
        let changed = changed.len() as u64 + new;
        (changed, deleted.len() as u64 + gone, repeated)
    }
}
