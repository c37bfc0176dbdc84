//! Reads a configuration file, and says where and how it is wrong.
//!
//! TOML is parsed first and `${...}` expanded afterwards, in string values only:
//! what comes from the environment can never become configuration. Messages
//! name file, line, column and key. They never quote the line itself, which may
//! hold a password.

mod expand;
mod outline;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, Deserializer};

pub use expand::{Surroundings, expand};
use outline::Outline;
pub(super) use outline::element;

use super::config::Config;

/// A configuration that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Line and column, both from 1, where they are known.
    pub position: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

/// Reads and checks the configuration in `file`.
///
/// # Errors
/// When it cannot be read, or says something that cannot be done.
pub fn load(file: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|error| ConfigError {
        file: file.to_owned(),
        position: None,
        message: format!("cannot read the configuration: {}", expand::plain(&error)),
        hint: Some("check the path; `init URL --output FILE` writes a new one".to_owned()),
    })?;
    parse(&text, file, &Surroundings::real())
}

/// Reads and checks the configuration in `text`, which came from `file`.
///
/// # Errors
/// When it says something that cannot be done.
pub fn parse(text: &str, file: &Path, around: &Surroundings<'_>) -> Result<Config, ConfigError> {
    let page = Page { text, file };
    let mut root = DeTable::parse(text).map_err(|error| page.syntax(&error))?;
    let mut outline = Outline::of(root.get_ref());
    expand::expand_values(root.get_mut(), around, &mut outline).map_err(|refused| {
        let key = outline::spell(&refused.path);
        page.error(
            Some(refused.offset),
            format!("`{key}`: {}", refused.message),
            refused.hint,
        )
    })?;
    let config = Config::deserialize(Deserializer::from(root))
        .map_err(|error| page.unfit(&error, &outline))?;
    match config.problems().into_iter().next() {
        None => Ok(config),
        Some(problem) => {
            let offset = outline.offset(&problem.path);
            Err(page.error(offset, problem.message, Some(problem.hint)))
        }
    }
}

/// The text at hand, to turn offsets into lines.
struct Page<'a> {
    text: &'a str,
    file: &'a Path,
}

impl Page<'_> {
    fn error(
        &self,
        offset: Option<usize>,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> ConfigError {
        let position = offset.map(|offset| line_and_column(self.text, offset));
        ConfigError {
            file: self.file.to_owned(),
            position,
            message: message.into(),
            hint,
        }
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let message = match error.message() {
            "duplicate key" => "this key or table is given twice".to_owned(),
            other => format!(
                "not TOML: {}",
                other.trim_end_matches(", expected literal string")
            ),
        };
        let hint = match error.message() {
            "duplicate key" => "keep one of them",
            message if message.contains("string values must be quoted") => {
                "put the value in double quotes"
            }
            _ => "correct the line; strings need quotes, tables look like [tables.orders]",
        };
        self.error(
            error.span().map(|span| span.start),
            message,
            Some(hint.to_owned()),
        )
    }

    /// An error of serde, told in terms of keys.
    fn unfit(&self, error: &toml::de::Error, outline: &Outline) -> ConfigError {
        let said = error.message();
        let offset = error.span().map(|span| span.start);
        let entry = offset.and_then(|offset| outline.at(offset));
        // Serde puts what it found, and then what it knows, in backticks.
        let mut names = said.split('`').skip(1).step_by(2);
        let named = names.next().unwrap_or_default();
        let known: Vec<&str> = names.collect();
        if said.starts_with("missing field") {
            return self.error(
                None,
                format!("`{named}` is missing"),
                Some(example_of(named)),
            );
        }
        if said.starts_with("unknown field") {
            let place = entry.map_or(String::new(), |entry| place_of(&entry.path));
            let hint = nearest_of(named, &known, |key| format!("did you mean `{key}`?"));
            return self.error(offset, format!("unknown key `{named}` {place}"), Some(hint));
        }
        let key = entry.map_or(String::new(), |entry| outline::spell(&entry.path));
        let conceal = |text: &str| entry.map_or(text.to_owned(), |entry| entry.conceal(text));
        if said.starts_with("unknown variant") {
            let found = conceal(named);
            let hint = nearest_of(&found, &known, |choice| {
                format!("did you mean \"{choice}\"?")
            });
            return self.error(
                offset,
                format!("`{key}`: \"{found}\" is not known"),
                Some(hint),
            );
        }
        let (message, hint) = wrong_value(&conceal(said));
        self.error(offset, format!("`{key}`: {message}"), hint)
    }
}

