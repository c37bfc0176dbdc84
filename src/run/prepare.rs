//! From a configuration to what is to be done for each table: which ledger,
//! which splits, new load or continued one. Nothing is written here.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use futures::{StreamExt, stream};

use super::config::{Config, TableConfig};
use super::failure::{Exit, Failure};
use super::mirror::{Mirror, Step};
use crate::dataset::{Table, TableName};
use crate::ledger::{Head, Ledger, LoadLog};
use crate::source::{CursorRange, Discovered, Snapshot, Source, Split, TableRead, View};
use crate::store::Store;
use crate::watermark::{Bound, Cursor, Identity, Mode, Watermark};

/// Tables that are opened at the store at once.
const OPENED_AT_ONCE: usize = 16;

/// What the lake table looks like, which the sink decides: date parts of
/// columns may become columns.
#[derive(Debug, Clone, PartialEq)]
pub struct TableShape {
    /// All columns of the lake table.
    pub schema: SchemaRef,
    /// Names of the partition columns, in order.
    pub partition_columns: Vec<String>,
}

/// Decides the shape of a table, or says why its configuration cannot be met.
pub type Shape<'a> = &'a (dyn Fn(&Table, &TableConfig) -> Result<TableShape, String> + Sync);

/// Everything a run is going to do.
pub struct Prepared {
    /// Who the source is.
    pub identity: Identity,
    /// The tables, in name order.
    pub tables: Vec<PreparedTable>,
    /// Tables that cannot be done, and why.
    pub failed: Vec<(TableName, Failure)>,
}

/// What a run is going to do for one table.
pub struct PreparedTable {
    /// How it is kept.
    pub mode: Mode,
    /// What the configuration says of it.
    pub config: TableConfig,
    /// What is read.
    pub read: TableRead,
    /// What the lake table looks like.
    pub shape: TableShape,
    /// All its splits, those already done included.
    pub splits: Vec<Split>,
    /// Splits that an earlier run recorded.
    pub done: BTreeSet<u32>,
    /// Token of the layout that split coordinates refer to.
    pub layout: String,
    /// The bound that the new watermark will carry: of this snapshot, or the
    /// earlier one of a continued load.
    pub bound: Bound,
    /// The bound of this run's snapshot.
    pub snapshot_bound: Bound,
    /// How the load relates to an earlier, unfinished one.
    pub load: LoadKind,
    /// The table's commit log.
    pub ledger: Ledger,
    /// The log of the unfinished load, if any.
    pub load_log: LoadLog,
    /// Whether this commit replaces the table (else it adds to it).
    pub replace: bool,
    /// In mirror mode: how it is brought up to date.
    pub mirror: Option<Mirror>,
}

/// How a load relates to an earlier, unfinished one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadKind {
    /// There is none.
    Fresh,
    /// It continues one whose snapshot holds the same contents.
    Continued,
    /// It continues one under a later snapshot: rows that changed in between may
    /// be missing or doubled until the next run.
    CatchingUp,
    /// There is one that cannot be continued, for this reason.
    StartOver(String),
}

impl PreparedTable {
    /// The table's name.
    #[must_use]
    pub fn name(&self) -> &TableName {
        &self.read.table.name
    }

    /// Splits that are still to be read.
    pub fn remaining(&self) -> impl Iterator<Item = &Split> {
        self.splits
            .iter()
            .filter(|split| !self.done.contains(&split.ordinal))
    }

    /// What the run is going to do, in a few words.
    #[must_use]
    pub fn action(&self) -> String {
        let what = match (&self.read.cursor, self.ledger.head()) {
            (
                Some(CursorRange {
                    column,
                    from: Some(from),
                    ..
                }),
                _,
            ) => {
                return format!("append rows with {column} >= {from}");
            }
            (_, None) => "first load".to_owned(),
            (_, Some(_)) => self
                .mirror
                .as_ref()
                .and_then(Mirror::action)
                .unwrap_or_else(|| "replace the table".to_owned()),
        };
        match &self.load {
            LoadKind::Continued | LoadKind::CatchingUp => {
                format!(
                    "continue a load: {} of {} splits are done",
                    self.done.len(),
                    self.splits.len()
                )
            }
            LoadKind::StartOver(reason) => {
                format!("{what}; an unfinished load starts over: {reason}")
            }
            LoadKind::Fresh => what,
        }
    }

