//! Keeps every version of every row in a table beside the table
//! (`history = true`): `<table>__history`, with `_op`, `_from` and `_version`.
//!
//! A history follows its table version by version, each in one commit of its own
//! whose watermark is the version: what a kill leaves undone, the next run does,
//! once.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

use arrow::datatypes::Field;
use chrono::DateTime;
use highwater::app::{Failure, RunContext};
use highwater::dataset::{Column, Fidelity, SOURCE_TYPE, Table, TableName};
use highwater::ledger::{At, Head, Ledger, LoadLog, LoggedFile, PastTable, RewriteKind};
use highwater::run::prepare::{LoadKind, Prepared, PreparedTable, TableShape, table_folder};
use highwater::run::report::TableReport;
use highwater::run::stages::Stages;
use highwater::run::{Config, TableConfig};
use highwater::source::{CursorRange, TableRead};
use highwater::store::Store;
use highwater::watermark::{HISTORY_CURSOR, Mode};
use highwater_operators::ingest::history::{
    ChangedVersionRows, HistorySnapshot, VersionChange, history_columns,
};
use highwater_operators::ingest::lake::LakeTable;

use super::compare::{Compared, Newer, Sides, compare};
use super::memory::Memory;
use super::together::order::Needs;
use super::{Reading, flow};

/// A table that has a history.
pub(super) struct Followed {
    name: TableName,
    key: Vec<String>,
}

/// The tables of a run that have a history.
pub(super) fn followed(prepared: &Prepared) -> Vec<Followed> {
    let tables = prepared.tables.iter();
    let with_history = tables.filter(|table| table.config.history);
    with_history
        .map(|table| Followed {
            name: table.name().clone(),
            key: table.read.table.key_names().map(str::to_owned).collect(),
        })
        .collect()
}

/// Brings the histories of `followed` up to their tables. Returns what became of
/// each history that was behind.
pub(super) fn catch_up(
    config: &Config,
    context: &RunContext,
    lake: &Store,
    followed: &[Followed],
) -> Vec<TableReport> {
    let mut reports = Vec::new();
    for table in followed {
        let history = History {
            config,
            context,
            lake,
            table,
        };
        match history.catch_up() {
            Ok(more) => reports.extend(more),
            Err(failure) => reports.push(TableReport::failed(history.name().to_string(), failure)),
        }
    }
    reports
}

struct History<'a> {
    config: &'a Config,
    context: &'a RunContext,
    lake: &'a Store,
    table: &'a Followed,
}