/// What is wrong with a value, and what to write instead.
fn wrong_value(said: &str) -> (String, Option<String>) {
    if let Some(rest) = said.strip_prefix("invalid type: ") {
        let (found, wanted) = rest
            .split_once(", expected ")
            .unwrap_or((rest, "another value"));
        let message = format!("found {}", kind_of_found(found));
        return (message, Some(format!("write {}", kind_of_value(wanted))));
    }
    if said.starts_with("invalid value: integer") {
        let hint = "write a whole number, not below 0";
        return (
            "this number is out of range".to_owned(),
            Some(hint.to_owned()),
        );
    }
    // Our own types say "... is no size: write ...".
    match said.split_once(": ") {
        Some((what, hint)) if what.contains(" is no ") => (what.to_owned(), Some(hint.to_owned())),
        _ => (said.to_owned(), None),
    }
}

/// Serde's words for what was found, without the value: it may be a secret that
/// somebody forgot to quote.
fn kind_of_found(found: &str) -> &str {
    match found.split([' ', ',']).next().unwrap_or_default() {
        "integer" => "a whole number",
        "floating" => "a number with a fraction",
        "boolean" => "true or false",
        "string" => "a text",
        "sequence" => "a list",
        "map" => "a table",
        _ => "something else",
    }
}

/// Serde's and Rust's words for what was wanted, in the words of TOML.
fn kind_of_value(wanted: &str) -> String {
    match wanted {
        "usize" | "u64" => "a whole number".to_owned(),
        "a string" => "a text in double quotes".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list: [\"one\", \"two\"]".to_owned(),
        "a map" => "a table of keys and values".to_owned(),
        other if other.starts_with("struct ") => "a table of keys and values".to_owned(),
        other => other.to_owned(),
    }
}

pub(super) fn example_of(key: &str) -> String {
    match key {
        "source" => "add source = \"postgres://user@host/database\" or source = \"sqlite:path\"",
        "lake" => "add lake = \"file:folder\" or lake = \"s3://bucket/prefix\"",
        _ => "add it",
    }
    .to_owned()
}

/// Where a key stands, for a message.
fn place_of(path: &[String]) -> String {
    match path.split_last() {
        Some((_, above)) if !above.is_empty() => format!("in [{}]", outline::spell(above)),
        _ => "at the top level".to_owned(),
    }
}

fn nearest_of(unknown: &str, known: &[&str], ask: impl Fn(&str) -> String) -> String {
    let best = known
        .iter()
        .map(|&name| (name, strsim::damerau_levenshtein(unknown, name)))
        .min_by_key(|&(_, distance)| distance);
    let all = || match known {
        [one] => format!("only `{one}` is known here"),
        _ => format!("known here: {}", known.join(", ")),
    };
    match best {
        // More than a third of the letters wrong is no slip of the finger.
        Some((name, distance)) if distance <= (name.len().max(unknown.len()) / 3).max(1) => {
            ask(name)
        }
        Some((name, _)) if name.starts_with(unknown) || unknown.starts_with(name) => ask(name),
        _ => all(),
    }
}

/// Line and column of a byte offset, both from 1, columns in characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |line| line.chars().count())
        + 1;
    (line, column)
}

#[cfg(test)]
mod tests;
