//! One run, from both places to the report.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use highwater::app::{Exit, Failure, RunContext};
use highwater::run::Config;
use highwater::run::config::{Against, ObjectsConfig};
use highwater::run::report::ObjectsReport;
use highwater::store::pace::{Hedges, Retries, RetryPolicy};
use highwater::telemetry::objects::ObjectTally;
use highwater_operators::ingest::objects::{
    CompareObjects, Extras, KeyFilter, RecordClock, Recording, RequestsOf, Rules, find_ranges,
};
use highwater_operators::sink::objects::{CopyObjects, Saving};
use serde::{Deserialize, Serialize};

use super::flow::{Flow, TICK, sink};
use super::memory::Memory;
use super::pack::Packing;
use super::record::{Keeper, Record};
use super::remove::Removal;
use super::shown::{show, show_opening};
use super::sides::{Packed, Sides, carry};
use super::threads::Threads;
use super::together::{FlowOrder, FlowReply, Order};

/// Ranges that each worker gets, at least, where there are so many folders.
const RANGES_OF_A_WORKER: usize = 32;

/// Ranges that a worker compares at once.
const RANGES_AT_ONCE: usize = 4;

/// What is done with differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Doing {
    /// They are counted.
    Compare,
    /// They are copied.
    Copy,
}

type Shared<T> = Arc<tokio::sync::Mutex<T>>;

/// A run.
pub(super) struct SyncRun<'a> {
    pub(super) sides: Sides,
    pub(super) objects: ObjectsConfig,
    config: &'a Config,
    context: &'a RunContext,
    tally: Arc<ObjectTally>,
    retries: Retries,
    hedges: Option<Hedges>,
    threads: Threads,
}

impl<'a> SyncRun<'a> {
    /// Opens both places and looks at them.
    ///
    /// # Errors
    /// The configuration is not valid, or a place cannot be used.
    pub(super) fn open(config: &'a Config, context: &'a RunContext) -> Result<Self, Failure> {
        let objects = config.objects.clone().unwrap_or_default();
        let sides = Sides::open(config, &objects, context)?;
        let threads = Threads::start(context)?;
        show_opening(context);
        threads.handle().block_on(sides.check())?;
        if sides.packed.is_some() && context.crew.place().processes > 1 {
            let what = "a packed table is written by one process";
            return Err(Failure::usage(what).hint("leave out --hosts and --processes"));
        }
        let tally = Arc::new(ObjectTally::new(objects.max_errors));
        let retries = Retries::new(RetryPolicy::default()).until(context.cancel.clone());
        let (stop, cancel) = (Arc::clone(&tally), context.cancel.clone());
        context.runtime.spawn(async move {
            cancel.cancelled().await;
            stop.stop();
        });
        let hedges = (objects.hedge && sides.remote.0).then(Hedges::default);
        Ok(Self {
            sides,
            objects,
            config,
            context,
            tally,
            retries,
            hedges,
            threads,
        })
    }

    /// Runs to the end. What objects have failed of is in the report.
    ///
    /// # Errors
    /// There is nothing to report: a place cannot be read or written at all.
    pub(super) fn run(&self, doing: Doing) -> Result<ObjectsReport, Failure> {
        if let Some(packed) = &self.sides.packed {
            return self.pack(packed, doing);
        }
        let began = Instant::now();
        let memory = self.memory();
        let record = self.open_record(doing)?;
        let extras = self.extras()?;
        show(self.context, &self.tally, memory.in_use(), doing);
        let failure = Arc::new(Mutex::new(None));
        let keeper = Keeper {
            record: record.clone().filter(|_| doing == Doing::Copy),
            tally: Arc::clone(&self.tally),
            failure: Arc::clone(&failure),
        };
        let order = Arc::new(self.order(doing, record.as_ref())?);
        let flow = self.flow(&order, &memory, extras.clone())?;
        self.context.order(&Order::Flow(Arc::clone(&order)))?;
        flow.run(
            self.context,
            Some(Box::new(keeper)),
            self.context.cancel_flag(),
        )?;
        let others = self.context.replies::<FlowReply>()?;
        let took = began.elapsed();
        for other in &others {
            self.tally.join(&other.report);
        }
        let failure = failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let failure = failure.or_else(|| self.ended()).map(Into::into);
        let failure =
            failure.or_else(|| others.iter().find_map(|other| other.report.error.clone()));
        let failure = match (failure, extras) {
            (None, Some(extras)) => {
                let removed = self.remove(doing, extras, record.clone(), order.clock());
                removed.err().or_else(|| self.ended()).map(Into::into)
            }
            (failure, _) => failure,
        };
        if let (None, Some(record)) = (&failure, &record)
            && doing == Doing::Copy
        {
            let cancel = &self.context.cancel;
            let merge = async { record.lock().await.merge_small_or_warn(cancel).await };
            self.context.runtime.block_on(merge);
        }
        let mut report = self.report(doing, &memory);
        for other in &others {
            report.join(&other.report);
        }
        report.rates(took);
        report.ledger_version = match &record {
            Some(record) => record.blocking_lock().version(),
            None => None,
        };
        report.error = failure;
        Ok(report)
    }