    /// Whether the table's files stay, but for those that changes touch.
    #[must_use]
    pub fn is_merge(&self) -> bool {
        self.mirror
            .as_ref()
            .is_some_and(|mirror| !matches!(mirror.step, Step::Load(_)))
    }

    /// Whether rows that an earlier run set aside are still missing, for all that
    /// this one can know: it did not read them again.
    #[must_use]
    pub fn keeps_set_aside(&self) -> bool {
        let mirror = self.mirror.as_ref().filter(|_| self.is_merge());
        mirror.is_some_and(|mirror| {
            let compared = mirror.merge.as_ref().is_some_and(|merge| merge.compared);
            !compared && mirror.last.as_ref().is_some_and(|last| last.set_aside)
        })
    }

    /// Turns a merge into a load of the whole table, for this reason; goes on with
    /// one that a killed run has begun.
    pub fn load_instead(&mut self, reason: impl Into<String>, source: &Identity) {
        if let Some(mirror) = &mut self.mirror {
            mirror.step = Step::Load(Some(reason.into()));
            mirror.merge = None;
        }
        self.replace = true;
        continue_load(self, source);
    }

    /// What the user should know of this table.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.mode == Mode::Append {
            warnings.push(
                "at risk: rows that commit late with a cursor below the last one are lost, and \
                 deletes are not seen (T6)"
                    .to_owned(),
            );
        }
        if self.load == LoadKind::CatchingUp {
            warnings.push(
                "the load continues under a later snapshot: rows that changed in between may be \
                 missing or doubled until the next run"
                    .to_owned(),
            );
        }
        warnings
    }

    /// The watermark that the commit will carry.
    #[must_use]
    pub fn watermark(&self, source: &Identity) -> Watermark {
        let plain = Watermark {
            cursor: self.read.cursor.as_ref().map(|range| Cursor {
                column: range.column.clone(),
                value: range.to.clone().or_else(|| range.from.clone()),
            }),
            catching_up: self.load == LoadKind::CatchingUp,
            key: self.read.table.key_names().map(ToOwned::to_owned).collect(),
            ..Watermark::new(source.clone(), self.mode, self.bound.clone())
        };
        match &self.mirror {
            Some(mirror) => mirror.watermark(plain),
            None => plain,
        }
    }
}

/// Where a table lives inside the lake: `schema/name`, or `name` where the source
/// has no schemas. What is not a plain letter, digit, `-`, `_` or `.` becomes `~`
/// and two hexadecimal digits for each byte: readers differ in what they do to
/// spaces and `%` in paths, and `~` is left alone by all of them.
#[must_use]
pub fn table_folder(name: &TableName) -> String {
    match &name.schema {
        Some(schema) => format!("{}/{}", folder_name(schema), folder_name(&name.name)),
        None => folder_name(&name.name),
    }
}

fn folder_name(name: &str) -> String {
    let mut folder = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        // Readers take a folder that begins with `_` or `.` for a hidden one.
        let plain =
            byte.is_ascii_alphanumeric() || byte == b'-' || (at > 0 && matches!(byte, b'_' | b'.'));
        if plain {
            folder.push(char::from(byte));
        } else {
            folder += &format!("~{byte:02X}");
        }
    }
    folder
}

