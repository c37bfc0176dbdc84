//! `paper-index`: documents become text, text becomes chunks, chunks become vectors.
//!
//! What differs from the lake is read, made text in processes of its own, and cut where
//! the text itself says; a chunk that is known keeps its vector, a new one gets one. The
//! lake has the chunks of each document as long as the document is there, and a vector
//! store may have them, too, always after the lake.

mod chroma;
mod flow;
mod index;
mod instance;
mod memory;
mod model;
mod publish;
mod reading;
mod search;
mod shown;
mod source;
mod vectors;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use highwater::app::{self, Answer, Failure, Flag, Flags, Given, OwnVerb, Pipeline, RunContext};
use highwater::run::config::{InstanceConfig, PapersConfig};
use highwater::run::lake::open_lake;
use highwater::run::report::{PlanReport, RunReport, StatusReport, TableReport};
use highwater::run::stages::Stages;
use highwater::run::status::lake_status;
use highwater::run::{Config, Secret};
use highwater_operators::transform::extract;
use index::{Indexed, Shared};
use instance::Instance;
use memory::Memory;
use model::Model;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The same program, started anew, reads documents: nothing else of it is used then.
    if std::env::args().nth(1).as_deref() == Some(extract::ARGUMENT) {
        return extract::serve();
    }
    app::main(PaperIndex::default())
}

/// The pipeline.
#[derive(Default)]
struct PaperIndex {
    /// When the run began that was the last to make an instance as it should be, of those
    /// of this process: `schedule` runs the same pipeline again and again.
    done: Mutex<BTreeMap<String, Instant>>,
}

/// Flags that may stand for a file.
static FLAGS: Flags = Flags {
    all: &[
        Flag::new(
            "name",
            "NAME",
            "What the instance is called [default: documents]",
        ),
        Flag::new(
            "model-dir",
            "DIR",
            "The folder of the model's files [default: the local cache]",
        ),
        Flag::new(
            "chroma",
            "URL",
            "Also keep a collection of this Chroma server: http://localhost:8000",
        ),
        Flag::new(
            "collection",
            "NAME",
            "The collection [default: the instance's name]",
        ),
    ],
    base,
    set,
};

/// Verbs of its own.
static VERBS: [OwnVerb; 2] = [
    OwnVerb {
        name: "search",
        about: "Show the chunks of the lake that are nearest to some words",
        takes_config: true,
        words: &[Flag::new("words", "WORDS", "What to look for")],
        flags: &[Flag::new("top", "N", "How many chunks [default: 10]")],
    },
    OwnVerb {
        name: "model",
        about: "Fetch the model's files into the local cache (pull), or check them (check)",
        takes_config: false,
        words: &[Flag::new("what", "pull|check", "What to do")],
        flags: &[Flag::new(
            "model-dir",
            "DIR",
            "The folder of the files [default: the local cache]",
        )],
    },
];

fn base() -> Config {
    Config {
        papers: Some(PapersConfig::default()),
        ..Config::new(Secret::default(), "")
    }
}

fn set(config: &mut Config, flag: &str, values: &[String]) -> Result<(), Failure> {
    let first = values.first().cloned().unwrap_or_default();
    match flag {
        "source" => config.source = Secret::new(place(&first)),
        "target" => config.lake = place(&first),
        "model-dir" => config.papers.get_or_insert_default().model_dir = Some(first.into()),
        "name" => {
            let only = only_instance(config)?.clone();
            config.instances = [(first, only)].into();
        }
        "chroma" => only_instance(config)?.chroma = Some(Secret::new(first)),
        "collection" => only_instance(config)?.collection = Some(first),
        other => {
            return Err(Failure::failed(format!(
                "--{other} is not known; please report this"
            )));
        }
    }
    Ok(())
}

/// A URL as it is; anything else is a local folder.
fn place(text: &str) -> String {
    let is_url = ["file:", "table:", "sqlite:"]
        .iter()
        .any(|scheme| text.starts_with(scheme));
    match text.contains("://") || is_url {
        true => text.to_owned(),
        false => format!("file:{text}"),
    }
}

/// The instance that a flag means.
fn only_instance(config: &mut Config) -> Result<&mut InstanceConfig, Failure> {
    if config.instances.is_empty() {
        config.instances = instance::instances(config)?;
    }
    match config.instances.len() {
        1 => Ok(()),
        _ => Err(
            Failure::usage("this flag is for a configuration of one instance")
                .hint("write it in the file, under [instances.NAME]"),
        ),
    }?;
    let only = config.instances.values_mut().next();
    only.ok_or_else(|| Failure::failed("there is no instance; please report this"))
}

/// What the clock and the jitter of a schedule may take off the time between two runs.
fn slack(every: Duration) -> Duration {
    (every / 10).clamp(Duration::from_secs(1), Duration::from_secs(60))
}

impl PaperIndex {
    /// Whether an instance is to be looked at by a run that began at `now`.
    fn is_due(&self, name: &str, instance: &InstanceConfig, now: Instant) -> bool {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        match (done.get(name), instance.every) {
            (Some(then), Some(every)) => now.duration_since(*then) + slack(every) >= every,
            _ => true,
        }
    }

