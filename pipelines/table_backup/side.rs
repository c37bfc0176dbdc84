//! A reading dataflow that ends in memory: splits handed out, rows read, nothing
//! committed. The comparison and the search for keys are made of it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use highwater::app::{Failure, RunContext};
use highwater::flow::{
    Assign, Assignment, Batches, Epoch, Event, Ingest, IngestTable, TableFailure, Wire, assign,
    ingest,
};
use highwater::run::stages::Stages;
use highwater::source::{BadRow, Readers, Split, TableRead};
use timely::dataflow::Scope;
use timely::dataflow::operators::vec::Input as _;
use timely::dataflow::operators::{ConnectLoop, Feedback, Inspect};

use super::memory::Memory;
use super::together::order::NoticedReply;

/// One table to read.
pub(super) struct SideRead {
    pub(super) read: TableRead,
    pub(super) splits: Vec<Split>,
}

/// What went wrong on the way. A table is named by its position among those
/// that are read.
#[derive(Clone, Default)]
pub(super) struct Noticed {
    failures: Arc<Mutex<Vec<(usize, TableFailure)>>>,
    bad_rows: Arc<Mutex<Vec<(usize, BadRow)>>>,
}

impl Noticed {
    fn event(&self, event: &Event) {
        match event {
            Event::Failed { table, failure } => self.fail(*table, failure.clone()),
            Event::Quarantined { table, row } => {
                let mut rows = self.bad_rows.lock().unwrap_or_else(PoisonError::into_inner);
                rows.push((*table, row.clone()));
            }
            Event::SplitRead { .. } | Event::File { .. } => {}
        }
    }

    pub(super) fn fail(&self, table: usize, failure: TableFailure) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.push((table, failure));
    }

    /// What this process has noticed, for the first one.
    pub(super) fn reply(&self) -> NoticedReply {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        NoticedReply {
            failures: std::mem::take(&mut *failures),
            bad_rows: self.take_bad_rows(),
        }
    }

    /// Adds what another process has noticed.
    pub(super) fn join(&self, reply: NoticedReply) {
        for (table, failure) in reply.failures {
            self.fail(table, failure);
        }
        let mut rows = self.bad_rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.extend(reply.bad_rows);
    }

    /// The first failure of each table that failed.
    pub(super) fn take_failures(&self) -> BTreeMap<usize, Failure> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        // The last one of a table stays, so the first must come last.
        let failures = std::mem::take(&mut *failures).into_iter().rev();
        failures
            .map(|(table, failure)| (table, failure.into()))
            .collect()
    }

    pub(super) fn take_bad_rows(&self) -> Vec<(usize, BadRow)> {
        std::mem::take(&mut self.bad_rows.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads tables, all as they are in one view.
#[derive(Clone)]
pub(super) struct Side {
    assign: Assign,
    ingest: Ingest,
    noticed: Noticed,
}

impl Side {
    pub(super) fn new(
        context: &RunContext,
        memory: &Memory,
        readers: Arc<dyn Readers>,
        doing: &str,
        tables: Vec<SideRead>,
        cancelled: &Arc<AtomicBool>,
        noticed: &Noticed,
    ) -> Self {
        let mut splits = Vec::new();
        let mut reads = Vec::new();
        for (table, SideRead { read, splits: of }) in tables.into_iter().enumerate() {
            splits.extend(of.iter().map(|split| Assignment {
                table,
                split: split.ordinal,
                estimated_bytes: split.estimated_bytes,
            }));
            let bytes = of.iter().map(|split| split.estimated_bytes).sum();
            let name = format!("{} ({doing})", read.table.name);
            let rows = read.table.estimated_rows.unwrap_or(0);
            reads.push(IngestTable {
                splits: of.into_iter().map(|split| (split.ordinal, split)).collect(),
                progress: context.progress.table(&name, rows, bytes),
                read,
            });
        }
        Self {
            assign: Assign {
                splits,
                // One epoch: nothing is made permanent on the way.
                epoch_bytes: u64::MAX,
                epoch_duration: Duration::MAX,
                cancelled: Arc::clone(cancelled),
            },
            ingest: Ingest {
                readers,
                tables: Arc::new(reads),
                budget: memory.reading.clone(),
                batch_bytes: memory.batch_bytes,
                fail_on_bad_row: false,
                process: context.crew.place().process,
                runtime: context.runtime.clone(),
                stages: Arc::new(Stages::default()),
            },
            noticed: noticed.clone(),
        }
    }

    /// Adds the side to a dataflow.
    pub(super) fn read<'scope>(self, scope: Scope<'scope, Epoch>) -> Batches<'scope> {
        let (more, requests) = scope.feedback(1);
        let (_, settled) = scope.new_input();
        let splits = assign(scope, self.assign, requests, settled);
        let read = ingest(scope, splits, self.ingest);
        read.requests.connect_loop(more);
        let noticed = self.noticed;
        read.events
            .inspect(move |Wire(event): &Wire<Event>| noticed.event(event));
        read.batches
    }

    /// Says that it is over.
    pub(super) fn done(&self) {
        self.ingest
            .tables
            .iter()
            .for_each(|table| table.progress.done());
    }
}

/// What a reading dataflow found, by position of the table in the run's plan.
pub(super) struct ByTable<T> {
    pub(super) found: BTreeMap<usize, T>,
    pub(super) failed: BTreeMap<usize, Failure>,
}

impl<T> Default for ByTable<T> {
    fn default() -> Self {
        Self {
            found: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }
}

/// Runs a dataflow to its end on all workers.
pub(super) fn run_dataflow(
    context: &RunContext,
    build: impl Fn(Scope<'_, Epoch>) + Send + Sync + 'static,
) -> Result<(), Failure> {
    Ok(context.crew.run(build)?)
}

/// An interrupted search has found nothing that could be relied on.
pub(super) fn check_cancelled(context: &RunContext) -> Result<(), Failure> {
    if context.cancel.is_cancelled() {
        return Err(Failure::interrupted(
            "interrupted while looking for changes; the lake is as it was",
        ));
    }
    Ok(())
}