    /// Does this process's share of what the first one ordered. Beside the reply,
    /// what only the target has.
    ///
    /// # Errors
    /// Nothing can be said of what was done.
    pub(super) fn take_part(
        &self,
        order: &FlowOrder,
    ) -> Result<(FlowReply, Option<Arc<Extras>>), Failure> {
        let memory = self.memory();
        let extras = self.extras()?;
        let flow = self.flow(order, &memory, extras.clone())?;
        flow.run(self.context, None, self.context.cancel_flag())?;
        let mut report = self.report(order.doing, &memory);
        report.error = self.ended().map(Into::into);
        Ok((FlowReply { report }, extras))
    }

    fn memory(&self) -> Memory {
        let (record, target) = (&self.sides.record, self.sides.target.as_ref());
        Memory::divide(self.config, self.context, record, target)
    }

    fn extras(&self) -> Result<Option<Arc<Extras>>, Failure> {
        let extras = self.objects.delete.then(Extras::new).transpose();
        let extras = extras.map_err(|error| {
            Failure::failed("there is no place for temporary files").caused_by(&error)
        })?;
        Ok(extras.map(Arc::new))
    }

    fn pack(&self, packed: &Packed, doing: Doing) -> Result<ObjectsReport, Failure> {
        let packing = Packing {
            config: self.config,
            context: self.context,
            objects: &self.objects,
            sides: &self.sides,
            packed,
            tally: &self.tally,
            retries: &self.retries,
            hedges: self.hedges.as_ref(),
        };
        let mut report = packing.run(doing)?;
        if report.error.is_none() {
            report.error = self.ended().map(Into::into);
        }
        Ok(report)
    }

    fn open_record(&self, doing: Doing) -> Result<Option<Shared<Record>>, Failure> {
        if !self.objects.ledger {
            return Ok(None);
        }
        let (store, source) = (&self.sides.record, self.sides.source.url());
        self.context.runtime.block_on(async {
            let mut record = Record::open(store, source, self.context.run).await?;
            if doing == Doing::Copy {
                record.begin().await?;
                // A run that was killed has left a file for each of its epochs.
                record.merge_small_or_warn(&self.context.cancel).await;
            }
            Ok(Some(Arc::new(tokio::sync::Mutex::new(record))))
        })
    }

    /// What all processes do.
    fn order(&self, doing: Doing, record: Option<&Shared<Record>>) -> Result<FlowOrder, Failure> {
        let workers = self.context.crew.place().peers();
        let ranges = find_ranges(
            self.sides.source.as_ref(),
            &self.retries,
            workers * RANGES_OF_A_WORKER,
        );
        let ranges = self.threads.handle().block_on(ranges)?;
        tracing::debug!(ranges = ranges.len(), "cut the keys");
        let files = match record {
            Some(record) => {
                let files = async { record.lock().await.files().await };
                self.context.runtime.block_on(files)?
            }
            None => None,
        };
        if files.is_none() && self.objects.against == Against::Ledger && doing == Doing::Compare {
            tracing::warn!("there is no record of copies from this source yet");
        }
        Ok(FlowOrder {
            doing,
            ranges,
            record: files,
            recorded: record.is_some() && doing == Doing::Copy,
        })
    }

    fn flow(
        &self,
        order: &FlowOrder,
        memory: &Memory,
        extras: Option<Arc<Extras>>,
    ) -> Result<Flow, Failure> {
        let files = order.record.clone();
        let objects = &self.objects;
        let compare = CompareObjects {
            source: Arc::clone(&self.sides.source),
            target: Arc::clone(&self.sides.target),
            ranges: Arc::new(order.ranges.clone()),
            filter: KeyFilter::new(&objects.include, &objects.exclude).map_err(Failure::usage)?,
            rules: Rules {
                compare: objects.compare,
                target_keeps_times: self.sides.target.keeps_times(),
            },
            // Without a record of this source nothing is known but by a listing.
            against: match files {
                Some(_) => objects.against,
                None => Against::Target,
            },
            record: files.map(|files| Recording {
                folder: self.sides.record.objects(),
                files: Arc::new(files),
            }),
            extras,
            requests_of: (order.doing == Doing::Compare).then(|| self.requests_of(memory)),
            tally: Arc::clone(&self.tally),
            retries: self.retries.clone(),
            budget: memory.listing.clone(),
            at_once: RANGES_AT_ONCE,
            tick: TICK,
            process: self.context.crew.place().process,
            runtime: self.threads.handle().clone(),
        };
        let clock = order.recorded.then(|| order.clock());
        let copy = (order.doing == Doing::Copy).then(|| self.copy(memory, clock));
        let shown = self.context.progress.table("objects", 0, 0);
        let sink = match order.recorded {
            true => Some(sink(self.context, &self.sides.record, memory, &shown)?),
            false => None,
        };
        Ok(Flow {
            compare,
            copy,
            sink,
        })
    }

