//! Sorts the rows of each worker's ranges. A thread does it: sorting and the disk
//! would keep the worker from everything else.

use std::sync::Arc;
use std::sync::mpsc;

use arrow::array::RecordBatch;
use highwater::batch::Batch;
use highwater::budget::MemoryBudget;
use highwater::flow::event::FailureKind;
use highwater::flow::{Batches, Epoch, Event, Events, Sender, TableFailure, Wire, mailbox};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use tokio::sync::mpsc::UnboundedSender;

use super::order::Order;
use super::ranges::Ranges;
use super::sorter::{Share, Sorter};
use super::spill::{SpillError, SpillFolder};

pub use super::sorter::SortCounts;

/// Batches that wait for the sink; what they hold is bounded by the budget.
const MAILBOX_BATCHES: usize = 4;

/// A sorter may sort this part of its share at once; it holds all of it while rows
/// come, and gives it back range by range.
const SORT_PART: u64 = 2;

/// More is never sorted at once: offsets of texts are 32 bits.
const MOST_SORT_BYTES: u64 = 1 << 30;

/// Rows of a batch that leaves, at most and at least.
const BATCH_ROWS: (u64, u64) = (8192, 64);

/// What [`sort`] needs to know; shared by all workers of a process.
#[derive(Debug, Clone)]
pub struct Sort {
    /// Which row comes before which.
    pub order: Arc<Order>,
    /// How the key space is cut.
    pub ranges: Arc<Ranges>,
    /// Where rows go that do not fit.
    pub spill: SpillFolder,
    /// What each worker may hold, in bytes.
    pub share_bytes: u64,
    /// What a row takes in memory, in bytes; an estimate.
    pub row_bytes: u64,
    /// Pays for rows on their way to the next operator.
    pub sorted: MemoryBudget,
    /// Where sorting is done.
    pub runtime: tokio::runtime::Handle,
    /// Is told what became of the rows of each worker.
    pub counts: UnboundedSender<SortCounts>,
}

/// What comes out of [`sort`].
pub struct Sorted<'scope> {
    /// Rows in order, when all have come, at the epoch of the first.
    pub batches: Batches<'scope>,
    /// Tables that failed.
    pub events: Events<'scope>,
}

enum Mail {
    Batch(Batch),
    Failed(TableFailure),
    Over,
}

/// Adds the operator.
pub fn sort<'scope>(
    scope: Scope<'scope, Epoch>,
    batches: Batches<'scope>,
    plan: Sort,
) -> Sorted<'scope> {
    let mut builder = OperatorBuilder::new("sort".to_owned(), scope);
    let mut batches = builder.new_input(batches, Pipeline);
    let (output, sorted) = builder.new_output();
    let (event_output, events) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Batch>>>::from(output);
    let mut event_output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Wire<Event>>>>::from(event_output);
    let activator = scope
        .worker()
        .sync_activator_for(builder.operator_info().address.to_vec());
    let (mail, mut mailbox) = mailbox(activator, MAILBOX_BATCHES);
    let (to_sorter, rows) = mpsc::channel();
    let runtime = plan.runtime.clone();
    runtime.spawn_blocking(move || work(&plan, &rows, &mail));

    builder.build(move |_| {
        let mut to_sorter = Some(to_sorter);
        let mut held: Option<[Capability<Epoch>; 2]> = None;
        let mut table = 0;
        move |frontiers| {
            batches.for_each(|capability, arrived| {
                held.get_or_insert_with(|| [capability.retain(0), capability.retain(1)]);
                for batch in arrived.drain(..) {
                    table = batch.table;
                    if let Some(to_sorter) = &to_sorter {
                        // A sorter that has failed listens no more, and has said so.
                        let _ = to_sorter.send(batch);
                    }
                }
            });
            if frontiers.first().is_none_or(|frontier| frontier.is_empty()) {
                to_sorter = None;
            }
            let mut output = output.activate();
            let mut event_output = event_output.activate();
            while let Some(mail) = mailbox.take() {
                let Some([batches, events]) = &held else {
                    break;
                };
                match mail {
                    Mail::Batch(batch) => output.session(batches).give(batch),
                    Mail::Failed(failure) => {
                        let failed = Event::Failed { table, failure };
                        event_output.session(events).give(Wire(failed));
                    }
                    Mail::Over => held = None,
                }
            }
        }
    });
    Sorted {
        batches: sorted,
        events,
    }
}

/// Why a sorter ends early.
enum Ended {
    Failed(SpillError),
    /// Nobody listens: the run is over.
    Stopped,
}

impl From<SpillError> for Ended {
    fn from(error: SpillError) -> Self {
        Self::Failed(error)
    }
}

/// The life of the thread.
fn work(plan: &Sort, rows: &mpsc::Receiver<Batch>, mail: &Sender<Mail>) {
    let outcome = sort_all(plan, rows, mail);
    let send = |message| plan.runtime.block_on(mail.send(message));
    if let Err(Ended::Failed(error)) = outcome {
        let failure = TableFailure::new(FailureKind::Failed, error.to_string());
        send(Mail::Failed(failure));
        // What still comes is given back; the end of it ends the table.
        while rows.recv().is_ok() {}
    }
    send(Mail::Over);
}

fn sort_all(plan: &Sort, rows: &mpsc::Receiver<Batch>, mail: &Sender<Mail>) -> Result<(), Ended> {
    let mut sorter = Sorter::new(&plan.order, &plan.ranges, &plan.spill, plan.share());
    let mut table = 0;
    while let Ok(batch) = rows.recv() {
        table = batch.table;
        sorter.add(batch.split, &batch.rows)?;
        // From here on the rows are paid for by the sorter's own share.
        drop(batch);
    }
    sorter.finish(|split, rows: RecordBatch| {
        let bytes = rows.get_array_memory_size() as u64;
        let sent = plan.runtime.block_on(async {
            let permit = plan.sorted.take(bytes).await;
            mail.send(Mail::Batch(Batch {
                table,
                split,
                source_bytes: 0,
                rows,
                permit,
            }))
            .await
        });
        if sent { Ok(()) } else { Err(Ended::Stopped) }
    })?;
    // Whoever does not listen does not want to know.
    let _ = plan.counts.send(sorter.counts);
    Ok(())
}

impl Sort {
    fn share(&self) -> Share {
        let sort_bytes = (self.share_bytes / SORT_PART).min(MOST_SORT_BYTES);
        let (most, least) = BATCH_ROWS;
        let row_bytes = self.row_bytes.max(1);
        // A merge of a few dozen runs must fit into the share.
        let batch_rows = (sort_bytes / 64 / row_bytes).clamp(least, most);
        let fan_in = sort_bytes / 2 / (batch_rows * row_bytes);
        Share {
            bytes: self.share_bytes,
            sort_bytes,
            batch_rows: usize::try_from(batch_rows).unwrap_or(64),
            fan_in: usize::try_from(fan_in).unwrap_or(2).clamp(2, 64),
        }
    }
}