impl History<'_> {
    fn name(&self) -> TableName {
        TableName {
            schema: self.table.name.schema.clone(),
            name: format!("{}__history", self.table.name.name),
        }
    }

    fn folder(&self, name: &TableName) -> Store {
        self.lake.child(&table_folder(name))
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.context.runtime.block_on(work)
    }

    /// The last report of each history that was behind: one, or none.
    fn catch_up(&self) -> Result<Option<TableReport>, Failure> {
        let table = self.wait(Ledger::open(self.folder(&self.table.name)))?;
        let Some(newest) = table.head().map(|head| head.version) else {
            return Ok(None);
        };
        let history = self.wait(Ledger::open(self.folder(&self.name())))?;
        let mut done = history.head().map(version_of).transpose()?;
        let mut last: Option<TableReport> = None;
        while last.as_ref().is_none_or(|report| report.error.is_none())
            && let Some(version) = self.next_change(done, newest)?
        {
            let ledger = self.wait(Ledger::open(self.folder(&self.name())))?;
            last = Some(self.follow(ledger, version)?);
            done = Some(version);
        }
        Ok(last)
    }

    /// The first version after `done` that has other rows than the one before: a
    /// compaction has other files, and changes none.
    fn next_change(&self, done: Option<u64>, newest: u64) -> Result<Option<u64>, Failure> {
        let Some(done) = done else {
            return Ok(Some(0));
        };
        let files = self.files(done)?;
        if done >= newest || paths(&files) == paths(&self.files(newest)?) {
            return Ok(None);
        }
        let mut before = files;
        for version in done + 1..=newest {
            let past = self.past(version)?;
            let is = self.wait(past.files())?;
            let record = past.record();
            let only_laid_out =
                record.version == version && record.rewrite == Some(RewriteKind::Layout);
            if !only_laid_out && paths(&before) != paths(&is) {
                return Ok(Some(version));
            }
            before = is;
        }
        Ok(None)
    }

    fn past(&self, version: u64) -> Result<PastTable, Failure> {
        let folder = self.folder(&self.table.name);
        Ok(self.wait(PastTable::open(folder, At::Version(version)))?)
    }

    fn files(&self, version: u64) -> Result<Vec<LoggedFile>, Failure> {
        let past = self.past(version)?;
        Ok(self.wait(past.files())?)
    }

    /// Commits what `version` changed.
    fn follow(&self, ledger: Ledger, version: u64) -> Result<TableReport, Failure> {
        let past = self.past(version)?;
        let is = self.wait(past.files())?;
        let was = match version.checked_sub(1) {
            Some(before) => self.files(before)?,
            None => Vec::new(),
        };
        let read = self.read(past.head(), version)?;
        let folder = self.folder(&self.table.name);
        let lake = |files: Vec<LoggedFile>| LakeTable {
            folder: folder.clone(),
            files,
        };
        let (added, removed) = (lake(only(&is, &was)), lake(only(&was, &is)));
        let bound = past.head().watermark.bound.clone();
        let mut prepared = self.prepared(ledger, read, past.head())?;
        let memory = Memory::divide(
            self.config,
            self.context,
            self.lake,
            Needs::of(&prepared, true),
        );
        let rows = self.changed_rows(&memory, past.head(), &added, &removed)?;
        let from = DateTime::parse_from_rfc3339(&bound.at).ok();
        let change = VersionChange {
            number: 0,
            added,
            removed,
            rows,
            version: i64::try_from(version).unwrap_or(i64::MAX),
            from_micros: from.map_or(0, |time| time.timestamp_micros()),
        };
        let snapshot = HistorySnapshot::new(change, memory.row_groups.clone());
        for table in &mut prepared.tables {
            table.splits = snapshot.splits();
        }
        let stages = Arc::new(Stages::default());
        let reports = flow(
            self.config,
            self.context,
            self.lake,
            prepared,
            Reading::alone(Arc::new(snapshot)),
            &memory,
            &stages,
        )?;
        let report = reports.into_iter().next();
        report.ok_or_else(|| Failure::failed("the history was not told of; please report this"))
    }

    fn read(&self, head: &Head, version: u64) -> Result<TableRead, Failure> {
        let mut columns = plain_columns(head);
        let key = key_of(&self.table.key, &columns);
        for column in history_columns() {
            if columns.iter().any(|known| known.name == column.name) {
                let what = format!(
                    "table {} has a column {}, as its history would",
                    self.table.name, column.name
                );
                return Err(Failure::usage(what).hint("leave it out, or set history = false"));
            }
            columns.push(column);
        }
        let table = Table {
            name: self.name(),
            columns,
            key,
            estimated_rows: None,
            estimated_bytes: 0,
        };
        Ok(TableRead {
            cursor: Some(CursorRange {
                column: HISTORY_CURSOR.to_owned(),
                from: None,
                to: Some(version.to_string()),
                nulls: false,
            }),
            ..TableRead::all(table, None)
        })
    }

    /// Compares what was added with what was removed: files are rewritten whole,
    /// most of their rows have not changed.
    fn changed_rows(
        &self,
        memory: &Memory,
        head: &Head,
        added: &LakeTable,
        removed: &LakeTable,
    ) -> Result<ChangedVersionRows, Failure> {
        if added.files.is_empty() || removed.files.is_empty() {
            return Ok(ChangedVersionRows::All);
        }
        let columns = plain_columns(head);
        let table = Table {
            name: self.table.name.clone(),
            key: key_of(&self.table.key, &columns),
            columns,
            estimated_rows: None,
            estimated_bytes: 0,
        };
        let sides = [Sides {
            number: 0,
            read: TableRead::all(table.clone(), None),
            splits: added.splits(),
            lake: removed.clone(),
        }];
        let newer = Newer::Lake(vec![added.clone()]);
        let mut compared = compare(self.context, memory, &newer, &sides)?;
        if let Some((_, failure)) = compared.failed.pop_first() {
            return Err(failure);
        }
        Ok(match compared.found.remove(&0) {
            Some(Compared::Done(found)) if table.key.is_empty() => ChangedVersionRows::Counted {
                added: Mutex::new(found.new),
                removed: Mutex::new(found.gone),
            },
            Some(Compared::Done(found)) => ChangedVersionRows::Keys {
                added: found.in_source,
                removed: found.in_lake,
            },
            // Too much to tell apart: the whole table was replaced, and that is
            // what the history says.
            Some(Compared::TooMany) | None => ChangedVersionRows::All,
        })
    }

    fn prepared(&self, ledger: Ledger, read: TableRead, head: &Head) -> Result<Prepared, Failure> {
        let from = ledger.head().map_or(0, |head| head.commit);
        let load_log = self.wait(LoadLog::open(&self.folder(&self.name()), from))?;
        let bound = head.watermark.bound.clone();
        let table = PreparedTable {
            mode: Mode::Append,
            config: TableConfig::default(),
            shape: TableShape {
                schema: read.schema(),
                partition_columns: Vec::new(),
            },
            read,
            splits: Vec::new(),
            done: BTreeSet::new(),
            layout: String::new(),
            bound: bound.clone(),
            snapshot_bound: bound,
            load: LoadKind::Fresh,
            replace: ledger.head().is_none(),
            ledger,
            load_log,
            mirror: None,
        };
        Ok(Prepared {
            identity: head.watermark.source.clone(),
            tables: vec![table],
            failed: Vec::new(),
        })
    }
}

