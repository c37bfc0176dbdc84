//! Which tables and columns the user wants.

use globset::{Glob, GlobMatcher};
use highwater::dataset::TableName;
use highwater::source::{Selection, SourceError};

use super::error::usage;

/// A glob over table names. Without a dot it matches a table's own name in any
/// schema; one that is exactly a table's own name matches it whatever it holds.
struct TableGlob {
    text: String,
    matcher: GlobMatcher,
}

impl TableGlob {
    fn new(text: &str) -> Result<Self, SourceError> {
        let glob = Glob::new(text).map_err(|error| {
            usage(format!(
                "the table glob \"{text}\" is not valid: {}",
                error.kind()
            ))
        })?;
        Ok(Self {
            text: text.to_owned(),
            matcher: glob.compile_matcher(),
        })
    }

    fn matches(&self, name: &TableName) -> bool {
        let full = name.to_string();
        let globbed = if self.text.contains('.') {
            self.matcher.is_match(&full)
        } else {
            self.matcher.is_match(&name.name)
        };
        globbed || self.text == full || self.text == name.name
    }

    fn is_plain(&self) -> bool {
        !self.text.contains(['*', '?', '[', '{'])
    }
}

/// The globs of a [`Selection`], compiled.
pub(super) struct Wanted {
    include: Vec<TableGlob>,
    exclude: Vec<TableGlob>,
    schemas: Vec<String>,
}

impl Wanted {
    /// Compiles the globs of `selection`.
    pub(super) fn new(selection: &Selection) -> Result<Self, SourceError> {
        let compile = |globs: &[String]| {
            globs
                .iter()
                .map(|glob| TableGlob::new(glob))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            include: compile(&selection.include)?,
            exclude: compile(&selection.exclude)?,
            schemas: selection.schemas.clone(),
        })
    }

    /// Whether a table is wanted.
    pub(super) fn takes(&self, name: &TableName) -> bool {
        let in_schema = self.schemas.is_empty()
            || name
                .schema
                .as_ref()
                .is_some_and(|schema| self.schemas.contains(schema));
        let included =
            self.include.is_empty() || self.include.iter().any(|glob| glob.matches(name));
        in_schema && included && !self.exclude.iter().any(|glob| glob.matches(name))
    }

    /// Names in `include`, without wildcards, that no table has; each with what
    /// to say about it.
    pub(super) fn missing(&self, all: &[TableName]) -> Vec<(TableName, SourceError)> {
        let absent =
            |glob: &&TableGlob| glob.is_plain() && !all.iter().any(|name| glob.matches(name));
        let report = |glob: &TableGlob| {
            let name = match glob.text.split_once('.') {
                Some((schema, name)) => TableName {
                    schema: Some(schema.to_owned()),
                    name: name.to_owned(),
                },
                None => TableName {
                    schema: None,
                    name: glob.text.clone(),
                },
            };
            let names = all.iter().map(|name| match glob.text.contains('.') {
                true => name.to_string(),
                false => name.name.clone(),
            });
            let hint = hint(&glob.text, names);
            (
                name,
                usage(format!(
                    "there is no table \"{}\" in this database{hint}",
                    glob.text
                )),
            )
        };
        self.include.iter().filter(absent).map(report).collect()
    }

    /// Refuses schemas in which there is no table: a spelling mistake would
    /// otherwise back up nothing and say nothing.
    pub(super) fn check_schemas(&self, all: &[TableName]) -> Result<(), SourceError> {
        let has = |schema: &String| all.iter().any(|name| name.schema.as_ref() == Some(schema));
        match self.schemas.iter().find(|schema| !has(schema)) {
            None => Ok(()),
            Some(schema) => {
                let hint = hint(schema, all.iter().filter_map(|name| name.schema.clone()));
                Err(usage(format!(
                    "there is no table in a schema \"{schema}\"{hint}"
                )))
            }
        }
    }
}

/// "; did you mean ...?", where a name is near enough to be meant.
pub(super) fn hint(wanted: &str, names: impl Iterator<Item = String>) -> String {
    let near = |name: String| (strsim::damerau_levenshtein(wanted, &name), name);
    let limit = (wanted.chars().count() / 3).max(2);
    match names
        .map(near)
        .filter(|(distance, _)| *distance <= limit)
        .min()
    {
        Some((_, name)) => format!("; did you mean \"{name}\"?"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn name(schema: &str, name: &str) -> TableName {
        TableName {
            schema: Some(schema.into()),
            name: name.into(),
        }
    }

    fn wanted(include: &[&str], exclude: &[&str], schemas: &[&str]) -> Wanted {
        let own = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let selection = Selection {
            include: own(include),
            exclude: own(exclude),
            schemas: own(schemas),
            ..Default::default()
        };
        Wanted::new(&selection).unwrap()
    }

    #[test]
    fn globs_with_and_without_a_dot() {
        assert!(wanted(&[], &[], &[]).takes(&name("a", "t")));
        assert!(wanted(&["ord*"], &[], &[]).takes(&name("sales", "orders")));
        assert!(!wanted(&["sales.*"], &[], &[]).takes(&name("hr", "orders")));
        assert!(!wanted(&["*"], &["hr.*"], &[]).takes(&name("hr", "people")));
        assert!(!wanted(&[], &[], &["sales"]).takes(&name("hr", "people")));
        assert!(wanted(&["a.b"], &[], &[]).takes(&name("public", "a.b")));
    }

    #[test]
    fn missing_names_and_schemas_are_reported_with_the_nearest() {
        let all = [name("public", "orders"), name("public", "items")];
        let missing = wanted(&["ordres", "items", "x*"], &[], &[]).missing(&all);
        assert_eq!(missing.len(), 1);
        assert!(
            missing[0].1.message.contains("did you mean \"orders\"?"),
            "{}",
            missing[0].1
        );
        let error = wanted(&[], &[], &["pubic"])
            .check_schemas(&all)
            .unwrap_err();
        assert!(error.message.contains("did you mean \"public\"?"));
    }

    #[test]
    fn broken_globs_are_usage_errors() {
        let selection = Selection {
            include: vec!["a[".into()],
            ..Default::default()
        };
        assert!(Wanted::new(&selection).is_err());
    }
}
