//! Divides rows by key range, many batches at a time: what leaves for one range is
//! large enough to be worth moving.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
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
use super::ranges::Ranges;

/// Rows of a batch that leaves, at most.
const MOST_ROWS: usize = 16 << 10;

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
    /// Rows of one range and one section (their `split`), beside the worker that
    /// has the range.
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
        let mut gathered: BTreeMap<Epoch, Gathered> = BTreeMap::new();
        let mut held: BTreeMap<Epoch, [Capability<Epoch>; 2]> = BTreeMap::new();
        move |frontiers| {
            let mut output = output.activate();
            let mut event_output = event_output.activate();
            let mut leave = |capabilities: &[Capability<Epoch>; 2], batches: Gathered| {
                let table = batches.table();
                match batches.divide(&plan) {
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
                    if gathered.bytes >= plan.share_bytes {
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

/// Rows by batch and position.
type Places = Vec<(usize, usize)>;

impl Gathered {
    fn add(&mut self, batch: Batch) {
        self.bytes += batch.permit.bytes();
        self.batches.push(batch);
    }

    fn table(&self) -> usize {
        self.batches.first().map_or(0, |batch| batch.table)
    }

    fn divide(self, plan: &Scatter) -> Result<Vec<(usize, Batch)>, ArrowError> {
        let section_of = |split: u32| {
            plan.sections
                .get(split as usize)
                .copied()
                .unwrap_or_default()
        };
        if plan.ranges.len() == 1 {
            // All go to one place: nothing to divide.
            let sectioned = self.batches.into_iter().map(|batch| {
                let split = section_of(batch.split);
                (plan.ranges.worker(0), Batch { split, ..batch })
            });
            return Ok(sectioned.collect());
        }
        let table = self.table();
        let mut paid = Permit::free();
        let mut places: BTreeMap<(u32, usize), Places> = BTreeMap::new();
        let mut rows: Vec<RecordBatch> = Vec::with_capacity(self.batches.len());
        for (number, batch) in self.batches.into_iter().enumerate() {
            let section = section_of(batch.split);
            let keys = plan.order.route(section, &batch.rows)?;
            let mut by_range: Vec<Places> = vec![Vec::new(); plan.ranges.len()];
            for row in 0..batch.rows.num_rows() {
                if let Some(places) = by_range.get_mut(plan.ranges.of(&keys, row)) {
                    places.push((number, row));
                }
            }
            for (range, found) in by_range.into_iter().enumerate() {
                if !found.is_empty() {
                    places.entry((section, range)).or_default().extend(found);
                }
            }
            paid.merge(batch.permit);
            rows.push(batch.rows);
        }
        let rows: Vec<&RecordBatch> = rows.iter().collect();
        let mut divided = Vec::new();
        for ((section, range), places) in places {
            for places in places.chunks(MOST_ROWS) {
                let rows = interleave_record_batch(&rows, places)?;
                let bytes = rows.get_array_memory_size() as u64;
                let batch = Batch {
                    table,
                    split: section,
                    source_bytes: 0,
                    permit: paid.split(bytes),
                    rows,
                };
                divided.push((plan.ranges.worker(range), batch));
            }
        }
        Ok(divided)
    }
}
