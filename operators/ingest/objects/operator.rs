//! Compares assigned ranges of keys, and emits what is to be copied.
//!
//! An epoch is a tick of a clock here, not a part of the plan: a range may hold
//! millions of objects, and what was copied of it is to be recorded on the way.
//! The operator keeps a capability of its own, which it takes on with the clock;
//! the times of the assignments do not matter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater::batch::Batch;
use highwater::budget::MemoryBudget;
use highwater::flow::assign::{Assignment, Request};
use highwater::flow::event::FailureKind;
use highwater::flow::ingest::Ingested;
use highwater::flow::{Epoch, Event, Sender, TableFailure, Wire, mailbox};
use highwater::ledger::LoggedFile;
use highwater::run::Failure;
use highwater::run::config::Against;
use highwater::store::objects::{KeyRange, Listed, ObjectError, Objects};
use highwater::store::pace::Retries;
use highwater::telemetry::objects::ObjectTally;
use object_store::ObjectStore;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};
use timely::progress::Antichain;
use tokio::sync::mpsc;

use super::batch::changes_of;
use super::merge::{Differences, compare_range};
use super::{Extras, KeyFilter, Rules};

/// Objects of a batch: few enough that the first one goes out soon.
const BATCH_OBJECTS: usize = 256;

/// What an object costs until its copy is recorded, beside its key and its tag, in bytes:
/// its share of columns, then an entry of its own, then a record. An estimate.
pub const LISTED_BYTES: u64 = 512;

/// What these cost; while they go from one form into the next there are two of each text.
fn cost_bytes(objects: &[Listed]) -> u64 {
    let texts = |object: &Listed| object.key.len() + object.etag.as_ref().map_or(0, String::len);
    let each = objects
        .iter()
        .map(|object| LISTED_BYTES + 2 * texts(object) as u64);
    each.sum()
}

/// Batches that wait between the comparison and its operator.
const MAILBOX_BATCHES: usize = 4;

/// What [`compare_objects`] needs to know; shared by all workers of a process.
#[derive(Clone)]
pub struct CompareObjects {
    /// Where objects come from.
    pub source: Arc<dyn Objects>,
    /// Where they go.
    pub target: Arc<dyn Objects>,
    /// The ranges, by the ordinals of the splits.
    pub ranges: Arc<Vec<KeyRange>>,
    /// Which keys are wanted.
    pub filter: KeyFilter,
    /// When an object has changed.
    pub rules: Rules,
    /// What the source is compared with.
    pub against: Against,
    /// The record of what was copied, where there is one that can be used.
    pub record: Option<Recording>,
    /// Where keys go that only the target has, where they are to be removed.
    pub extras: Option<Arc<Extras>>,
    /// Where nothing is copied: which requests a copy would take.
    pub requests_of: Option<RequestsOf>,
    /// Where everything is counted.
    pub tally: Arc<ObjectTally>,
    /// How requests are repeated.
    pub retries: Retries,
    /// Pays for batches.
    pub budget: MemoryBudget,
    /// Ranges that a worker compares at once.
    pub at_once: usize,
    /// How long an epoch lasts.
    pub tick: Duration,
    /// The process that compares.
    pub process: usize,
    /// Where comparisons run.
    pub runtime: tokio::runtime::Handle,
}

/// Which requests the copy of an object takes, by what they ask for.
pub type RequestsOf = Arc<dyn Fn(&Listed) -> Vec<(&'static str, u64)> + Send + Sync>;

/// The record of what was copied, as of one version. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The folder of the table.
    pub folder: Arc<dyn ObjectStore>,
    /// Its files.
    pub files: Arc<Vec<LoggedFile>>,
}

/// What the comparing tasks tell their operator.
enum Mail {
    Batch(Batch),
    Over(Event),
}

