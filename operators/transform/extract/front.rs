//! What Markdown says of itself before it begins: front matter, YAML between
//! `---` or TOML between `+++`. Of YAML only what front matter is made of is read:
//! `key: value`, `key: [a, b]` and lists of `- item`.

use super::Document;
use super::text::one_line;

/// The front matter of `text`, if it has any, and what follows it.
pub(super) fn split(text: &str) -> (Option<Front>, &str) {
    for (mark, parse) in [("---", yaml as fn(&str) -> Front), ("+++", toml)] {
        let Some(rest) = text.strip_prefix(mark) else {
            continue;
        };
        let Some(rest) = rest
            .trim_start_matches([' ', '\t', '\r'])
            .strip_prefix('\n')
        else {
            continue;
        };
        let mut at = 0;
        for line in rest.split_inclusive('\n') {
            if line.trim_end() == mark || (mark == "---" && line.trim_end() == "...") {
                return (Some(parse(&rest[..at])), &rest[at + line.len()..]);
            }
            at += line.len();
        }
    }
    (None, text)
}

/// Keys and their values, in order.
#[derive(Debug, Default)]
pub(super) struct Front(Vec<(String, Vec<String>)>);

impl Front {
    /// Tells `document` what is known.
    pub(super) fn tell(self, document: &mut Document) {
        for (key, values) in self.0 {
            match key.as_str() {
                "title" => document.title = values.into_iter().next(),
                "author" | "authors" | "creator" => document.authors.extend(values),
                "date" | "published" => document.date = values.into_iter().next(),
                "categories" | "category" | "tags" | "keywords" => {
                    document.categories.extend(values)
                }
                _ => {}
            }
        }
    }
}

fn yaml(text: &str) -> Front {
    let mut front = Front::default();
    for line in text.lines() {
        let indented = line.starts_with([' ', '\t']);
        if let Some(item) = line.trim().strip_prefix("- ") {
            if let Some((_, values)) = front.0.last_mut() {
                let item = item.strip_prefix("name:").unwrap_or(item);
                values.extend(one_line(unquoted(item)));
            }
        } else if let Some((key, value)) = line.split_once(':').filter(|_| !indented) {
            front
                .0
                .push((key.trim().to_ascii_lowercase(), inline(value.trim())));
        }
    }
    front
}

fn inline(value: &str) -> Vec<String> {
    match value
        .strip_prefix('[')
        .and_then(|value| value.strip_suffix(']'))
    {
        Some(items) => items
            .split(',')
            .filter_map(|item| one_line(unquoted(item)))
            .collect(),
        None => one_line(unquoted(value)).into_iter().collect(),
    }
}

fn unquoted(value: &str) -> &str {
    let value = value.trim();
    ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value)
}

fn toml(text: &str) -> Front {
    let table: toml::Table = text.parse().unwrap_or_default();
    Front(
        table
            .into_iter()
            .map(|(key, value)| (key.to_ascii_lowercase(), strings(value)))
            .collect(),
    )
}

fn strings(value: toml::Value) -> Vec<String> {
    match value {
        toml::Value::String(text) => one_line(&text).into_iter().collect(),
        toml::Value::Datetime(at) => vec![at.to_string()],
        toml::Value::Array(items) => items.into_iter().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}
