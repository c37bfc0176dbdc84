//! `lake-compact`: the rows of Delta tables in fewer files, in an order that
//! readers can use.
//!
//! Groups of files are read, their rows divided by key range among the workers of
//! all processes and sorted there, and written as files that take the place of the
//! old ones in one commit. The first process chooses and commits.

mod choose;
mod collect;
mod flow;
mod job;
mod layout;
mod memory;
mod options;
mod order;
mod publish;
mod tables;

use std::process::ExitCode;
use std::time::Instant;

use highwater::app::{self, Exit, Failure, Flags, Pipeline, RunContext};
use highwater::run::lake::open_lake;
use highwater::run::report::{
    PlanReport, RunReport, StatusReport, TablePlan, TableReport, VerifyReport,
};
use highwater::run::verify::{VerifyOptions, verify_lake};
use highwater::run::{Config, Secret, status};
use highwater::store::Store;
use highwater_operators::sort::SortCounts;

use collect::Collector;
use flow::Done;
use job::Job;
use order::FlowOrder;
use publish::Rewritten;
use tables::{Found, Tables};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    app::main(LakeCompact)
}

/// The pipeline.
struct LakeCompact;

impl Pipeline for LakeCompact {
    fn name(&self) -> &'static str {
        "lake-compact"
    }

    fn about(&self) -> &'static str {
        "Lays the files of Delta tables out anew: fewer, larger, sorted."
    }

    fn flags(&self) -> Option<&'static Flags> {
        Some(&options::FLAGS)
    }

    fn run(&self, config: Config, context: RunContext) -> Result<RunReport, Failure> {
        let lake = open_lake(&config)?;
        let tables = context.runtime.block_on(Tables::find(&config, &lake))?;
        let mut report = RunReport::new(
            context.run,
            self.name(),
            lake.url().as_str(),
            context.started,
            context.memory_limit.as_u64(),
        );
        report.warnings.clone_from(&context.warnings);
        for found in &tables.all {
            let done = compact(&config, &context, &lake, found, &mut report);
            report.tables.push(match done {
                Ok(table) => table,
                Err(failure) => TableReport::failed(&found.name, failure),
            });
            if context.cancel.is_cancelled() {
                break;
            }
        }
        context.progress.planned();
        report.conclude(context.started, chrono::Utc::now());
        if tables.are_ours {
            context.record(&config, &lake, &mut report);
        }
        Ok(report)
    }

    fn follow(&self, config: Config, context: RunContext) -> Result<Exit, Failure> {
        let lake = open_lake(&config)?;
        loop {
            match context.next_order::<FlowOrder>()? {
                Ok(order) => {
                    let done = flow::run(&config, &context, &lake, &order, None)?;
                    context.reply(&done)?;
                }
                Err(exit) => return Ok(exit),
            }
        }
    }

    fn plan(&self, config: Config, context: RunContext) -> Result<PlanReport, Failure> {
        let lake = open_lake(&config)?;
        let tables = context.runtime.block_on(Tables::find(&config, &lake))?;
        let plan = |found: &Found| {
            let job = context.runtime.block_on(Job::find(&config, found));
            match job {
                Ok(job) => job.plan(),
                Err(failure) => TablePlan {
                    name: found.name.clone(),
                    error: Some(failure.into()),
                    ..TablePlan::default()
                },
            }
        };
        Ok(PlanReport {
            pipeline: self.name().to_owned(),
            source: lake.url().to_string(),
            lake: lake.url().to_string(),
            tables: tables.all.iter().map(plan).collect(),
            objects: None,
            documents: Vec::new(),
            memory: context.memory_plan(),
            warnings: context.warnings,
        })
    }

    fn status(&self, config: Config, context: RunContext) -> Result<StatusReport, Failure> {
        let lake = open_lake(&config)?;
        context.runtime.block_on(async {
            let tables = Tables::find(&config, &lake).await?;
            if tables.are_ours {
                return status::lake_status(&lake).await;
            }
            tables.status(&lake).await
        })
    }

    fn verify(
        &self,
        config: Config,
        options: VerifyOptions,
        context: RunContext,
    ) -> Result<VerifyReport, Failure> {
        let lake = open_lake(&config)?;
        context.runtime.block_on(async {
            if !Tables::find(&config, &lake).await?.are_ours {
                let what = format!(
                    "{} is no lake of ours: its log has no seals to check",
                    lake.url()
                );
                return Err(
                    Failure::usage(what).hint("name the folder of a lake that table-backup keeps")
                );
            }
            verify_lake(&lake, &options).await
        })
    }

    fn init(&self, _url: Secret, _context: RunContext) -> Result<String, Failure> {
        let what = "lake-compact reads no source: a lake is enough";
        Err(Failure::usage(what)
            .hint("write `lake = \"file:lake\"` and a section [compact], or use --lake"))
    }
}

/// Lays one table out anew. A table whose files are as wanted is left alone.
fn compact(
    config: &Config,
    context: &RunContext,
    lake: &Store,
    found: &Found,
    report: &mut RunReport,
) -> Result<TableReport, Failure> {
    let mut job = context.runtime.block_on(Job::find(config, found))?;
    if job.choice.sections.is_empty() {
        return Ok(job.unchanged());
    }
    context.runtime.block_on(found.store.check())?;
    let rewritten = rewrite(config, context, lake, &job, report)?;
    if context.cancel.is_cancelled() {
        return Err(Failure::interrupted(
            "interrupted before anything was published; the table is as it was",
        ));
    }
    let published = publish::publish(&mut job, rewritten, context.run);
    context.runtime.block_on(published)
}

/// Has every process of the run write its share of the table's rows in new files.
fn rewrite(
    config: &Config,
    context: &RunContext,
    lake: &Store,
    job: &Job,
    report: &mut RunReport,
) -> Result<Rewritten, Failure> {
    let started = Instant::now();
    let order = FlowOrder::of(config, context, job)?;
    report.spend("plan", started.elapsed().as_secs_f64());
    context.order(&order)?;
    let collector = Collector::default();
    let settle = Box::new(collector.clone());
    let mut done = vec![flow::run(config, context, lake, &order, Some(settle))?];
    done.extend(context.replies::<Done>()?);
    for process in &done {
        report.memory_waits += process.memory_waits;
        for (stage, seconds) in &process.stages {
            report.spend(stage, *seconds);
        }
    }
    let sorted: SortCounts = done.iter().map(|process| process.sorted).sum();
    tracing::debug!(?sorted, "sorted");
    Ok(Rewritten {
        collected: collector.take(),
        sorted,
        splits: order.groups.len() as u64,
    })
}
