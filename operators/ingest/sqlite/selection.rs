//! What the user's globs and options mean for one file's tables.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use highwater::source::{Selection, SourceError, SourceErrorKind};

/// The one schema that a database file has.
const SCHEMA: &str = "main";

/// Globs, ready to be asked.
pub(super) struct Chosen {
    include: Patterns,
    exclude: Patterns,
}

impl Chosen {
    /// From the user's selection.
    pub(super) fn new(selection: &Selection) -> Result<Self, SourceError> {
        for schema in &selection.schemas {
            if !schema.eq_ignore_ascii_case(SCHEMA) {
                return Err(usage(format!(
                    "schema `{schema}`: a SQLite file has one schema, `{SCHEMA}`. Leave `schemas` out"
                )));
            }
        }
        Ok(Self {
            include: Patterns::new(&selection.include)?,
            exclude: Patterns::new(&selection.exclude)?,
        })
    }

    /// Whether `table` is wanted.
    pub(super) fn takes(&self, table: &str) -> bool {
        let included = self.include.is_empty() || self.include.matches(table);
        included && !self.exclude.matches(table)
    }

    /// The patterns of `include` that are plain names.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        let plain = |text: &&String| !text.contains(['*', '?', '[', '{', '\\']);
        self.include
            .texts
            .iter()
            .filter(plain)
            .map(|text| without_schema(text))
    }
}

/// A list of globs; SQLite compares names without regard to ASCII case.
struct Patterns {
    texts: Vec<String>,
    globs: GlobSet,
}

impl Patterns {
    fn new(texts: &[String]) -> Result<Self, SourceError> {
        let mut globs = GlobSetBuilder::new();
        for text in texts {
            let glob = GlobBuilder::new(text).case_insensitive(true).build();
            globs.add(glob.map_err(|error| {
                usage(format!("`{text}` is not a glob: {}", error.kind())).caused_by(error)
            })?);
        }
        let globs = globs
            .build()
            .map_err(|error| usage("these globs are too many").caused_by(error))?;
        Ok(Self {
            texts: texts.to_vec(),
            globs,
        })
    }

    fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    fn matches(&self, table: &str) -> bool {
        // A name that looks like a glob still names itself.
        self.texts
            .iter()
            .any(|text| without_schema(text).eq_ignore_ascii_case(table))
            || self.globs.is_match(table)
            || self.globs.is_match(format!("{SCHEMA}.{table}"))
    }
}

fn without_schema(text: &str) -> &str {
    text.strip_prefix("main.").unwrap_or(text)
}

fn usage(message: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Usage, message)
}

/// `: did you mean ...?` with the known name nearest to `name`, or nothing.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let lower = name.to_lowercase();
    let scored = known.map(|known| (strsim::jaro_winkler(&lower, &known.to_lowercase()), known));
    scored
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .filter(|(score, _)| *score > 0.6)
        .map_or_else(String::new, |(_, known)| {
            format!(": did you mean `{known}`?")
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn chosen(include: &[&str], exclude: &[&str]) -> Chosen {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let selection = Selection {
            include: owned(include),
            exclude: owned(exclude),
            ..Selection::default()
        };
        Chosen::new(&selection).unwrap()
    }

    #[test]
    fn globs() {
        assert!(chosen(&[], &[]).takes("orders"));
        assert!(chosen(&["ord*"], &[]).takes("Orders"));
        assert!(chosen(&["main.orders"], &[]).takes("orders"));
        assert!(chosen(&["main.*"], &[]).takes("orders"));
        assert!(!chosen(&["ord*"], &["*ers"]).takes("orders"));
        assert!(chosen(&["odd[name]"], &[]).takes("odd[name]"));
        assert_eq!(
            chosen(&["a", "b*", "main.c"], &[])
                .named()
                .collect::<Vec<_>>(),
            ["a", "c"]
        );
    }

    #[test]
    fn what_is_no_glob_is_refused() {
        let selection = Selection {
            include: vec!["a[".to_owned()],
            ..Selection::default()
        };
        assert!(Chosen::new(&selection).is_err());
        let selection = Selection {
            schemas: vec!["public".to_owned()],
            ..Selection::default()
        };
        assert!(Chosen::new(&selection).is_err());
    }

    #[test]
    fn nearest_names() {
        assert_eq!(
            nearest("custmers", ["orders", "customers"].into_iter()),
            ": did you mean `customers`?"
        );
        assert_eq!(nearest("zzz", ["orders"].into_iter()), "");
    }
}
