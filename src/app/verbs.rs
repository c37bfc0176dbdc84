//! What each verb does: load, prepare, hand over to the pipeline, tell.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Runtime;

use super::cli::{
    Cli, ConfigArgs, InitArgs, OutputArgs, PlanArgs, PruneArgs, RunArgs, SizeArgs, Verb,
    VerifyArgs, When,
};
use super::context::WantedSize;
use super::members::Members;
use super::restore::restore;
use super::schedule::schedule;
use super::supervise::supervise;
use super::{Exit, Failure, Pipeline, RunContext, Terminal, command, signals};
use crate::run::load_config::{self, ConfigError, Surroundings};
use crate::run::report::TableError;
use crate::run::{Config, PruneOptions, RunReport, Secret, VerifyOptions};
use crate::telemetry::logs::{self, LogLevel};
use crate::telemetry::progress::{Progress, ProgressStyle};

/// The widest line of text for people.
pub(super) const WIDTH: usize = 100;
/// How long tasks may take to end after the run; the process ends anyway.
const GRACE: Duration = Duration::from_millis(500);

pub(super) fn perform(
    pipeline: &dyn Pipeline,
    cli: Cli,
    terminal: &mut Terminal,
) -> Result<Exit, Failure> {
    let output = cli.output;
    match cli.verb {
        Verb::Run(args) => run(pipeline, &args, output, terminal),
        Verb::Plan(args) => plan(pipeline, &args, output, terminal),
        Verb::Status(args) => status(pipeline, &args, output, terminal),
        Verb::Schedule(args) => schedule(pipeline, &args, output, terminal),
        Verb::Verify(args) => verify(pipeline, &args, output, terminal),
        Verb::Prune(args) => prune(pipeline, &args, output, terminal),
        Verb::Restore(args) => restore(pipeline, &args, output, terminal),
        Verb::Cluster(args) => supervise(&args, output),
        Verb::Init(args) => init(pipeline, &args, output, terminal),
        Verb::Schema => {
            let schema = schemars::schema_for!(Config);
            terminal.say(&format!("{:#}\n", schema.to_value()));
            Ok(Exit::Done)
        }
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(pipeline), pipeline.name(), &mut script);
            terminal.say(&String::from_utf8_lossy(&script));
            Ok(Exit::Done)
        }
    }
}

fn run(
    pipeline: &dyn Pipeline,
    args: &RunArgs,
    output: OutputArgs,
    terminal: &mut Terminal,
) -> Result<Exit, Failure> {
    let mut config = load(&args.config)?;
    config.accept_other_source |= args.accept_other_source;
    check_report_place(args.report.as_deref())?;
    let style = match args.cluster.process {
        None | Some(0) => progress_style(output, terminal.interactive),
        // The first process shows what all of them do.
        Some(_) => ProgressStyle::Nothing,
    };
    let members = Members::of(&args.cluster, pipeline.name(), &config, output)?;
    let session = Session::join(
        pipeline,
        &args.size,
        members.as_ref(),
        &config,
        style,
        output,
        terminal,
    )?;
    if !session.context.crew.place().leads() {
        return Ok(follow(pipeline, &config, session, output, terminal));
    }
    let clean = config.clone();
    let outcome = pipeline.run(config, session.context.clone());
    session.context.end(exit_of_run(&outcome));
    session.close();
    let mut report = outcome.map_err(|failure| failure.map_texts(|text| clean.scrub(text)))?;
    report.scrub(&clean);
    tell(&report, output, terminal)?;
    if let Some(failure) = report.failure() {
        terminal.fail(&failure, output.json);
    }
    if let Some(file) = &args.report {
        write_report(file, &report)?;
    }
    Ok(report.exit)
}

pub(super) fn exit_of_run(outcome: &Result<RunReport, Failure>) -> Exit {
    match outcome {
        Ok(report) => report.exit,
        Err(failure) => failure.exit,
    }
}

/// Does what the first process orders. Its exit is this one's too.
fn follow(
    pipeline: &dyn Pipeline,
    config: &Config,
    session: Session,
    output: OutputArgs,
    terminal: &mut Terminal,
) -> Exit {
    let exit = follow_orders(pipeline, config, &session.context, output, terminal);
    session.close();
    exit
}

