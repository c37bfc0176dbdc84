//! Settles epochs when the frontier has passed them.
//!
//! Events travel to worker 0. When no event of an epoch can come any more, the
//! epoch goes as a whole to a [`Settle`], one epoch after the other; what it
//! says is fed back to the assignment, which may open the next epoch.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};
use tokio::sync::mpsc;

use super::assign::Settlement;
use super::{Epoch, Event, Events, Sender, Wire, mailbox};

/// Makes the events of an epoch permanent: records or publishes them.
#[async_trait]
pub trait Settle: Send {
    /// Called once for each epoch, in order, with everything that happened in
    /// it; every file among the events is durable.
    async fn settle(&mut self, epoch: Epoch, events: Vec<Event>) -> Settled;
}

/// What came of settling an epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// Tables that need not be read on.
    pub skip: Vec<usize>,
}

/// Settles for the worker that commits: the first of all. Every worker builds the
/// operator; it alone takes what is in here.
pub struct Settler(Mutex<Option<Box<dyn Settle>>>);

impl Settler {
    /// What settles; `None` in a process that does not commit.
    #[must_use]
    pub fn new(settle: Option<Box<dyn Settle>>) -> Self {
        Self(Mutex::new(settle))
    }

    fn take(&self, worker: usize) -> Option<Box<dyn Settle>> {
        if worker != 0 {
            return None;
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Adds the operator. Returns the settlements, to be fed back to the assignment.
pub fn commit<'scope>(
    scope: Scope<'scope, Epoch>,
    events: Events<'scope>,
    settler: &Settler,
    runtime: &tokio::runtime::Handle,
) -> StreamVec<'scope, Epoch, Settlement> {
    let settle = settler.take(scope.worker().index());
    let mut builder = OperatorBuilder::new("commit".to_owned(), scope);
    let mut events = builder.new_input(events, Exchange::new(|_: &Wire<Event>| 0));
    let (output, settlements) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Settlement>>>::from(output);
    let activator = scope
        .worker()
        .sync_activator_for(builder.operator_info().address.to_vec());
    let (mail, mut mailbox) = mailbox(activator, 2);
    let (to_settle, epochs) = mpsc::unbounded_channel();
    if let Some(settle) = settle {
        runtime.spawn(settle_epochs(settle, epochs, mail));
    }

    builder.build(move |_| {
        let mut open: BTreeMap<Epoch, Vec<Event>> = BTreeMap::new();
        let mut held: BTreeMap<Epoch, Capability<Epoch>> = BTreeMap::new();
        move |frontiers| {
            events.for_each(|capability, arrived| {
                let epoch = *capability.time();
                held.entry(epoch).or_insert_with(|| capability.retain(0));
                open.entry(epoch)
                    .or_default()
                    .extend(arrived.drain(..).map(|Wire(event)| event));
            });
            let Some(frontier) = frontiers.first() else {
                return;
            };
            while let Some(epoch) = open.first_entry()
                && !frontier.less_equal(epoch.key())
            {
                // Without the task nobody listens; then the run is already over.
                let _ = to_settle.send(epoch.remove_entry());
            }
            let mut output = output.activate();
            while let Some(settlement) = mailbox.take() {
                if let Some(capability) = held.remove(&settlement.epoch) {
                    output.session(&capability).give(settlement);
                }
            }
        }
    });
    settlements
}

async fn settle_epochs(
    mut settle: Box<dyn Settle>,
    mut epochs: mpsc::UnboundedReceiver<(Epoch, Vec<Event>)>,
    mail: Sender<Settlement>,
) {
    while let Some((epoch, events)) = epochs.recv().await {
        let Settled { skip } = settle.settle(epoch, events).await;
        if !mail.send(Settlement { epoch, skip }).await {
            return;
        }
    }
}
