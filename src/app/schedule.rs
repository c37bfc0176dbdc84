//! The verb `schedule`: the world of [`run::schedule`](crate::run::schedule) as
//! it is, with a pipeline, signals, a store and a terminal.

mod renewing;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

use self::renewing::Renewing;
use super::cli::{OutputArgs, ScheduleArgs, When};
use super::context::WantedSize;
use super::members::Members;
use super::{Exit, Failure, Pipeline, RunContext, Terminal, signals, verbs};
use crate::cancel::Cancel;
use crate::run::config::duration;
use crate::run::schedule::{
    self, Attempt, Held, LastRun, Lease, Ran, RunLine, Taking, Timetable, Turn, Turns, World,
};
use crate::run::{Config, RunReport};
use crate::store::Store;
use crate::telemetry::logs::{self, LogLevel};
use crate::telemetry::progress::{Progress, ProgressStyle};
use crate::telemetry::units;

/// How long tasks of a run may take to end after it.
const AFTER_RUN: Duration = Duration::from_millis(500);
/// The pause after a failure to read the lake at the start.
const START_PAUSE: Duration = Duration::from_secs(5);

/// Keeps the schedule of a configuration, or runs once under its lease.
pub(super) fn schedule(
    pipeline: &dyn Pipeline,
    args: &ScheduleArgs,
    output: OutputArgs,
    terminal: &mut Terminal,
) -> Result<Exit, Failure> {
    let config = verbs::load(&args.config)?;
    let members = Members::of(&args.cluster, pipeline.name(), &config, output)?;
    if args.cluster.process.is_some_and(|process| process > 0)
        && let Some(members) = members
    {
        return follow_schedule(pipeline, config, &members, args, output, terminal);
    }
    let table = Timetable::of(&config)?;
    let grace = args.grace.unwrap_or(config.schedule.grace);
    let mut daemon = Daemon::open(pipeline, config, args, output, terminal)?;
    daemon.members = members;
    daemon.heed_signals(grace);
    let outcome = match table {
        _ if args.once_now => Ok(daemon.once_now()),
        Some(table) => daemon.keep(table).map(|()| Exit::Done),
        None => Err(Failure::usage(format!(
            "{}: there is no schedule",
            args.config
                .config
                .as_deref()
                .unwrap_or(Path::new("flags"))
                .display()
        ))
        .hint("add [schedule] with every = \"15m\" or cron = \"0 2 * * *\", or use --once-now")),
    };
    daemon.runtime.shutdown_timeout(AFTER_RUN);
    outcome
}

/// Joins every run of a schedule that another process keeps, until told to stop.
fn follow_schedule(
    pipeline: &dyn Pipeline,
    config: Config,
    members: &Members,
    args: &ScheduleArgs,
    output: OutputArgs,
    terminal: &mut Terminal,
) -> Result<Exit, Failure> {
    let daemon = Daemon::open(pipeline, config, args, output, terminal)?;
    let grace = args.grace.unwrap_or(daemon.config.schedule.grace);
    daemon.heed_signals(grace);
    daemon.stop_while_idle();
    while !daemon.cancel.is_cancelled() {
        let progress = Progress::hidden();
        let wanted = daemon.wanted.clone();
        let (context, runtime) = match RunContext::create(wanted, Some(members), progress) {
            Ok(joined) => joined,
            // The next run is not due yet, or the first process starts again.
            Err(failure) if failure.exit == Exit::Retry => continue,
            Err(failure) => return Err(failure),
        };
        daemon.busy.store(true, Ordering::Relaxed);
        context.pass_on(daemon.cancel.clone());
        verbs::follow_orders(pipeline, &daemon.config, &context, output, daemon.terminal);
        drop(context);
        runtime.shutdown_timeout(AFTER_RUN);
        daemon.busy.store(false, Ordering::Relaxed);
    }
    daemon.runtime.shutdown_timeout(AFTER_RUN);
    Ok(Exit::Done)
}

/// A daemon, from its start to its end.
struct Daemon<'a> {
    pipeline: &'a dyn Pipeline,
    config: Config,
    wanted: WantedSize,
    /// The processes of each run, where there are several.
    members: Option<Members>,
    /// Whether a run is being followed.
    busy: Arc<AtomicBool>,
    lease: Lease,
    style: ProgressStyle,
    output: OutputArgs,
    terminal: &'a mut Terminal,
    /// Set when the daemon is to end.
    cancel: Cancel,
    /// Where the lease is renewed while a run has the main thread.
    runtime: Runtime,
}

