//! `${NAME}`, `${NAME:-default}` and `${file:path}` in string values.

use std::io;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::outline::{Outline, joined};

/// What values may ask for: the environment and files. Given as functions, so
/// that tests need neither.
pub struct Surroundings<'a> {
    /// The value of an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The content of a file.
    pub file: &'a dyn Fn(&Path) -> io::Result<String>,
}

impl Surroundings<'_> {
    /// Those of this process.
    #[must_use]
    pub fn real() -> Self {
        Surroundings {
            variable: &|name| std::env::var(name).ok(),
            file: &|path| std::fs::read_to_string(path),
        }
    }
}

/// A value that could not be expanded.
pub(super) struct Refused {
    pub(super) path: Vec<String>,
    pub(super) offset: usize,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// What is wrong with one `${...}`, and what to do.
type Wrong = (String, String);

/// Expands every string value below `root`; keys stay as they are.
pub(super) fn expand_values(
    root: &mut DeTable<'_>,
    around: &Surroundings<'_>,
    outline: &mut Outline,
) -> Result<(), Refused> {
    // In the order of the file, so that the first error is the first in it.
    let mut keys: Vec<_> = root.iter_mut().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in keys {
        let path = vec![key.get_ref().to_string()];
        let offset = value.span().start;
        expand_value(value.get_mut(), offset, path, around, outline)?;
    }
    Ok(())
}

fn expand_value(
    value: &mut DeValue<'_>,
    offset: usize,
    path: Vec<String>,
    around: &Surroundings<'_>,
    outline: &mut Outline,
) -> Result<(), Refused> {
    match value {
        DeValue::String(text) if text.contains("${") => {
            let expanded = expand(text, around).map_err(|(message, hint)| Refused {
                path: path.clone(),
                offset,
                message,
                hint: Some(hint),
            })?;
            outline.note_expanded(&path, text, &expanded);
            *text = expanded.into();
            Ok(())
        }
        DeValue::Table(table) => table.iter_mut().try_for_each(|(key, value)| {
            let offset = value.span().start;
            expand_value(value.get_mut(), offset, joined(&path, key.get_ref()), around, outline)
        }),
        DeValue::Array(array) => array.iter_mut().enumerate().try_for_each(|(position, value)| {
            let offset = value.span().start;
            let path = joined(&path, &position.to_string());
            expand_value(value.get_mut(), offset, path, around, outline)
        }),
        _ => Ok(()),
    }
}

/// Expands one text. `$${` stands for `${` itself.
///
/// # Errors
/// What is wrong with it, and what to do.
pub fn expand(text: &str, around: &Surroundings<'_>) -> Result<String, (String, String)> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        let after = from.get(2..).unwrap_or_default();
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let Some((inside, tail)) = after.split_once('}') else {
            return Err((
                "`${` without its `}`".to_owned(),
                "close it, or write `$${` for the two characters themselves".to_owned(),
            ));
        };
        out.push_str(&value_of(inside, around)?);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

fn value_of(inside: &str, around: &Surroundings<'_>) -> Result<String, Wrong> {
    if let Some(path) = inside.strip_prefix("file:") {
        return file_content(path, around);
    }
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_variable_name(name) {
        return Err((
            format!("`${{{inside}}}` names no variable"),
            "write ${NAME}, ${NAME:-default} or ${file:path}; $${ stands for ${ itself".to_owned(),
        ));
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err((
            format!("the default of `${{{name}:-...}}` holds another `${{`"),
            "defaults are plain text; set the variable instead".to_owned(),
        ));
    }
    // As in a shell: `:-` also replaces an empty value.
    match ((around.variable)(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err((
            format!("the environment variable {name} is not set"),
            format!("set it (export {name}=...), or give a default: ${{{name}:-...}}"),
        )),
    }
}

fn file_content(path: &str, around: &Surroundings<'_>) -> Result<String, Wrong> {
    let content = (around.file)(Path::new(path)).map_err(|error| {
        (
            format!("cannot read the file `{path}`: {}", plain(&error)),
            "check the path (relative ones start at the current directory) and its permissions"
                .to_owned(),
        )
    })?;
    let line = content.strip_suffix('\n').unwrap_or(&content);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The system's words without its error number.
pub(super) fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        io::ErrorKind::InvalidData => "it is not text in UTF-8".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn around() -> Surroundings<'static> {
        Surroundings {
            variable: &|name| match name {
                "USER" => Some("ann".to_owned()),
                "EMPTY" => Some(String::new()),
                "SLY" => Some("${USER}\"\nmode = 1".to_owned()),
                _ => None,
            },
            file: &|path| match path.to_str() {
                Some("pw") => Ok("canary\n".to_owned()),
                _ => Err(io::ErrorKind::NotFound.into()),
            },
        }
    }

    #[test]
    fn expands() {
        for (text, expanded) in [
            ("plain $ text $5", "plain $ text $5"),
            ("${USER}@${HOST:-db}", "ann@db"),
            ("${EMPTY}|${EMPTY:-x}|${NONE:-}", "|x|"),
            ("${file:pw}", "canary"),
            ("$${USER} and ${USER}", "${USER} and ann"),
            // What comes in is text: not expanded again.
            ("${SLY}", "${USER}\"\nmode = 1"),
            ("é${USER}é", "éanné"),
        ] {
            assert_eq!(expand(text, &around()).unwrap(), expanded);
        }
    }

    #[test]
    fn refuses() {
        for (text, message) in [
            ("${NONE}", "the environment variable NONE is not set"),
            ("${USER", "`${` without its `}`"),
            ("${}", "`${}` names no variable"),
            ("${1A}", "`${1A}` names no variable"),
            ("${NONE:-${USER}}", "the default of `${NONE:-...}` holds another `${`"),
            ("${file:none}", "cannot read the file `none`: there is no such file"),
        ] {
            assert_eq!(expand(text, &around()).unwrap_err().0, message);
        }
    }
}