/// The name of the table in a folder that [`table_folder`] made.
#[must_use]
pub fn folder_table(folder: &str) -> String {
    let mut name = Vec::with_capacity(folder.len());
    let mut rest = folder.as_bytes();
    while let [first, more @ ..] = rest {
        let escaped = more
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, escaped) {
            (b'~', Some(byte)) => {
                name.push(byte);
                rest = more.get(2..).unwrap_or_default();
            }
            (b'/', _) => {
                name.push(b'.');
                rest = more;
            }
            (byte, _) => {
                name.push(*byte);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&name).into_owned()
}

/// Plans a run: discovers tables, opens their ledgers, takes the snapshot and
/// cuts the work into splits.
///
/// # Errors
/// What concerns the whole run: the source or the lake as such.
pub async fn prepare(
    config: &Config,
    source: &dyn Source,
    lake: &Store,
    readers: usize,
    shape: Shape<'_>,
) -> Result<(Prepared, Arc<dyn Snapshot>), Failure> {
    let identity = source.identity().await?;
    let discovered = source.discover(&config.selection()).await?;
    check_names(config, &discovered)?;
    let mut failed = Vec::new();
    let mut found = Vec::new();
    for Discovered { name, table } in discovered {
        match table {
            Ok(table) => found.push(table),
            Err(error) => failed.push((name, Failure::from(error))),
        }
    }
    let opened: Vec<Opening> = stream::iter(found)
        .map(|table| open_table(config, lake, table, shape))
        .buffered(OPENED_AT_ONCE)
        .collect()
        .await;
    // After the ledgers: what another run commits from now on overtakes this one
    // (C3), so that a table never goes back to an earlier snapshot.
    let names: Vec<TableName> = opened.iter().map(|(name, _)| name.clone()).collect();
    let View {
        snapshot,
        tables: now,
    } = source.view(&config.selection(), &names, readers).await?;
    let target_bytes = split_bytes(config, readers);
    let mut tables = Vec::new();
    for (name, opened) in opened {
        let opened = opened.and_then(|opened| as_it_is_now(opened, &now, config, shape));
        let outcome = match opened {
            Ok(opened) => plan_table(config, opened, &identity, &*snapshot, target_bytes).await,
            Err(failure) => Err(*failure),
        };
        match outcome {
            Ok(table) => tables.push(table),
            Err(failure) => failed.push((name, failure)),
        }
    }
    let prepared = Prepared {
        identity,
        tables,
        failed,
    };
    Ok((prepared, snapshot))
}

/// A table by its name, and what came of opening it.
type Opening = (TableName, Result<Opened, Box<Failure>>);

/// The table may have been altered between its discovery and the snapshot, which
/// keeps it as it is now.
fn as_it_is_now(
    mut opened: Opened,
    now: &[Discovered],
    config: &Config,
    shape: Shape<'_>,
) -> Result<Opened, Box<Failure>> {
    let name = &opened.table.name;
    let found = now.iter().find(|found| found.name == *name);
    let Some(Discovered {
        table: Ok(found), ..
    }) = found
    else {
        let gone = format!("table {name} was dropped or renamed while the run began");
        return Err(Failure::retry(gone).into());
    };
    if !same_table(found, &opened.table) {
        opened.shape = shape(found, &config.table(name)).map_err(Failure::usage)?;
        opened.table = found.clone();
    }
    Ok(opened)
}

/// A `[tables.x]` section that names no table is a mistake, not a no-op.
fn check_names(config: &Config, discovered: &[Discovered]) -> Result<(), Failure> {
    for wanted in config.tables.keys() {
        let is_wanted =
            |table: &&Discovered| table.name.to_string() == *wanted || table.name.name == *wanted;
        if !discovered.iter().any(|table| is_wanted(&table)) {
            let names = discovered.iter().map(|table| table.name.to_string());
            let nearest =
                names.max_by(|a, b| strsim::jaro(a, wanted).total_cmp(&strsim::jaro(b, wanted)));
            let hint = match nearest {
                Some(nearest) => {
                    format!("the nearest is {nearest}; correct the name or remove the section")
                }
                None => "correct the name or remove the section".to_owned(),
            };
            return Err(Failure::usage(format!(
                "the configuration has a section [tables.\"{wanted}\"], but the source has no such \
                 table among those selected"
            ))
            .hint(hint));
        }
    }
    Ok(())
}

struct Opened {
    table: Table,
    config: TableConfig,
    mode: Mode,
    shape: TableShape,
    ledger: Ledger,
    load_log: LoadLog,
}

async fn open_table(config: &Config, lake: &Store, table: Table, shape: Shape<'_>) -> Opening {
    let name = table.name.clone();
    let opening = async {
        let options = config.table(&name);
        let mode = config.mode_of(&name);
        let shape = shape(&table, &options).map_err(Failure::usage)?;
        let folder = lake.child(&table_folder(&name));
        let ledger = Ledger::open(folder.clone()).await?;
        let from = ledger.head().map_or(0, |head| head.commit);
        let load_log = LoadLog::open(&folder, from).await?;
        Ok::<_, Failure>(Opened {
            config: options,
            mode,
            shape,
            ledger,
            load_log,
            table,
        })
    };
    let opened = opening.await.map_err(Box::new);
    (name, opened)
}

async fn plan_table(
    config: &Config,
    opened: Opened,
    identity: &Identity,
    snapshot: &dyn Snapshot,
    target_bytes: u64,
) -> Result<PreparedTable, Failure> {
    let Opened {
        table,
        config: options,
        mode,
        mut shape,
        ledger,
        load_log,
    } = opened;
    let filter = config.selection().options(&table.name).filter;
    let (cursor, replace) = match mode {
        Mode::Mirror | Mode::Full => (None, true),
        Mode::Append => append_range(&table, &options, &shape, ledger.head(), identity)?,
    };
    let mut read = TableRead {
        cursor,
        ..TableRead::all(table, filter)
    };
    let mirror = match mode {
        Mode::Mirror => {
            let head = ledger.head();
            let decided = Mirror::decide(
                config, &options, &read, &mut shape, head, identity, snapshot,
            );
            Some(decided.await?)
        }
        Mode::Full | Mode::Append => None,
    };
    let plan = snapshot.split(&read, target_bytes).await?;
    if let Some(range) = &mut read.cursor {
        range.to = plan.cursor_max;
    }
    let mut prepared = PreparedTable {
        mode,
        config: options,
        read,
        shape,
        splits: plan.splits,
        done: BTreeSet::new(),
        layout: plan.layout,
        bound: snapshot.bound().clone(),
        snapshot_bound: snapshot.bound().clone(),
        load: LoadKind::Fresh,
        ledger,
        load_log,
        replace,
        mirror,
    };
    if !prepared.is_merge() {
        continue_load(&mut prepared, identity);
    }
    Ok(prepared)
}

/// The range an append reads, and whether the commit replaces the table: the
/// first append does.
fn append_range(
    table: &Table,
    options: &TableConfig,
    shape: &TableShape,
    head: Option<&Head>,
    identity: &Identity,
) -> Result<(Option<CursorRange>, bool), Failure> {
    let name = &table.name;
    let Some(column) = options.cursor.clone() else {
        return Err(
            Failure::usage(format!("table {name} is in append mode without a cursor"))
                .hint("name one with `cursor`, or use mode = \"full\""),
        );
    };
    if table.key.is_empty() {
        return Err(Failure::usage(format!(
            "table {name} has no key, so rows read twice at the cursor could not be told apart"
        ))
        .hint("give the table a primary key, or use mode = \"full\""));
    }
    let Some(cursor) = table.columns.iter().find(|c| c.name == column) else {
        return Err(Failure::usage(format!(
            "table {name} has no column {column} to use as a cursor"
        )));
    };
    if !is_ordered(&cursor.lake_type) {
        return Err(Failure::usage(format!(
            "column {column} of {name} is {} and cannot be a cursor",
            cursor.source_type
        ))
        .hint("use a column of whole numbers, decimals, dates or timestamps"));
    }
    let range = |from| {
        Some(CursorRange {
            column: column.clone(),
            from,
            to: None,
            nulls: false,
        })
    };
    let Some(head) = head else {
        return Ok((range(None), true));
    };
    let last = head
        .watermark
        .cursor
        .as_ref()
        .filter(|last| last.column == column);
    let Some(last) = last.filter(|_| head.watermark.mode == Mode::Append) else {
        return Ok((range(None), true));
    };
    if head.watermark.source != *identity {
        return Err(Failure::failed(format!(
            "table {name} in the lake came from another source ({} {}, now {} {})",
            head.watermark.source.kind, head.watermark.source.id, identity.kind, identity.id
        ))
        .hint("a cursor of one source means nothing in another: use another lake, or run once with mode = \"full\""));
    }
    if head.schema != shape.schema || head.partition_columns != shape.partition_columns {
        return Err(Failure::new(
            Exit::SchemaRefused,
            format!(
                "the columns of table {name} have changed since the last run: {}",
                difference(&head.schema, &shape.schema)
            ),
        )
        .hint("run once with mode = \"full\" to take the new columns"));
    }
    Ok((range(last.value.clone()), false))
}

fn is_ordered(lake_type: &arrow::datatypes::DataType) -> bool {
    use arrow::datatypes::DataType as T;
    lake_type.is_integer() || matches!(lake_type, T::Decimal128(..) | T::Date32 | T::Timestamp(..))
}

/// Which columns differ, for people.
fn difference(was: &SchemaRef, is: &SchemaRef) -> String {
    let mut words = Vec::new();
    for field in is.fields() {
        match was.field_with_name(field.name()) {
            Err(_) => words.push(format!("{} is new", field.name())),
            Ok(old) if old.data_type() != field.data_type() => words.push(format!(
                "{} was {} and is {}",
                field.name(),
                old.data_type(),
                field.data_type()
            )),
            Ok(old) if old.metadata() != field.metadata() => {
                words.push(format!("{} has another type in the source", field.name()));
            }
            Ok(_) => {}
        }
    }
    let gone = was
        .fields()
        .iter()
        .filter(|field| is.field_with_name(field.name()).is_err());
    words.extend(gone.map(|field| format!("{} is gone", field.name())));
    if words.is_empty() {
        "their order or the partition columns".to_owned()
    } else {
        words.join(", ")
    }
}

/// Decides whether an unfinished load can be continued, and takes over what it
/// recorded.
fn continue_load(prepared: &mut PreparedTable, identity: &Identity) {
    let Some(state) = prepared.load_log.state() else {
        return;
    };
    let begin = &state.begin;
    let same_request = same_table(&begin.read.table, &prepared.read.table)
        && begin.read.filter == prepared.read.filter
        && begin.read.cursor.as_ref().map(|c| (&c.column, &c.from))
            == prepared.read.cursor.as_ref().map(|c| (&c.column, &c.from))
        && begin.partition_columns == prepared.shape.partition_columns;
    let exact = begin.bound.position == prepared.bound.position && !state.mixed_bounds;
    let refusal = if begin.identity != *identity {
        Some("it was read from another source")
    } else if !same_request {
        Some("the table's columns, condition or partitions have changed")
    } else if begin.layout != prepared.layout {
        Some("the source has rewritten the table")
    } else if prepared.read.table.key.is_empty() && !exact {
        Some("the table has no key and may have changed")
    } else {
        None
    };
    if let Some(reason) = refusal {
        prepared.load = LoadKind::StartOver(reason.to_owned());
        return;
    }
    prepared.load = if exact {
        LoadKind::Continued
    } else {
        LoadKind::CatchingUp
    };
    prepared.splits.clone_from(&begin.splits);
    // The request is the same but for the estimates, which may have moved.
    prepared.read = begin.read.clone();
    prepared.bound = begin.bound.clone();
    prepared.done = state.done.clone();
}

/// Whether two descriptions are of the same columns and key; estimates may move.
fn same_table(a: &Table, b: &Table) -> bool {
    (&a.name, &a.columns, &a.key) == (&b.name, &b.columns, &b.key)
}

/// The size of a split: small enough that an epoch holds several for each
/// worker, large enough that starting one costs nothing.
fn split_bytes(config: &Config, readers: usize) -> u64 {
    const LEAST: u64 = 1 << 20;
    const MOST: u64 = 32 << 20;
    (config.epoch.bytes.as_u64() / (readers.max(1) as u64 * 2)).clamp(LEAST, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_plain_and_lead_back_to_the_table() {
        let name = |schema: Option<&str>, name: &str| TableName {
            schema: schema.map(str::to_owned),
            name: name.to_owned(),
        };
        for (table, folder) in [
            (name(Some("public"), "orders"), "public/orders"),
            (name(None, "_a b/c%~ü.x"), "~5Fa~20b~2Fc~25~7E~C3~BC.x"),
            (name(None, ".."), "~2E."),
        ] {
            assert_eq!(table_folder(&table), folder);
            assert_eq!(folder_table(folder), table.to_string());
        }
    }
}
