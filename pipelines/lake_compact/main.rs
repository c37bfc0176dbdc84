//! `lake-compact`: the rows of Delta tables in fewer files, in an order that
//! readers can use.
//!
//! Groups of files are read, their rows divided by key range among the workers and
//! sorted there, and written as files that take the place of the old ones in one
//! commit.

mod choose;
mod collect;
mod flow;
mod job;
mod layout;
mod memory;
mod options;
mod publish;
mod tables;

use std::process::ExitCode;

use highwater::app::{self, Failure, Flags, Pipeline, RunContext};
use highwater::run::lake::open_lake;
use highwater::run::report::{
    PlanReport, RunReport, StatusReport, TablePlan, TableReport, VerifyReport,
};
use highwater::run::verify::{VerifyOptions, verify_lake};
use highwater::run::{Config, Secret, status};
use highwater::store::Store;
use job::Job;
use tables::Tables;

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
        for (name, store) in &tables.all {
            let done = compact(&config, &context, name, store, &mut report);
            report.tables.push(match done {
                Ok(table) => table,
                Err(failure) => TableReport::failed(name, failure),
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

    fn plan(&self, config: Config, context: RunContext) -> Result<PlanReport, Failure> {
        let lake = open_lake(&config)?;
        let tables = context.runtime.block_on(Tables::find(&config, &lake))?;
        let plan = |(name, store): &(String, Store)| {
            let job = context.runtime.block_on(Job::find(&config, name, store));
            match job {
                Ok(job) => job.plan(),
                Err(failure) => TablePlan {
                    name: name.clone(),
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
    name: &str,
    store: &Store,
    report: &mut RunReport,
) -> Result<TableReport, Failure> {
    let mut job = context.runtime.block_on(Job::find(config, name, store))?;
    if job.choice.sections.is_empty() {
        return Ok(job.unchanged());
    }
    context.runtime.block_on(store.check())?;
    let collected = flow::run(config, context, &job, report)?;
    if context.cancel.is_cancelled() {
        return Err(Failure::interrupted(
            "interrupted before anything was published; the table is as it was",
        ));
    }
    let published = publish::publish(&mut job, collected, context.run);
    context.runtime.block_on(published)
}
