//! Finds what has changed in mirrored tables, and how to rewrite it.
//!
//! Rows are compared by hash where a table is compared as a whole (T4); else the
//! source tells which rows were written (T2, T3). Either way the outcome is the
//! keys that changed and the files of the lake that hold them. Where too much has
//! changed to be held in memory, the table is loaded as a whole instead.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use highwater::app::{Failure, RunContext};
use highwater::dataset::{Table, TableName};
use highwater::ledger::LoggedFile;
use highwater::run::mirror::{self, Step};
use highwater::run::prepare::{Prepared, PreparedTable, table_folder};
use highwater::source::{Snapshot, Split, TableRead};
use highwater::store::Store;
use highwater::watermark::{Identity, Method, Tail};
use highwater_operators::ingest::lake::LakeTable;
use highwater_operators::ingest::merge::{Changed, ChangedRows, Merge};
use highwater_operators::transform::changed_keys::{FoundKeys, Keep, KeyLimit};
use highwater_operators::transform::fingerprint::Hash;
use highwater_operators::transform::touched::{ChangedKeys, Touched, Unit};

use super::compare::{Compared, Differences, Newer, Sides, compare};
use super::keys::{KeyRead, read_keys};
use super::memory::Memory;

/// A table of which more than one in so many rows has changed is loaded as a
/// whole: that is less work than looking its rows up one by one.
const MOST_CHANGED: u64 = 3;

/// And so is one of which more than one byte in so many would be rewritten: to
/// decode files and encode them again takes longer than to load.
const MOST_REWRITTEN: u64 = 2;

/// Below so many changed rows the share does not matter.
const FEW_ROWS: u64 = 10_000;

/// Why a table is loaded where not all of its deletes could be held.
const TOO_MANY_GONE: &str = "more rows are gone than can be merged in memory";

/// What finding needs to know.
pub(super) struct Find<'a> {
    pub(super) context: &'a RunContext,
    pub(super) lake: &'a Store,
    pub(super) memory: &'a Memory,
    pub(super) snapshot: Arc<dyn Snapshot>,
    /// Pays for changed keys.
    pub(super) limit: Arc<KeyLimit>,
    /// Tables of which the changes cannot be found, by position.
    pub(super) failed: BTreeMap<usize, Failure>,
}

/// A table that is to be merged, on its way to a [`Merge`].
struct Candidate {
    /// Its position in the plan.
    number: usize,
    lake: LakeTable,
    /// Where it was compared as a whole.
    differences: Option<Differences>,
    keys: FoundKeys,
    changes: Changes,
}

/// What has changed in one table, and where.
struct Changes {
    inserted: u64,
    updated: u64,
    deleted: u64,
    touched: Touched,
    changed: Changed,
}