impl<'a> Daemon<'a> {
    fn open(
        pipeline: &'a dyn Pipeline,
        config: Config,
        args: &ScheduleArgs,
        output: OutputArgs,
        terminal: &'a mut Terminal,
    ) -> Result<Self, Failure> {
        let options = config.store.iter();
        let options = options.map(|(key, value)| (key.clone(), value.expose().to_owned()));
        let lake = Store::open(&config.lake, &options.collect())?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("schedule")
            .enable_all()
            .build()
            .map_err(|error| Failure::failed("cannot start a thread").caused_by(&error))?;
        let style = match (output.progress, output.json) {
            (When::Always, false) => ProgressStyle::Lines,
            (When::Always, true) => ProgressStyle::Json,
            (When::Auto | When::Never, _) => ProgressStyle::Nothing,
        };
        let wanted = WantedSize::new(&args.size, &config);
        // What cannot work is said now, not when the first run is due.
        let (_, trial) = RunContext::create(wanted.clone(), None, Progress::hidden())?;
        trial.shutdown_background();
        Ok(Self {
            pipeline,
            wanted,
            members: None,
            busy: Arc::default(),
            config,
            lease: Lease::new(lake),
            style,
            output,
            terminal,
            cancel: Cancel::new(),
            runtime,
        })
    }

    /// The first signal asks the run to end; what has not ended after `grace` is
    /// abandoned, which is safe at any instant.
    fn heed_signals(&self, grace: Duration) {
        if !self.terminal.whole_process {
            return;
        }
        let progress = Progress::hidden();
        logs::start(
            self.output.log,
            self.output.json,
            self.pipeline.name(),
            &progress,
        );
        let watch = signals::watch_signals(self.cancel.clone(), progress);
        self.runtime.spawn(watch);
        let cancel = self.cancel.clone();
        self.runtime.spawn(async move {
            cancel.cancelled().await;
            tokio::time::sleep(grace).await;
            tracing::error!(
                "the run has not ended within {} and is abandoned; what is committed stays",
                duration::text(grace)
            );
            std::process::exit(i32::from(Exit::Interrupted.code()));
        });
    }

    /// Ends the process at the first signal unless it is following a run.
    fn stop_while_idle(&self) {
        let (cancel, busy) = (self.cancel.clone(), Arc::clone(&self.busy));
        self.runtime.spawn(async move {
            cancel.cancelled().await;
            if !busy.load(Ordering::Relaxed) {
                std::process::exit(i32::from(Exit::Done.code()));
            }
        });
    }

    fn keep(&mut self, table: Timetable) -> Result<(), Failure> {
        let Some(done) = self.last_done()? else {
            return Ok(());
        };
        let mut turns = Turns::new(table.clone(), &self.config.schedule, done, self.now());
        let next = turns.next().map_or("never".to_owned(), schedule::spell);
        self.say(&format!("schedule: {}; next at {next}", table.words()));
        let config = self.config.clone();
        schedule::keep(self, &mut turns)
            .map_err(|failure| failure.map_texts(|text| config.scrub(text)))
    }

