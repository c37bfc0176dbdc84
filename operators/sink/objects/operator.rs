//! Copies the objects of batches, and emits what was copied, for the record.
//!
//! Epochs are ticks of a clock here, as where differences come from: what was written
//! within one tick is made durable and then recorded at its end, in whichever tick it
//! was found. One large object that takes an hour holds nothing back but itself.

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
use super::share::Share;
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
    Done(Option<Unsaved>),
    /// What was written before it was asked for is safe from a power cut, or it is not.
    Safe(Result<(), ObjectError>),
}

/// The record of a copy, and what pays for it.
pub(super) struct Unsaved {
    pub(super) record: Record,
    /// Paid for until this goes.
    pub(super) _share: Share,
}

/// What was written and is not recorded yet.
struct Written {
    /// The clock: what is written now is recorded at its time.
    now: Capability<Epoch>,
    /// Since the last time.
    unsaved: Vec<Unsaved>,
    /// Of the last time, until the disk has it.
    saving: Option<(Capability<Epoch>, Vec<Unsaved>)>,
    /// Whether the last time is begun: nothing is written after it.
    is_last: bool,
}

impl Written {
    fn new(now: Capability<Epoch>) -> Self {
        Self {
            now,
            unsaved: Vec::new(),
            saving: None,
            is_last: false,
        }
    }

    /// Takes the clock on; whether to begin to save. While the disk is busy with what was
    /// written before, the rest waits. A run that is over saves once whatever it copied: a
    /// killed one may have left what nobody has waited for.
    fn tick(&mut self, epoch: Epoch, is_urgent: bool, is_over: bool) -> bool {
        let is_tick = *self.now.time() < epoch;
        let is_last = is_over && !self.is_last;
        if self.saving.is_some() || !(is_tick || is_urgent || is_last) {
            return false;
        }
        self.is_last |= is_last;
        let begins = is_last || !self.unsaved.is_empty();
        if begins {
            self.saving = Some((self.now.clone(), std::mem::take(&mut self.unsaved)));
        }
        if is_tick {
            self.now.downgrade(&epoch);
        }
        begins
    }

    fn has_ended(&self) -> bool {
        self.is_last && self.saving.is_none()
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
        let mut written = capabilities.pop().map(Written::new);
        let mut to_copier = Some(to_copier);
        let (began, mut left) = (Instant::now(), 0_usize);
        let mut next_look = began;
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
                    (Mail::Done(copied), _) => {
                        left -= 1;
                        here.unsaved
                            .extend(copied.filter(|_| plan.saving.clock.is_some()));
                    }
                    (Mail::Safe(safe), saving) => {
                        let Some((capability, saved)) = saving.take() else {
                            continue;
                        };
                        match safe.map_err(Failure::from).and_then(|()| plan.rows(saved)) {
                            Ok(records) => output
                                .session(&capability)
                                .give_iterator(records.into_iter()),
                            Err(failure) => plan.tally.end(failure),
                        }
                    }
                }
            }
            let no_more = frontiers.first().is_none_or(|frontier| frontier.is_empty());
            let is_over = no_more && left == 0;
            let now = Instant::now();
            // What comes next may wait until what was copied is paid for no more.
            let is_idle = left == 0 && now >= next_look;
            let is_much = here.unsaved.len() >= plan.saving.most_unsaved;
            if here.tick(plan.epoch(began.elapsed()), is_idle || is_much, is_over) {
                plan.runtime.spawn(save(plan.clone(), mail.clone()));
            }
            if here.has_ended() {
                // No more objects will come: the copying tasks may end.
                written = None;
                to_copier = None;
            } else if now >= next_look {
                again.activate_after(plan.saving.tick / 4);
                next_look = now + plan.saving.tick / 4;
            }
        }
    });
    records
}

/// Waits for the disk, where that is wanted.
async fn save(plan: CopyObjects, mail: Sender<Mail>) {
    let safe = match plan.saving.durable {
        true => plan.target.make_durable().await,
        false => Ok(()),
    };
    // Without the operator the run is already over.
    let _ = mail.send(Mail::Safe(safe)).await;
}

/// Hands the objects of a batch to the copier; how many they are.
fn hand_over(batch: Batch, to_copier: Option<&mpsc::UnboundedSender<Entry>>) -> usize {
    let objects = listed_of(&batch.rows);
    let count = objects.len();
    let shares = Share::of_each(batch.permit, count);
    for (object, share) in objects.into_iter().zip(shares) {
        let entry = Entry { object, share };
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
        let ticks = elapsed.as_millis() / self.saving.tick.as_millis().max(1);
        Epoch::try_from(ticks).unwrap_or(Epoch::MAX)
    }

    /// Records as batches for the sink, in the order of keys.
    fn rows(&self, saved: Vec<Unsaved>) -> Result<Vec<Batch>, Failure> {
        let mut records: Vec<Record> = saved.into_iter().map(|saved| saved.record).collect();
        records.sort_unstable();
        let now = self.saving.clock.unwrap_or_default().now_us();
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
