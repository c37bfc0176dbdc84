//! Verbs that only one binary has.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, FromArgMatches as _};

use super::cli::{OutputArgs, SizeArgs};
use super::verbs::{ask_lake_within, event};
use super::{Exit, Failure, Flag, Pipeline, Terminal};
use crate::run::load_config;
use crate::run::{Config, Secret};

/// What the file is called on the command line.
const CONFIG: &str = "config";

/// A verb of one binary's own.
#[derive(Debug, Clone, Copy)]
pub struct OwnVerb {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub about: &'static str,
    /// Whether the configuration comes first.
    pub takes_config: bool,
    /// What must be given after it, in this order.
    pub words: &'static [Flag],
    /// What may be given.
    pub flags: &'static [Flag],
}

/// What the user gave, by name.
#[derive(Debug, Clone, Default)]
pub struct Given(BTreeMap<&'static str, Vec<String>>);

impl Given {
    /// The value of a word or a flag; the last, where it was given more than once.
    #[must_use]
    pub fn one(&self, name: &str) -> Option<&str> {
        self.all(name).last().map(String::as_str)
    }

    /// All values.
    #[must_use]
    pub fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a flag without a value was given.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// What a verb has to say.
#[derive(Debug, Clone)]
pub struct Answer {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: serde_json::Value,
    /// How it ended.
    pub exit: Exit,
}

/// The command with these verbs.
pub(super) fn extend(command: Command, verbs: &'static [OwnVerb]) -> Command {
    verbs.iter().fold(command, |command, verb| {
        let mut own = Command::new(verb.name).about(verb.about);
        if verb.takes_config {
            let help = "The configuration file (TOML)";
            own = own.arg(
                Arg::new(CONFIG)
                    .value_name("CONFIG")
                    .required(true)
                    .help(help),
            );
        }
        let words = verb.words.iter().map(|word| {
            let arg = Arg::new(word.name).value_name(word.value);
            arg.required(true).help(word.help)
        });
        let flags = verb.flags.iter().map(|flag| {
            let arg = Arg::new(flag.name).long(flag.name).help(flag.help);
            match flag.value {
                "" => arg.action(ArgAction::SetTrue),
                value => arg.value_name(value).action(ArgAction::Append),
            }
        });
        let own = own.args(words).args(flags);
        command.subcommand(SizeArgs::augment_args(own))
    })
}

/// One of these verbs, as it was asked for.
pub(super) struct Asked {
    verb: &'static OwnVerb,
    given: Given,
    config: Option<String>,
    size: SizeArgs,
    pub(super) output: OutputArgs,
}

impl Asked {
    /// `None` where the verb is one that all binaries have.
    pub(super) fn of(
        verbs: &'static [OwnVerb],
        matches: &ArgMatches,
    ) -> Result<Option<Self>, clap::Error> {
        let Some((name, own)) = matches.subcommand() else {
            return Ok(None);
        };
        let Some(verb) = verbs.iter().find(|verb| verb.name == name) else {
            return Ok(None);
        };
        let given = verb.words.iter().chain(verb.flags).filter_map(|flag| {
            if flag.value.is_empty() {
                return own.get_flag(flag.name).then(|| (flag.name, Vec::new()));
            }
            let values = own.get_many::<String>(flag.name)?;
            Some((flag.name, values.cloned().collect()))
        });
        Ok(Some(Self {
            verb,
            given: Given(given.collect()),
            config: match verb.takes_config {
                true => own.get_one::<String>(CONFIG).cloned(),
                false => None,
            },
            size: SizeArgs::from_arg_matches(own)?,
            output: OutputArgs::from_arg_matches(matches)?,
        }))
    }

    /// Does it.
    pub(super) fn perform(
        self,
        pipeline: &dyn Pipeline,
        terminal: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let config = match &self.config {
            Some(file) => load_config::load(file.as_ref())?,
            None => Config::new(Secret::default(), ""),
        };
        let (name, given) = (self.verb.name, self.given);
        let ask = |config, context| pipeline.perform(name, &given, config, context);
        let asked = ask_lake_within(&self.size, pipeline, config, self.output, terminal, ask)?;
        let (answer, _) = asked;
        let text = match self.output.json {
            true => event(name, &answer.json)?,
            false => answer.text,
        };
        terminal.say(&text);
        Ok(answer.exit)
    }
}
