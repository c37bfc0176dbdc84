//! The verbs that all pipeline binaries share.
//!
//! A binary implements [`Pipeline`] and calls [`main`]; everything a user
//! touches (flags, configuration, signals, messages, exit codes) is the same in
//! each of them.
//!
//! ```no_run
//! # use highwater::app::{self, Pipeline, RunContext};
//! # use highwater::run::{Config, Failure, PlanReport, RunReport, Secret, StatusReport};
//! # struct Copy;
//! # impl Pipeline for Copy {
//! #     fn name(&self) -> &'static str { "copy" }
//! #     fn about(&self) -> &'static str { "Copies." }
//! #     fn run(&self, _: Config, _: RunContext) -> Result<RunReport, Failure> { todo!() }
//! #     fn plan(&self, _: Config, _: RunContext) -> Result<PlanReport, Failure> { todo!() }
//! #     fn status(&self, _: Config, _: RunContext) -> Result<StatusReport, Failure> { todo!() }
//! #     fn init(&self, _: Secret, _: RunContext) -> Result<String, Failure> { todo!() }
//! # }
//! fn main() -> std::process::ExitCode {
//!     app::main(Copy)
//! }
//! ```

mod cli;
mod context;
mod flags;
mod members;
mod orders;
mod panics;
mod restore;
mod schedule;
mod signals;
mod supervise;
mod verbs;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

pub use crate::run::failure::{Exit, Failure};
pub use context::RunContext;
pub use flags::{Flag, Flags};

use crate::run::lake::open_lake;
use crate::run::prune::prune_lake;
use crate::run::verify::verify_lake;
use crate::run::{
    Config, PlanReport, PruneOptions, PruneReport, RestoreOptions, RestoreReport, RunReport,
    Secret, StatusReport, VerifyOptions, VerifyReport,
};
use cli::{Cli, OutputArgs};

/// One named binary.
pub trait Pipeline: Send + Sync + 'static {
    /// The binary's name.
    fn name(&self) -> &'static str;

    /// What it does, in one sentence.
    fn about(&self) -> &'static str;

    /// Flags that only this binary has, and that may stand for a file.
    fn flags(&self) -> Option<&'static Flags> {
        None
    }

    /// Whether a source and a target may be named in place of a file; they are
    /// given to [`Flags::set`] as `source` and `target`.
    fn takes_places(&self) -> bool {
        false
    }

    /// Runs to the end. Blocks: the pipeline owns its worker threads. Tables
    /// that failed are part of the report; a [`Failure`] means that there is
    /// nothing to report.
    ///
    /// # Errors
    /// What stopped the run as a whole.
    fn run(&self, config: Config, context: RunContext) -> Result<RunReport, Failure>;

    /// Does what the first process of the run orders, to the end of the run: for
    /// every process but the first. Returns the run's exit.
    ///
    /// # Errors
    /// What stopped it; a pipeline that runs in one process only says so.
    fn follow(&self, _config: Config, _context: RunContext) -> Result<Exit, Failure> {
        Err(Failure::usage(format!(
            "{} runs in one process only",
            self.name()
        )))
    }

    /// Says what a run would do, without side effects.
    ///
    /// # Errors
    /// What stopped it.
    fn plan(&self, config: Config, context: RunContext) -> Result<PlanReport, Failure>;

    /// Says what the lake holds.
    ///
    /// # Errors
    /// What stopped it.
    fn status(&self, config: Config, context: RunContext) -> Result<StatusReport, Failure>;

    /// Looks for damage in the lake.
    ///
    /// # Errors
    /// What stopped it.
    fn verify(
        &self,
        config: Config,
        options: VerifyOptions,
        context: RunContext,
    ) -> Result<VerifyReport, Failure> {
        let lake = open_lake(&config)?;
        context.runtime.block_on(verify_lake(&lake, &options))
    }

    /// Removes from the lake what retention gives up, or only says what.
    ///
    /// # Errors
    /// What stopped it.
    fn prune(
        &self,
        config: Config,
        options: PruneOptions,
        context: RunContext,
    ) -> Result<PruneReport, Failure> {
        let lake = open_lake(&config)?;
        context.runtime.block_on(prune_lake(&lake, &options))
    }

    /// Writes tables of the lake back into a database or into files.
    ///
    /// # Errors
    /// What stopped it; a pipeline that cannot restore says so.
    fn restore(
        &self,
        _config: Config,
        _options: RestoreOptions,
        _context: RunContext,
    ) -> Result<RestoreReport, Failure> {
        Err(Failure::usage(format!("{} cannot restore", self.name())))
    }

    /// Writes a commented configuration for the live source at `url`.
    ///
    /// # Errors
    /// What stopped it.
    fn init(&self, url: Secret, context: RunContext) -> Result<String, Failure>;
}

