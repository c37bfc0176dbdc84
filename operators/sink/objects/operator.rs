//! Copies the objects of batches, and emits what was copied, for the record.
//!
//! Epochs are ticks of a clock here, as where differences come from: what was written
//! within one tick is made durable and then recorded at its end, in whichever tick it
//! was found. One large object that takes an hour holds nothing back but itself.

use std::sync::Arc;
use std::time::Instant;

use highwater::batch::Batch;
use highwater::budget::Permit;
use highwater::flow::{Batches, Epoch, Sender, mailbox};
use highwater::run::Failure;
use highwater::store::objects::ObjectError;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::Antichain;
use tokio::sync::mpsc;

use super::copier::CopyObjects;
use super::lanes::{Entry, copy_all};
use crate::ingest::objects::{Record, listed_of};

/// Outcomes that wait for the operator.
const MAILBOX_OUTCOMES: usize = 1024;

/// Rows of a batch of the record.
const BATCH_ROWS: usize = 4096;

/// Records of copies on their way to the sink that keeps them.
pub type Copied<'scope> = Batches<'scope>;

/// What the tasks tell their operator.
pub(super) enum Mail {
    /// An object's turn is over: its record, if it was copied.
    Done(Option<Record>),
    /// What was written before the last tick is safe from a power cut, or it is not.
    Safe(Result<(), ObjectError>),
}

/// What was written and is not recorded yet.
struct Written {
    /// The clock: what is written now is recorded at its time.
    now: Capability<Epoch>,
    /// Since the last tick.
    records: Vec<Record>,
    /// Of the last tick, until the disk has it.
    saving: Option<(Capability<Epoch>, Vec<Record>)>,
}

impl Written {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.saving.is_none()
    }

    /// Takes the clock on; whether there is something to save. While the disk is busy
    /// with what was written before, the rest waits for the next tick.
    fn tick(&mut self, epoch: Epoch, at_once: bool) -> bool {
        if self.saving.is_some() || (!at_once && *self.now.time() >= epoch) {
            return false;
        }
        if !self.records.is_empty() {
            let records = std::mem::take(&mut self.records);
            self.saving = Some((self.now.clone(), records));
        }
        if *self.now.time() < epoch {
            self.now.downgrade(&epoch);
        }
        self.saving.is_some()
    }
}

/// Adds the operator. The records of a tick come in the order of keys, when all its
/// objects are written and durable.
pub fn copy_objects<'scope>(
    scope: Scope<'scope, Epoch>,
    batches: Batches<'scope>,
    plan: CopyObjects,
) -> Copied<'scope> {
    let mut builder = OperatorBuilder::new("copy_objects".to_owned(), scope);
    let unconnected: [(usize, Antichain<Epoch>); 0] = [];
    let mut batches = builder.new_input_connection(batches, Pipeline, unconnected);
    let (output, records) = builder.new_output_connection::<Vec<Batch>, _>([]);
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Batch>>>::from(output);
    let address = builder.operator_info().address;
    let again = scope.activator_for(std::rc::Rc::clone(&address));
    let activator = scope.worker().sync_activator_for(address.to_vec());
    let (mail, mut mailbox) = mailbox(activator, MAILBOX_OUTCOMES);
    let (to_copier, entries) = mpsc::unbounded_channel();
    let copier = copy_all(plan.clone(), entries, to_copier.downgrade(), mail.clone());
    plan.runtime.spawn(copier);

    builder.build(move |mut capabilities| {
        let mut written = capabilities.pop().map(|now| Written {
            now,
            records: Vec::new(),
            saving: None,
        });
        let mut to_copier = Some(to_copier);
        let (began, mut left) = (Instant::now(), 0_usize);
        move |frontiers| {
            batches.for_each(|_, arrived| {
                for batch in arrived.drain(..) {
                    left += hand_over(batch, to_copier.as_ref());
                }
            });
            let Some(here) = &mut written else {
                return;
            };
            let mut output = output.activate();
            while let Some(mail) = mailbox.take() {
                match (mail, &mut here.saving) {
                    (Mail::Done(record), _) => {
                        left -= 1;
                        here.records.extend(record);
                    }
                    (Mail::Safe(safe), saving) => {
                        let Some((capability, records)) = saving.take() else {
                            continue;
                        };
                        match safe
                            .map_err(Failure::from)
                            .and_then(|()| plan.rows(records))
                        {
                            Ok(records) => output
                                .session(&capability)
                                .give_iterator(records.into_iter()),
                            Err(failure) => plan.tally.end(failure),
                        }
                    }
                }
            }
            let no_more = frontiers.first().is_none_or(|frontier| frontier.is_empty());
            let over = no_more && left == 0;
            if here.tick(plan.epoch(began.elapsed()), over) {
                plan.runtime.spawn(save(plan.clone(), mail.clone()));
            }
            if over && here.is_empty() {
                // No more objects will come: the copying tasks may end.
                written = None;
                to_copier = None;
            } else {
                again.activate_after(plan.tick / 4);
            }
        }
    });
    records
}

/// Waits for the disk, where that is wanted.
async fn save(plan: CopyObjects, mail: Sender<Mail>) {
    let safe = match plan.durable {
        true => plan.target.make_durable().await,
        false => Ok(()),
    };
    // Without the operator the run is already over.
    let _ = mail.send(Mail::Safe(safe)).await;
}

/// Hands the objects of a batch to the copier; how many they are.
fn hand_over(batch: Batch, to_copier: Option<&mpsc::UnboundedSender<Entry>>) -> usize {
    let objects = listed_of(&batch.rows);
    let (count, share) = (objects.len(), Arc::new(batch.permit));
    for object in objects {
        let entry = Entry {
            object,
            share: Arc::clone(&share),
        };
        if let Some(to_copier) = to_copier {
            // The copier lives as long as this sender.
            let _ = to_copier.send(entry);
        }
    }
    count
}

impl CopyObjects {
    /// The tick after so much time.
    fn epoch(&self, elapsed: std::time::Duration) -> Epoch {
        let ticks = elapsed.as_millis() / self.tick.as_millis().max(1);
        Epoch::try_from(ticks).unwrap_or(Epoch::MAX)
    }

    /// Records as batches for the sink, in the order of keys.
    fn rows(&self, mut records: Vec<Record>) -> Result<Vec<Batch>, Failure> {
        records.sort_unstable();
        let now = self.clock.now_us();
        let groups = records.chunks(BATCH_ROWS);
        let batches = groups.map(|rows| {
            let rows = Record::rows(rows.to_vec(), now, false);
            Ok(Batch {
                table: 0,
                split: 0,
                source_bytes: 0,
                rows: rows.map_err(|error| Failure::failed(error.to_string()))?,
                // As small as the text that they were made of, which was free, too.
                permit: Permit::free(),
            })
        });
        batches.collect()
    }
}
