//! The flags of this binary, and what they mean in the configuration.

use bytesize::ByteSize;
use highwater::app::{Failure, Flag, Flags};
use highwater::run::config::{CompactCommit, CompactConfig, KeepNewest};
use highwater::run::{Config, Secret};

/// Flags that may stand for a file.
pub(super) static FLAGS: Flags = Flags {
    all: &[
        Flag::new(
            "lake",
            "URL",
            "The lake, or one Delta table: file:folder, s3://bucket/prefix, ...",
        ),
        Flag::new(
            "sort-by",
            "COLUMNS",
            "Sort by these columns: id, \"created_at desc\"",
        ),
        Flag::new("z-order", "COLUMNS", "Z-order by these columns"),
        Flag::new(
            "newest-key",
            "COLUMNS",
            "Of rows with the same key keep only the newest ...",
        ),
        Flag::new(
            "newest-by",
            "COLUMN",
            "... which is the one with the greatest value here",
        ),
        Flag::new(
            "partition-by",
            "COLUMNS",
            "Partition by these columns; none to take partitions away",
        ),
        Flag::new(
            "commit",
            "WHAT",
            "What is published at once: table or partition [default: table]",
        ),
        Flag::new(
            "target",
            "SIZE",
            "The size that files should have [default: 128MiB]",
        ),
        Flag::new(
            "smaller-than",
            "SIZE",
            "Files below this size are small [default: half of the target]",
        ),
        Flag::new(
            "spill",
            "FOLDER",
            "A local folder for rows that do not fit into memory",
        ),
    ],
    base,
    set,
};

fn base() -> Config {
    Config {
        compact: Some(CompactConfig::default()),
        ..Config::new(Secret::default(), "")
    }
}

fn set(config: &mut Config, flag: &str, values: &[String]) -> Result<(), Failure> {
    let first = values.first().cloned().unwrap_or_default();
    let size = || -> Result<Option<ByteSize>, Failure> {
        let size = first.parse::<ByteSize>();
        size.map(Some).map_err(|_| {
            Failure::usage(format!("--{flag}: \"{first}\" is no size")).hint("write such as 128MiB")
        })
    };
    if flag == "lake" {
        config.lake = first;
        return Ok(());
    }
    let compact = config.compact.get_or_insert_default();
    let newest = || KeepNewest {
        key: Vec::new(),
        version: String::new(),
    };
    match flag {
        "sort-by" => compact.sort_by = values.to_vec(),
        "z-order" => compact.z_order = values.to_vec(),
        "newest-key" => compact.keep_newest_by.get_or_insert_with(newest).key = values.to_vec(),
        "newest-by" => compact.keep_newest_by.get_or_insert_with(newest).version = first,
        "partition-by" if first == "none" || first.is_empty() => {
            compact.partition_by = Some(Vec::new());
        }
        "partition-by" => compact.partition_by = Some(values.to_vec()),
        "commit" => {
            compact.commit = match first.as_str() {
                "table" => CompactCommit::Table,
                "partition" => CompactCommit::Partition,
                _ => return Err(Failure::usage("--commit: write table or partition")),
            }
        }
        "target" => compact.target = size()?,
        "smaller-than" => compact.smaller_than = size()?,
        "spill" => compact.spill = Some(first.into()),
        other => {
            return Err(Failure::failed(format!(
                "--{other} is not known; please report this"
            )));
        }
    }
    Ok(())
}
