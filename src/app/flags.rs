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
    /// What its value is called.
    pub value: &'static str,
    /// What it does.
    pub help: &'static str,
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

/// The command with the pipeline's own flags.
pub(super) fn extend(mut command: Command, flags: Option<&'static Flags>) -> Command {
    let Some(flags) = flags else { return command };
    for verb in VERBS {
        command = command.mut_subcommand(verb, |verb| {
            let verb = verb.mut_arg("config", |config| config.required(false));
            verb.args(flags.all.iter().map(|flag| {
                Arg::new(flag.name)
                    .long(flag.name)
                    .value_name(flag.value)
                    .help(flag.help)
                    .help_heading("In place of the configuration")
                    .action(ArgAction::Append)
            }))
        });
    }
    // Each process is given them, after `--`.
    command.mut_subcommand("cluster", |verb| {
        verb.mut_arg("config", |config| config.required(false))
    })
}

/// Keeps what the user gave beside the name of the file.
pub(super) fn keep(verb: &mut Verb, flags: Option<&'static Flags>, matches: &ArgMatches) {
    let (Some(flags), Some(config), Some((_, matches))) =
        (flags, verb.config_mut(), matches.subcommand())
    else {
        return;
    };
    let given = flags.all.iter().filter_map(|flag| {
        let texts = matches.get_many::<String>(flag.name)?;
        let values = texts.flat_map(|text| text.split(','));
        let values = values.map(|value| value.trim().to_owned());
        Some((flag.name, values.collect()))
    });
    config.own = Own {
        flags: Some(flags),
        given: given.collect(),
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
