//! Divides rows by key range, many batches at a time: what leaves for one range is
//! large enough to be worth moving.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use arrow::error::ArrowError;
use highwater::batch::Batch;
use highwater::budget::Permit;
use highwater::flow::event::FailureKind;
use highwater::flow::{Batches, Epoch, Event, Events, TableFailure, Wire};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};

use super::order::Order;
use super::parcels::Parcels;
use super::ranges::{Ranges, Ties};

/// Rows of a batch that leaves, at most.
const MOST_ROWS: usize = 16 << 10;

/// More is never divided at once: offsets of texts are 32 bits.
const MOST_BYTES: u64 = 256 << 20;

/// What [`scatter`] needs to know; shared by all workers of a process.
#[derive(Debug, Clone)]
pub struct Scatter {
    /// Which row comes before which.
    pub order: Arc<Order>,
    /// Where rows go.
    pub ranges: Arc<Ranges>,
    /// The section of each split; a split that is not there is of section 0.
    pub sections: Arc<Vec<u32>>,
    /// What each worker gathers before it divides it, in bytes.
    pub share_bytes: u64,
}

/// What comes out of [`scatter`].
pub struct Scattered<'scope> {
    /// Rows of one range and one section, beside the worker that has the range;
    /// their `split` is a number that tells both.
    pub batches: StreamVec<'scope, Epoch, (usize, Batch)>,
    /// Tables that failed.
    pub events: Events<'scope>,
}

/// Adds the operator.
pub fn scatter<'scope>(
    scope: Scope<'scope, Epoch>,
    batches: Batches<'scope>,
    plan: Scatter,
) -> Scattered<'scope> {
    let mut builder = OperatorBuilder::new("scatter".to_owned(), scope);
    let mut batches = builder.new_input(batches, Pipeline);
    let (output, divided) = builder.new_output();
    let (event_output, events) = builder.new_output();
    let mut output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<(usize, Batch)>>>::from(output);
    let mut event_output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Wire<Event>>>>::from(event_output);

    builder.build(move |_| {
        let share_bytes = plan.share_bytes.min(MOST_BYTES);
        let mut ties = Ties::default();
        let mut gathered: BTreeMap<Epoch, Gathered> = BTreeMap::new();
        let mut held: BTreeMap<Epoch, [Capability<Epoch>; 2]> = BTreeMap::new();
        move |frontiers| {
            let mut output = output.activate();
            let mut event_output = event_output.activate();
            let mut leave = |capabilities: &[Capability<Epoch>; 2], batches: Gathered| {
                let table = batches.table();
                match batches.divide(&plan, &mut ties) {
                    Ok(divided) => {
                        let mut session = output.session(&capabilities[0]);
                        divided.into_iter().for_each(|batch| session.give(batch));
                    }
                    Err(error) => {
                        let failure = TableFailure::new(
                            FailureKind::Failed,
                            format!("cannot divide rows by key: {error}"),
                        );
                        let failed = Event::Failed { table, failure };
                        event_output.session(&capabilities[1]).give(Wire(failed));
                    }
                }
            };
            batches.for_each(|capability, arrived| {
                let epoch = *capability.time();
                let capabilities = held
                    .entry(epoch)
                    .or_insert_with(|| [capability.retain(0), capability.retain(1)]);
                for batch in arrived.drain(..) {
                    let gathered = gathered.entry(epoch).or_default();
                    gathered.add(batch);
                    if gathered.bytes >= share_bytes {
                        leave(capabilities, std::mem::take(gathered));
                    }
                }
            });
            let Some(frontier) = frontiers.first() else {
                return;
            };
            while let Entry::Occupied(over) = {
                let first = held.keys().next().copied().unwrap_or_default();
                held.entry(first)
            } {
                if frontier.less_equal(over.key()) {
                    return;
                }
                if let Some(rest) = gathered.remove(over.key()) {
                    leave(over.get(), rest);
                }
                over.remove();
            }
        }
    });
    Scattered {
        batches: divided,
        events,
    }
}

/// Batches that are to be divided together.
#[derive(Default)]
struct Gathered {
    batches: Vec<Batch>,
    bytes: u64,
}

impl Gathered {
    fn add(&mut self, batch: Batch) {
        self.bytes += batch.permit.bytes();
        self.batches.push(batch);
    }

    fn table(&self) -> usize {
        self.batches.first().map_or(0, |batch| batch.table)
    }

    fn divide(self, plan: &Scatter, ties: &mut Ties) -> Result<Vec<(usize, Batch)>, ArrowError> {
        let section_of = |split: u32| {
            plan.sections
                .get(split as usize)
                .copied()
                .unwrap_or_default()
        };
        if plan.ranges.len() == 1 {
            // All go to one place: nothing to divide.
            let sectioned = self.batches.into_iter().map(|batch| {
                let split = Ranges::parcel(0, section_of(batch.split));
                (plan.ranges.worker(0), Batch { split, ..batch })
            });
            return Ok(sectioned.collect());
        }
        if self.batches.is_empty() {
            return Ok(Vec::new());
        }
        let table = self.table();
        let finder = plan.ranges.finder();
        let mut parcels = Parcels::default();
        for batch in &self.batches {
            let section = section_of(batch.split);
            parcels.add(&plan.order, &finder, section, &batch.rows, ties)?;
        }
        let owners = parcels.owners(&plan.ranges);
        let (gathered, mut paid) = (parcels.gather(&self.batches, &owners)?, Permit::free());
        let all: usize = self.batches.iter().map(|batch| batch.rows.num_rows()).sum();
        self.batches
            .into_iter()
            .for_each(|batch| paid.merge(batch.permit));
        let row_bytes = paid.bytes() / (all as u64).max(1);
        let mut batches = Vec::new();
        for (owner, rows) in owners.into_iter().zip(gathered) {
            let mut from = 0;
            for (parcel, count) in owner.parcels {
                let end = from + count;
                while from < end {
                    let count = MOST_ROWS.min(end - from);
                    let batch = Batch {
                        table,
                        split: parcel,
                        source_bytes: 0,
                        permit: paid.split(row_bytes * count as u64),
                        rows: rows.slice(from, count),
                    };
                    batches.push((owner.worker, batch));
                    from += count;
                }
            }
        }
        if let Some((_, last)) = batches.last_mut() {
            last.permit.merge(paid);
        }
        Ok(batches)
    }
}
