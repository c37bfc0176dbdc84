//! Batches on their way to the worker that must have them.
//!
//! ```text
//!              +------- acknowledgements (feedback) -------+
//!              v                                           |
//!   batches -> [dispatch] --objects, or frames of Arrow--> [collect] -> batches
//! ```
//!
//! Within a process batches move as Rust objects, permits and all. Between
//! processes the sender keeps the permit until the receiver has acknowledged
//! (B4), and what a process may have outstanding is a window of bytes: timely's
//! own queues between processes have no bound.
//!
//! # Why it does not stop for ever
//!
//! A batch waits for two things only. In [`dispatch`] it waits for credit, which
//! comes back when the receiver has acknowledged what went before. In [`collect`]
//! it waits for memory, from the process's budget or from a reserve that belongs
//! to this exchange's arrivals alone. Two processes whose budgets are both spent
//! on batches that wait to go to the other would wait for ever if arrivals were
//! paid by the budget alone; but the reserve is held only by batches that have
//! arrived, which what comes after the exchange consumes and lets go of. So
//! arrivals go on, are acknowledged, and credit and budget come back.
//!
//! - A frame larger than the window passes when nothing else is outstanding, a
//!   batch larger than the budget when everything else has been given back.
//! - A waiting batch holds its capability, so no epoch closes before it; nothing
//!   on its way waits for an epoch to close.
//! - What comes after must let go of batches without waiting for more of them: who
//!   collects rows moves them into memory of his own ([`Permit`]s are not kept).
//! - Each exchange of a dataflow has an [`Exchange`] of its own, so that its
//!   reserve is never held by what waits in another; and none stands in a loop.
//!
//! # Which way to route
//!
//! See [`route`](mod@route): by hash for what must meet, salted where one key may be
//! half of the rows and need not meet, spread for what may go anywhere.
//!
//! [`Permit`]: crate::budget::Permit

mod collect;
mod dispatch;
mod frame;
mod parcels;
pub mod route;
mod window;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use timely::container::{CapacityContainerBuilder, NoopBuilder};
use timely::dataflow::channels::pact::{DistributorPact, Exchange as ByTarget, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{ConnectLoop, Feedback};
use timely::dataflow::{Stream, StreamVec};
use timely::progress::Antichain;

pub use frame::WireError;

use self::collect::{Collect, Out, Purse};
use self::dispatch::{Ack, Dispatch};
use self::parcels::{Parcels, ToTarget};
use self::window::Windows;
use super::{Batches, Epoch, mailbox};
use crate::batch::Batch;
use crate::budget::MemoryBudget;
use crate::cluster::Place;

/// Whether a panic of this thread is caught, and will be told of as an error.
pub(crate) use frame::contained;

/// What [`exchange`] needs to know. One for each exchange of a dataflow; its
/// clones, one for each worker, share their windows.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Where the workers are.
    pub place: Place,
    /// What a process may have on its way to each other process, in bytes.
    pub window_bytes: u64,
    /// Pays for batches that arrived from other processes.
    pub budget: MemoryBudget,
    /// Where waiting for memory is done.
    pub runtime: tokio::runtime::Handle,
    windows: Arc<Windows>,
    reserve: MemoryBudget,
}

impl Exchange {
    /// An exchange between the workers of `place`. For each other process this one
    /// must have set aside twice `window_bytes` beside `budget`: for what may have
    /// come and is not acknowledged, and for the reserve. What is sent is paid for
    /// by its permits until it is acknowledged.
    #[must_use]
    pub fn new(
        place: Place,
        window_bytes: u64,
        budget: MemoryBudget,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        let others = place.processes.saturating_sub(1) as u64;
        Self {
            place,
            window_bytes,
            budget,
            runtime,
            windows: Arc::new(Windows::new(window_bytes, place.processes)),
            reserve: MemoryBudget::new(window_bytes.saturating_mul(others)),
        }
    }

    /// The most that this process had outstanding to one other process at a time,
    /// in bytes.
    #[must_use]
    pub fn peak_outstanding_bytes(&self) -> u64 {
        self.windows.peak_bytes()
    }

    /// What this process has outstanding now, in bytes.
    #[must_use]
    pub fn outstanding_bytes(&self) -> u64 {
        self.windows.outstanding_bytes()
    }
}

