//! Reads assigned splits through an asynchronous reader.
//!
//! One reader per worker, in a task of its own. It pays for memory before it
//! holds it (B1) and hands each batch to the operator, which emits it at the
//! epoch of the split. When a split is done the worker asks for another.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};
use tokio::sync::mpsc;

use super::assign::{Assignment, Request};
use super::{Batches, Epoch, Event, Events, Sender, TableFailure, Wire, mailbox};
use crate::batch::Batch;
use crate::budget::{MemoryBudget, Permit};
use crate::run::stages::Stages;
use crate::source::{
    BadRow, Emit, Reader, Readers, SourceError, SourceErrorKind, Split, TableRead,
};
use crate::telemetry::progress::TableProgress;

/// Splits that a worker holds at once: one being read and one ready, so that
/// the reader never waits for the round trip of a request.
pub(super) const SPLITS_PER_WORKER: usize = 2;

/// Batches that wait between the reader and its operator; what they may hold in
/// bytes is bounded by the budget, not by this number.
const MAILBOX_BATCHES: usize = 4;

/// What [`ingest`] needs to know; shared by all workers of a process.
#[derive(Clone)]
pub struct Ingest {
    /// What opens readers; all see the same rows (T1).
    pub readers: Arc<dyn Readers>,
    /// The tables, by position in the plan.
    pub tables: Arc<Vec<IngestTable>>,
    /// Pays for batches.
    pub budget: MemoryBudget,
    /// The size a batch should have.
    pub batch_bytes: u64,
    /// Whether a bad row fails its table instead of being set aside.
    pub fail_on_bad_row: bool,
    /// The process that reads.
    pub process: usize,
    /// Where readers run.
    pub runtime: tokio::runtime::Handle,
    /// Where time spent is counted.
    pub stages: Arc<Stages>,
}

/// One table to read.
pub struct IngestTable {
    /// What to read.
    pub read: TableRead,
    /// Its splits by ordinal.
    pub splits: BTreeMap<u32, Split>,
    /// Where its progress is shown.
    pub progress: TableProgress,
}

/// The streams that come out of [`ingest`].
pub struct Ingested<'scope> {
    /// The rows, on the worker that read them.
    pub batches: Batches<'scope>,
    /// Splits read, rows set aside, tables failed.
    pub events: Events<'scope>,
    /// Requests for more, to be fed back to the assignment.
    pub requests: StreamVec<'scope, Epoch, Request>,
}

/// What the reading task tells its operator, in order.
enum Mail {
    Batch(Batch),
    Event(Event),
    /// The oldest split in hand is over, well or badly.
    SplitOver,
}

/// Adds the operator.
pub fn ingest<'scope>(
    scope: Scope<'scope, Epoch>,
    splits: StreamVec<'scope, Epoch, (u64, Assignment)>,
    plan: Ingest,
) -> Ingested<'scope> {
    let mut builder = OperatorBuilder::new("ingest".to_owned(), scope);
    let mut splits = builder.new_input(
        splits,
        Exchange::new(|(worker, _): &(u64, Assignment)| *worker),
    );
    let (batch_output, batches) = builder.new_output();
    let (event_output, events) = builder.new_output();
    let (request_output, requests) = builder.new_output();
    let mut batch_output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Batch>>>::from(batch_output);
    let mut event_output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Wire<Event>>>>::from(event_output);
    let mut request_output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Request>>>::from(request_output);

    let worker = scope.worker().index();
    let activator = scope
        .worker()
        .sync_activator_for(builder.operator_info().address.to_vec());
    let (mail, mut mailbox) = mailbox(activator, MAILBOX_BATCHES);
    let asks_for = if worker < plan.readers.max_readers() {
        SPLITS_PER_WORKER
    } else {
        0
    };
    let (to_reader, assigned) = mpsc::unbounded_channel();
    plan.runtime
        .clone()
        .spawn(read_splits(plan, assigned, mail));

    builder.build(move |mut capabilities| {
        let mut first_requests = capabilities.pop().filter(|_| asks_for > 0);
        drop(capabilities);
        let mut to_reader = Some(to_reader);
        let mut in_hand: VecDeque<Held> = VecDeque::new();
        move |frontiers| {
            let mut batch_output = batch_output.activate();
            let mut event_output = event_output.activate();
            let mut request_output = request_output.activate();
            if let Some(capability) = first_requests.take() {
                let requests = std::iter::repeat_n(Request::Next { worker }, asks_for);
                request_output.session(&capability).give_iterator(requests);
            }
            splits.for_each(|capability, assignments| {
                for (_, assignment) in assignments.drain(..) {
                    in_hand.push_back(Held {
                        batches: capability.retain(0),
                        events: capability.retain(1),
                        requests: capability.retain(2),
                    });
                    if let Some(to_reader) = &to_reader {
                        // The task outlives this sender, so it listens.
                        let _ = to_reader.send(assignment);
                    }
                }
            });
            while let (Some(held), Some(mail)) = (in_hand.front(), mailbox.take()) {
                match mail {
                    Mail::Batch(batch) => {
                        batch_output.session(&held.batches).give(batch);
                    }
                    Mail::Event(event) => {
                        if let Event::Failed { table, .. } = event {
                            request_output
                                .session(&held.requests)
                                .give(Request::Skip { table });
                        }
                        event_output.session(&held.events).give(Wire(event));
                    }
                    Mail::SplitOver => {
                        request_output
                            .session(&held.requests)
                            .give(Request::Next { worker });
                        in_hand.pop_front();
                    }
                }
            }
            if frontiers.first().is_none_or(|frontier| frontier.is_empty()) && in_hand.is_empty() {
                // No more splits will come: the reading task may end.
                to_reader = None;
            }
        }
    });
    Ingested {
        batches,
        events,
        requests,
    }
}