    /// Which requests a run would send for an object; folders take none.
    fn requests_of(&self, memory: &Memory) -> RequestsOf {
        let (copy, remote) = (self.copy(memory, None), self.sides.remote);
        Arc::new(move |object| {
            let asked = copy.requests_of(object).into_iter();
            let sent = asked.filter(|(kind, _)| match *kind {
                "get" | "head" => remote.0,
                _ => remote.1,
            });
            sent.collect()
        })
    }

    fn copy(&self, memory: &Memory, clock: Option<RecordClock>) -> CopyObjects {
        CopyObjects {
            source: Arc::clone(&self.sides.source),
            target: Arc::clone(&self.sides.target),
            small: memory.small.clone(),
            large: memory.large.clone(),
            large_from_bytes: memory.large_from_bytes,
            carry: carry(&self.objects),
            by_store: self.objects.server_side_copy,
            saving: Saving {
                durable: self.objects.durable,
                tick: TICK,
                most_unsaved: memory.most_unsaved,
                clock,
            },
            tally: Arc::clone(&self.tally),
            retries: self.retries.clone(),
            write_retries: self.retries.of_another_place(),
            hedges: self.hedges.clone(),
            runtime: self.threads.handle().clone(),
        }
    }

    fn remove(
        &self,
        doing: Doing,
        extras: Arc<Extras>,
        record: Option<Shared<Record>>,
        clock: RecordClock,
    ) -> Result<(), Failure> {
        self.gather(&extras)?;
        let removal = Removal {
            target: Arc::clone(&self.sides.target),
            extras,
            tally: Arc::clone(&self.tally),
            retries: self.retries.clone(),
            record,
            clock,
            remote: self.sides.remote.1,
        };
        removal.run(doing, &self.objects, self.context)
    }

    /// Brings what the other processes have found to be too much here.
    fn gather(&self, extras: &Extras) -> Result<(), Failure> {
        if self.context.crew.place().processes == 1 {
            return Ok(());
        }
        loop {
            self.context.order(&Order::Extras)?;
            let keys = self.context.replies::<Vec<String>>()?.concat();
            if keys.is_empty() {
                return Ok(());
            }
            for key in keys {
                extras.push(&key).map_err(|error| {
                    Failure::failed("there is no place for temporary files").caused_by(&error)
                })?;
            }
        }
    }

    /// Why the run ended early, if it did.
    fn ended(&self) -> Option<Failure> {
        if let Some(ended) = self.tally.ended_by() {
            return Some(ended);
        }
        if self.tally.has_too_many_errors() {
            let what = format!(
                "{} objects have failed, more than max_errors",
                self.tally.failed.get()
            );
            return Some(Failure::failed(what).hint("correct the cause and run again"));
        }
        if self.context.cancel.is_cancelled() {
            let what = "interrupted; what was copied is complete";
            return Some(Failure::new(Exit::Interrupted, what));
        }
        None
    }

    fn report(&self, doing: Doing, memory: &Memory) -> ObjectsReport {
        let mut report = ObjectsReport {
            source: self.sides.source.url().to_owned(),
            target: self.sides.target.url().to_owned(),
            dry_run: doing == Doing::Compare,
            requests: self.sides.requests.by_kind(),
            retries: self.retries.made(),
            hedged: self.hedges.as_ref().map_or(0, Hedges::sent),
            hedges_won: self.hedges.as_ref().map_or(0, Hedges::won),
            ..ObjectsReport::default()
        };
        self.tally.fill(&mut report);
        if doing == Doing::Compare {
            return report;
        }
        let (small, large) = (&memory.small, &memory.large);
        report.peak_at_once = u64::from(small.write.peak() + large.write.peak());
        report.settled_at_once = (small.write.slots().into(), large.write.slots().into());
        report
    }
}