/// Brings each batch to the worker whose number stands beside it. Batches from one
/// worker to another keep their order.
///
/// A frame that is not believed, or a batch of a type that has no wire form, ends
/// the run: links check what they carry, so neither happens but by a fault in this
/// program.
pub fn exchange<'scope>(
    batches: StreamVec<'scope, Epoch, (usize, Batch)>,
    plan: Exchange,
) -> Batches<'scope> {
    let (handle, acks) = batches.scope().feedback(1);
    let parcels = dispatch(batches, acks, &plan);
    let (batches, acks) = collect(parcels, plan);
    acks.connect_loop(handle);
    batches
}

fn dispatch<'scope>(
    batches: StreamVec<'scope, Epoch, (usize, Batch)>,
    acks: StreamVec<'scope, Epoch, Ack>,
    plan: &Exchange,
) -> Stream<'scope, Epoch, Parcels> {
    let scope = batches.scope();
    let mut builder = OperatorBuilder::new("dispatch".to_owned(), scope);
    let mut batches = builder.new_input(batches, Pipeline);
    // Acknowledgements make nothing appear at their times: the loop is open.
    let unconnected: [(usize, Antichain<Epoch>); 0] = [];
    let to_sender = ByTarget::new(|ack: &Ack| ack.sender as u64);
    let mut acks = builder.new_input_connection(acks, to_sender, unconnected);
    let connected = [(0, Antichain::from_elem(0))];
    let (output, parcels) = builder.new_output_connection::<Parcels, _>(connected);
    let mut output = OutputBuilder::<_, NoopBuilder<Parcels>>::from(output);
    let worker = scope.worker();
    let wake = worker.sync_activator_for(builder.operator_info().address.to_vec());
    let windows = Arc::clone(&plan.windows);
    let mut state = Dispatch::new(plan.place, windows, worker.index(), wake);

    builder.build(move |capabilities| {
        drop(capabilities);
        move |_| {
            let mut output = output.activate();
            let mut give = |capability: &_, mut parcels| {
                let mut session = output.session_with_builder(capability);
                session.give_container(&mut parcels);
            };
            acks.for_each(|_, acks| acks.drain(..).for_each(|ack| state.acknowledge(ack)));
            batches.for_each(|capability, batches| {
                state.accept(batches.drain(..), capability.retain(0), &mut give);
            });
            if let Err(error) = state.send(give) {
                end_the_run(&format!("a batch cannot leave this process: {error}"));
            }
        }
    });
    parcels
}

fn collect<'scope>(
    parcels: Stream<'scope, Epoch, Parcels>,
    plan: Exchange,
) -> (Batches<'scope>, StreamVec<'scope, Epoch, Ack>) {
    let scope = parcels.scope();
    let mut builder = OperatorBuilder::new("collect".to_owned(), scope);
    let mut parcels = builder.new_input(parcels, DistributorPact(|_| ToTarget));
    let (batch_output, batches) = builder.new_output();
    let (ack_output, acks) = builder.new_output();
    let mut batch_output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Batch>>>::from(batch_output);
    let mut ack_output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Ack>>>::from(ack_output);
    let worker = scope.worker();
    let activator = worker.sync_activator_for(builder.operator_info().address.to_vec());
    let purse = Purse {
        budget: plan.budget,
        reserve: plan.reserve,
    };
    let mut state = Collect::new(worker.index(), purse, plan.runtime, mailbox(activator, 1));

    builder.build(move |capabilities| {
        drop(capabilities);
        move |_| {
            let mut batch_output = batch_output.activate();
            let mut ack_output = ack_output.activate();
            let mut give = |out: Out<'_>| match out {
                Out::Batches(capability, batches) => {
                    let mut session = batch_output.session(capability);
                    session.give_iterator(batches.into_iter());
                }
                Out::Ack(capability, ack) => ack_output.session(capability).give(ack),
            };
            let mut outcome = Ok(());
            parcels.for_each(|capability, parcels| {
                let (batches, acks) = (capability.retain(0), capability.retain(1));
                let taken = state.accept(parcels, batches, acks, &mut give);
                outcome = std::mem::replace(&mut outcome, Ok(())).and(taken);
            });
            if let Err(error) = outcome.and_then(|()| state.step(give)) {
                end_the_run(&format!("what arrived from another process: {error}"));
            }
        }
    });
    (batches, acks)
}

/// An operator has no other way to say that it cannot go on, and going on without
/// a batch would lose rows.
#[expect(clippy::panic, reason = "a run that would lose rows must end")]
fn end_the_run(why: &str) -> ! {
    panic!("{why}")
}