/// Adds the operator.
pub fn compare_objects<'scope>(
    scope: Scope<'scope, Epoch>,
    splits: StreamVec<'scope, Epoch, (u64, Assignment)>,
    plan: CompareObjects,
) -> Ingested<'scope> {
    let mut builder = OperatorBuilder::new("compare_objects".to_owned(), scope);
    let unconnected: [(usize, Antichain<Epoch>); 0] = [];
    let to_its_worker = Exchange::new(|(worker, _): &(u64, Assignment)| *worker);
    let mut splits = builder.new_input_connection(splits, to_its_worker, unconnected);
    let (batch_output, batches) = builder.new_output_connection::<Vec<Batch>, _>([]);
    let (event_output, events) = builder.new_output_connection::<Vec<Wire<Event>>, _>([]);
    let (request_output, requests) = builder.new_output_connection::<Vec<Request>, _>([]);
    let mut batch_output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Batch>>>::from(batch_output);
    let mut event_output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Wire<Event>>>>::from(event_output);
    let mut request_output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Request>>>::from(request_output);

    let worker = scope.worker().index();
    let address = builder.operator_info().address;
    let again = scope.activator_for(std::rc::Rc::clone(&address));
    let activator = scope.worker().sync_activator_for(address.to_vec());
    let (mail, mut mailbox) = mailbox(activator, MAILBOX_BATCHES);
    let (to_tasks, assigned) = mpsc::unbounded_channel();
    let (asks_for, tick) = (plan.at_once.max(1), plan.tick);
    plan.runtime
        .clone()
        .spawn(compare_all(plan, assigned, mail));

    builder.build(move |capabilities| {
        let mut held: Option<Vec<Capability<Epoch>>> = Some(capabilities);
        let mut to_tasks = Some(to_tasks);
        let began = Instant::now();
        let (mut in_hand, mut asked) = (0_usize, false);
        move |frontiers| {
            let mut batch_output = batch_output.activate();
            let mut event_output = event_output.activate();
            let mut request_output = request_output.activate();
            if let Some(held) = &mut held {
                let epoch = began.elapsed().as_millis() / tick.as_millis().max(1);
                let epoch = Epoch::try_from(epoch).unwrap_or(Epoch::MAX);
                for capability in held.iter_mut().filter(|held| *held.time() < epoch) {
                    capability.downgrade(&epoch);
                }
            }
            splits.for_each(|_, assignments| {
                for (_, assignment) in assignments.drain(..) {
                    in_hand += 1;
                    if let Some(to_tasks) = &to_tasks {
                        // The task outlives this sender, so it listens.
                        let _ = to_tasks.send(assignment);
                    }
                }
            });
            if let Some([of_batches, of_events, of_requests]) = held.as_deref() {
                if !asked {
                    let first = std::iter::repeat_n(Request::Next { worker }, asks_for);
                    request_output.session(of_requests).give_iterator(first);
                    asked = true;
                }
                while let Some(mail) = mailbox.take() {
                    match mail {
                        Mail::Batch(batch) => batch_output.session(of_batches).give(batch),
                        Mail::Over(event) => {
                            event_output.session(of_events).give(Wire(event));
                            request_output
                                .session(of_requests)
                                .give(Request::Next { worker });
                            in_hand -= 1;
                        }
                    }
                }
            }
            if frontiers.first().is_none_or(|frontier| frontier.is_empty()) && in_hand == 0 {
                // No more ranges will come.
                held = None;
                to_tasks = None;
            }
            if held.is_some() {
                again.activate_after(tick / 4);
            }
        }
    });
    Ingested {
        batches,
        events,
        requests,
    }
}

/// Compares assigned ranges, several at once, until no more come.
async fn compare_all(
    plan: CompareObjects,
    mut assigned: mpsc::UnboundedReceiver<Assignment>,
    mail: Sender<Mail>,
) {
    while let Some(assignment) = assigned.recv().await {
        let (plan, mail) = (plan.clone(), mail.clone());
        tokio::spawn(async move {
            let event = compare_one(&plan, assignment, &mail).await;
            // Without the operator nobody listens; then the run is already over.
            let _ = mail.send(Mail::Over(event)).await;
        });
    }
}

async fn compare_one(plan: &CompareObjects, assignment: Assignment, mail: &Sender<Mail>) -> Event {
    let Assignment { table, split, .. } = assignment;
    let mut outlet = Outlet {
        plan,
        assignment,
        mail,
        objects: Vec::new(),
        sent: 0,
    };
    let range = usize::try_from(split)
        .ok()
        .and_then(|split| plan.ranges.get(split));
    let compared = match range {
        Some(range) => compare_range(plan, range.clone(), &mut outlet).await,
        None => Ok(()),
    };
    outlet.send().await;
    match compared {
        Ok(()) => Event::SplitRead {
            table,
            split,
            rows: outlet.sent,
            source_bytes: 0,
            process: plan.process,
        },
        Err(error) => failed(plan, table, &error),
    }
}

fn failed(plan: &CompareObjects, table: usize, error: &ObjectError) -> Event {
    plan.tally.end(error.clone().into());
    let kind = match error.passes() {
        true => FailureKind::Retryable,
        false => FailureKind::Failed,
    };
    Event::Failed {
        table,
        failure: TableFailure::new(kind, error.message.clone()),
    }
}

/// Where the differences of one range go.
struct Outlet<'a> {
    plan: &'a CompareObjects,
    assignment: Assignment,
    mail: &'a Sender<Mail>,
    objects: Vec<Listed>,
    sent: u64,
}

impl Differences for Outlet<'_> {
    async fn copy(&mut self, object: Listed) -> bool {
        self.objects.push(object);
        self.objects.len() < BATCH_OBJECTS || self.send().await
    }
}

impl Outlet<'_> {
    async fn send(&mut self) -> bool {
        if self.objects.is_empty() {
            return true;
        }
        let objects = std::mem::take(&mut self.objects);
        let permit = self.plan.budget.take(cost_bytes(&objects)).await;
        let rows = match changes_of(&objects) {
            Ok(rows) => rows,
            // Four columns of a few hundred rows: it does not happen.
            Err(error) => {
                self.plan.tally.end(Failure::failed(error.to_string()));
                return false;
            }
        };
        self.sent += rows.num_rows() as u64;
        let batch = Batch {
            table: self.assignment.table,
            split: self.assignment.split,
            source_bytes: 0,
            rows,
            permit,
        };
        self.mail.send(Mail::Batch(batch)).await
    }
}
