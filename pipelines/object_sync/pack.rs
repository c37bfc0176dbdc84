//! Packing: small objects become rows of a Delta table, range by range of keys.

mod deletes;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use highwater::app::{Failure, RunContext};
use highwater::budget::MemoryBudget;
use highwater::dataset::{Table, TableName};
use highwater::flow::{
    Assign, Assignment, Epoch, Event, Ingest, IngestTable, Settle, Settled, Settler, assign,
    commit, ingest,
};
use highwater::ledger::{Change, ChangeKind, DataFile, Ledger};
use highwater::run::Config;
use highwater::run::config::{ObjectsConfig, Percent};
use highwater::run::report::ObjectsReport;
use highwater::run::stages::Stages;
use highwater::source::{Split, TableRead};
use highwater::store::Store;
use highwater::store::objects::Buffers;
use highwater::store::pace::{Bounds, Hedges, Pace, Retries};
use highwater::telemetry::TableProgress;
use highwater::telemetry::objects::ObjectTally;
use highwater::watermark::{Bound, Identity, Mode, Watermark};
use highwater_operators::ingest::objects::{
    KeyFilter, PackPlan, PackRanges, find_ranges, packed_schema,
};
use highwater_operators::sink::lake::{FileFormat, LakeSink, SinkTable, lake_sink};
use highwater_operators::sink::objects::BodyReader;
use highwater_operators::transform::partition::Partitioning;
use timely::dataflow::operators::{Concatenate, ConnectLoop, Feedback};
use uuid::Uuid;

use super::shown::show;
use super::sides::{Packed, Sides, carry};
use super::sync::Doing;

const MIB: u64 = 1 << 20;

/// A file of a packed table is completed at this size, in bytes.
const FILE_BYTES: u64 = 128 * MIB;

/// What a worker needs to write, however small its share: its columns, a part, and
/// the least row group four times.
const LEAST_WRITING_BYTES: u64 = 12 * MIB;

/// Ranges that each worker gets, at least, where there are so many folders.
const RANGES_OF_A_WORKER: usize = 16;

/// How the memory limit is divided. Each worker has a share of its own for objects
/// on their way, so that none waits for what another holds.
struct Memory {
    reading: MemoryBudget,
    ahead_bytes: u64,
    batch_bytes: u64,
    format: FileFormat,
}

impl Memory {
    fn divide(config: &Config, context: &RunContext, lake: &Store) -> Self {
        let budget = context.allowance.budget.as_u64();
        let workers = context.workers() as u64;
        let writing = (budget / 8 * 3).max(workers * LEAST_WRITING_BYTES);
        let writing = writing.min(budget / 2);
        let quarter = (budget - writing) / 4;
        // A quarter of what is left is for row groups that are being decoded.
        let (reading, ahead) = (quarter, 2 * quarter);
        let columns = packed_schema().fields().len() as u64;
        Self {
            reading: MemoryBudget::new(reading.max(MIB)),
            ahead_bytes: ahead / workers,
            batch_bytes: (reading / workers / 4).clamp(MIB / 4, 4 * MIB),
            format: FileFormat::within(writing / workers, columns, lake, &config.files),
        }
    }
}

/// A run that packs.
pub(super) struct Packing<'a> {
    pub(super) config: &'a Config,
    pub(super) context: &'a RunContext,
    pub(super) objects: &'a ObjectsConfig,
    pub(super) sides: &'a Sides,
    pub(super) packed: &'a Packed,
    pub(super) tally: &'a Arc<ObjectTally>,
    pub(super) retries: &'a Retries,
    pub(super) hedges: Option<&'a Hedges>,
}

/// What one pass over all ranges came to.
struct Pass {
    report: ObjectsReport,
    ranges: usize,
    /// Of these, the ones that were read to their end.
    read: usize,
}

