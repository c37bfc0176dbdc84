//! What users see of a configuration that is wrong, as text that people can
//! read and judge.

#![allow(clippy::unwrap_used)]

use std::io;
use std::path::Path;

use super::*;
use crate::run::config::{Compression, PartitionBy};

fn around() -> Surroundings<'static> {
    Surroundings {
        variable: &|name| match name {
            "PASSWORD" => Some("canary".to_owned()),
            "SIZE" => Some("canary-size".to_owned()),
            _ => None,
        },
        file: &|_| Err(io::ErrorKind::NotFound.into()),
    }
}

fn read(text: &str) -> Result<Config, ConfigError> {
    parse(text, Path::new("shop.toml"), &around())
}

/// The message and its hint as the user sees them.
fn complaint(text: &str) -> String {
    let error = read(text).unwrap_err();
    match &error.hint {
        Some(hint) => format!("{error}\n  do: {hint}"),
        None => error.to_string(),
    }
}

const TOP: &str = "source = \"sqlite:x\"\nlake = \"file:lake\"\n";

/// `REWRITE=1` writes what is said now into the file, to be read and judged.
///
/// Cases separated by `----`: the configuration (below [`TOP`] unless it has a
/// `source` or starts with `!`), a line `=>`, and what the user sees.
const CASES: &str = include_str!("complaints.txt");

#[test]
fn every_complaint_names_place_and_remedy() {
    let (mut wrong, mut all) = (String::new(), Vec::new());
    for case in CASES.split("\n----\n") {
        let (given, wanted) = case.split_once("\n=>\n").unwrap();
        let text = match given.strip_prefix("!\n") {
            Some(whole) => whole.to_owned(),
            None => format!("{TOP}{given}"),
        };
        let got = complaint(&text);
        all.push(format!("{given}\n=>\n{got}"));
        if got != wanted.trim_end() {
            wrong += &format!("{given}\n=>\n{got}\n----\n");
        }
        assert!(!got.contains("canary"), "a secret in: {got}");
    }
    if std::env::var_os("REWRITE").is_some() {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/src/run/load_config/complaints.txt"
        );
        return std::fs::write(file, all.join("\n----\n") + "\n").unwrap();
    }
    assert!(
        wrong.is_empty(),
        "these differ from complaints.txt:\n{wrong}"
    );
}

#[test]
fn everything_can_be_said() {
    let config = read(
        r#"
source = "postgres://ann:${PASSWORD}@db/shop"
lake = "s3://bucket/lake"
include = ["sales.*"]
exclude = ["tmp_*"]
schemas = ["sales"]
workers = 3
memory = "512MiB"
on_bad_row = "fail"
epoch = { bytes = "64MiB", seconds = 5 }

[files]
compression = "zstd(7)"
target = "32MiB"
row_group = "8MiB"

[store]
endpoint = "http://localhost:9000"

[tables."sales.orders"]
mode = "append"
columns = ["id", "amount", "updated_at"]
where = "id > 10"
cursor = "updated_at"
at_risk = true
partition_by = ["month(updated_at)"]
types = { amount = "decimal(38,9)" }
"#,
    )
    .unwrap();
    assert_eq!(config.source.expose(), "postgres://ann:canary@db/shop");
    assert_eq!(config.files.compression, Compression::Zstd(7));
    let orders = &config.tables["sales.orders"];
    assert_eq!(orders.filter.as_deref(), Some("id > 10"));
    assert_eq!(
        orders.partition_by,
        [PartitionBy::Month("updated_at".into())]
    );
    assert_eq!(config.memory, Some(bytesize::ByteSize::mib(512)));
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let config = read(TOP).unwrap();
    assert_eq!(config, Config::new("sqlite:x".into(), "file:lake"));
    assert_eq!(config.epoch.bytes, bytesize::ByteSize::gib(1));
    assert_eq!(config.epoch.seconds, 60);
    assert_eq!(config.files.target, None);
    assert_eq!(config.files.compression.to_string(), "zstd(1)");
}

#[test]
fn values_cannot_inject_configuration() {
    let around = Surroundings {
        variable: &|_| Some("x\"\nworkers = 9\n#".to_owned()),
        file: &|_| Err(io::ErrorKind::NotFound.into()),
    };
    let text = "source = \"sqlite:${A}\"\nlake = \"file:lake\"";
    let config = parse(text, Path::new("x"), &around).unwrap();
    assert_eq!(config.workers, None);
    assert_eq!(config.source.expose(), "sqlite:x\"\nworkers = 9\n#");
}

#[test]
fn a_missing_file_is_named() {
    let error = load(Path::new("no/such.toml")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no/such.toml: cannot read the configuration: there is no such file"
    );
}

#[test]
fn what_is_serialised_loads_again() {
    let config = read(&format!(
        "{TOP}memory = \"300MB\"\n[tables.a]\npartition_by = [\"day(d)\"]"
    ))
    .unwrap();
    let text = toml::to_string(&config).unwrap();
    assert_eq!(read(&text).unwrap(), config, "{text}");
}