impl Find<'_> {
    /// Finds the changes of all tables that are to be merged, and turns their
    /// splits into units of rewriting.
    pub(super) fn all(
        &mut self,
        prepared: &mut Prepared,
    ) -> Result<HashMap<TableName, Merge>, Failure> {
        let mut candidates = self.open(prepared)?;
        self.compare_tables(prepared, &mut candidates)?;
        self.read_changed_keys(prepared, &mut candidates)?;
        candidates.retain(|candidate| is_merge(prepared, candidate.number));
        for candidate in &mut candidates {
            if let Some(table) = prepared.tables.get(candidate.number) {
                match self.look_up(table, candidate) {
                    Ok(changes) => candidate.changes = changes,
                    Err(failure) => self.fail(candidate.number, failure),
                }
            }
        }
        self.find_deletes(prepared, &mut candidates)?;
        candidates.retain(|candidate| is_merge(prepared, candidate.number));
        candidates.retain(|candidate| !self.failed.contains_key(&candidate.number));
        let mut merges = HashMap::new();
        let identity = prepared.identity.clone();
        for candidate in candidates {
            let Some(table) = prepared.tables.get_mut(candidate.number) else {
                continue;
            };
            if let Some(merge) = self.plan(table, candidate, &identity) {
                merges.insert(table.name().clone(), merge);
            }
        }
        self.set_failed_aside(prepared);
        Ok(merges)
    }

    fn fail(&mut self, number: usize, failure: Failure) {
        self.failed.entry(number).or_insert(failure);
    }

    /// The other tables go on.
    fn set_failed_aside(&mut self, prepared: &mut Prepared) {
        // From the back, so that positions stay what they are.
        for (number, failure) in std::mem::take(&mut self.failed).into_iter().rev() {
            let table = prepared.tables.remove(number);
            prepared.failed.push((table.name().clone(), failure));
        }
    }

    fn open(&self, prepared: &Prepared) -> Result<Vec<Candidate>, Failure> {
        let merged = prepared.tables.iter().enumerate();
        merged
            .filter(|(_, table)| table.is_merge())
            .map(|(number, table)| {
                Ok(Candidate {
                    number,
                    lake: self.lake_table(table)?,
                    differences: None,
                    keys: FoundKeys::default(),
                    changes: Changes::none(),
                })
            })
            .collect()
    }

    /// The version of a table that its ledger is at.
    pub(super) fn lake_table(&self, table: &PreparedTable) -> Result<LakeTable, Failure> {
        let files = self.context.runtime.block_on(table.ledger.files())?;
        let folder = self.lake.child(&table_folder(table.name()));
        Ok(LakeTable { folder, files })
    }

    /// T4, for the tables that are compared as a whole.
    fn compare_tables(
        &mut self,
        prepared: &mut Prepared,
        candidates: &mut [Candidate],
    ) -> Result<(), Failure> {
        let sides = candidates.iter().filter_map(|candidate| {
            let table = prepared.tables.get(candidate.number)?;
            let step = &table.mirror.as_ref()?.step;
            matches!(step, Step::Compare(_)).then(|| candidate.sides(table, table.read.clone()))
        });
        let mut compared = self.compare(sides.collect())?;
        for candidate in candidates {
            match compared.remove(&candidate.number) {
                Some(Compared::Done(found)) => candidate.differences = Some(*found),
                Some(Compared::TooMany) => {
                    load_instead(prepared, candidate.number, "most of its rows have changed");
                }
                None => {}
            }
        }
        Ok(())
    }

    pub(super) fn compare(
        &mut self,
        sides: Vec<Sides>,
    ) -> Result<BTreeMap<usize, Compared>, Failure> {
        if sides.is_empty() {
            return Ok(BTreeMap::new());
        }
        let snapshot = Arc::clone(&self.snapshot);
        let source = Newer::Source(snapshot);
        let compared = compare(self.context, self.memory, &source, &sides)?;
        self.failed.extend(compared.failed);
        Ok(compared.found)
    }

    /// The keys of rows that were written since (T2, T3), or that differ.
    fn read_changed_keys(
        &mut self,
        prepared: &mut Prepared,
        candidates: &mut [Candidate],
    ) -> Result<(), Failure> {
        let tables = prepared.tables.iter().enumerate();
        let reads = tables.map(|(number, table)| {
            let candidate = candidates.iter().find(|c| c.number == number);
            key_read(
                number,
                table,
                candidate.and_then(|c| c.differences.as_ref()),
            )
        });
        let reads = reads.flatten().collect();
        let mut found = self.read_keys(reads)?;
        for (number, table) in prepared.tables.iter_mut().enumerate() {
            let mirror = table.mirror.as_mut();
            if let (Some(mirror), Some(keys)) = (mirror, found.get(&number)) {
                let tail = mirror.cursor.is_some() || matches!(mirror.step, Step::Since(_));
                mirror.tail = tail.then(|| Tail::from(keys.tail));
            }
        }
        for candidate in candidates {
            candidate.keys = found.remove(&candidate.number).unwrap_or_default();
            if candidate.keys.too_many && !is_repeat(prepared, candidate) {
                let reason = "more has changed than can be merged in memory";
                load_instead(prepared, candidate.number, reason);
            }
        }
        Ok(())
    }

    pub(super) fn read_keys(
        &mut self,
        reads: Vec<KeyRead>,
    ) -> Result<BTreeMap<usize, FoundKeys>, Failure> {
        if reads.is_empty() {
            return Ok(BTreeMap::new());
        }
        let snapshot = Arc::clone(&self.snapshot);
        let keys = read_keys(self.context, self.memory, snapshot, reads, &self.limit)?;
        self.failed.extend(keys.failed);
        Ok(keys.found)
    }

    /// The files that hold what has changed.
    fn look_up(
        &self,
        table: &PreparedTable,
        candidate: &mut Candidate,
    ) -> Result<Changes, Failure> {
        let differences = candidate.differences.as_ref();
        if table.read.table.key.is_empty() {
            return match differences {
                Some(differences) => self.changed_rows(table, candidate, differences),
                None => Ok(Changes::none()),
            };
        }
        let keys = if repeats(table, &candidate.keys) {
            Vec::new()
        } else {
            std::mem::take(&mut candidate.keys.keys)
        };
        let none = HashSet::new();
        let differing = differences.map_or(&none, |differences| &differences.keys);
        let changed = Arc::new(ChangedKeys::new(candidate.number, keys, differing));
        self.changed_keys(table, candidate, changed)
    }

    fn changed_keys(
        &self,
        table: &PreparedTable,
        candidate: &Candidate,
        changed: Arc<ChangedKeys>,
    ) -> Result<Changes, Failure> {
        let touched = self.touched(&table.read.table, candidate, &changed)?;
        Ok(Changes::of_keys(changed, touched))
    }

    /// Of a table without a key: rows of which there are more, or fewer.
    fn changed_rows(
        &self,
        table: &PreparedTable,
        candidate: &Candidate,
        differences: &Differences,
    ) -> Result<Changes, Failure> {
        let gone: HashSet<Hash> = differences.gone.keys().copied().collect();
        let searched = Arc::new(ChangedKeys::new(candidate.number, Vec::new(), &gone));
        let touched = self.touched(&table.read.table, candidate, &searched)?;
        let scans = !differences.new.is_empty();
        let changed = ChangedRows {
            splits: table.splits.iter().filter(|_| scans).cloned().collect(),
            new: Mutex::new(differences.new.clone()),
            gone: Mutex::new(differences.gone.clone()),
        };
        Ok(Changes {
            inserted: differences.new.values().sum(),
            updated: 0,
            deleted: differences.gone.values().sum(),
            touched,
            changed: Changed::Rows(Arc::new(changed)),
        })
    }

    fn touched(
        &self,
        table: &Table,
        candidate: &Candidate,
        changed: &Arc<ChangedKeys>,
    ) -> Result<Touched, Failure> {
        if changed.is_empty() {
            return Ok(Touched::default());
        }
        let (number, lake) = (candidate.number, &candidate.lake);
        let search = Touched::find(number, table, lake, changed, &self.memory.row_groups);
        self.context.runtime.block_on(search).map_err(|error| {
            let what = format!("table {}", table.name);
            let failure = if error.passes {
                Failure::retry(what)
            } else {
                Failure::failed(what)
            };
            failure.caused_by(&error)
        })
    }

    /// T2 sees no deletes. But once the lake has all rows of the source, it has
    /// others exactly when it has more: tables where that is so are compared by
    /// key alone.
    fn find_deletes(
        &mut self,
        prepared: &mut Prepared,
        candidates: &mut [Candidate],
    ) -> Result<(), Failure> {
        let mut sides = Vec::new();
        for candidate in candidates.iter() {
            let Some(table) = prepared.tables.get(candidate.number) else {
                continue;
            };
            if self.has_deletes(table, &candidate.changes)? {
                sides.push(candidate.sides(table, keys_only(&table.read)));
            }
        }
        let mut compared = self.compare(sides)?;
        let mut reads = Vec::new();
        let mut differing: BTreeMap<usize, HashSet<Hash>> = BTreeMap::new();
        for candidate in candidates.iter() {
            let number = candidate.number;
            match compared.remove(&number) {
                Some(Compared::Done(found)) => {
                    let table = prepared.tables.get(number);
                    reads.extend(table.map(|table| all_keys(number, table, &found.keys)));
                    differing.insert(number, found.keys);
                }
                Some(Compared::TooMany) => load_instead(prepared, number, TOO_MANY_GONE),
                None => {}
            }
        }
        let mut found = self.read_keys(reads)?;
        for candidate in candidates {
            let Some(differing) = differing.remove(&candidate.number) else {
                continue;
            };
            let found = found.remove(&candidate.number).unwrap_or_default();
            if found.too_many {
                load_instead(prepared, candidate.number, TOO_MANY_GONE);
                continue;
            }
            let keys = found.keys;
            if let (Some(table), Changed::Keys(known)) = (
                prepared.tables.get(candidate.number),
                &candidate.changes.changed,
            ) {
                let keys = known.upserts.iter().cloned().chain(keys).collect();
                let changed = ChangedKeys::new(candidate.number, keys, &differing);
                candidate.changes = self.changed_keys(table, candidate, Arc::new(changed))?;
            }
        }
        Ok(())
    }

    fn has_deletes(&self, table: &PreparedTable, changes: &Changes) -> Result<bool, Failure> {
        let by_xid = table.mirror.as_ref().is_some_and(|mirror| {
            mirror.method == Method::Xid && matches!(mirror.step, Step::Since(_))
        });
        if !by_xid {
            return Ok(false);
        }
        let Some(head) = table.ledger.head() else {
            return Ok(false);
        };
        // Rows that were set aside could make up for as many that are gone.
        if head.watermark.set_aside {
            return Ok(true);
        }
        let counting = self.snapshot.count(&table.read);
        let counted = self.context.runtime.block_on(counting)?;
        Ok(counted != head.rows + changes.inserted)
    }

    /// Divides the rewriting into units, or decides that a load is less work.
    fn plan(
        &self,
        table: &mut PreparedTable,
        candidate: Candidate,
        source: &Identity,
    ) -> Option<Merge> {
        let Candidate {
            number,
            lake,
            differences,
            changes,
            ..
        } = candidate;
        let rows = table.ledger.head().map_or(0, |head| head.rows);
        if changes.rows() > FEW_ROWS && changes.rows() > rows / MOST_CHANGED {
            table.load_instead("much of it has changed", source);
            return None;
        }
        let target_bytes = self.memory.file_bytes(table);
        let units = changes.touched.units(&lake.files, target_bytes);
        let gone = units.iter().flat_map(|unit| &unit.files);
        let gone: Vec<&LoggedFile> = gone.filter_map(|&file| lake.files.get(file)).collect();
        let rewritten: u64 = gone.iter().map(|file| file.bytes).sum();
        let bytes = table.ledger.head().map_or(0, |head| head.bytes);
        if changes.rows() > FEW_ROWS && rewritten > bytes / MOST_REWRITTEN {
            table.load_instead("its changes touch most of its files", source);
            return None;
        }
        let outcome = mirror::Merge {
            removed: gone.iter().map(|file| file.path.clone()).collect(),
            inserted: changes.inserted,
            updated: changes.updated,
            deleted: changes.deleted,
            compared: differences.is_some(),
            bad_rows: differences.map_or_else(Vec::new, |found| found.bad_rows),
        };
        table.splits = splits_of(&units, &changes.changed);
        if let Some(mirror) = &mut table.mirror {
            mirror.merge = Some(outcome);
        }
        Some(Merge {
            number,
            lake,
            changed: changes.changed,
            units,
        })
    }
}

