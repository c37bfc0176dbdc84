//! What must hold of `[papers]` and `[instances]`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use bytesize::ByteSize;
use url::Url;

use super::super::{Config, InstanceConfig, PapersConfig};
use super::{Problem, has_scheme};
use crate::run::secret::Secret;

/// Chunks of fewer tokens are no text to speak of.
const LEAST_CHUNK_TOKENS: usize = 16;

/// How long the name of a collection may be.
const COLLECTION_LETTERS: RangeInclusive<usize> = 3..=512;

/// What Chroma takes for the name of a collection.
const COLLECTION_NAMES: &str = "Chroma takes 3 to 512 of the letters `a-z`, `A-Z`, `0-9`, `.`, \
     `_` and `-`, a letter or a digit first and last, no `..` and no IP address";

pub(super) fn check(config: &Config, found: &mut Vec<Problem>) {
    if let Some(papers) = &config.papers {
        check_papers(papers, found);
    }
    for (name, instance) in &config.instances {
        check_instance(name, instance, found);
    }
    check_collections(config, found);
}

/// Names that no collection can have, and collections that two instances would write: each
/// would remove what the other one has written.
fn check_collections(config: &Config, found: &mut Vec<Problem>) {
    let mut writers: BTreeMap<(String, &str), &str> = BTreeMap::new();
    for (name, instance) in &config.instances {
        let Some(chroma) = &instance.chroma else {
            continue;
        };
        let collection = instance.collection.as_deref().unwrap_or(name);
        if !is_collection_name(collection) {
            found.push(no_collection_name(name, instance, collection));
        }
        if let Some(other) = writers.insert((server_of(chroma), collection), name) {
            found.push(Problem::at(
                &path_of_collection(name, instance),
                format!(
                    "instances `{other}` and `{name}` would write one collection, `{collection}` \
                     of {chroma}"
                ),
                "give each a collection of its own by `collection`",
            ));
        }
    }
}

/// Where the name of an instance's collection comes from.
fn path_of_collection<'a>(name: &'a str, instance: &InstanceConfig) -> Vec<&'a str> {
    let mut path = vec!["instances", name];
    path.extend(instance.collection.as_ref().map(|_| "collection"));
    path
}

/// What is wrong with a name that Chroma does not take, and one that it takes.
fn no_collection_name(name: &str, instance: &InstanceConfig, collection: &str) -> Problem {
    let longer = format!("papers-{name}");
    let such = match is_collection_name(&longer) {
        true => longer.as_str(),
        false => "papers",
    };
    Problem::at(
        &path_of_collection(name, instance),
        format!("instance `{name}`: `{collection}` is no name for a collection"),
        format!("write such as `collection = \"{such}\"`: {COLLECTION_NAMES}"),
    )
}

/// Whether Chroma takes this for the name of a collection.
fn is_collection_name(name: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let bare = |letter: char| letter.is_ascii_alphanumeric();
    COLLECTION_LETTERS.contains(&name.len())
        && name.chars().all(plain)
        && name.starts_with(bare)
        && name.ends_with(bare)
        && !name.contains("..")
        && name.parse::<Ipv4Addr>().is_err()
}

/// The address of a server, the same for all ways to write it: `chroma://host` is
/// `http://host:8000`. Of two names of one machine it cannot know; a collection says itself
/// of which table it is.
fn server_of(chroma: &Secret) -> String {
    let text = chroma.expose();
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| {
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    let (scheme, port) = match scheme {
        "chroma" | "chroma+http" if has_port => ("http", ""),
        "chroma" | "chroma+http" => ("http", ":8000"),
        "chroma+https" => ("https", ""),
        other => (other, ""),
    };
    let url = format!("{scheme}://{host}{port}/{path}");
    let url = Url::parse(&url).map_or(url, |url| url.to_string());
    url.trim_end_matches('/').to_owned()
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
    let name = papers.endpoint.as_ref().and_then(|one| one.name.as_deref());
    if name.is_some_and(|name| name.trim().is_empty()) {
        found.push(Problem::at(
            &["papers", "endpoint", "name"],
            "`papers.endpoint.name` is empty",
            "write what the model's vectors are to be known by, or leave it out",
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with instances of these names, servers and collections.
    fn problems(instances: &[(&str, &str, Option<&str>)]) -> Vec<String> {
        let mut config = Config::new("file:docs".into(), "file:lake");
        for (name, chroma, collection) in instances {
            let instance = InstanceConfig {
                source: "file:docs".into(),
                chroma: (!chroma.is_empty()).then(|| Secret::new(*chroma)),
                collection: collection.map(str::to_owned),
                ..InstanceConfig::default()
            };
            config.instances.insert((*name).to_owned(), instance);
        }
        let problems = config.problems().into_iter();
        let told = problems.map(|problem| {
            let path = problem.path.join(".");
            format!("{path}: {}; {}", problem.message, problem.hint)
        });
        told.collect()
    }

    #[test]
    fn a_collection_has_a_name_that_chroma_takes() {
        let long = "a".repeat(512);
        for name in [
            "abc",
            "a.b",
            "1.2",
            "A--b_c",
            "01.2.3.4",
            "1.2.3.4.5",
            &long,
        ] {
            let found = problems(&[("docs", "http://host", Some(name))]);
            assert_eq!(found, [""; 0], "{name}");
        }
        let longer = "a".repeat(513);
        for name in [
            "", "ab", "-ab", "ab.", "a..b", "a b", "aéb", "a/b", "1.2.3.4", &longer,
        ] {
            let found = problems(&[("docs", "http://host", Some(name))]);
            assert_eq!(found.len(), 1, "{name}");
        }
        // The name of an instance has not to be one, where it has no collection.
        assert_eq!(problems(&[("ai", "", None)]), [""; 0]);
        let found = problems(&[("ai", "http://host", None)]);
        let said = "instances.ai: instance `ai`: `ai` is no name for a collection; write such as \
                    `collection = \"papers-ai\"`: Chroma takes 3 to 512 ";
        assert!(
            found.iter().all(|problem| problem.starts_with(said)),
            "{found:?}"
        );
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn two_instances_have_two_collections() {
        let two = |one: (&str, Option<&str>), other: (&str, Option<&str>)| {
            problems(&[("one", one.0, one.1), ("other", other.0, other.1)])
        };
        let papers = Some("papers");
        for (one, other) in [
            ("http://host:8000", "chroma://HOST"),
            ("http://host", "http://host:80/"),
            ("https://host/below/", "chroma+https://host/below"),
            ("chroma://[::1]", "http://[::1]:8000"),
        ] {
            let found = two((one, papers), (other, papers));
            assert_eq!(found.len(), 1, "{one} {other}: {found:?}");
        }
        let found = two(("http://host", papers), ("http://host", papers));
        let said = "instances.other.collection: instances `one` and `other` would write one \
                    collection, `papers` of http://host; give each a collection of its own by \
                    `collection`";
        assert_eq!(found, [said]);
        // The name that it has by default is a name, too.
        let found = two(("http://host", Some("other")), ("http://host", None));
        assert_eq!(found.len(), 1, "{found:?}");
        for (one, other) in [
            (("http://host", papers), ("http://host", Some("more"))),
            (("http://host", papers), ("http://host:8000", papers)),
            (("http://host", papers), ("https://host", papers)),
            (("http://host", papers), ("http://host/below", papers)),
            (("http://host", papers), ("", papers)),
        ] {
            assert_eq!(two(one, other), [""; 0], "{one:?} {other:?}");
        }
    }
}
