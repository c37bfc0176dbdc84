//! `table-backup`: tables of a database become Delta tables in a lake.
//!
//! Splits are handed to readers, whose batches are encoded into files, whose
//! epochs are committed when the frontier has passed them.

mod against;
mod compare;
mod find;
mod history;
mod keys;
mod memory;
mod restore;
mod side;
mod together;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use against::against_source;
use find::Find;
use highwater::app::{self, Exit, Failure, Pipeline, RunContext};
use highwater::dataset::{Table, TableName};
use highwater::flow::{
    Assign, Assignment, Ingest, IngestTable, Settle, Settler, assign, commit, ingest,
};
use highwater::run::config::SchemaPolicy;
use highwater::run::lake::open_lake;
use highwater::run::prepare::{Prepared, PreparedTable, TableShape, prepare, table_folder};
use highwater::run::publish::Publisher;
use highwater::run::report::{
    PlanReport, RunReport, StatusReport, TablePlan, TableReport, VerifyReport,
};
use highwater::run::schedule::schedule_status;
use highwater::run::stages::Stages;
use highwater::run::template::Template;
use highwater::run::verify::{VerifyOptions, verify_lake};
use highwater::run::{Config, RestoreOptions, RestoreReport, Secret, TableConfig, status};
use highwater::source::{Discovered, Readers, Selection, Snapshot, Source};
use highwater::store::{Conditional, Store, probe_conditional_put};
use highwater::telemetry::progress::TableProgress;
use highwater_operators::ingest as sources;
use highwater_operators::ingest::merge::MergeSnapshot;
use highwater_operators::sink::lake::{LakeSink, SinkTable, lake_sink};
use highwater_operators::transform::changed_keys::KeyLimit;
use highwater_operators::transform::partition::Partitioning;
use highwater_operators::transform::repeats::{Repeats, drop_repeats};
use memory::Memory;
use timely::dataflow::operators::{Concatenate, ConnectLoop, Feedback};
use together::order::{FlowOrder, Keys, MergeOrder, Needs, Order, SharedView, TableOrder};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    app::main(TableBackup)
}

/// The pipeline.
struct TableBackup;

impl Pipeline for TableBackup {
    fn name(&self) -> &'static str {
        "table-backup"
    }

    fn about(&self) -> &'static str {
        "Keeps Delta tables in a lake equal to the tables of a database."
    }

    fn run(&self, config: Config, context: RunContext) -> Result<RunReport, Failure> {
        let stages = Arc::new(Stages::default());
        let started = Instant::now();
        let source = sources::open(config.source.expose())?;
        let lake = context.runtime.block_on(open_lake_to_write(&config))?;
        let (mut prepared, snapshot) = context
            .runtime
            .block_on(prepare_run(&config, &context, &*source, &lake))?;
        stages.plan.add(started.elapsed());

        let mut report = RunReport::new(
            context.run,
            self.name(),
            lake.url().as_str(),
            context.started,
            context.memory_limit.as_u64(),
        );
        report.warnings.clone_from(&context.warnings);
        let merges = prepared.tables.iter().any(PreparedTable::is_merge);
        let needs = Needs::of(&prepared, merges);
        let memory = Memory::divide(&config, &context, &lake, needs);
        let started = Instant::now();
        let reading = merge_what_changed(&context, &lake, &mut prepared, snapshot, &memory)?;
        // Another process may join the snapshot when this one has no more to read.
        let held = Arc::clone(&reading.readers);
        stages.find.add(started.elapsed());
        let followed = history::followed(&prepared);
        report.tables = flow(
            &config, &context, &lake, prepared, reading, &memory, &stages,
        )?;
        drop(held);
        let histories = history::catch_up(&config, &context, &lake, &followed);
        report.tables.extend(histories);
        report.seconds = stages.seconds();
        report.memory_waits = memory.reading.waits();
        report.conclude(context.started, chrono::Utc::now());
        context.record(&config, &lake, &mut report);
        Ok(report)
    }

    fn follow(&self, config: Config, context: RunContext) -> Result<Exit, Failure> {
        together::follow(&config, &context)
    }

    fn plan(&self, config: Config, context: RunContext) -> Result<PlanReport, Failure> {
        let source = sources::open(config.source.expose())?;
        let lake = open_lake(&config)?;
        let (prepared, _) = context
            .runtime
            .block_on(prepare_run(&config, &context, &*source, &lake))?;
        let mut tables: Vec<TablePlan> = prepared.tables.iter().map(plan_table).collect();
        let failed = prepared.failed.into_iter();
        tables.extend(failed.map(|(name, failure)| failed_plan(&name, failure)));
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(PlanReport {
            pipeline: self.name().to_owned(),
            source: config.source.to_string(),
            lake: lake.url().to_string(),
            tables,
            objects: None,
            documents: Vec::new(),
            memory: context.memory_plan(),
            warnings: context.warnings,
        })
    }

    fn status(&self, config: Config, context: RunContext) -> Result<StatusReport, Failure> {
        let lake = open_lake(&config)?;
        context.runtime.block_on(async {
            let mut report = status::lake_status(&lake).await?;
            report.schedule = schedule_status(&lake, &config).await?;
            Ok(report)
        })
    }

    fn verify(
        &self,
        config: Config,
        options: VerifyOptions,
        context: RunContext,
    ) -> Result<VerifyReport, Failure> {
        let lake = open_lake(&config)?;
        let mut report = context.runtime.block_on(verify_lake(&lake, &options))?;
        if options.against_source {
            compare_with_source(config, &options, &context, &lake, &mut report)?;
        }
        Ok(report)
    }

    fn restore(
        &self,
        config: Config,
        options: RestoreOptions,
        context: RunContext,
    ) -> Result<RestoreReport, Failure> {
        restore::restore_tables(&config, &options, &context)
    }

    fn init(&self, url: Secret, context: RunContext) -> Result<String, Failure> {
        let source = sources::open(url.expose())?;
        let found = context
            .runtime
            .block_on(source.discover(&Selection::default()))?;
        let tables: Vec<TablePlan> = found
            .into_iter()
            .map(|Discovered { name, table }| match table {
                Ok(table) => TablePlan::from(&table),
                Err(error) => failed_plan(&name, error.into()),
            })
            .collect();
        Ok(Template {
            pipeline: self.name(),
            source: &url.with_password("${PGPASSWORD}"),
            lake: "file:./lake",
            tables: &tables,
        }
        .render())
    }
}