/// The same; does not come back from an order that cannot be followed.
pub(super) fn follow_orders(
    pipeline: &dyn Pipeline,
    config: &Config,
    context: &RunContext,
    output: OutputArgs,
    terminal: &mut Terminal,
) -> Exit {
    let failure = match pipeline.follow(config.clone(), context.clone()) {
        Ok(exit) => return exit,
        Err(failure) => failure.map_texts(|text| config.scrub(text)),
    };
    context.give_up(&failure);
    context.progress.finish();
    let exit = terminal.fail(&failure, output.json);
    // Without a goodbye: the others must not take this for a clean end.
    std::process::exit(i32::from(exit.code()));
}

fn tell(report: &RunReport, output: OutputArgs, terminal: &mut Terminal) -> Result<(), Failure> {
    if output.json {
        terminal.say(&event("summary", report)?);
    } else if output.log != LogLevel::Silent || report.exit != Exit::Done {
        terminal.say(&report.render(WIDTH, output.log == LogLevel::Verbose));
    }
    Ok(())
}

fn plan(
    pipeline: &dyn Pipeline,
    args: &PlanArgs,
    output: OutputArgs,
    terminal: &mut Terminal,
) -> Result<Exit, Failure> {
    let config = load(&args.config)?;
    let session = Session::open(
        pipeline,
        &args.size,
        &config,
        ProgressStyle::Nothing,
        output,
        terminal,
    )?;
    let clean = config.clone();
    let outcome = pipeline.plan(config, session.context.clone());
    session.close();
    let mut report = outcome.map_err(|failure| failure.map_texts(|text| clean.scrub(text)))?;
    scrub(
        report.tables.iter_mut().map(|table| &mut table.error),
        &clean,
    );
    if let Some(objects) = &mut report.objects {
        objects.map_texts(|text| clean.scrub(text));
    }
    let text = if output.json {
        event("plan", &report)?
    } else {
        report.render(WIDTH)
    };
    terminal.say(&text);
    Ok(report.exit())
}

fn status(
    pipeline: &dyn Pipeline,
    args: &ConfigArgs,
    output: OutputArgs,
    terminal: &mut Terminal,
) -> Result<Exit, Failure> {
    let config = load(args)?;
    let (mut report, clean) = ask_lake(pipeline, config, output, terminal, |config, context| {
        pipeline.status(config, context)
    })?;
    scrub(
        report.tables.iter_mut().map(|table| &mut table.error),
        &clean,
    );
    let text = if output.json {
        event("lake_status", &report)?
    } else {
        report.render(WIDTH)
    };
    terminal.say(&text);
    Ok(exit_of(report.tables.iter().map(|table| &table.error)))
}

fn verify(
    pipeline: &dyn Pipeline,
    args: &VerifyArgs,
    output: OutputArgs,
    terminal: &mut Terminal,
) -> Result<Exit, Failure> {
    let config = load(&args.config)?;
    let options = VerifyOptions {
        tables: args.config.tables.clone(),
        share: args.share,
        seed: args.seed,
        full: args.full,
        against_source: args.against_source,
    };
    let members = Members::of(&args.cluster, pipeline.name(), &config, output)?;
    let style = ProgressStyle::Nothing;
    let session = Session::join(
        pipeline,
        &args.size,
        members.as_ref(),
        &config,
        style,
        output,
        terminal,
    )?;
    if !session.context.crew.place().leads() {
        return Ok(follow(pipeline, &config, session, output, terminal));
    }
    let clean = config.clone();
    let outcome = pipeline.verify(config, options, session.context.clone());
    let exit = match &outcome {
        Ok(report) => report.exit(),
        Err(failure) => failure.exit,
    };
    session.context.end(exit);
    session.close();
    let mut report = outcome.map_err(|failure| failure.map_texts(|text| clean.scrub(text)))?;
    scrub(
        report.tables.iter_mut().map(|table| &mut table.error),
        &clean,
    );
    if let Some(objects) = &mut report.objects {
        objects.map_texts(|text| clean.scrub(text));
    }
    let text = if output.json {
        event("verified", &report)?
    } else {
        report.render(WIDTH)
    };
    terminal.say(&text);
    Ok(report.exit())
}

