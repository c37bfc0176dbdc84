//! `object-sync`: one place of objects becomes equal to another.
//!
//! Both are listed side by side, range by range of keys; what differs is copied
//! while the listing goes on, as much at once as the stores take and the memory
//! pays for; what was copied is recorded in the target, epoch by epoch.

mod flow;
mod memory;
mod options;
mod pack;
mod places;
mod record;
mod remove;
mod shown;
mod sides;
mod sync;
mod threads;
mod together;

use std::process::ExitCode;

use highwater::app::{self, Exit, Failure, Flags, Pipeline, RunContext};
use highwater::run::report::{
    ObjectsStatus, PlanReport, RunReport, StatusReport, TableStatus, VerifyReport,
};
use highwater::run::{Config, PruneOptions, PruneReport, Secret, VerifyOptions};
use record::Record;
use sides::Sides;
use sync::{Doing, SyncRun};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    app::main(ObjectSync)
}

/// The pipeline.
struct ObjectSync;

impl Pipeline for ObjectSync {
    fn name(&self) -> &'static str {
        "object-sync"
    }

    fn about(&self) -> &'static str {
        "Makes one place of objects equal to another: folders, S3, GCS, Azure."
    }

    fn flags(&self) -> Option<&'static Flags> {
        Some(&options::FLAGS)
    }

    fn takes_places(&self) -> bool {
        true
    }

    fn run(&self, config: Config, context: RunContext) -> Result<RunReport, Failure> {
        let sync = SyncRun::open(&config, &context)?;
        let mut report = RunReport::new(
            context.run,
            self.name(),
            sync.sides.target.url(),
            context.started,
            context.memory_limit.as_u64(),
        );
        report.warnings.clone_from(&context.warnings);
        report.warnings.extend(sync.sides.notes(&sync.objects));
        let doing = match sync.objects.dry_run {
            true => Doing::Compare,
            false => Doing::Copy,
        };
        let objects = sync.run(doing)?;
        report.retries = objects.retries;
        report.objects = Some(Box::new(objects));
        report.conclude(context.started, chrono::Utc::now());
        Ok(report)
    }

    fn follow(&self, config: Config, context: RunContext) -> Result<Exit, Failure> {
        together::follow(&config, &context)
    }

    fn plan(&self, config: Config, context: RunContext) -> Result<PlanReport, Failure> {
        let sync = SyncRun::open(&config, &context)?;
        let plan = sync.run(Doing::Compare)?;
        let mut warnings = context.warnings.clone();
        warnings.extend(sync.sides.notes(&sync.objects));
        drop(sync);
        Ok(PlanReport {
            pipeline: self.name().to_owned(),
            source: plan.source.clone(),
            lake: plan.target.clone(),
            tables: Vec::new(),
            objects: Some(Box::new(plan)),
            documents: Vec::new(),
            memory: context.memory_plan(),
            warnings,
        })
    }

    fn status(&self, config: Config, context: RunContext) -> Result<StatusReport, Failure> {
        let objects = config.objects.clone().unwrap_or_default();
        let sides = Sides::open(&config, &objects, &context)?;
        let folder = sides
            .packed
            .as_ref()
            .map_or(&sides.record, |packed| &packed.store);
        let record = Record::open(folder, sides.source.url(), context.run);
        let record = context.runtime.block_on(record)?;
        let recorded = record.head().map(|head| TableStatus {
            name: match &sides.packed {
                Some(_) => "objects".to_owned(),
                None => "_highwater/objects".to_owned(),
            },
            version: Some(head.version),
            rows: head.rows,
            files: head.files,
            bytes: head.bytes,
            last_run: Some(head.at.clone()),
            sees_deletes: true,
            ..TableStatus::default()
        });
        Ok(StatusReport {
            lake: sides.target.url().to_owned(),
            tables: recorded.into_iter().collect(),
            objects: Some(match &sides.packed {
                Some(_) => ObjectsStatus::Packed,
                None => ObjectsStatus::Recorded,
            }),
            schedule: None,
            warnings: Vec::new(),
        })
    }

    /// Compares both sides again.
    fn verify(
        &self,
        config: Config,
        _options: VerifyOptions,
        context: RunContext,
    ) -> Result<VerifyReport, Failure> {
        let sync = SyncRun::open(&config, &context)?;
        let compared = sync.run(Doing::Compare)?;
        Ok(VerifyReport {
            lake: compared.target.clone(),
            share: "listings".to_owned(),
            objects: Some(Box::new(compared)),
            ..VerifyReport::default()
        })
    }

    fn prune(
        &self,
        _config: Config,
        _options: PruneOptions,
        _context: RunContext,
    ) -> Result<PruneReport, Failure> {
        let what = "object-sync keeps no versions that could be pruned";
        Err(Failure::usage(what).hint("`run --delete` removes what the source has not"))
    }

    fn init(&self, _url: Secret, _context: RunContext) -> Result<String, Failure> {
        let what = "object-sync needs no configuration";
        Err(Failure::usage(what).hint("run SOURCE TARGET, or begin with examples/object-sync.toml"))
    }
}
