//! [`fill_vectors`]: gives each chunk its vector.
//!
//! A model that computes here computes on the worker, one small batch of texts at a turn,
//! so that the other operators get theirs and no thread competes with another for a core.
//! A model elsewhere is asked by a task, as the table of vectors is. Batches leave in the
//! order in which they came.
//!
//! New vectors leave by a way of their own, whose epochs are ticks of a clock: they are
//! worth keeping as soon as they are made, whatever becomes of the documents. An epoch
//! also ends when there is no memory for more of them; then nobody makes any until there
//! is again.
//!
//! A text that the model refuses is no failure: its document is set aside.

use std::sync::Arc;
use std::time::Duration;

use highwater::batch::Batch;
use highwater::flow::{Batches, Epoch, Event, Events, Wire, mailbox};
use highwater::run::stages::Stages;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::cache::VectorCache;
use super::filling::{Filling, Wait};
use super::fresh::Fresh;
use super::turn::Work;
use crate::embed::Embedder;
use crate::ingest::documents::ChunkTally;

/// How soon a worker looks again for vectors that another one makes, or for room.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What [`fill_vectors`] needs to know; shared by all workers of a process.
#[derive(Clone)]
pub struct FillVectors {
    /// Makes vectors.
    pub embedder: Arc<dyn Embedder>,
    /// Knows vectors.
    pub cache: Arc<VectorCache>,
    /// Where chunks are counted.
    pub tally: Arc<ChunkTally>,
    /// Where time spent is counted.
    pub stages: Arc<Stages>,
    /// An epoch of new vectors lasts so long at most.
    pub tick: Duration,
    /// Where tasks run.
    pub runtime: tokio::runtime::Handle,
}

/// The streams that come out of [`fill_vectors`].
pub struct Filled<'scope> {
    /// The chunks, each with its vector.
    pub batches: Batches<'scope>,
    /// Tables that cannot be completed.
    pub events: Events<'scope>,
    /// New vectors, in epochs of their own, as rows of table 0.
    pub vectors: Batches<'scope>,
}

/// Adds the operator.
pub fn fill_vectors<'scope>(
    scope: Scope<'scope, Epoch>,
    batches: Batches<'scope>,
    plan: FillVectors,
) -> Filled<'scope> {
    let mut builder = OperatorBuilder::new("fill_vectors".to_owned(), scope);
    let mut input = builder.new_input(batches, Pipeline);
    let (rows_output, filled) = builder.new_output();
    let (event_output, events) = builder.new_output();
    // What is new leaves by a clock, not at the times of the documents.
    let (vector_output, vectors) = builder.new_output_connection::<Vec<Batch>, _>([]);
    let mut rows_output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Batch>>>::from(rows_output);
    let mut event_output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Wire<Event>>>>::from(event_output);
    let mut vector_output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Batch>>>::from(vector_output);
    let address = builder.operator_info().address;
    let workers = scope.peers();
    let again = scope.activator_for(std::rc::Rc::clone(&address));
    let (mail, mailbox) = mailbox(scope.worker().sync_activator_for(address.to_vec()), 2);

    builder.build(move |mut capabilities| {
        let cache = Arc::clone(&plan.cache);
        let fresh = Fresh::new(cache, plan.tick, capabilities.pop());
        let mut filling = Filling::new(plan, workers, mail, mailbox, fresh);
        drop(capabilities);
        move |frontiers| {
            input.for_each(|capability, arrived| {
                let arrived = arrived.drain(..).map(|batch| Work {
                    rows: capability.retain(0),
                    events: capability.retain(1),
                    batch,
                });
                filling.waiting.extend(arrived);
            });
            let mut rows_output = rows_output.activate();
            let mut event_output = event_output.activate();
            let wait = filling.step();
            for (work, outcome) in filling.done.drain(..) {
                match outcome {
                    Ok(rows) => {
                        let batch = Batch { rows, ..work.batch };
                        rows_output.session(&work.rows).give(batch);
                    }
                    Err(failure) => {
                        let table = work.batch.table;
                        let failed = Wire(Event::Failed { table, failure });
                        event_output.session(&work.events).give(failed);
                    }
                }
            }
            let is_over =
                frontiers.first().is_none_or(|frontier| frontier.is_empty()) && filling.is_idle();
            let mut vector_output = vector_output.activate();
            filling.fresh.leave(is_over, |capability, batch| {
                vector_output.session(capability).give(batch);
            });
            match wait {
                Wait::Not => again.activate(),
                Wait::ForOthers => again.activate_after(LOOK_AGAIN),
                Wait::ForMail => {
                    if let Some(left) = filling.fresh.left_of_tick() {
                        again.activate_after(left);
                    }
                }
            }
        }
    });
    Filled {
        batches: filled,
        events,
        vectors,
    }
}