    /// Takes note of an instance that is as it should be since a run that began at `now`:
    /// one that failed is due again.
    fn remember_done(&self, name: &str, now: Instant) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.insert(name.to_owned(), now);
    }

    /// One instance, into the report; its failure is its own, and the others go on. Whether
    /// it and its collection are as they should be.
    fn index(
        &self,
        shared: &mut Shared<'_>,
        name: &str,
        config: &InstanceConfig,
        report: &mut RunReport,
    ) -> bool {
        let context = shared.context;
        let indexed = Instance::open(name, config, shared.config, context).and_then(|instance| {
            let mut indexed = shared.index(&instance)?;
            if indexed.table.error.is_none() {
                indexed.documents.chroma = chroma::sync(&instance, context);
            }
            report.retries += instance.retries.made();
            Ok(indexed)
        });
        match indexed {
            Ok(Indexed { table, documents }) => {
                let behind = documents.chroma.as_ref().and_then(|it| it.error.as_ref());
                let is_done = table.error.is_none() && behind.is_none();
                report.tables.push(table);
                report.documents.push(documents);
                is_done
            }
            Err(failure) => {
                report.tables.push(TableReport::failed(name, failure));
                false
            }
        }
    }

    fn share<'a>(
        config: &'a Config,
        papers: &PapersConfig,
        context: &'a RunContext,
    ) -> Result<Shared<'a>, Failure> {
        let lake = open_lake(config)?;
        let vectors = context.runtime.block_on(vectors::count(&lake))?;
        let memory = Memory::divide(config, papers, context, &lake, vectors)?;
        Ok(Shared {
            memory,
            model: Model::of(papers),
            vectors: None,
            stages: Arc::new(Stages::default()),
            warnings: Vec::new(),
            config,
            context,
        })
    }
}

impl Pipeline for PaperIndex {
    fn name(&self) -> &'static str {
        "paper-index"
    }

    fn about(&self) -> &'static str {
        "Makes documents text and vectors, embedding only what has changed."
    }

    fn flags(&self) -> Option<&'static Flags> {
        Some(&FLAGS)
    }

    fn takes_places(&self) -> bool {
        true
    }

    fn verbs(&self) -> &'static [OwnVerb] {
        &VERBS
    }

    fn perform(
        &self,
        verb: &str,
        given: &Given,
        config: Config,
        context: RunContext,
    ) -> Result<Answer, Failure> {
        match verb {
            "search" => search::search(given, &config, &context),
            _ => model::manage(given, &context),
        }
    }

    fn run(&self, config: Config, context: RunContext) -> Result<RunReport, Failure> {
        let papers = config.papers.clone().unwrap_or_default();
        let mut shared = Self::share(&config, &papers, &context)?;
        let lake = open_lake(&config)?;
        let mut report = RunReport::new(
            context.run,
            self.name(),
            lake.url().as_str(),
            context.started,
            context.memory_limit.as_u64(),
        );
        report.warnings.clone_from(&context.warnings);
        let now = Instant::now();
        for (name, one) in instance::instances(&config)? {
            if !self.is_due(&name, &one, now) {
                continue;
            }
            let is_done = self.index(&mut shared, &name, &one, &mut report);
            if context.cancel.is_cancelled() {
                break;
            }
            if is_done {
                self.remember_done(&name, now);
            }
        }
        shared.warn_of_left_out();
        report.warnings.append(&mut shared.warnings);
        report.seconds = shared.stages.seconds();
        report.memory_waits = shared.memory.reading.waits();
        report.conclude(context.started, chrono::Utc::now());
        context.record(&config, &lake, &mut report);
        Ok(report)
    }

    fn plan(&self, config: Config, context: RunContext) -> Result<PlanReport, Failure> {
        let papers = config.papers.clone().unwrap_or_default();
        let shared = Self::share(&config, &papers, &context)?;
        let mut documents = Vec::new();
        let mut sources = Vec::new();
        for (name, one) in instance::instances(&config)? {
            let instance = Instance::open(&name, &one, &config, &context)?;
            sources.push(instance.source.url());
            documents.push(shared.plan(&instance)?);
        }
        Ok(PlanReport {
            pipeline: self.name().to_owned(),
            source: sources.join(", "),
            lake: open_lake(&config)?.url().to_string(),
            tables: Vec::new(),
            objects: None,
            documents,
            memory: context.memory_plan(),
            warnings: context.warnings.clone(),
        })
    }

    fn status(&self, config: Config, context: RunContext) -> Result<StatusReport, Failure> {
        let lake = open_lake(&config)?;
        context.runtime.block_on(lake_status(&lake))
    }

    fn init(&self, _url: Secret, _context: RunContext) -> Result<String, Failure> {
        let what = "paper-index needs no configuration for one source";
        Err(Failure::usage(what).hint("run SOURCE LAKE, or begin with examples/paper-index.toml"))
    }
}
