//! Where every key and value of a TOML text stands.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// All keys of a text, outer before inner.
pub(super) struct Outline {
    entries: Vec<Entry>,
}

/// One key (or one element of a list) and its value.
pub(super) struct Entry {
    /// Keys from the top; elements of lists by position.
    pub(super) path: Vec<String>,
    key: Range<usize>,
    value: Range<usize>,
    /// What the value said before its `${...}` were expanded, and after.
    expanded: Option<(String, String)>,
}

impl Entry {
    /// `message` with what the environment gave replaced by how the file asks
    /// for it: that value may be a secret.
    pub(super) fn conceal(&self, message: &str) -> String {
        match &self.expanded {
            Some((written, value)) if !value.is_empty() => message.replace(value, written),
            _ => message.to_owned(),
        }
    }
}

impl Outline {
    pub(super) fn of(root: &DeTable<'_>) -> Self {
        let mut entries = Vec::new();
        walk_table(root, &[], &mut entries);
        Self { entries }
    }

    /// The innermost entry whose key or value covers `offset`.
    pub(super) fn at(&self, offset: usize) -> Option<&Entry> {
        self.entries
            .iter()
            .filter(|entry| covers(&entry.key, offset) || covers(&entry.value, offset))
            .max_by_key(|entry| entry.path.len())
    }

    /// Where `path` stands, or else the longest part of it that stands
    /// somewhere.
    pub(super) fn offset(&self, path: &[String]) -> Option<usize> {
        (1..=path.len()).rev().find_map(|length| {
            let wanted = path.get(..length)?;
            self.entries.iter().find(|entry| entry.path == wanted).map(|entry| entry.key.start)
        })
    }

    pub(super) fn note_expanded(&mut self, path: &[String], written: &str, value: &str) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.path == path) {
            entry.expanded = Some((written.to_owned(), value.to_owned()));
        }
    }
}

fn covers(span: &Range<usize>, offset: usize) -> bool {
    span.contains(&offset)
}

fn walk_table(table: &DeTable<'_>, above: &[String], entries: &mut Vec<Entry>) {
    for (key, value) in table {
        let path = joined(above, key.get_ref());
        entries.push(Entry {
            path: path.clone(),
            key: key.span(),
            value: value.span(),
            expanded: None,
        });
        walk_value(value.get_ref(), &path, entries);
    }
}

fn walk_value(value: &DeValue<'_>, path: &[String], entries: &mut Vec<Entry>) {
    match value {
        DeValue::Table(table) => walk_table(table, path, entries),
        DeValue::Array(array) => {
            for (position, element) in array.iter().enumerate() {
                let path = joined(path, &position.to_string());
                entries.push(Entry {
                    path: path.clone(),
                    key: element.span(),
                    value: element.span(),
                    expanded: None,
                });
                walk_value(element.get_ref(), &path, entries);
            }
        }
        _ => {}
    }
}

pub(super) fn joined(above: &[String], key: &str) -> Vec<String> {
    above.iter().cloned().chain([key.to_owned()]).collect()
}

/// A path as TOML would spell it: `tables."sales.orders".partition_by`.
pub(super) fn spell(path: &[String]) -> String {
    let bare = |key: &String| {
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    let spelled: Vec<String> =
        path.iter().map(|key| if bare(key) { key.clone() } else { format!("\"{key}\"") }).collect();
    spelled.join(".")
}