/// Opens the lake and finds out, before any work is done, whether it can be
/// written.
async fn open_lake_to_write(config: &Config) -> Result<Store, Failure> {
    let lake = open_lake(config)?;
    lake.check().await?;
    if probe_conditional_put(&lake).await? == Conditional::Unsupported {
        return Err(Failure::failed(format!(
            "{} overwrites objects that must not exist yet, so two runs could not be told apart",
            lake.url()
        ))
        .hint("use a store with conditional put (If-None-Match)"));
    }
    Ok(lake)
}

async fn prepare_run(
    config: &Config,
    context: &RunContext,
    source: &dyn Source,
    lake: &Store,
) -> Result<(Prepared, Arc<dyn Snapshot>), Failure> {
    let shape = |table: &Table, options: &TableConfig| {
        let partitioning = Partitioning::new(&table.schema(), &options.partition_by)?;
        Ok(TableShape {
            schema: partitioning.table_schema(),
            partition_columns: partitioning.columns(),
        })
    };
    tokio::select! {
        prepared = prepare(config, source, lake, context.crew.place().peers(), &shape) => prepared,
        () = context.cancel.cancelled() => {
            Err(Failure::interrupted("interrupted before anything was read; the lake is as it was"))
        }
    }
}

fn failed_plan(name: &TableName, failure: Failure) -> TablePlan {
    TablePlan {
        name: name.to_string(),
        error: Some(failure.into()),
        ..TablePlan::default()
    }
}

fn plan_table(prepared: &PreparedTable) -> TablePlan {
    let mirror = prepared.mirror.as_ref();
    TablePlan {
        method: mirror.map(|mirror| mirror.method),
        method_because: mirror.and_then(|mirror| mirror.because.clone()),
        column_changes: mirror.map_or_else(Vec::new, |mirror| mirror.columns.clone()),
        mode: Some(prepared.mode),
        action: prepared.action(),
        splits: prepared.remaining().count() as u64,
        partition_by: prepared.shape.partition_columns.clone(),
        warnings: prepared.warnings(),
        ..TablePlan::from(&prepared.read.table)
    }
}

/// Level 3 of a verification: the tables that the source has and that are wanted.
fn compare_with_source(
    config: Config,
    options: &VerifyOptions,
    context: &RunContext,
    lake: &Store,
    report: &mut VerifyReport,
) -> Result<(), Failure> {
    let config = Config {
        // What has changed is told, not refused.
        schema: SchemaPolicy::Evolve,
        ..config
    };
    let source = sources::open(config.source.expose())?;
    let (mut prepared, snapshot) = context
        .runtime
        .block_on(prepare_run(&config, context, &*source, lake))?;
    for table in std::mem::take(&mut prepared.tables) {
        if options.takes(&table.name().to_string())? {
            prepared.tables.push(table);
        }
    }
    let memory = Memory::divide(&config, context, lake, Needs::of(&prepared, true));
    let mut find = Find {
        context,
        lake,
        memory: &memory,
        snapshot,
        limit: KeyLimit::new(memory.keys_bytes),
        failed: BTreeMap::new(),
    };
    let mut compared = against_source(&mut find, &prepared)?;
    for table in &mut report.tables {
        if let Some(outcome) = compared.remove(&table.name) {
            table.compared(outcome);
        }
    }
    Ok(())
}

