//! What a pipeline is given besides its configuration.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use tokio::runtime::{Builder, Handle, Runtime};
use uuid::Uuid;

use super::Failure;
use super::cli::SizeArgs;
use super::members::Members;
use super::orders::Heard;
use crate::budget::{Allowance, LimitOrigin, MemoryLimit, default_workers};
use crate::cancel::Cancel;
use crate::cluster::Crew;
use crate::ledger;
use crate::run::report::MemoryPlan;
use crate::run::{Config, RunReport};
use crate::store::Store;
use crate::telemetry::Progress;

/// What a pipeline is given besides its configuration. Everything in it is
/// found, not configured: flags, environment and file are merged already.
#[derive(Debug, Clone)]
pub struct RunContext {
    /// Where asynchronous input and output runs.
    pub runtime: Handle,
    /// Where progress is told.
    pub progress: Progress,
    /// Set when the user wants the run to end.
    pub cancel: Cancel,
    /// The memory limit of the whole process.
    pub memory_limit: ByteSize,
    /// Where that limit comes from, for `plan`.
    pub memory_origin: LimitOrigin,
    /// How the limit is split.
    pub allowance: Allowance,
    /// The worker threads.
    pub crew: Arc<Crew>,
    /// What the other processes of the run say.
    pub(super) heard: Arc<Heard>,
    /// The run's id (a UUID of version 7).
    pub run: Uuid,
    /// When it started.
    pub started: DateTime<Utc>,
    /// What was noticed before the run, for its report.
    pub warnings: Vec<String>,
}

/// What the user said about size, flags first.
#[derive(Debug, Clone, Default)]
pub(super) struct WantedSize {
    pub(super) workers: Option<usize>,
    pub(super) memory: Option<(ByteSize, LimitOrigin)>,
}

impl WantedSize {
    /// Flag before environment (clap does that) before file.
    pub(super) fn new(size: &SizeArgs, config: &Config) -> Self {
        let flag = size
            .memory
            .map(|memory: ByteSize| (memory, LimitOrigin::Flag));
        Self {
            workers: size.workers.or(config.workers),
            memory: flag.or(config.memory.map(|memory| (memory, LimitOrigin::Config))),
        }
    }
}

impl RunContext {
    /// Worker threads of this process.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.crew.place().workers
    }

    /// A flag that is set when the user wants the run to end.
    #[must_use]
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        let flag = Arc::new(AtomicBool::new(false));
        let (set, cancel) = (Arc::clone(&flag), self.cancel.clone());
        self.runtime.spawn(async move {
            cancel.cancelled().await;
            set.store(true, Ordering::Relaxed);
        });
        flag
    }

    /// How the memory limit is divided, for a plan.
    #[must_use]
    pub fn memory_plan(&self) -> MemoryPlan {
        MemoryPlan {
            limit_bytes: self.memory_limit.as_u64(),
            origin: self.memory_origin.to_string(),
            fixed_bytes: self.allowance.fixed.as_u64(),
            budget_bytes: self.allowance.budget.as_u64(),
            workers: self.workers() as u64,
        }
    }

    /// Puts the report into the lake, where `verify` holds it against the log. The
    /// tables are committed already, so a failure is worth a warning and no more.
    pub fn record(&self, config: &Config, lake: &Store, report: &mut RunReport) {
        report.scrub(config);
        let written = serde_json::to_value(&*report).map_err(|error| error.to_string());
        let written = written.and_then(|json| {
            let put = ledger::put_report(lake, &report.started, self.run, &json);
            self.runtime
                .block_on(put)
                .map_err(|error| error.to_string())
        });
        if let Err(reason) = written {
            report.warnings.push(format!(
                "the report was not written into the lake: {reason}"
            ));
        }
    }

    /// Passes the wish to end on to the first process of the run.
    pub(super) fn pass_on(&self, cancel: Cancel) {
        let crew = Arc::downgrade(&self.crew);
        self.runtime.spawn(async move {
            cancel.cancelled().await;
            if let Some(crew) = crew.upgrade() {
                Self::ask_to_stop(&crew);
            }
        });
    }

    /// Finds limits, starts a runtime that lives as long as the second value, and
    /// joins the other processes, where there are any.
    pub(super) fn create(
        wanted: WantedSize,
        members: Option<&Members>,
        progress: Progress,
    ) -> Result<(Self, Runtime), Failure> {
        let limit = MemoryLimit::find(wanted.memory);
        let workers = wanted
            .workers
            .unwrap_or_else(|| default_workers(limit.bytes));
        let allowance = Allowance::split(limit.bytes, workers).map_err(|message| {
            Failure::usage(message).because(format!("the limit is {limit}")).hint(
                "give more (--memory, or `memory` in the configuration), or use fewer --workers",
            )
        })?;
        let runtime = runtime(workers)?;
        let cancel = Cancel::new();
        let (crew, heard) = join(members, workers, limit.bytes, &cancel, &progress)?;
        let run = crew.run_id();
        let context = Self {
            runtime: runtime.handle().clone(),
            progress,
            cancel,
            memory_limit: limit.bytes,
            memory_origin: limit.origin,
            allowance,
            crew: Arc::new(crew),
            heard: Arc::new(heard),
            run,
            started: Utc::now(),
            warnings: limit.warning.into_iter().collect(),
        };
        Ok((context, runtime))
    }
}

/// The workers of this process, and who listens to the others.
fn join(
    members: Option<&Members>,
    workers: usize,
    memory: ByteSize,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<(Crew, Heard), Failure> {
    let Some(members) = members else {
        let crew = Crew::alone(workers)?;
        let heard = Heard::listen(&crew, cancel, |_, _| ());
        return Ok((crew, heard));
    };
    let membership = members.membership(workers, memory)?;
    let crew = Crew::join(&membership, members.when_lost(progress.clone()))?;
    let heard = Heard::listen(&crew, cancel, members.when_failed(progress.clone()));
    Ok((crew, heard))
}

/// Threads for what blocks and is soon over, as tokio has them by default.
const BLOCKING: usize = 512;

/// Threads that each worker may hold for long beside these: a listing of a folder waits in
/// its thread until its keys are wanted.
const BLOCKING_OF_A_WORKER: usize = 16;

fn runtime(workers: usize) -> Result<Runtime, Failure> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(BLOCKING + BLOCKING_OF_A_WORKER * workers)
        .thread_name_fn(move || {
            format!(
                "io-{}",
                next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
            )
        })
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::failed("cannot start threads")
                .caused_by(&error)
                .hint("use fewer --workers, or raise the limit of processes (ulimit -u)")
        })
}