impl Candidate {
    fn sides(&self, table: &PreparedTable, read: TableRead) -> Sides {
        Sides {
            number: self.number,
            read,
            splits: table.splits.clone(),
            lake: self.lake.clone(),
        }
    }
}

impl Changes {
    fn none() -> Self {
        Self::of_keys(Arc::default(), Touched::default())
    }

    fn of_keys(changed: Arc<ChangedKeys>, touched: Touched) -> Self {
        let inserted = touched.inserts();
        Self {
            inserted,
            updated: changed.upserts.len() as u64 - inserted,
            deleted: changed.deletes() as u64,
            touched,
            changed: Changed::Keys(changed),
        }
    }

    fn rows(&self) -> u64 {
        self.inserted + self.updated + self.deleted
    }
}

fn is_merge(prepared: &Prepared, number: usize) -> bool {
    let table = prepared.tables.get(number);
    table.is_some_and(PreparedTable::is_merge)
}

fn load_instead(prepared: &mut Prepared, number: usize, reason: &str) {
    let source = &prepared.identity;
    if let Some(table) = prepared.tables.get_mut(number) {
        table.load_instead(reason, source);
    }
}

fn is_repeat(prepared: &Prepared, candidate: &Candidate) -> bool {
    let table = prepared.tables.get(candidate.number);
    table.is_some_and(|table| repeats(table, &candidate.keys))
}

