//! The dataflow of one table: read, divide by key range, sort, write.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use highwater::app::{Failure, RunContext};
use highwater::flow::{
    Assign, Assignment, Exchange, Ingest, IngestTable, Settle, assign, commit, exchange, ingest,
};
use highwater::ledger::LoggedFile;
use highwater::run::report::RunReport;
use highwater::run::stages::Stages;
use highwater::run::{Config, PartitionBy};
use highwater::telemetry::progress::TableProgress;
use highwater_operators::ingest::groups::FileGroups;
use highwater_operators::sink::lake::{LakeSink, SinkTable, lake_sink};
use highwater_operators::sort::spill::SpillFolder;
use highwater_operators::sort::{
    Cutting, Order, Ranges, Scatter, SectionShare, Sort, SortCounts, sample, scatter, sort,
};
use highwater_operators::transform::partition::Partitioning;
use timely::dataflow::operators::{Concatenate, ConnectLoop, Feedback};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::choose::Partition;
use super::collect::{Collected, Collector};
use super::job::Job;
use super::memory::Memory;

/// Splits that each worker gets, at least: the slowest must not hold the rest.
const SPLITS_OF_A_WORKER: u64 = 16;

/// Longer than any run: a table is one epoch, published as a whole.
const ONE_EPOCH: Duration = Duration::from_secs(u32::MAX as u64);

/// A table's rows in new files, none of them published.
pub(super) struct Rewritten {
    /// What the dataflow said.
    pub(super) collected: Collected,
    /// What sorting did, of all workers together.
    pub(super) sorted: SortCounts,
    /// Splits that had to be read.
    pub(super) splits: u64,
}

/// Runs the dataflow of `job` to its end.
pub(super) fn run(
    config: &Config,
    context: &RunContext,
    job: &Job,
    report: &mut RunReport,
) -> Result<Rewritten, Failure> {
    let shown = context.progress.table(&job.name, job.rows(), job.bytes());
    context.progress.planned();
    shown.state("reading");
    let stages = Arc::new(Stages::default());
    let collector = Collector::default();
    let (plan, counts) = plan(config, context, job, &shown, &stages)?;
    let splits = plan.assign.splits.len() as u64;
    let reading = plan.ingest.budget.clone();
    let settle: Mutex<Option<Box<dyn Settle>>> = Mutex::new(Some(Box::new(collector.clone())));
    let runtime = context.runtime.clone();
    context.crew.run(move |scope| {
        let settle = if scope.worker().index() == 0 {
            settle.lock().unwrap_or_else(PoisonError::into_inner).take()
        } else {
            None
        };
        let (more, requests) = scope.feedback(1);
        let (forget, settled) = scope.feedback(1);
        let splits = assign(scope, plan.assign.clone(), requests, settled);
        let read = ingest(scope, splits, plan.ingest.clone());
        let mut events = vec![read.events];
        let rows = match &plan.sorting {
            None => read.batches,
            Some(sorting) => {
                let divided = scatter(scope, read.batches, sorting.scatter.clone());
                let own = exchange(divided.batches, sorting.exchange.clone());
                let sorted = sort(scope, own, sorting.sort.clone());
                events.extend([divided.events, sorted.events]);
                sorted.batches
            }
        };
        events.push(lake_sink(scope, rows, plan.sink.clone()));
        let done = commit(scope, scope.concatenate(events), settle, &runtime);
        read.requests.connect_loop(more);
        done.connect_loop(forget);
    })?;
    shown.done();
    for (stage, seconds) in stages.seconds() {
        report.spend(&stage, seconds);
    }
    report.memory_waits += reading.waits();
    Ok(Rewritten {
        collected: collector.take(),
        sorted: sum(counts),
        splits,
    })
}

fn sum(mut counts: UnboundedReceiver<SortCounts>) -> SortCounts {
    let mut all = SortCounts::default();
    while let Ok(one) = counts.try_recv() {
        all.rows_in += one.rows_in;
        all.rows_out += one.rows_out;
        all.large_ranges += one.large_ranges;
        all.merges += one.merges;
    }
    tracing::debug!(?all, "sorted");
    all
}

/// What the operators are given; shared by all workers.
struct FlowPlan {
    assign: Assign,
    ingest: Ingest,
    sorting: Option<Sorting>,
    sink: LakeSink,
}

struct Sorting {
    scatter: Scatter,
    exchange: Exchange,
    sort: Sort,
}

fn plan(
    config: &Config,
    context: &RunContext,
    job: &Job,
    shown: &TableProgress,
    stages: &Arc<Stages>,
) -> Result<(FlowPlan, UnboundedReceiver<SortCounts>), Failure> {
    let started = Instant::now();
    let sorts = !job.layout.joins();
    let memory = Memory::divide(
        config,
        context,
        job.table.store(),
        job.columns.fields().len(),
        sorts,
    );
    let (counts, counted) = unbounded_channel();
    let (groups, sections) = groups(job, context, sorts);
    let sorting = match sorts {
        true => Some(sorting(config, context, job, &memory, sections, counts)?),
        false => None,
    };
    let folder = job.table.store().objects();
    let snapshot = FileGroups::new(folder, groups, memory.row_groups.clone());
    let splits = snapshot.splits();
    let table = IngestTable {
        read: job.read(),
        splits: splits
            .iter()
            .map(|split| (split.ordinal, split.clone()))
            .collect(),
        progress: shown.clone(),
    };
    stages.plan.add(started.elapsed());
    let plan = FlowPlan {
        assign: Assign {
            splits: splits
                .iter()
                .map(|split| Assignment {
                    table: 0,
                    split: split.ordinal,
                    estimated_bytes: split.estimated_bytes,
                })
                .collect(),
            epoch_bytes: u64::MAX,
            epoch_duration: ONE_EPOCH,
            cancelled: context.cancel_flag(),
        },
        ingest: Ingest {
            snapshot: Arc::new(snapshot),
            tables: Arc::new(vec![table]),
            budget: memory.reading.clone(),
            batch_bytes: memory.batch_bytes,
            fail_on_bad_row: true,
            process: context.crew.place().process,
            runtime: context.runtime.clone(),
            stages: Arc::clone(stages),
        },
        sorting,
        sink: LakeSink {
            tables: Arc::new(vec![sink(job, shown)?]),
            format: memory.format,
            runtime: context.runtime.clone(),
            stages: Arc::clone(stages),
        },
    };
    Ok((plan, counted))
}

