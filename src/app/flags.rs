//! Flags that only one binary has: each replaces something in the configuration,
//! and together they may stand for a file.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::cli::Verb;
use crate::run::{Config, Failure};

/// One flag of a pipeline's own; it may be repeated, and its values have commas
/// between them.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its name, without dashes.
    pub name: &'static str,
    /// What its value is called; empty for a flag that stands for itself.
    pub value: &'static str,
    /// What it does.
    pub help: &'static str,
}

impl Flag {
    /// A flag by its name, what its value is called (empty: a switch), and what it
    /// does.
    #[must_use]
    pub const fn new(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { name, value, help }
    }
}

/// The flags of a pipeline's own, on all verbs that take a configuration.
#[derive(Debug, Clone, Copy)]
pub struct Flags {
    /// The flags.
    pub all: &'static [Flag],
    /// What the flags change where no file is named.
    pub base: fn() -> Config,
    /// Puts the values of one flag into the configuration.
    pub set: fn(&mut Config, &str, &[String]) -> Result<(), Failure>,
}

/// What the user gave of these flags.
#[derive(Debug, Clone, Default)]
pub(super) struct Own {
    flags: Option<&'static Flags>,
    given: Vec<(&'static str, Vec<String>)>,
}

const VERBS: [&str; 6] = ["run", "schedule", "plan", "status", "verify", "prune"];

/// The second of two places that stand for a file.
const TARGET: &str = "target-place";

/// The command with the pipeline's own flags; `places` says whether a source and a
/// target may stand for a file.
pub(super) fn extend(mut command: Command, flags: Option<&'static Flags>, places: bool) -> Command {
    let Some(flags) = flags else { return command };
    for verb in VERBS {
        command = command.mut_subcommand(verb, |verb| {
            let verb = verb.mut_arg("config", |config| config.required(false));
            let known: Vec<String> = verb
                .get_arguments()
                .filter_map(|arg| arg.get_long().map(str::to_owned))
                .collect();
            let new = flags
                .all
                .iter()
                .filter(|flag| !known.contains(&flag.name.to_owned()));
            let verb = verb.args(new.map(argument));
            if !places {
                return verb;
            }
            let help = "The configuration file (TOML); or the source, before the target";
            verb.mut_arg("config", |config| {
                config.value_name("CONFIG|SOURCE").help(help)
            })
            .arg(
                Arg::new(TARGET)
                    .index(2)
                    .value_name("TARGET")
                    .requires("config")
                    .help("Where objects are copied to: a folder or a URL"),
            )
        });
    }
    // Each process is given them, after `--`.
    command.mut_subcommand("cluster", |verb| {
        verb.mut_arg("config", |config| config.required(false))
    })
}

fn argument(flag: &Flag) -> Arg {
    let arg = Arg::new(flag.name)
        .long(flag.name)
        .help(flag.help)
        .help_heading("In place of the configuration");
    match flag.value {
        "" => arg.action(ArgAction::SetTrue),
        value => arg.value_name(value).action(ArgAction::Append),
    }
}

/// Keeps what the user gave beside the name of the file.
pub(super) fn keep(verb: &mut Verb, flags: Option<&'static Flags>, matches: &ArgMatches) {
    let (Some(flags), Some(config), Some((_, matches))) =
        (flags, verb.config_mut(), matches.subcommand())
    else {
        return;
    };
    let given = flags.all.iter().filter_map(|flag| {
        if flag.value.is_empty() {
            let is_set = matches.try_get_one::<bool>(flag.name).ok().flatten();
            return is_set.filter(|set| **set).map(|_| (flag.name, Vec::new()));
        }
        // Not every verb has every flag.
        let texts = matches.try_get_many::<String>(flag.name).ok().flatten()?;
        let values = texts.flat_map(|text| text.split(','));
        let values = values.map(|value| value.trim().to_owned());
        Some((flag.name, values.collect()))
    });
    let mut given: Vec<(&'static str, Vec<String>)> = given.collect();
    let target = matches.try_get_one::<String>(TARGET).ok().flatten();
    if let Some(target) = target {
        let source = config.config.take().unwrap_or_default();
        let source = source.to_string_lossy().into_owned();
        given.insert(0, ("source", vec![source]));
        given.insert(1, ("target", vec![target.clone()]));
    }
    config.own = Own {
        flags: Some(flags),
        given,
    };
}

impl Own {
    /// The configuration where no file is named.
    pub(super) fn base(&self) -> Result<Config, Failure> {
        match self.flags {
            Some(flags) => Ok((flags.base)()),
            None => Err(Failure::usage("no configuration is named")),
        }
    }

    /// Puts what was given into `config`; says whether that was anything.
    pub(super) fn apply(&self, config: &mut Config) -> Result<bool, Failure> {
        for (name, values) in &self.given {
            if let Some(flags) = self.flags {
                (flags.set)(config, name, values)?;
            }
        }
        Ok(!self.given.is_empty())
    }
}
