//! Tables of the lake, back into a database or into files: which version, which
//! columns, under which name. Each table is one transaction of its target.

use std::collections::BTreeMap;
use std::time::Instant;

use super::history::column_of;
use arrow::datatypes::Field;
use highwater::app::{Failure, RunContext};
use highwater::budget::MemoryBudget;
use highwater::dataset::{Column, SOURCE_TYPE, Table, TableName};
use highwater::ledger::{Head, Ledger, LoggedFile};
use highwater::run::lake::{LakeTable, lake_tables, open_lake};
use highwater::run::mirror::DROPPED;
use highwater::run::report::TableRestored;
use highwater::run::restore::{RestoreFormat, RestoreTo};
use highwater::run::{Config, Exit, RestoreOptions, RestoreReport};
use highwater::watermark::Mode;
use highwater_operators::ingest::lake::LakeTable as LakeFiles;
use highwater_operators::restore::{
    Destination, Restore, RestoreError, RestoreMemory, Restored, restore,
};

const MIB: u64 = 1 << 20;

/// Restores what `options` ask for, one table after the other.
pub(super) fn restore_tables(
    config: &Config,
    options: &RestoreOptions,
    context: &RunContext,
) -> Result<RestoreReport, Failure> {
    let lake = open_lake(config)?;
    let tables = context
        .runtime
        .block_on(lake_tables(&lake, &options.tables))?;
    if options.name.is_some() && tables.len() != 1 {
        let many = format!("--as names one table, and {} are asked for", tables.len());
        return Err(Failure::usage(many).hint("name the table in full, such as public.orders"));
    }
    let budget = context.allowance.budget.as_u64();
    let memory = RestoreMemory {
        row_groups: MemoryBudget::new(budget / 2),
        batches: MemoryBudget::new(budget / 4),
        batch_bytes: (budget / 32).clamp(MIB / 4, MIB),
    };
    let (destination, to) = match &options.to {
        RestoreTo::Database(url) => (
            Destination::Database(url.expose().to_owned()),
            url.to_string(),
        ),
        RestoreTo::Files(folder, RestoreFormat::Parquet) => (
            Destination::Parquet(folder.clone()),
            folder.display().to_string(),
        ),
        RestoreTo::Files(folder, RestoreFormat::Csv) => (
            Destination::Csv(folder.clone()),
            folder.display().to_string(),
        ),
    };
    let tables = tables.into_iter().map(|table| {
        tracing::info!("{}: restoring", table.name);
        let work = restore_one(config, options, &destination, &memory, table);
        context.runtime.block_on(async {
            tokio::select! {
                table = work => Ok(table),
                () = context.cancel.cancelled() => {
                    Err(Failure::interrupted("interrupted; the table being restored is as it was"))
                }
            }
        })
    });
    Ok(RestoreReport {
        lake: lake.url().to_string(),
        to,
        tables: tables.collect::<Result<_, Failure>>()?,
    })
}

async fn restore_one(
    config: &Config,
    options: &RestoreOptions,
    destination: &Destination,
    memory: &RestoreMemory,
    table: LakeTable,
) -> TableRestored {
    let started = Instant::now();
    let mut report = TableRestored {
        name: table.name.clone(),
        ..TableRestored::default()
    };
    match restored(config, options, destination, memory, table, &mut report).await {
        Ok(restored) => {
            report.rows = restored.rows;
            report.bytes = restored.bytes;
            report.digest = restored.digest;
            report.inexact.extend(restored.inexact);
        }
        Err(failure) => report.error = Some(failure.into()),
    }
    report.seconds = started.elapsed().as_secs_f64();
    report
}

async fn restored(
    config: &Config,
    options: &RestoreOptions,
    destination: &Destination,
    memory: &RestoreMemory,
    table: LakeTable,
    report: &mut TableRestored,
) -> Result<Restored, Failure> {
    let (head, files) = state(&table, options).await?;
    report.version = Some(head.version);
    let name = match &options.name {
        Some(name) => named(name, &table.source_name),
        None => table.source_name.clone(),
    };
    report.restored_as = name.to_string();
    let columns = columns(&head, options.with_dropped);
    let key = match key(&head, &columns) {
        Ok(key) => key,
        Err(why) => {
            report
                .inexact
                .push(format!("no primary key is created: {why}"));
            Vec::new()
        }
    };
    let job = Restore {
        table: Table {
            name,
            columns,
            key,
            estimated_rows: Some(head.rows),
            estimated_bytes: head.bytes,
        },
        origin: head.watermark.source.kind.clone(),
        types: config.table(&table.source_name).types,
        lake: LakeFiles {
            folder: table.store,
            files,
        },
        replace: options.replace,
    };
    let outcome = restore(job, destination, memory).await;
    outcome.map_err(|error| match error {
        RestoreError::Source(error) => error.into(),
        differs @ RestoreError::Differs { .. } => Failure::new(Exit::Damaged, differs.to_string())
            .hint("look for triggers or types of the target that change values; `verify --full` tells whether the lake is sound"),
    })
}

/// The table as it was, or as it is.
async fn state(
    table: &LakeTable,
    options: &RestoreOptions,
) -> Result<(Head, Vec<LoggedFile>), Failure> {
    if let Some(at) = options.at {
        let past = Ledger::open_at(table.store.clone(), at).await?;
        return Ok((past.head().clone(), past.files().await?));
    }
    let ledger = Ledger::open(table.store.clone()).await?;
    let Some(head) = ledger.head().cloned() else {
        return Err(Failure::usage(format!("{} has no version yet", table.name)));
    };
    Ok((head, ledger.files().await?))
}

/// The name that the user gave; without a dot, in the schema of `old`.
fn named(name: &str, old: &TableName) -> TableName {
    let (schema, name) = match name.split_once('.') {
        Some((schema, name)) => (Some(schema.to_owned()), name),
        None => (old.schema.clone(), name),
    };
    TableName {
        schema,
        name: name.to_owned(),
    }
}

/// The columns to restore: not those that were made to partition by, nor, unless
/// asked for, those that the source has no more.
fn columns(head: &Head, with_dropped: bool) -> Vec<Column> {
    let is_wanted = |field: &Field| {
        let made = head.partition_columns.contains(field.name())
            && !field.metadata().contains_key(SOURCE_TYPE);
        !made && (with_dropped || !field.metadata().contains_key(DROPPED))
    };
    let fields = head.schema.fields().iter();
    let fields = fields.filter(|field| is_wanted(field));
    fields.map(|field| column_of(field)).collect()
}

/// Positions of the key's columns; none where the table has no key. The error
/// says why a key cannot be created.
fn key(head: &Head, columns: &[Column]) -> Result<Vec<usize>, &'static str> {
    let watermark = &head.watermark;
    let own = columns.iter().any(|column| column.source_type.is_empty());
    if watermark.key.is_empty() || own {
        // Nothing is known of it, or this is a table of the lake's own making.
        return Ok(Vec::new());
    }
    if watermark.mode == Mode::Append || watermark.catching_up {
        return Err("a row may be in the lake more than once");
    }
    let positions: BTreeMap<&str, usize> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| (column.name.as_str(), at))
        .collect();
    let found = watermark.key.iter();
    let found: Option<Vec<usize>> = found
        .map(|name| positions.get(name.as_str()).copied())
        .collect();
    found.ok_or("a column of it is not restored")
}
