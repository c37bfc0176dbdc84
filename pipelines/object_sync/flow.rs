//! The dataflow of a run: ranges of keys are compared, what differs is copied, and
//! what was copied is recorded.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use highwater::app::{Failure, RunContext};
use highwater::flow::{Assign, Assignment, Settle, Settler, assign, commit};
use highwater::run::stages::Stages;
use highwater::store::Store;
use highwater::telemetry::TableProgress;
use highwater_operators::ingest::objects::{CompareObjects, compare_objects, recorded_schema};
use highwater_operators::sink::lake::{LakeSink, SinkTable, lake_sink};
use highwater_operators::sink::objects::{CopyObjects, copy_objects};
use highwater_operators::transform::partition::Partitioning;
use timely::dataflow::operators::{Concatenate, ConnectLoop, Feedback};

use super::memory::Memory;

/// Longer than any run: epochs are the clock's, not the plan's.
const ONE_EPOCH: Duration = Duration::from_secs(u32::MAX as u64);

/// A file of the record is completed at this size, in bytes.
const RECORD_FILE_BYTES: u64 = 32 << 20;

/// What the operators are given; shared by all workers.
pub(super) struct Flow {
    pub(super) compare: CompareObjects,
    /// `None`: nothing is copied.
    pub(super) copy: Option<CopyObjects>,
    /// `None`: nothing is recorded.
    pub(super) sink: Option<LakeSink>,
}

impl Flow {
    /// Runs to its end. `settle` is the first process's own.
    ///
    /// # Errors
    /// A worker died.
    pub(super) fn run(
        self,
        context: &RunContext,
        settle: Option<Box<dyn Settle>>,
        cancelled: Arc<AtomicBool>,
    ) -> Result<(), Failure> {
        let ranges = u32::try_from(self.compare.ranges.len()).unwrap_or(u32::MAX);
        let plan = Assign {
            splits: (0..ranges)
                .map(|split| Assignment {
                    table: 0,
                    split,
                    estimated_bytes: 1,
                })
                .collect(),
            epoch_bytes: u64::MAX,
            epoch_duration: ONE_EPOCH,
            cancelled,
        };
        let settler = Settler::new(settle);
        let runtime = context.runtime.clone();
        context.crew.run(move |scope| {
            let (more, requests) = scope.feedback(1);
            let (forget, settled) = scope.feedback(1);
            let splits = assign(scope, plan.clone(), requests, settled);
            let compared = compare_objects(scope, splits, self.compare.clone());
            let mut events = vec![compared.events];
            if let Some(copy) = &self.copy {
                let records = copy_objects(scope, compared.batches, copy.clone());
                if let Some(sink) = &self.sink {
                    events.push(lake_sink(scope, records, sink.clone()));
                }
            }
            let done = commit(scope, scope.concatenate(events), &settler, &runtime);
            compared.requests.connect_loop(more);
            done.connect_loop(forget);
        })?;
        Ok(())
    }
}

/// How records become files.
///
/// # Errors
/// Never: the record is not partitioned.
pub(super) fn sink(
    context: &RunContext,
    record: &Store,
    memory: &Memory,
    shown: &TableProgress,
) -> Result<LakeSink, Failure> {
    let partitioning = Partitioning::new(&recorded_schema(), &[]).map_err(Failure::usage)?;
    let table = SinkTable {
        file_schema: partitioning.file_schema(),
        partitioning,
        partitions: None,
        file_bytes: RECORD_FILE_BYTES,
        by_split: false,
        folder: record.objects(),
        progress: shown.clone(),
    };
    Ok(LakeSink {
        tables: Arc::new(vec![table]),
        format: memory.format,
        runtime: context.runtime.clone(),
        stages: Arc::new(Stages::default()),
    })
}

/// How long an epoch lasts: so much is not recorded when a run is killed. Each one that
/// has copied something waits for the disk, beside the next, and adds a version to the
/// record.
pub(super) const TICK: Duration = Duration::from_secs(2);
