//! Copies the objects of batches, and emits what was copied, for the record.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater::batch::Batch;
use highwater::budget::Permit;
use highwater::flow::{Batches, Epoch, mailbox};
use highwater::run::Failure;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use tokio::sync::mpsc;

use super::copier::CopyObjects;
use super::lanes::{Done, Entry, copy_all};
use crate::ingest::objects::{Record, listed_of};

/// Outcomes that wait for the operator.
const MAILBOX_OUTCOMES: usize = 1024;

/// Rows of a batch of the record.
const BATCH_ROWS: usize = 4096;

/// Records of copies on their way to the sink that keeps them.
pub type Copied<'scope> = Batches<'scope>;

/// An epoch with objects that are being copied.
struct Open {
    capability: Capability<Epoch>,
    /// Objects that are on their way or wait.
    left: usize,
    records: Vec<Record>,
}

/// Adds the operator. An epoch's records come in the order of keys, when all its
/// objects are written.
pub fn copy_objects<'scope>(
    scope: Scope<'scope, Epoch>,
    batches: Batches<'scope>,
    plan: CopyObjects,
) -> Copied<'scope> {
    let mut builder = OperatorBuilder::new("copy_objects".to_owned(), scope);
    let mut batches = builder.new_input(batches, Pipeline);
    let (output, records) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Batch>>>::from(output);
    let address = builder.operator_info().address.to_vec();
    let activator = scope.worker().sync_activator_for(address);
    let (mail, mut mailbox) = mailbox(activator, MAILBOX_OUTCOMES);
    let (to_copier, entries) = mpsc::unbounded_channel();
    let tally = Arc::clone(&plan.tally);
    let runtime = plan.runtime.clone();
    runtime.spawn(copy_all(plan, entries, to_copier.downgrade(), mail));

    builder.build(move |_| {
        let mut to_copier = Some(to_copier);
        let mut open: BTreeMap<Epoch, Open> = BTreeMap::new();
        move |frontiers| {
            batches.for_each(|capability, arrived| {
                let epoch = *capability.time();
                let here = open.entry(epoch).or_insert_with(|| Open {
                    capability: capability.retain(0),
                    left: 0,
                    records: Vec::new(),
                });
                for batch in arrived.drain(..) {
                    here.left += hand_over(batch, epoch, to_copier.as_ref());
                }
            });
            while let Some(Done { epoch, record }) = mailbox.take() {
                if let Some(here) = open.get_mut(&epoch) {
                    here.left -= 1;
                    here.records.extend(record);
                }
            }
            let Some(frontier) = frontiers.first() else {
                return;
            };
            let mut output = output.activate();
            let complete =
                |(epoch, here): &(&Epoch, &Open)| here.left == 0 && !frontier.less_equal(epoch);
            let over: Vec<Epoch> = open
                .iter()
                .filter(complete)
                .map(|(epoch, _)| *epoch)
                .collect();
            for here in over.iter().filter_map(|epoch| open.remove(epoch)) {
                match batches_of(here.records) {
                    Ok(records) => {
                        output
                            .session(&here.capability)
                            .give_iterator(records.into_iter());
                    }
                    Err(error) => tally.end(Failure::failed(error.to_string())),
                }
            }
            if frontier.is_empty() && open.is_empty() {
                // No more objects will come: the copying tasks may end.
                to_copier = None;
            }
        }
    });
    records
}

/// Hands the objects of a batch to the copier; how many they are.
fn hand_over(
    batch: Batch,
    epoch: Epoch,
    to_copier: Option<&mpsc::UnboundedSender<Entry>>,
) -> usize {
    let objects = listed_of(&batch.rows);
    let (count, share) = (objects.len(), Arc::new(batch.permit));
    for object in objects {
        let entry = Entry {
            object,
            epoch,
            share: Arc::clone(&share),
        };
        if let Some(to_copier) = to_copier {
            // The copier lives as long as this sender.
            let _ = to_copier.send(entry);
        }
    }
    count
}

/// Records as batches for the sink, in the order of keys.
fn batches_of(mut records: Vec<Record>) -> Result<Vec<Batch>, arrow::error::ArrowError> {
    records.sort_unstable();
    let now = chrono::Utc::now().timestamp_micros();
    let groups = records.chunks(BATCH_ROWS);
    let batches = groups.map(|rows| {
        Ok(Batch {
            table: 0,
            split: 0,
            source_bytes: 0,
            rows: Record::rows(rows.to_vec(), now, false)?,
            // As small as the text that they were made of, which was free, too.
            permit: Permit::free(),
        })
    });
    batches.collect()
}