    /// The last turn that was done, from the lake; `None` when asked to stop
    /// before it could be read. A lake that cannot be reached is waited for.
    #[expect(clippy::option_option, reason = "asked to stop, or never run")]
    fn last_done(&mut self) -> Result<Option<Option<DateTime<Utc>>>, Failure> {
        loop {
            let read = async {
                tokio::select! {
                    note = self.lease.note() => Some(note),
                    () = self.cancel.cancelled() => None,
                }
            };
            match self.runtime.block_on(read) {
                None => return Ok(None),
                Some(Ok(note)) => return Ok(Some(note.done)),
                Some(Err(error)) if error.is_retryable() => {
                    self.terminal.fail(&error.into(), self.output.json);
                    let pause = START_PAUSE.mul_f64(0.5 + self.random());
                    if self.rest(pause) {
                        return Ok(None);
                    }
                }
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }

    fn once_now(&mut self) -> Exit {
        let began = self.now();
        let attempt = self.attempt_turn(None);
        let line = schedule::line(None, began, &attempt, None);
        self.tell(&line, schedule::failure(&attempt).as_ref());
        Exit::ALL
            .into_iter()
            .find(|exit| exit.code() == line.exit)
            .unwrap_or(Exit::Failed)
    }

    /// Takes the lease, runs, gives it back.
    fn attempt_turn(&mut self, turn: Option<&Turn>) -> Attempt {
        let run = Uuid::now_v7();
        let held = match self.runtime.block_on(self.lease.take(turn, run)) {
            Ok(Taking::Taken(held)) => *held,
            Ok(Taking::Held(holder)) => return Attempt::Held(holder.to_string()),
            Ok(Taking::Done(_)) => return Attempt::Done,
            Err(error) => return Attempt::Refused(error.into()),
        };
        match self.run(run, held, turn) {
            Ok(ran) => Attempt::Ran(Box::new(ran)),
            Err(failure) => Attempt::Refused(failure),
        }
    }

    fn run(&self, run: Uuid, held: Held, turn: Option<&Turn>) -> Result<Ran, Failure> {
        let progress = Progress::start(self.style);
        let (mut context, runtime) =
            RunContext::create(self.wanted.clone(), self.members.as_ref(), progress)?;
        if self.members.is_none() {
            context.run = run;
        }
        let (started, since) = (context.started, Instant::now());
        let renewing = Renewing::start(&self.runtime, held, &context.cancel, &self.cancel);
        let (config, shown) = (self.config.clone(), context.progress.clone());
        let outcome = self.pipeline.run(config, context.clone());
        context.end(verbs::exit_of_run(&outcome));
        drop(context);
        shown.finish();
        runtime.shutdown_timeout(AFTER_RUN);
        let mut ran = ran(run, started, outcome, &self.config);
        ran.seconds = since.elapsed().as_millis() as f64 / 1e3;
        let (held, ours) = renewing.end(&self.runtime);
        if !ours {
            ran.exit = Exit::Overtaken;
        }
        if let Some(held) = held {
            self.release(held, turn, &ran);
        }
        Ok(ran)
    }

    /// Says in the lake how it went. A turn that was interrupted, or is worth
    /// retrying, is still to be done: by whoever comes first.
    fn release(&self, held: Held, turn: Option<&Turn>, ran: &Ran) {
        let over = !matches!(ran.exit, Exit::Retry | Exit::Interrupted);
        let due = turn.map_or(ran.started, |turn| turn.due);
        let last = LastRun {
            run: ran.run,
            due: schedule::spell(due),
            started: schedule::spell(ran.started),
            seconds: ran.seconds,
            exit: ran.exit.code(),
        };
        let released = held.release(over.then_some(due), last);
        if let Err(error) = self.runtime.block_on(released) {
            tracing::warn!("the lease was not given back; it expires by itself: {error}");
        }
    }

    fn say(&mut self, text: &str) {
        if !self.output.json && self.output.log != LogLevel::Silent {
            self.terminal.say_error(&format!("{text}\n"));
        }
    }
}

impl World for Daemon<'_> {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn random(&mut self) -> f64 {
        fastrand::f64()
    }

    fn rest(&mut self, span: Duration) -> bool {
        let rested = async {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => true,
                () = tokio::time::sleep(span) => false,
            }
        };
        self.runtime.block_on(rested)
    }

    fn attempt(&mut self, turn: &Turn) -> Attempt {
        self.attempt_turn(Some(turn))
    }

    fn tell(&mut self, line: &RunLine, failure: Option<&Failure>) {
        let clean = |text: &str| self.config.scrub(text);
        let mut line = line.clone();
        line.message = line.message.as_deref().map(clean);
        if let Some(failure) = failure {
            let failure = failure.clone().map_texts(clean);
            self.terminal.fail(&failure, self.output.json);
        }
        match serde_json::to_string(&line) {
            Ok(text) => self.terminal.say(&format!("{text}\n")),
            Err(error) => tracing::error!(%error, "a line cannot be written as JSON"),
        }
        let text = in_words(&line);
        self.say(&text);
    }
}

/// The line for people.
fn in_words(line: &RunLine) -> String {
    let next = line.next.as_deref().map(|next| format!("; next at {next}"));
    let what = match line.run {
        None => "nothing was run".to_owned(),
        Some(run) => format!(
            "run {run}: exit {}, {}, {} in {}",
            line.exit,
            units::counted(line.tables, "table"),
            units::counted(line.rows, "row"),
            units::duration(Duration::try_from_secs_f64(line.seconds).unwrap_or_default()),
        ),
    };
    format!("{} {what}{}", line.started, next.unwrap_or_default())
}

fn ran(
    run: Uuid,
    started: DateTime<Utc>,
    outcome: Result<RunReport, Failure>,
    config: &Config,
) -> Ran {
    let clean = |failure: Failure| failure.map_texts(|text| config.scrub(text));
    let nothing = Ran {
        run,
        started,
        seconds: 0.0,
        exit: Exit::Done,
        tables: 0,
        rows: 0,
        failure: None,
        hopeless: false,
    };
    match outcome {
        Ok(report) => Ran {
            exit: report.exit,
            tables: report.totals.tables,
            rows: report.totals.rows,
            failure: report.failure().map(clean),
            ..nothing
        },
        // A table that is configured wrongly is reported; the others are kept.
        Err(failure) => Ran {
            exit: failure.exit,
            hopeless: failure.exit == Exit::Usage,
            failure: Some(clean(failure)),
            ..nothing
        },
    }
}
