//! The verb `restore`: what was asked for, and what to tell of it.

use std::path::PathBuf;

use super::cli::{ConfigArgs, OutputArgs, RestoreArgs};
use super::flags::Own;
use super::verbs::{WIDTH, ask_lake_within, event, load};
use super::{Exit, Failure, Pipeline, Terminal};
use crate::ledger::At;
use crate::run::load_config::{self, Surroundings};
use crate::run::report::TableError;
use crate::run::restore::RestoreTo;
use crate::run::{RestoreOptions, Secret};

pub(super) fn restore(
    pipeline: &dyn Pipeline,
    args: &RestoreArgs,
    output: OutputArgs,
    terminal: &mut Terminal,
) -> Result<Exit, Failure> {
    let config = load(&ConfigArgs {
        config: Some(args.config.clone()),
        tables: Vec::new(),
        own: Own::default(),
    })?;
    let to = destination(args)?;
    let target = match &to {
        RestoreTo::Database(url) => Some(url.clone()),
        RestoreTo::Files(..) => None,
    };
    let scrub = |text: &str| {
        let text = config.scrub(text);
        target.as_ref().map_or(text.clone(), |url| url.scrub(&text))
    };
    let options = RestoreOptions {
        tables: args.tables.clone(),
        to,
        at: args.version.map(At::Version).or(args.at.map(At::Time)),
        replace: args.replace,
        name: args.name.clone(),
        with_dropped: args.with_dropped,
    };
    let asked = config.clone();
    let answer = ask_lake_within(
        &args.size,
        pipeline,
        asked,
        output,
        terminal,
        |config, context| pipeline.restore(config, options, context),
    );
    let (mut report, _) = answer.map_err(|failure| failure.map_texts(scrub))?;
    for error in report
        .tables
        .iter_mut()
        .filter_map(|table| table.error.as_mut())
    {
        error.map_texts(scrub);
    }
    let text = if output.json {
        event("restored", &report)?
    } else {
        report.render(WIDTH)
    };
    terminal.say(&text);
    for table in &report.tables {
        if let Some(error) = &table.error {
            terminal.fail(&failure(&table.name, error), output.json);
        }
    }
    Ok(report.exit())
}

fn failure(table: &str, error: &TableError) -> Failure {
    Failure {
        exit: error.exit,
        message: format!("{table}: {}", error.message),
        causes: error.causes.clone(),
        hint: error.hint.clone(),
    }
}

fn destination(args: &RestoreArgs) -> Result<RestoreTo, Failure> {
    let wrong = |what: &str| Err(Failure::usage(format!("--to: {what}")));
    let schemes = ["postgres:", "postgresql:", "sqlite:"];
    let is_database = schemes.iter().any(|scheme| args.to.starts_with(scheme));
    match (is_database, args.format) {
        (true, Some(_)) => wrong("--format is for folders, and this is a database"),
        (true, None) => {
            let url = load_config::expand(&args.to, &Surroundings::real())
                .map_err(|(message, hint)| Failure::usage(format!("--to: {message}")).hint(hint))?;
            Ok(RestoreTo::Database(Secret::new(url)))
        }
        (false, _) if args.to.contains("://") => {
            wrong("neither postgres:// nor sqlite: nor a folder of this machine")
        }
        (false, Some(format)) => Ok(RestoreTo::Files(PathBuf::from(&args.to), format)),
        (false, None) => wrong(
            "for a folder say --format parquet or --format csv; databases are \
             postgres://user@host/database or sqlite:path/to/file",
        ),
    }
}