/// How rows are read: here, and by what the other processes are told.
struct Reading {
    readers: Arc<dyn Readers>,
    view: SharedView,
    merges: Vec<MergeOrder>,
}

impl Reading {
    /// By this process alone.
    fn alone(readers: Arc<dyn Readers>) -> Self {
        Self {
            readers,
            view: None,
            merges: Vec::new(),
        }
    }
}

/// Finds the changes of mirrored tables, whose rewriting is then read beside the
/// tables of the source.
fn merge_what_changed(
    context: &RunContext,
    lake: &Store,
    prepared: &mut Prepared,
    snapshot: Arc<dyn Snapshot>,
    memory: &Memory,
) -> Result<Reading, Failure> {
    let mut find = Find {
        context,
        lake,
        memory,
        snapshot: Arc::clone(&snapshot),
        limit: KeyLimit::new(memory.keys_bytes),
        failed: BTreeMap::new(),
    };
    let merges = find.all(prepared)?;
    // Where not all that is merged can be read by other processes, nothing is.
    let orders = merges
        .iter()
        .map(|(name, merge)| MergeOrder::of(name, merge));
    let orders: Option<Vec<MergeOrder>> = match context.crew.place().processes {
        1 => None,
        _ => orders.collect(),
    };
    let view = orders.as_ref().and_then(|_| snapshot.share());
    let row_groups = memory.row_groups.clone();
    Ok(Reading {
        readers: Arc::new(MergeSnapshot::new(snapshot, merges, row_groups)),
        view,
        merges: orders.unwrap_or_default(),
    })
}

/// Runs the dataflow to its end. Returns what became of each table.
fn flow(
    config: &Config,
    context: &RunContext,
    lake: &Store,
    prepared: Prepared,
    reading: Reading,
    memory: &Memory,
    stages: &Arc<Stages>,
) -> Result<Vec<TableReport>, Failure> {
    let tables = prepared.tables.iter();
    let progress: Vec<TableProgress> = tables.map(|table| show(context, table)).collect();
    context.progress.planned();
    let order = Arc::new(FlowOrder {
        view: reading.view,
        merges: reading.merges,
        tables: table_orders(context, lake, &prepared, memory)?,
        needs: memory.needs,
    });
    let splits = splits_to_read(&prepared);
    let (mut publisher, reports) = Publisher::new(
        context.run,
        lake.clone(),
        prepared,
        progress.clone(),
        Arc::clone(stages),
        context.crew.place().processes,
    );
    let over = context.runtime.block_on(publisher.start()).skip;
    context.order(&Order::Flow(Arc::clone(&order)))?;
    let mut plan = FlowPlan::new(
        config,
        context,
        lake,
        &order.tables,
        reading.readers,
        progress,
        memory,
        stages,
    )?;
    plan.assign.splits = splits;
    plan.assign
        .splits
        .retain(|split| !over.contains(&split.table));
    run_flow(context, plan, Some(Box::new(publisher)))?;
    let lost = |_| Failure::failed("the commits ended without a word; please report this");
    context.runtime.block_on(reports).map_err(lost)
}

/// Builds the dataflow and runs it. The publisher is the first process's own.
fn run_flow(
    context: &RunContext,
    plan: FlowPlan,
    publisher: Option<Box<dyn Settle>>,
) -> Result<(), Failure> {
    let settler = Settler::new(publisher);
    let runtime = context.runtime.clone();
    context.crew.run(move |scope| {
        let (more, requests) = scope.feedback(1);
        let (forget, settled) = scope.feedback(1);
        let splits = assign(scope, plan.assign.clone(), requests, settled);
        let read = ingest(scope, splits, plan.ingest.clone());
        let rows = drop_repeats(read.batches, Arc::clone(&plan.repeats));
        let files = lake_sink(scope, rows, plan.sink.clone());
        let events = scope.concatenate([read.events, files]);
        let done = commit(scope, events, &settler, &runtime);
        read.requests.connect_loop(more);
        done.connect_loop(forget);
    })?;
    Ok(())
}