impl Packing<'_> {
    /// Runs to the end. What objects have failed of is in the report.
    ///
    /// # Errors
    /// There is nothing to report: a place cannot be read or written at all.
    pub(super) fn run(&self, doing: Doing) -> Result<ObjectsReport, Failure> {
        let removes = doing == Doing::Copy && self.objects.delete;
        let most_deleted = removes.then(|| self.count_deletes()).transpose()?;
        Ok(self.pass(doing, most_deleted)?.report)
    }

    /// Compares all ranges, and packs what differs. Of so many rows no more than this
    /// share goes.
    fn pass(&self, doing: Doing, most_deleted: Option<(Percent, u64)>) -> Result<Pass, Failure> {
        let began = Instant::now();
        let ledger = self.context.runtime.block_on(self.ledger())?;
        let memory = Memory::divide(self.config, self.context, &self.packed.store);
        let plan = Arc::new(self.plan(doing, &memory, most_deleted)?);
        let pace = plan.reader.pace.clone();
        show(self.context, self.tally, move || pace.in_use(), doing);
        let failure = Arc::new(Mutex::new(None));
        let version = Arc::new(Mutex::new(ledger.head().map(|head| head.version)));
        let read = Arc::new(AtomicUsize::new(0));
        let mut packer = Packer {
            ledger,
            plan: Arc::clone(&plan),
            source: self.identity(),
            run: self.context.run,
            tally: Arc::clone(self.tally),
            version: Arc::clone(&version),
            failure: Arc::clone(&failure),
            read: Arc::clone(&read),
            over: false,
        };
        if doing == Doing::Copy {
            // Files that no entry names yet are known as ours when there is a log.
            self.context
                .runtime
                .block_on(packer.publish(&[], Vec::new()))?;
        }
        self.flow(&plan, &memory, Settler::new(Some(Box::new(packer))))?;
        let failure = failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let mut report = ObjectsReport {
            source: self.sides.source.url().to_owned(),
            target: self.packed.url.clone(),
            dry_run: doing == Doing::Compare,
            requests: self.sides.requests.by_kind(),
            retries: self.retries.made(),
            hedged: self.hedges.map_or(0, Hedges::sent),
            hedges_won: self.hedges.map_or(0, Hedges::won),
            ledger_version: *version.lock().unwrap_or_else(PoisonError::into_inner),
            error: failure.map(Failure::into),
            ..ObjectsReport::default()
        };
        if doing == Doing::Compare && self.sides.remote.0 {
            self.tally.would_ask("get", self.tally.to_copy.get());
        }
        self.tally.fill(&mut report);
        report.peak_at_once = plan.reader.pace.peak().into();
        report.settled_at_once = (plan.reader.pace.slots().into(), 0);
        report.rates(began.elapsed());
        Ok(Pass {
            report,
            ranges: plan.ranges.len(),
            read: read.load(Ordering::Relaxed),
        })
    }

    fn identity(&self) -> Identity {
        Identity {
            kind: "objects".to_owned(),
            id: self.sides.source.url().to_owned(),
            history: String::new(),
        }
    }

    /// The log of the table, which must be that of this source (T7).
    async fn ledger(&self) -> Result<Ledger, Failure> {
        let ledger = Ledger::open(self.packed.store.clone()).await?;
        if let Some(head) = ledger.head()
            && head.watermark.source != self.identity()
        {
            let what = format!(
                "{} holds what was packed from {}",
                self.packed.url, head.watermark.source.id
            );
            return Err(Failure::usage(what).hint("pack this source into another folder"));
        }
        Ok(ledger)
    }

    fn plan(
        &self,
        doing: Doing,
        memory: &Memory,
        most_deleted: Option<(Percent, u64)>,
    ) -> Result<PackPlan, Failure> {
        let table = Arc::clone(&self.packed.table);
        let ranges = match table.is_empty() {
            false => table.ranges(),
            true => {
                let wanted = self.context.crew.place().peers() * RANGES_OF_A_WORKER;
                let ranges = find_ranges(self.sides.source.as_ref(), self.retries, wanted);
                self.context.runtime.block_on(ranges)?
            }
        };
        let filter = KeyFilter::new(&self.objects.include, &self.objects.exclude);
        Ok(PackPlan {
            source: Arc::clone(&self.sides.source),
            packed: table,
            ranges,
            filter: filter.map_err(Failure::usage)?,
            delete: self.objects.delete,
            most_deleted,
            gone: AtomicU64::new(0),
            carry: carry(self.objects),
            compare_only: doing == Doing::Compare,
            // With the row that it replaces it must fit, and leave room for others.
            largest_bytes: (memory.ahead_bytes / 4).min(1 << 30),
            ahead_bytes: memory.ahead_bytes,
            reader: Arc::new(BodyReader {
                source: Arc::clone(&self.sides.source),
                pace: Pace::new(Bounds {
                    start: 16,
                    least: 1,
                    most: 512,
                }),
                retries: self.retries.clone(),
                hedges: self.hedges.cloned(),
                buffers: Buffers::used_once(),
            }),
            retries: self.retries.clone(),
            tally: Arc::clone(self.tally),
            rewritten: Mutex::new(BTreeSet::new()),
        })
    }

    fn flow(&self, plan: &Arc<PackPlan>, memory: &Memory, packer: Settler) -> Result<(), Failure> {
        let shown = self.context.progress.table("objects", 0, 0);
        let stages = Arc::new(Stages::default());
        let splits: Vec<Split> = (0..)
            .zip(0..plan.ranges.len())
            .map(|(ordinal, range)| Split {
                ordinal,
                start: None,
                end: None,
                estimated_bytes: plan.packed.bytes(range).max(1),
            })
            .collect();
        let assignments = splits.iter().map(|split| Assignment {
            table: 0,
            split: split.ordinal,
            estimated_bytes: split.estimated_bytes,
        });
        let assigning = Assign {
            splits: assignments.collect(),
            epoch_bytes: self.config.epoch.bytes.as_u64(),
            epoch_duration: self.config.epoch.duration(),
            cancelled: self.context.cancel_flag(),
        };
        let table = IngestTable {
            read: TableRead::all(packed_table(), None),
            splits: splits
                .into_iter()
                .map(|split| (split.ordinal, split))
                .collect(),
            progress: shown.clone(),
        };
        let reading = Ingest {
            readers: Arc::new(PackRanges(Arc::clone(plan))),
            tables: Arc::new(vec![table]),
            budget: memory.reading.clone(),
            batch_bytes: memory.batch_bytes,
            fail_on_bad_row: true,
            process: self.context.crew.place().process,
            runtime: self.context.runtime.clone(),
            stages: Arc::clone(&stages),
        };
        let sink = LakeSink {
            tables: Arc::new(vec![sink_table(&self.packed.store, &shown)?]),
            format: memory.format,
            runtime: self.context.runtime.clone(),
            stages,
        };
        let runtime = self.context.runtime.clone();
        self.context.crew.run(move |scope| {
            let (more, requests) = scope.feedback(1);
            let (forget, settled) = scope.feedback(1);
            let splits = assign(scope, assigning.clone(), requests, settled);
            let read = ingest(scope, splits, reading.clone());
            let written = lake_sink(scope, read.batches, sink.clone());
            let events = scope.concatenate([read.events, written]);
            let done = commit(scope, events, &packer, &runtime);
            read.requests.connect_loop(more);
            done.connect_loop(forget);
        })?;
        shown.done();
        Ok(())
    }
}