/// Whether the rows at or above the watermark are those that were there when it
/// was written.
fn repeats(table: &PreparedTable, keys: &FoundKeys) -> bool {
    let Some(mirror) = &table.mirror else {
        return false;
    };
    let last = mirror.last.as_ref().and_then(|last| last.tail.as_ref());
    matches!(mirror.step, Step::Since(_)) && last == Some(&Tail::from(keys.seen))
}

/// The keys that are read of a table: those of rows written since, those that
/// differ, or only what the next run will read again.
pub(super) fn key_read(
    number: usize,
    table: &PreparedTable,
    differences: Option<&Differences>,
) -> Option<KeyRead> {
    let mirror = table.mirror.as_ref()?;
    match (&mirror.step, differences) {
        (Step::Since(read), _) => Some(KeyRead {
            number,
            keep: Keep::All,
            read: (**read).clone(),
            splits: None,
        }),
        (_, Some(differences)) if !differences.keys.is_empty() => {
            Some(all_keys(number, table, &differences.keys))
        }
        (Step::Compare(_) | Step::Load(_), _) => Some(KeyRead {
            number,
            keep: Keep::Nothing,
            read: mirror.tail_read(&table.read)?,
            splits: None,
        }),
        (Step::Nothing, _) => None,
    }
}

/// Reads all keys, and keeps those among `wanted`.
fn all_keys(number: usize, table: &PreparedTable, wanted: &HashSet<Hash>) -> KeyRead {
    let read = &table.read;
    KeyRead {
        number,
        keep: Keep::Only(Arc::new(wanted.clone())),
        read: table
            .mirror
            .as_ref()
            .map_or_else(|| read.clone(), |mirror| mirror.all_keys(read)),
        splits: Some(table.splits.clone()),
    }
}

/// The key columns as a table of their own.
fn keys_only(read: &TableRead) -> TableRead {
    let table = &read.table;
    let key = table.key.iter().filter_map(|&at| table.columns.get(at));
    TableRead {
        table: Table {
            columns: key.cloned().collect(),
            key: (0..table.key.len()).collect(),
            ..table.clone()
        },
        ..read.clone()
    }
}

/// Units as splits; the source's own splits come after them where new rows of a
/// table without a key are looked for.
fn splits_of(units: &[Unit], changed: &Changed) -> Vec<Split> {
    let scans = match changed {
        Changed::Keys(_) => &[],
        Changed::Rows(rows) => rows.splits.as_slice(),
    };
    let units = units.iter().map(|unit| unit.bytes);
    (0..)
        .zip(units.chain(scans.iter().map(|split| split.estimated_bytes)))
        .map(|(ordinal, estimated_bytes)| Split {
            ordinal,
            start: None,
            end: None,
            estimated_bytes,
        })
        .collect()
}
