//! The dataflow of one table: read, divide by key range, sort, write. Every
//! process of a run builds the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater::app::{Failure, RunContext};
use highwater::flow::{
    Assign, Assignment, Exchange, Ingest, IngestTable, Settle, Settler, assign, commit, exchange,
    ingest,
};
use highwater::run::stages::Stages;
use highwater::run::{Config, PartitionBy};
use highwater::source::Split;
use highwater::store::Store;
use highwater::telemetry::progress::TableProgress;
use highwater_operators::ingest::groups::FileGroups;
use highwater_operators::sink::lake::{LakeSink, SinkTable, lake_sink};
use highwater_operators::sort::spill::SpillFolder;
use highwater_operators::sort::{Order, Scatter, Sort, SortCounts, scatter, sort};
use highwater_operators::transform::partition::Partitioning;
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::{Concatenate, ConnectLoop, Feedback};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::memory::Memory;
use super::order::{FlowOrder, SortOrder};

/// Longer than any run: a table is one epoch, published as a whole.
const ONE_EPOCH: Duration = Duration::from_secs(u32::MAX as u64);

/// What one process has done.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Done {
    /// What sorting did, of all workers of the process.
    pub(super) sorted: SortCounts,
    /// Times that a reader waited for memory.
    pub(super) memory_waits: u64,
    /// Seconds by stage.
    pub(super) stages: BTreeMap<String, f64>,
}

/// Runs the dataflow of `order` to its end. `settle` is given what came of it, in
/// the first process.
pub(super) fn run(
    config: &Config,
    context: &RunContext,
    lake: &Store,
    order: &FlowOrder,
    settle: Option<Box<dyn Settle>>,
) -> Result<Done, Failure> {
    let shown = context
        .progress
        .table(&order.name, order.rows, order.bytes());
    context.progress.planned();
    shown.state("reading");
    let stages = Arc::new(Stages::default());
    let (counts, mut counted) = unbounded_channel();
    let table = TableFlow {
        config,
        context,
        order,
        store: order.store(lake),
        shown: shown.clone(),
        stages: Arc::clone(&stages),
    };
    let plan = table.plan(counts)?;
    let reading = plan.ingest.budget.clone();
    build_and_run(context, plan, settle)?;
    shown.done();
    let mut sorted = Vec::new();
    while let Ok(one) = counted.try_recv() {
        sorted.push(one);
    }
    Ok(Done {
        sorted: sorted.into_iter().sum(),
        memory_waits: reading.waits(),
        stages: stages.seconds(),
    })
}

fn build_and_run(
    context: &RunContext,
    plan: FlowPlan,
    settle: Option<Box<dyn Settle>>,
) -> Result<(), Failure> {
    let settler = Settler::new(settle);
    let runtime = context.runtime.clone();
    Ok(context.crew.run(move |scope| {
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
        let done = commit(scope, scope.concatenate(events), &settler, &runtime);
        read.requests.connect_loop(more);
        done.connect_loop(forget);
    })?)
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

/// One table in one process.
struct TableFlow<'a> {
    config: &'a Config,
    context: &'a RunContext,
    order: &'a FlowOrder,
    store: Store,
    shown: TableProgress,
    stages: Arc<Stages>,
}

impl TableFlow<'_> {
    fn plan(&self, counts: UnboundedSender<SortCounts>) -> Result<FlowPlan, Failure> {
        let (order, context) = (self.order, self.context);
        let columns = order.columns.fields().len();
        let sorts = order.sort.is_some();
        let memory = Memory::divide(self.config, context, &self.store, columns, sorts);
        let sorting = order.sort.as_ref();
        let sorting = sorting.map(|sort| self.sorting(sort, &memory, counts));
        let snapshot = FileGroups::new(
            self.store.objects(),
            order.groups.clone(),
            memory.row_groups.clone(),
        );
        let splits = snapshot.splits();
        Ok(FlowPlan {
            assign: self.assign(&splits),
            ingest: Ingest {
                readers: Arc::new(snapshot),
                tables: Arc::new(vec![self.table(splits)]),
                budget: memory.reading.clone(),
                batch_bytes: memory.batch_bytes,
                fail_on_bad_row: true,
                process: context.crew.place().process,
                runtime: context.runtime.clone(),
                stages: Arc::clone(&self.stages),
            },
            sorting: sorting.transpose()?,
            sink: LakeSink {
                tables: Arc::new(vec![self.sink()?]),
                format: memory.format,
                runtime: context.runtime.clone(),
                stages: Arc::clone(&self.stages),
            },
        })
    }

    fn table(&self, splits: Vec<Split>) -> IngestTable {
        let by_ordinal = splits.into_iter().map(|split| (split.ordinal, split));
        IngestTable {
            read: self.order.read(),
            splits: by_ordinal.collect(),
            progress: self.shown.clone(),
        }
    }

    fn assign(&self, splits: &[Split]) -> Assign {
        let splits = splits.iter().map(|split| Assignment {
            table: 0,
            split: split.ordinal,
            estimated_bytes: split.estimated_bytes,
        });
        Assign {
            splits: splits.collect(),
            epoch_bytes: u64::MAX,
            epoch_duration: ONE_EPOCH,
            cancelled: self.context.cancel_flag(),
        }
    }

    fn sorting(
        &self,
        wanted: &SortOrder,
        memory: &Memory,
        counts: UnboundedSender<SortCounts>,
    ) -> Result<Sorting, Failure> {
        let order = Order::new(&self.order.columns, &wanted.spec, wanted.ranks.clone());
        let order = Arc::new(order.map_err(Failure::usage)?);
        let ranges = Arc::new(wanted.ranges.clone());
        Ok(Sorting {
            scatter: Scatter {
                order: Arc::clone(&order),
                ranges: Arc::clone(&ranges),
                sections: Arc::new(self.order.sections.clone()),
                share_bytes: memory.gather_bytes,
            },
            exchange: Exchange::new(
                self.context.crew.place(),
                memory.window_bytes,
                memory.reading.clone(),
                self.context.runtime.clone(),
            ),
            sort: Sort {
                order,
                ranges,
                spill: self.spill()?,
                share_bytes: memory.sort_bytes,
                row_bytes: wanted.row_bytes,
                sorted: memory.sorted.clone(),
                runtime: self.context.runtime.clone(),
                counts,
            },
        })
    }

    /// Each process spills on its own host.
    fn spill(&self) -> Result<SpillFolder, Failure> {
        let wanted = self.config.compact.as_ref();
        let wanted = wanted.and_then(|compact| compact.spill.clone());
        let folder = SpillFolder::new(wanted.unwrap_or_else(std::env::temp_dir));
        let checked = folder.check();
        checked
            .map_err(|error| Failure::failed("there is no place to sort in").caused_by(&error))?;
        Ok(folder)
    }

    /// How rows become files: a file holds rows of one section.
    fn sink(&self) -> Result<SinkTable, Failure> {
        let by = self.order.partition_by.iter().cloned();
        let by: Vec<PartitionBy> = by.map(PartitionBy::Column).collect();
        let partitioning = Partitioning::new(&self.order.columns, &by);
        let partitioning = partitioning.map_err(Failure::usage)?;
        Ok(SinkTable {
            file_schema: partitioning.file_schema(),
            partitioning,
            partitions: by
                .is_empty()
                .then(|| Arc::new(self.order.partitions.clone())),
            file_bytes: self.order.file_bytes,
            by_split: true,
            folder: self.store.objects(),
            progress: self.shown.clone(),
        })
    }
}