fn packed_table() -> Table {
    let name = TableName {
        schema: None,
        name: "objects".to_owned(),
    };
    Table::of(name, &packed_schema())
}

/// A file holds keys of one range, so that ranges stay apart.
fn sink_table(folder: &Store, shown: &TableProgress) -> Result<SinkTable, Failure> {
    let partitioning = Partitioning::new(&packed_schema(), &[]).map_err(Failure::usage)?;
    Ok(SinkTable {
        file_schema: partitioning.file_schema(),
        partitioning,
        partitions: None,
        file_bytes: FILE_BYTES,
        by_split: true,
        folder: folder.objects(),
        progress: shown.clone(),
    })
}

/// Publishes each epoch: the files of its ranges take the place of the old ones.
struct Packer {
    ledger: Ledger,
    plan: Arc<PackPlan>,
    source: Identity,
    run: Uuid,
    tally: Arc<ObjectTally>,
    version: Arc<Mutex<Option<u64>>>,
    failure: Arc<Mutex<Option<Failure>>>,
    /// Ranges that were read to their end.
    read: Arc<AtomicUsize>,
    /// Whether nothing more is published.
    over: bool,
}

impl Packer {
    /// Ends the run: what is published stays.
    fn end(&mut self, failure: Failure) {
        self.over = true;
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(failure);
        self.tally.stop();
    }

    async fn publish(&mut self, ranges: &[u32], files: Vec<DataFile>) -> Result<(), Failure> {
        let removed: Vec<String> = {
            let rewritten = self
                .plan
                .rewritten
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let gone = ranges.iter().filter(|range| rewritten.contains(range));
            let paths =
                gone.filter_map(|range| self.plan.packed.path(usize::try_from(*range).ok()?));
            paths.map(str::to_owned).collect()
        };
        if removed.is_empty() && files.is_empty() && self.ledger.head().is_some() {
            return Ok(());
        }
        let bound = Bound {
            position: self.run.to_string(),
            at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        };
        let change = Change {
            run: self.run,
            schema: packed_schema(),
            partition_columns: Vec::new(),
            kind: match removed.is_empty() {
                true => ChangeKind::Append,
                false => ChangeKind::Merge { removed },
            },
            files,
            watermark: Watermark::new(self.source.clone(), Mode::Mirror, bound),
            from: self.ledger.head().map_or(0, |head| head.commit),
        };
        self.ledger.commit(change).await?;
        let version = self.ledger.head().map(|head| head.version);
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = version;
        Ok(())
    }
}

#[async_trait]
impl Settle for Packer {
    async fn settle(&mut self, _epoch: Epoch, events: Vec<Event>) -> Settled {
        let (mut ranges, mut files) = (Vec::new(), Vec::new());
        for event in events {
            match event {
                Event::SplitRead { split, .. } => ranges.push(split),
                Event::File { file, .. } => files.push(file),
                // A range that failed may have left files of half of its keys. The
                // tally knows why.
                Event::Failed { .. } => self.over = true,
                Event::Quarantined { .. } => {}
            }
        }
        self.read.fetch_add(ranges.len(), Ordering::Relaxed);
        if self.over || self.plan.compare_only {
            return Settled::default();
        }
        if let Err(failure) = self.publish(&ranges, files).await {
            self.end(failure);
        }
        Settled::default()
    }
}
