//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use super::flags::Own;
use crate::ledger::verify::Share;
use crate::run::config::{check_memory, duration, size};
use crate::run::restore::RestoreFormat;
use crate::telemetry::logs::LogLevel;

/// What every binary understands.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 done with rows set aside,\n\
                  4 worth retrying, 5 damage found, 6 schema change refused, 11 another run is ahead,\n\
                  130 interrupted."
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) output: OutputArgs,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// How a binary talks.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct OutputArgs {
    /// How much is logged to standard error
    #[arg(
        long,
        global = true,
        value_enum,
        env = "HIGHWATER_LOG",
        hide_env_values = true,
        default_value = "normal",
        value_name = "LEVEL",
        help_heading = "Output"
    )]
    pub(super) log: LogLevel,
    /// When progress is shown; auto: bars on a terminal, else a line every few seconds
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        value_name = "WHEN",
        help_heading = "Output"
    )]
    pub(super) progress: When,
    /// Write JSON lines for programs instead of text for people
    #[arg(long, global = true, help_heading = "Output")]
    pub(super) json: bool,
}

/// When something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum When {
    /// When it makes sense
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Bring the lake up to date with its source
    Run(RunArgs),
    /// Run whenever it is due, until told to stop
    Schedule(ScheduleArgs),
    /// Run in several processes of this host, and start them again when one is lost
    Cluster(SuperviseArgs),
    /// Write a commented configuration from a live source
    Init(InitArgs),
    /// Show what a run would read and write, without doing it
    Plan(PlanArgs),
    /// Show what the lake holds, table by table
    Status(ConfigArgs),
    /// Look for damage: log chain, sizes, content; asks the lake alone
    Verify(VerifyArgs),
    /// Remove versions beyond `[retention]` and the leftovers of killed runs
    Prune(PruneArgs),
    /// Write tables of the lake back into a database or into files, and compare
    Restore(RestoreArgs),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    /// The configuration file (TOML)
    #[arg(value_name = "CONFIG", value_hint = ValueHint::FilePath, required = true)]
    pub(super) config: Option<PathBuf>,
    /// Only these tables (a glob; may be repeated); replaces `include`
    #[arg(long = "table", value_name = "GLOB")]
    pub(super) tables: Vec<String>,
    /// Flags of the pipeline's own.
    #[arg(skip)]
    pub(super) own: Own,
}

impl Verb {
    /// What names the configuration, where flags may replace it.
    pub(super) fn config_mut(&mut self) -> Option<&mut ConfigArgs> {
        match self {
            Self::Run(args) => Some(&mut args.config),
            Self::Schedule(args) => Some(&mut args.config),
            Self::Plan(args) => Some(&mut args.config),
            Self::Status(args) => Some(args),
            Self::Verify(args) => Some(&mut args.config),
            Self::Prune(args) => Some(&mut args.config),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct SizeArgs {
    /// Worker threads [default: as many as there are cores]
    #[arg(long, env = "HIGHWATER_WORKERS", hide_env_values = true, value_name = "N", value_parser = workers)]
    pub(super) workers: Option<usize>,
    /// Memory limit of the whole process, such as 256MiB [default: from the cgroup or the machine]
    #[arg(long, env = "HIGHWATER_MEMORY", hide_env_values = true, value_name = "SIZE", value_parser = memory)]
    pub(super) memory: Option<ByteSize>,
}

/// Where the processes of a run are.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Several processes")]
pub(super) struct ClusterArgs {
    /// The number of this process, from 0; process 0 decides and reports
    #[arg(
        long,
        env = "HIGHWATER_PROCESS",
        hide_env_values = true,
        value_name = "I"
    )]
    pub(super) process: Option<usize>,
    /// How many processes there are, on this host
    #[arg(long, value_name = "N", requires = "process", conflicts_with = "hosts")]
    pub(super) processes: Option<usize>,
    /// The first of their ports
    #[arg(
        long,
        value_name = "PORT",
        requires = "processes",
        default_value_t = 2101
    )]
    pub(super) base_port: u16,
    /// The processes: a file with one HOST:PORT a line, in their order
    #[arg(long, env = "HIGHWATER_HOSTS", hide_env_values = true, value_name = "FILE", requires = "process", value_hint = ValueHint::FilePath)]
    pub(super) hosts: Option<PathBuf>,
    /// A file with at least 32 secret bytes that all processes share; without it
    /// they must be on this host
    #[arg(long, env = "HIGHWATER_CLUSTER_KEY_FILE", hide_env_values = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) cluster_key_file: Option<PathBuf>,
    /// Authenticate, but do not encrypt: for a network that is trusted
    #[arg(long)]
    pub(super) cluster_plaintext: bool,
    /// How long to wait for the other processes
    #[arg(long, value_name = "SPAN", value_parser = duration::parse, default_value = "60s")]
    pub(super) join_timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct SuperviseArgs {
    /// The configuration file (TOML)
    #[arg(value_name = "CONFIG", value_hint = ValueHint::FilePath, required = true, index = 1)]
    pub(super) config: Option<PathBuf>,
    /// How many processes, on this host
    #[arg(long, value_name = "N", value_parser = workers)]
    pub(super) processes: usize,
    /// How often the processes are started again after one of them was lost
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(super) restarts: u32,
    /// What each process does
    #[arg(long, value_enum, default_value_t = Supervised::Run, value_name = "VERB")]
    pub(super) verb: Supervised,
    /// More flags for each process, after `--`: --workers, --memory, --table, ...
    #[arg(last = true, value_name = "FLAGS")]
    pub(super) flags: Vec<String>,
}

