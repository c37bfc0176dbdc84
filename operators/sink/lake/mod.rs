//! Encodes batches into Parquet files of a lake, streaming while encoding.
//!
//! Encoding runs on the worker, one batch at a time, so that other operators
//! get their turn; uploads are tasks. When too many encoded bytes are on their
//! way, the operator leaves its batches where they are: their permits then hold
//! the readers back. A file belongs to one table, one epoch and one partition
//! (and one split, where files are to stay clustered);
//! when the frontier has passed the epoch its files are completed, and each is
//! announced when it is durable.

mod encoding;
mod file;
mod upload;
mod writers;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use object_store::ObjectStore;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use highwater::batch::Batch;
use highwater::flow::{Batches, Epoch, Event, Events, Wire, mailbox};
use highwater::run::stages::Stages;
use highwater::telemetry::progress::TableProgress;

use crate::transform::partition::Partitioning;
use writers::{Uploaded, Writers};

pub use encoding::FileFormat;
pub(crate) use encoding::{lake_options, lake_properties};
pub use file::PartitionValues;

/// What [`lake_sink`] writes, and how; shared by all workers of a process.
#[derive(Clone)]
pub struct LakeSink {
    /// The tables, by position in the plan.
    pub tables: Arc<Vec<SinkTable>>,
    /// How files are encoded.
    pub format: FileFormat,
    /// Where uploads run.
    pub runtime: tokio::runtime::Handle,
    /// Where time spent is counted.
    pub stages: Arc<Stages>,
}

/// One table to write.
pub struct SinkTable {
    /// The schema of the files: the batch's columns without those that live in
    /// the partition values alone.
    pub file_schema: SchemaRef,
    /// How rows are divided into partitions.
    pub partitioning: Partitioning,
    /// Where rows come without their partition columns: the partition of each
    /// split, in Delta's serialised form.
    pub partitions: Option<Arc<Vec<PartitionValues>>>,
    /// A file is completed when it has reached this size, in bytes.
    pub file_bytes: u64,
    /// Whether a file holds rows of one split only, so that it covers no more of
    /// the key space than the split does.
    pub by_split: bool,
    /// The table's folder.
    pub folder: Arc<dyn ObjectStore>,
    /// Where its progress is shown.
    pub progress: TableProgress,
}

/// Adds the operator. Returns an event for each durable file.
pub fn lake_sink<'scope>(
    scope: Scope<'scope, Epoch>,
    batches: Batches<'scope>,
    plan: LakeSink,
) -> Events<'scope> {
    let mut builder = OperatorBuilder::new("lake_sink".to_owned(), scope);
    let mut batches = builder.new_input(batches, Pipeline);
    let (output, events) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Wire<Event>>>>::from(output);
    let address = builder.operator_info().address;
    let again = scope.activator_for(std::rc::Rc::clone(&address));
    let (mail, mut uploaded) = mailbox(
        scope.worker().sync_activator_for(address.to_vec()),
        usize::from(u8::MAX),
    );

    builder.build(move |_| {
        let mut writers = Writers::new(plan, mail);
        let mut waiting: VecDeque<(Epoch, Batch)> = VecDeque::new();
        let mut held: BTreeMap<Epoch, Capability<Epoch>> = BTreeMap::new();
        move |frontiers| {
            batches.for_each(|capability, arrived| {
                let epoch = *capability.time();
                held.entry(epoch).or_insert_with(|| capability.retain(0));
                waiting.extend(arrived.drain(..).map(|batch| (epoch, batch)));
            });
            let mut output = output.activate();
            let mut tell = |epoch: Epoch, event: Event| {
                if let Some(capability) = held.get(&epoch) {
                    output.session(capability).give(Wire(event));
                }
            };
            while let Some(Uploaded { epoch, event }) = uploaded.take() {
                writers.upload_over(epoch);
                tell(epoch, event);
            }
            if writers.may_encode()
                && let Some((epoch, batch)) = waiting.pop_front()
            {
                while let Some(earlier) = writers.has_open_before(epoch) {
                    for failed in writers.finish(earlier) {
                        tell(earlier, failed);
                    }
                }
                if let Some(failed) = writers.write(epoch, batch) {
                    tell(epoch, failed);
                }
                if !waiting.is_empty() {
                    again.activate();
                }
            }
            let Some(frontier) = frontiers.first() else {
                return;
            };
            let complete = |epoch: &Epoch| {
                !frontier.less_equal(epoch) && waiting.iter().all(|(of, _)| of != epoch)
            };
            for epoch in held
                .keys()
                .copied()
                .filter(|epoch| complete(epoch))
                .collect::<Vec<_>>()
            {
                for failed in writers.finish(epoch) {
                    if let Some(capability) = held.get(&epoch) {
                        output.session(capability).give(Wire(failed));
                    }
                }
                if writers.uploads_in_flight(epoch) == 0 {
                    held.remove(&epoch);
                }
            }
        }
    });
    events
}