/// What each table asks of every process.
fn table_orders(
    context: &RunContext,
    lake: &Store,
    prepared: &Prepared,
    memory: &Memory,
) -> Result<Vec<TableOrder>, Failure> {
    let order = |table: &PreparedTable| {
        let folder = lake.child(&table_folder(table.name()));
        let repeats = Repeats::find(table, &folder, &memory.reading);
        let repeats = context.runtime.block_on(repeats)?;
        Ok(TableOrder {
            read: table.read.clone(),
            splits: table.splits.clone(),
            partition_by: table.config.partition_by.clone(),
            file_bytes: memory.file_bytes(table),
            by_split: table.is_merge(),
            repeats: repeats.map(|repeats| Keys(repeats.keys().map(Into::into).collect())),
        })
    };
    prepared.tables.iter().map(order).collect()
}

/// Everything that is left to read, in the order of the plan.
fn splits_to_read(prepared: &Prepared) -> Vec<Assignment> {
    let tables = prepared.tables.iter().enumerate();
    tables
        .flat_map(|(table, prepared)| {
            prepared.remaining().map(move |split| Assignment {
                table,
                split: split.ordinal,
                estimated_bytes: split.estimated_bytes,
            })
        })
        .collect()
}

/// What the operators are given; shared by all workers of a process.
#[derive(Clone)]
struct FlowPlan {
    assign: Assign,
    ingest: Ingest,
    repeats: Arc<Vec<Option<Repeats>>>,
    sink: LakeSink,
}

impl FlowPlan {
    /// For these tables, none of whose splits is to be read yet.
    #[expect(clippy::too_many_arguments, reason = "what a dataflow is made of")]
    fn new(
        config: &Config,
        context: &RunContext,
        lake: &Store,
        tables: &[TableOrder],
        readers: Arc<dyn Readers>,
        progress: Vec<TableProgress>,
        memory: &Memory,
        stages: &Arc<Stages>,
    ) -> Result<Self, Failure> {
        let (mut reads, mut sinks, mut repeats) = (Vec::new(), Vec::new(), Vec::new());
        for (table, progress) in tables.iter().zip(progress) {
            sinks.push(sink_table(table, lake, &progress)?);
            let known = table
                .repeats
                .as_ref()
                .map(|Keys(keys)| Repeats::of(&table.read.table, keys.clone(), &memory.reading));
            repeats.push(known.transpose()?);
            let splits = table.splits.iter();
            reads.push(IngestTable {
                read: table.read.clone(),
                splits: splits.map(|split| (split.ordinal, split.clone())).collect(),
                progress,
            });
        }
        Ok(Self {
            assign: Assign {
                splits: Vec::new(),
                epoch_bytes: config.epoch.bytes.as_u64(),
                epoch_duration: config.epoch.duration(),
                cancelled: context.cancel_flag(),
            },
            ingest: Ingest {
                readers,
                tables: Arc::new(reads),
                budget: memory.reading.clone(),
                batch_bytes: memory.batch_bytes,
                fail_on_bad_row: config.on_bad_row == highwater::run::OnBadRow::Fail,
                process: context.crew.place().process,
                runtime: context.runtime.clone(),
                stages: Arc::clone(stages),
            },
            repeats: Arc::new(repeats),
            sink: LakeSink {
                tables: Arc::new(sinks),
                format: memory.format,
                runtime: context.runtime.clone(),
                stages: Arc::clone(stages),
            },
        })
    }
}

fn show(context: &RunContext, prepared: &PreparedTable) -> TableProgress {
    let table = &prepared.read.table;
    let whole: u64 = prepared
        .splits
        .iter()
        .map(|split| split.estimated_bytes)
        .sum();
    let left: u64 = prepared
        .remaining()
        .map(|split| split.estimated_bytes)
        .sum();
    let name = table.name.to_string();
    let shown = context
        .progress
        .table(&name, table.estimated_rows.unwrap_or(0), whole);
    if left < whole {
        shown.resumed(0, whole - left);
    }
    shown.state("reading");
    shown
}

fn sink_table(
    table: &TableOrder,
    lake: &Store,
    shown: &TableProgress,
) -> Result<SinkTable, Failure> {
    let schema = table.read.table.schema();
    let partitioning = Partitioning::new(&schema, &table.partition_by).map_err(Failure::usage)?;
    let folder = lake.child(&table_folder(&table.read.table.name));
    Ok(SinkTable {
        file_schema: partitioning.file_schema(),
        partitioning,
        file_bytes: table.file_bytes,
        by_split: table.by_split,
        partitions: None,
        folder: folder.objects(),
        progress: shown.clone(),
    })
}