/// The capabilities of a split in hand.
struct Held {
    batches: Capability<Epoch>,
    events: Capability<Epoch>,
    requests: Capability<Epoch>,
}

/// Reads one assigned split after the other until no more come.
async fn read_splits(
    plan: Ingest,
    mut assigned: mpsc::UnboundedReceiver<Assignment>,
    mail: Sender<Mail>,
) {
    let mut reader: Option<Box<dyn Reader>> = None;
    while let Some(assignment) = assigned.recv().await {
        let outcome = read_split(&plan, &mut reader, assignment, &mail).await;
        let event = match outcome {
            Ok(event) => event,
            Err(error) if error.kind == SourceErrorKind::Stopped => return,
            Err(error) => {
                // The connection may be in the middle of something: open another.
                reader = None;
                Event::Failed {
                    table: assignment.table,
                    failure: TableFailure::from(&error),
                }
            }
        };
        if !(mail.send(Mail::Event(event)).await && mail.send(Mail::SplitOver).await) {
            return;
        }
    }
}

async fn read_split(
    plan: &Ingest,
    reader: &mut Option<Box<dyn Reader>>,
    assignment: Assignment,
    mail: &Sender<Mail>,
) -> Result<Event, SourceError> {
    let Assignment {
        table,
        split: ordinal,
        ..
    } = assignment;
    let planned = plan.tables.get(table);
    let Some((planned, split)) =
        planned.and_then(|planned| Some((planned, planned.splits.get(&ordinal)?)))
    else {
        return Err(SourceError::new(
            SourceErrorKind::Failed,
            format!("split {ordinal} of table {table} is not in the plan; please report this"),
        ));
    };
    let reader = match reader {
        Some(reader) => reader,
        none => none.insert(plan.readers.reader().await?),
    };
    let started = std::time::Instant::now();
    let mut outlet = Outlet {
        plan,
        planned,
        table,
        split: ordinal,
        mail,
        rows: 0,
        source_bytes: 0,
    };
    let outcome = reader.read(&planned.read, split, &mut outlet).await;
    plan.stages.read.add(started.elapsed());
    outcome?;
    let Outlet {
        rows, source_bytes, ..
    } = outlet;
    tracing::debug!(
        table = %planned.read.table.name,
        split = ordinal,
        rows,
        source_bytes,
        seconds = started.elapsed().as_secs_f64(),
        "read a split"
    );
    Ok(Event::SplitRead {
        table,
        split: ordinal,
        rows,
        source_bytes,
        process: plan.process,
    })
}

/// Where a reader puts the rows of one split.
struct Outlet<'a> {
    plan: &'a Ingest,
    planned: &'a IngestTable,
    table: usize,
    split: u32,
    mail: &'a Sender<Mail>,
    rows: u64,
    source_bytes: u64,
}

impl Outlet<'_> {
    async fn send(&self, mail: Mail) -> Result<(), SourceError> {
        if self.mail.send(mail).await {
            Ok(())
        } else {
            Err(SourceError::new(
                SourceErrorKind::Stopped,
                "the run is over",
            ))
        }
    }
}

#[async_trait]
impl Emit for Outlet<'_> {
    async fn permit(&mut self, bytes: u64) -> Permit {
        self.plan.budget.take(bytes).await
    }

    fn batch_bytes(&self) -> u64 {
        self.plan.batch_bytes
    }

    async fn batch(
        &mut self,
        rows: RecordBatch,
        permit: Permit,
        source_bytes: u64,
    ) -> Result<(), SourceError> {
        self.rows += rows.num_rows() as u64;
        self.source_bytes += source_bytes;
        self.planned
            .progress
            .read(rows.num_rows() as u64, source_bytes);
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.send(Mail::Batch(Batch {
            table: self.table,
            split: self.split,
            source_bytes,
            rows,
            permit,
        }))
        .await
    }

    async fn quarantine(&mut self, row: BadRow) -> Result<(), SourceError> {
        if self.plan.fail_on_bad_row {
            let key = row
                .key
                .iter()
                .map(|(column, value)| format!("{column}={}", value.as_deref().unwrap_or("NULL")))
                .collect::<Vec<_>>()
                .join(", ");
            return Err(SourceError::new(
                SourceErrorKind::BadRow,
                format!(
                    "row ({key}) of {}: column {} holds {}, {}; choose another type for the \
                     column, or set on_bad_row = \"quarantine\" to go on without such rows",
                    self.planned.read.table.name, row.column, row.value, row.reason
                ),
            ));
        }
        self.send(Mail::Event(Event::Quarantined {
            table: self.table,
            row,
        }))
        .await
    }
}
