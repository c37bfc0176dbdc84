//! What must hold of `[papers]` and `[instances]`.

use bytesize::ByteSize;

use super::super::{Config, InstanceConfig, PapersConfig};
use super::{Problem, has_scheme};

/// Chunks of fewer tokens are no text to speak of.
const LEAST_CHUNK_TOKENS: usize = 16;

pub(super) fn check(config: &Config, found: &mut Vec<Problem>) {
    if let Some(papers) = &config.papers {
        check_papers(papers, found);
    }
    for (name, instance) in &config.instances {
        check_instance(name, instance, found);
    }
}

fn check_papers(papers: &PapersConfig, found: &mut Vec<Problem>) {
    if papers.chunk_tokens < LEAST_CHUNK_TOKENS {
        found.push(Problem::at(
            &["papers", "chunk_tokens"],
            format!("`papers.chunk_tokens` is {}", papers.chunk_tokens),
            format!("write at least {LEAST_CHUNK_TOKENS}"),
        ));
    }
    if papers.overlap_tokens * 2 > papers.chunk_tokens {
        found.push(Problem::at(
            &["papers", "overlap_tokens"],
            "`papers.overlap_tokens` is more than half of a chunk",
            "write less: half of `chunk_tokens` at most",
        ));
    }
    let zero = [
        ("largest", papers.largest == ByteSize(0)),
        ("text_characters", papers.text_characters == 0),
        ("timeout", papers.timeout.is_zero()),
        ("keep_vectors_every", papers.keep_vectors_every.is_zero()),
        ("extractors", papers.extractors == Some(0)),
    ];
    for (key, _) in zero.iter().filter(|(_, zero)| *zero) {
        let message = format!("`papers.{key}` is 0: nothing could ever be done");
        found.push(Problem::at(
            &["papers", key],
            message,
            "write more, or leave it out",
        ));
    }
    if let Some(endpoint) = &papers.endpoint
        && endpoint.dimensions == 0
    {
        found.push(Problem::at(
            &["papers", "endpoint", "dimensions"],
            "`papers.endpoint.dimensions` is 0",
            "write how many numbers a vector of the model has",
        ));
    }
}

fn check_instance(name: &str, instance: &InstanceConfig, found: &mut Vec<Problem>) {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if name.is_empty() || name.starts_with(['_', '.']) || !name.chars().all(plain) {
        found.push(Problem::at(
            &["instances", name],
            format!("`{name}` is no name for an instance: it names a folder of the lake"),
            "use letters, digits, `-`, `_` and `.`, and begin with a letter or a digit",
        ));
    }
    if !has_scheme(instance.source.expose()) {
        found.push(Problem::at(
            &["instances", name, "source"],
            format!("instance `{name}`: `source` is no URL"),
            "write `file:folder`, `s3://bucket/prefix`, `gs://...`, `az://...` or `table:file:lake/name`",
        ));
    }
    let source = instance.source.expose();
    let is_database = ["postgres:", "postgresql:", "sqlite:"]
        .iter()
        .any(|scheme| source.starts_with(scheme));
    let is_table = is_database || source.starts_with("table:");
    if is_database && instance.table.is_none() {
        found.push(Problem::at(
            &["instances", name],
            format!("instance `{name}`: a database needs `table`"),
            "add `table = \"schema.name\"`",
        ));
    }
    if is_table && (instance.text_column.is_none() || instance.key_columns.is_empty()) {
        found.push(Problem::at(
            &["instances", name],
            format!("instance `{name}`: a table needs `text_column` and `key_columns`"),
            "add such as `text_column = \"body\"` and `key_columns = [\"id\"]`",
        ));
    }
    if !is_table && (instance.text_column.is_some() || !instance.key_columns.is_empty()) {
        found.push(Problem::at(
            &["instances", name],
            format!("instance `{name}`: `text_column` and `key_columns` are those of a table"),
            "remove them, or write `source = \"table:...\"`",
        ));
    }
}