/// The version that a history has reached.
fn version_of(head: &Head) -> Result<u64, Failure> {
    let cursor = head.watermark.cursor.as_ref();
    let version = cursor.filter(|cursor| cursor.column == HISTORY_CURSOR);
    let version = version.and_then(|cursor| cursor.value.as_ref()?.parse().ok());
    version.ok_or_else(|| {
        Failure::failed(
            "the history does not say which version it has reached; is it a table of the source?",
        )
        .hint("rename that table, or set history = false")
    })
}

/// The columns of a table as the lake has them, without those made for its
/// partitions.
fn plain_columns(head: &Head) -> Vec<Column> {
    let fields = head.schema.fields().iter();
    let own = fields.filter(|field| field.metadata().contains_key(SOURCE_TYPE));
    own.map(|field| column_of(field)).collect()
}

/// A column of the lake with the exact type that its source gave it; empty where
/// the lake made it itself.
pub(super) fn column_of(field: &Field) -> Column {
    let source_type = field.metadata().get(SOURCE_TYPE);
    Column {
        name: field.name().clone(),
        source_type: source_type.cloned().unwrap_or_default(),
        lake_type: field.data_type().clone(),
        nullable: true,
        fidelity: Fidelity::Exact,
    }
}

/// Positions of the key's columns.
fn key_of(names: &[String], columns: &[Column]) -> Vec<usize> {
    let position = |name: &String| columns.iter().position(|column| column.name == *name);
    names.iter().filter_map(position).collect()
}

fn paths(files: &[LoggedFile]) -> HashSet<&str> {
    files.iter().map(|file| file.path.as_str()).collect()
}

/// The files of `these` that are not among `those`.
fn only(these: &[LoggedFile], those: &[LoggedFile]) -> Vec<LoggedFile> {
    let known = paths(those);
    let new = these
        .iter()
        .filter(|file| !known.contains(file.path.as_str()));
    new.cloned().collect()
}