fn prune(
    pipeline: &dyn Pipeline,
    args: &PruneArgs,
    output: OutputArgs,
    terminal: &mut Terminal,
) -> Result<Exit, Failure> {
    let config = load(&args.config)?;
    let options = PruneOptions {
        tables: args.config.tables.clone(),
        retention: config.retention.clone(),
        dry_run: args.dry_run,
        unsafe_min_age: args.unsafe_min_age,
    };
    let (mut report, clean) = ask_lake(pipeline, config, output, terminal, |config, context| {
        pipeline.prune(config, options, context)
    })?;
    scrub(
        report.tables.iter_mut().map(|table| &mut table.error),
        &clean,
    );
    let text = if output.json {
        event("pruned", &report)?
    } else {
        report.render(WIDTH)
    };
    terminal.say(&text);
    Ok(report.exit())
}

/// What a verb that asks the lake alone has to say, and the configuration that
/// knows its secrets.
fn ask_lake<T>(
    pipeline: &dyn Pipeline,
    config: Config,
    output: OutputArgs,
    terminal: &Terminal,
    ask: impl FnOnce(Config, RunContext) -> Result<T, Failure>,
) -> Result<(T, Config), Failure> {
    let size = SizeArgs {
        workers: None,
        memory: None,
    };
    ask_lake_within(&size, pipeline, config, output, terminal, ask)
}

/// The same, of a size that was asked for.
pub(super) fn ask_lake_within<T>(
    size: &SizeArgs,
    pipeline: &dyn Pipeline,
    config: Config,
    output: OutputArgs,
    terminal: &Terminal,
    ask: impl FnOnce(Config, RunContext) -> Result<T, Failure>,
) -> Result<(T, Config), Failure> {
    let session = Session::open(
        pipeline,
        size,
        &config,
        ProgressStyle::Nothing,
        output,
        terminal,
    )?;
    let clean = config.clone();
    let outcome = ask(config, session.context.clone());
    session.close();
    let report = outcome.map_err(|failure| failure.map_texts(|text| clean.scrub(text)))?;
    Ok((report, clean))
}

/// Takes secrets out of what tables have to complain of.
fn scrub<'a>(errors: impl Iterator<Item = &'a mut Option<TableError>>, config: &Config) {
    for error in errors.flatten() {
        error.map_texts(|text| config.scrub(text));
    }
}

/// The one exit of tables that each may have an error.
fn exit_of<'a>(errors: impl Iterator<Item = &'a Option<TableError>>) -> Exit {
    Exit::of_parts(errors.flatten().map(|error| error.exit))
}

fn init(
    pipeline: &dyn Pipeline,
    args: &InitArgs,
    output: OutputArgs,
    terminal: &mut Terminal,
) -> Result<Exit, Failure> {
    if let Some(file) = args.output.as_deref().filter(|file| file.exists()) {
        return Err(file_exists(file));
    }
    let url = load_config::expand(&args.url, &Surroundings::real())
        .map_err(|(message, hint)| Failure::usage(format!("URL: {message}")).hint(hint))?;
    let config = Config::new(Secret::new(url), "file:lake");
    let size = SizeArgs {
        workers: None,
        memory: None,
    };
    let session = Session::open(
        pipeline,
        &size,
        &config,
        ProgressStyle::Nothing,
        output,
        terminal,
    )?;
    let outcome = pipeline.init(config.source.clone(), session.context.clone());
    session.close();
    let text = outcome.map_err(|failure| failure.map_texts(|text| config.scrub(text)))?;
    match &args.output {
        None => terminal.say(&text),
        Some(file) => {
            write_new(file, &text)?;
            let name = pipeline.name();
            let file = file.display();
            terminal.say_error(&format!("wrote {file}; next: {name} plan {file}\n"));
        }
    }
    Ok(Exit::Done)
}