/// Files that are read one after the other, and the section of each group. Where
/// files are only joined a group is a section, and becomes a file.
fn groups(job: &Job, context: &RunContext, sorts: bool) -> (Vec<Vec<LoggedFile>>, Vec<u32>) {
    let (mut groups, mut sections) = (Vec::new(), Vec::new());
    let share = job.bytes() / (context.crew.place().peers() as u64 * SPLITS_OF_A_WORKER).max(1);
    for (number, section) in (0_u32..).zip(&job.choice.sections) {
        let mut bytes = u64::MAX;
        for file in &section.files {
            if bytes == u64::MAX || (sorts && bytes >= share) {
                groups.push(Vec::new());
                sections.push(number);
                bytes = 0;
            }
            bytes += file.bytes;
            if let Some(group) = groups.last_mut() {
                group.push(file.clone());
            }
        }
    }
    (groups, sections)
}

fn sorting(
    config: &Config,
    context: &RunContext,
    job: &Job,
    memory: &Memory,
    sections: Vec<u32>,
    counts: tokio::sync::mpsc::UnboundedSender<SortCounts>,
) -> Result<Sorting, Failure> {
    let spill = config
        .compact
        .as_ref()
        .and_then(|compact| compact.spill.clone());
    let spill = SpillFolder::new(spill.unwrap_or_else(std::env::temp_dir));
    spill
        .check()
        .map_err(|error| Failure::failed("there is no place to sort in").caused_by(&error))?;
    let files: Vec<(u32, LoggedFile)> = (0_u32..)
        .zip(&job.choice.sections)
        .flat_map(|(number, section)| section.files.iter().map(move |file| (number, file.clone())))
        .collect();
    let spec = &job.layout.order;
    let columns: Vec<&str> = spec.columns().collect();
    let folder = job.table.store().objects();
    let looked = sample(&folder, &files, &job.columns, &columns);
    let looked = context.runtime.block_on(looked);
    let looked = looked.map_err(|error| {
        let failure = Failure::failed(error.to_string());
        if error.passes {
            return Failure {
                exit: highwater::app::Exit::Retry,
                ..failure
            };
        }
        failure
    })?;
    let usage = |reason: String| Failure::usage(reason);
    let rows: Vec<_> = looked.rows.iter().map(|(_, rows)| rows.clone()).collect();
    let order = Arc::new(Order::new(&job.columns, spec, &rows).map_err(usage)?);
    let in_memory = |bytes: u64| bytes.saturating_mul(looked.memory_percent) / 100;
    let shares: Vec<SectionShare> = job
        .choice
        .sections
        .iter()
        .map(|section| SectionShare {
            bytes: in_memory(section.bytes()),
        })
        .collect();
    let place = context.crew.place();
    let cutting = Cutting {
        workers: place.peers(),
        least_bytes: in_memory(job.layout.target_bytes / 2).max(1),
        range_bytes: memory.range_bytes(looked.row_bytes),
    };
    let ranges = Ranges::cut(&order, &looked.rows, &shares, cutting).map_err(usage)?;
    tracing::debug!(
        table = job.name,
        ranges = ranges.len(),
        row_bytes = looked.row_bytes,
        memory_percent = looked.memory_percent,
        "cut the key space"
    );
    let ranges = Arc::new(ranges);
    Ok(Sorting {
        scatter: Scatter {
            order: Arc::clone(&order),
            ranges: Arc::clone(&ranges),
            sections: Arc::new(sections),
            share_bytes: memory.gather_bytes,
        },
        exchange: Exchange::new(
            place,
            memory.window_bytes,
            memory.reading.clone(),
            context.runtime.clone(),
        ),
        sort: Sort {
            order,
            ranges,
            spill,
            share_bytes: memory.sort_bytes,
            row_bytes: looked.row_bytes,
            sorted: memory.sorted.clone(),
            runtime: context.runtime.clone(),
            counts,
        },
    })
}

/// How rows become files: a file holds rows of one section.
fn sink(job: &Job, shown: &TableProgress) -> Result<SinkTable, Failure> {
    let by = job.layout.partition_by.as_deref().unwrap_or_default();
    let by: Vec<PartitionBy> = by.iter().cloned().map(PartitionBy::Column).collect();
    let partitioning = Partitioning::new(&job.columns, &by);
    let partitioning = partitioning.map_err(Failure::usage)?;
    let sections = job.choice.sections.iter();
    let partitions: Vec<Partition> = sections.map(|section| section.partition.clone()).collect();
    let target = job.layout.target_bytes;
    Ok(SinkTable {
        file_schema: partitioning.file_schema(),
        partitioning,
        partitions: by.is_empty().then(|| Arc::new(partitions)),
        // What is joined becomes one file, however its size was guessed.
        file_bytes: if job.layout.joins() {
            target.saturating_mul(4)
        } else {
            target
        },
        by_split: true,
        folder: job.table.store().objects(),
        progress: shown.clone(),
    })
}