/// The whole life of a binary.
pub fn main(pipeline: impl Pipeline) -> ExitCode {
    let stderr = std::io::stderr();
    let mut terminal = Terminal {
        out: Box::new(std::io::stdout()),
        err: Box::new(std::io::stderr()),
        interactive: stderr.is_terminal(),
        whole_process: true,
    };
    ExitCode::from(start(&pipeline, std::env::args_os(), &mut terminal).code())
}

/// Where a binary writes. Tests give their own.
struct Terminal {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    /// Whether standard error is a terminal: bars may be drawn on it.
    interactive: bool,
    /// Whether signals, panics and logs of this process are ours to handle.
    whole_process: bool,
}

impl Terminal {
    /// Nobody can be told that nobody listens: errors are ignored.
    fn say(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes());
        let _ = self.out.flush();
    }

    fn say_error(&mut self, text: &str) {
        let _ = self.err.write_all(text.as_bytes());
        let _ = self.err.flush();
    }

    fn fail(&mut self, failure: &Failure, json: bool) -> Exit {
        if json {
            self.say_error(&format!("{}\n", failure.to_json()));
        } else {
            self.say_error(&failure.render());
        }
        failure.exit
    }
}

fn start(
    pipeline: &dyn Pipeline,
    args: impl IntoIterator<Item = OsString>,
    terminal: &mut Terminal,
) -> Exit {
    let cli = match parse(pipeline, args) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, terminal),
    };
    let output = OutputArgs { ..cli.output };
    if terminal.whole_process {
        panics::install(pipeline.name(), output.json);
    }
    // The hook has told of a panic already; here it only becomes an exit code.
    let verbs = std::panic::AssertUnwindSafe(|| verbs::perform(pipeline, cli, terminal));
    match std::panic::catch_unwind(verbs) {
        Ok(Ok(exit)) => exit,
        Ok(Err(failure)) => terminal.fail(&failure, output.json),
        Err(_) => Exit::Failed,
    }
}

fn parse(
    pipeline: &dyn Pipeline,
    args: impl IntoIterator<Item = OsString>,
) -> Result<Cli, clap::Error> {
    let matches = command(pipeline).try_get_matches_from(args)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    flags::keep(&mut cli.verb, pipeline.flags(), &matches);
    Ok(cli)
}

fn command(pipeline: &dyn Pipeline) -> clap::Command {
    let command = Cli::command()
        .name(pipeline.name())
        .bin_name(pipeline.name())
        .about(pipeline.about());
    flags::extend(command, pipeline.flags(), pipeline.takes_places())
}

/// Help and version go to standard output, wrong usage to standard error.
fn refuse(error: &clap::Error, terminal: &mut Terminal) -> Exit {
    let text = error.render();
    let styled = if terminal.interactive {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    if error.use_stderr() {
        terminal.say_error(&styled);
        return Exit::Usage;
    }
    terminal.say(&styled);
    Exit::Done
}

#[cfg(test)]
mod tests;