/// The configuration of the file, with what the flags replace.
pub(super) fn load(args: &ConfigArgs) -> Result<Config, Failure> {
    let mut config = match &args.config {
        Some(file) => load_config::load(file)?,
        None => args.own.base()?,
    };
    if args.own.apply(&mut config)?
        && let Some(problem) = config.problems().into_iter().next()
    {
        return Err(Failure::usage(problem.message).hint(problem.hint));
    }
    if !args.tables.is_empty() {
        config.include.clone_from(&args.tables);
        if let Some(problem) = config.problems().into_iter().next() {
            return Err(Failure::usage(format!("--table: {}", problem.message)).hint(problem.hint));
        }
    }
    Ok(config)
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let failure = Self::usage(error.to_string());
        match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// What lives while a pipeline works.
struct Session {
    context: RunContext,
    runtime: Runtime,
}

impl Session {
    /// Of this process alone.
    fn open(
        pipeline: &dyn Pipeline,
        size: &SizeArgs,
        config: &Config,
        style: ProgressStyle,
        output: OutputArgs,
        terminal: &Terminal,
    ) -> Result<Self, Failure> {
        Self::join(pipeline, size, None, config, style, output, terminal)
    }

    fn join(
        pipeline: &dyn Pipeline,
        size: &SizeArgs,
        members: Option<&Members>,
        config: &Config,
        style: ProgressStyle,
        output: OutputArgs,
        terminal: &Terminal,
    ) -> Result<Self, Failure> {
        let wanted = WantedSize::new(size, config);
        let progress = Progress::start(style);
        if terminal.whole_process {
            logs::start(output.log, output.json, pipeline.name(), &progress);
        }
        let (context, runtime) = RunContext::create(wanted, members, progress)?;
        if terminal.whole_process {
            let watch = signals::watch_signals(context.cancel.clone(), context.progress.clone());
            runtime.spawn(watch);
        }
        if !context.crew.place().leads() {
            context.pass_on(context.cancel.clone());
        }
        for warning in &context.warnings {
            tracing::warn!("{warning}");
        }
        Ok(Self { context, runtime })
    }

    fn close(self) {
        self.context.progress.finish();
        // A task that hangs must not keep the process.
        self.runtime.shutdown_timeout(GRACE);
    }
}

fn progress_style(output: OutputArgs, interactive: bool) -> ProgressStyle {
    match (output.progress, output.json, interactive) {
        (When::Never, _, _) => ProgressStyle::Nothing,
        (_, true, _) => ProgressStyle::Json,
        (When::Auto, _, _) if output.log == LogLevel::Silent => ProgressStyle::Nothing,
        (_, false, true) => ProgressStyle::Bars,
        (_, false, false) => ProgressStyle::Lines,
    }
}

/// One line of JSON, with the name of the event first.
pub(super) fn event(name: &str, report: &impl Serialize) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Event<'a, T> {
        event: &'a str,
        #[serde(flatten)]
        report: &'a T,
    }
    serde_json::to_string(&Event {
        event: name,
        report,
    })
    .map(|line| line + "\n")
    .map_err(|error| Failure::failed("cannot write the report as JSON").caused_by(&error))
}

/// Known before the run, not after hours of it.
fn check_report_place(file: Option<&Path>) -> Result<(), Failure> {
    let Some(file) = file else { return Ok(()) };
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    if folder.is_dir() && !file.is_dir() {
        return Ok(());
    }
    Err(
        Failure::usage(format!("--report: cannot write {}", file.display()))
            .because(if file.is_dir() {
                "it is a folder"
            } else {
                "its folder does not exist"
            })
            .hint("name a file in a folder that exists"),
    )
}

fn write_report(file: &Path, report: &RunReport) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(report)
        .map_err(|error| Failure::failed("cannot write the report as JSON").caused_by(&error))?;
    std::fs::write(file, text + "\n").map_err(|error| {
        Failure::failed(format!("cannot write the report to {}", file.display()))
            .caused_by(&error)
            .hint("the run itself is done; the report is also in the lake, under _highwater/runs/")
    })
}

fn write_new(file: &Path, text: &str) -> Result<(), Failure> {
    let mut opened = match OpenOptions::new().write(true).create_new(true).open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(file_exists(file));
        }
        Err(error) => return Err(cannot_write(file, &error)),
    };
    opened
        .write_all(text.as_bytes())
        .map_err(|error| cannot_write(file, &error))
}

fn file_exists(file: &Path) -> Failure {
    Failure::usage(format!("{} exists already", file.display()))
        .hint("name another file, or remove this one")
}

fn cannot_write(file: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("cannot write {}", file.display()))
        .caused_by(error)
        .hint("check the path and its permissions")
}