/// What processes can do together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Supervised {
    /// Bring the lake up to date
    Run,
    /// Run whenever it is due
    Schedule,
    /// Compare the lake with its source
    Verify,
}

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    #[command(flatten)]
    pub(super) size: SizeArgs,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    #[command(flatten)]
    pub(super) size: SizeArgs,
    /// Accept that tables in the lake came from another source, such as a new
    /// server with the same data: all rows are compared, what differs is merged
    #[arg(long)]
    pub(super) accept_other_source: bool,
    /// Also write the JSON report to this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) report: Option<PathBuf>,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub(super) struct ScheduleArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    #[command(flatten)]
    pub(super) size: SizeArgs,
    /// Run once, at once, unless another daemon is at it; exit as `run` does
    #[arg(long)]
    pub(super) once_now: bool,
    /// How long a run may take to end after SIGTERM [default: `schedule.grace`, or 60s]
    #[arg(long, value_name = "SPAN", value_parser = duration::parse)]
    pub(super) grace: Option<Duration>,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    /// Part of the files whose content is read: 1 for all, 0 for none, or such as
    /// 1/7, which covers everything in seven days
    #[arg(long, value_name = "SHARE", default_value = "0")]
    pub(super) share: Share,
    /// Which share is read [default: the day]; consecutive ones cover everything
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    /// Also compare all rows with the source, in one fresh snapshot of it
    #[arg(long)]
    pub(super) against_source: bool,
    /// Also decode every file, count its rows and check its statistics
    #[arg(long)]
    pub(super) full: bool,
    #[command(flatten)]
    pub(super) size: SizeArgs,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

#[derive(Debug, Args)]
pub(super) struct PruneArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    /// Only say what would go
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Age below which no file is removed, instead of seven days or twice the
    /// longest run: a run that is working LOSES the files it is about to publish
    #[arg(long, hide = true, value_name = "AGE", value_parser = duration::parse)]
    pub(super) unsafe_min_age: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The configuration file (TOML)
    #[arg(value_name = "CONFIG", value_hint = ValueHint::FilePath)]
    pub(super) config: PathBuf,
    /// The tables (globs)
    #[arg(value_name = "TABLE", required_unless_present = "all")]
    pub(super) tables: Vec<String>,
    /// All tables of the lake
    #[arg(long, conflicts_with = "tables")]
    pub(super) all: bool,
    /// postgres://USER@HOST/DATABASE, sqlite:PATH, or a folder with --format;
    /// ${NAME} is taken from the environment
    #[arg(long, value_name = "URL|DIR")]
    pub(super) to: String,
    /// Write files of this format into the folder
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(super) format: Option<RestoreFormat>,
    /// As of this version [default: the newest]
    #[arg(long, value_name = "N", conflicts_with = "at")]
    pub(super) version: Option<u64>,
    /// As of this time, such as 2026-11-21T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) at: Option<DateTime<Utc>>,
    /// Replace tables or files that are there, each as a whole
    #[arg(long)]
    pub(super) replace: bool,
    /// Give the one table another name; without a dot, in the same schema
    #[arg(long = "as", value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Also restore columns that the source has no more
    #[arg(long)]
    pub(super) with_dropped: bool,
    #[command(flatten)]
    pub(super) size: SizeArgs,
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .map_err(|_| "write it with its zone, such as 2026-11-21T10:00:00Z".to_owned())
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The source: sqlite:PATH or postgres://USER@HOST/DATABASE; ${NAME} is
    /// taken from the environment
    #[arg(value_name = "URL")]
    pub(super) url: String,
    /// Write to this file instead of standard output; it must not exist
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) output: Option<PathBuf>,
}

fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".to_owned()),
        Ok(workers) => Ok(workers),
        Err(_) => Err("a whole number is needed, such as 4".to_owned()),
    }
}

fn memory(text: &str) -> Result<ByteSize, String> {
    let memory = size::parse(text)?;
    check_memory(memory).map(|()| memory)
}
