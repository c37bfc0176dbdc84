//! The flags of this binary, and what they mean in the configuration.

use std::collections::BTreeMap;

use bytesize::ByteSize;
use highwater::app::{Failure, Flag, Flags};
use highwater::run::config::{Against, Compare, ObjectsConfig};
use highwater::run::{Config, Secret};

use super::places::place;

/// Flags that may stand for a file.
pub(super) static FLAGS: Flags = Flags {
    all: &[
        Flag::new("include", "GLOBS", "Only these keys: logs/*, *.csv"),
        Flag::new("exclude", "GLOBS", "Not these keys"),
        Flag::new(
            "compare",
            "HOW",
            "When an object has not changed: etag, size-time or checksum [default: etag]",
        ),
        Flag::new("checksum", "", "As --compare checksum: never judge by time"),
        Flag::new(
            "against",
            "WHAT",
            "Compare with a listing of the target, or with the ledger [default: target]",
        ),
        Flag::new("delete", "", "Remove objects that the source has not"),
        Flag::new(
            "max-delete",
            "SHARE",
            "Refuse to remove more of the target than this [default: 10%]",
        ),
        Flag::new("dry-run", "", "Compare, and say what would be done"),
        Flag::new(
            "bandwidth",
            "SIZE",
            "At most so many bytes a second in each direction: 100MB",
        ),
        Flag::new(
            "requests-per-second",
            "N",
            "At most so many requests a second",
        ),
        Flag::new(
            "max-errors",
            "N",
            "End the run when more objects have failed",
        ),
        Flag::new(
            "multipart-from",
            "SIZE",
            "Copy objects of this size or more in parts",
        ),
        Flag::new("no-metadata", "", "Leave content type and metadata behind"),
        Flag::new("tags", "", "Copy the tags of objects, too"),
        Flag::new(
            "hedge",
            "",
            "Ask a second time for what is late to answer (at most one read in twenty)",
        ),
        Flag::new(
            "no-server-side-copy",
            "",
            "Copy through this machine even where the store could",
        ),
        Flag::new("no-ledger", "", "Keep no record in the target"),
        Flag::new(
            "not-durable",
            "",
            "Do not wait until files are safe from a power cut",
        ),
        Flag::new(
            "source-env",
            "PREFIX",
            "Options of the source from the environment: PREFIX_ENDPOINT, PREFIX_ACCESS_KEY_ID, ...",
        ),
        Flag::new("target-env", "PREFIX", "The same for the target"),
    ],
    base,
    set,
};

fn base() -> Config {
    Config {
        objects: Some(ObjectsConfig::default()),
        ..Config::new(Secret::default(), "")
    }
}

fn set(config: &mut Config, flag: &str, values: &[String]) -> Result<(), Failure> {
    let first = values.first().cloned().unwrap_or_default();
    match flag {
        "source" => config.source = Secret::new(place(&first)),
        "target" => config.lake = place(&first),
        "source-env" => config.source_store.extend(from_environment(&first)?),
        "target-env" => config.store.extend(from_environment(&first)?),
        _ => set_objects(config.objects.get_or_insert_default(), flag, values, &first)?,
    }
    Ok(())
}

fn set_objects(
    objects: &mut ObjectsConfig,
    flag: &str,
    values: &[String],
    first: &str,
) -> Result<(), Failure> {
    let wrong = |what: &str| Failure::usage(format!("--{flag}: \"{first}\" is no {what}"));
    let number = || first.parse::<u64>().map_err(|_| wrong("number"));
    let size = || {
        first
            .trim_end_matches("/s")
            .parse::<ByteSize>()
            .map_err(|_| wrong("size"))
    };
    match flag {
        "include" => objects.include = values.to_vec(),
        "exclude" => objects.exclude = values.to_vec(),
        "compare" => {
            objects.compare = match first {
                "etag" => Compare::Etag,
                "size-time" => Compare::SizeTime,
                "checksum" => Compare::Checksum,
                _ => return Err(wrong("policy").hint("write etag, size-time or checksum")),
            }
        }
        "checksum" => objects.compare = Compare::Checksum,
        "against" => {
            objects.against = match first {
                "target" => Against::Target,
                "ledger" => Against::Ledger,
                _ => return Err(wrong("side").hint("write target or ledger")),
            }
        }
        "delete" => objects.delete = true,
        "max-delete" => {
            objects.max_delete = first.to_owned().try_into().map_err(Failure::usage)?;
        }
        "dry-run" => objects.dry_run = true,
        "bandwidth" => objects.bandwidth = Some(size()?),
        "requests-per-second" => objects.requests_per_second = Some(number()?),
        "max-errors" => objects.max_errors = Some(number()?),
        "multipart-from" => objects.multipart_from = Some(size()?),
        "no-metadata" => objects.metadata = false,
        "tags" => objects.tags = true,
        "hedge" => objects.hedge = true,
        "no-server-side-copy" => objects.server_side_copy = false,
        "no-ledger" => objects.ledger = false,
        "not-durable" => objects.durable = false,
        other => {
            return Err(Failure::failed(format!(
                "--{other} is not known; please report this"
            )));
        }
    }
    Ok(())
}

/// Options named `PREFIX_ENDPOINT`, `PREFIX_ACCESS_KEY_ID`, ...
fn from_environment(prefix: &str) -> Result<BTreeMap<String, Secret>, Failure> {
    let prefix = format!("{}_", prefix.trim_end_matches('_'));
    let found: BTreeMap<String, Secret> = std::env::vars()
        .filter_map(|(name, value)| {
            let option = name.strip_prefix(&prefix)?.to_ascii_lowercase();
            Some((option, Secret::new(value)))
        })
        .collect();
    if found.is_empty() {
        let what = format!("the environment has no variable that begins with {prefix}");
        return Err(Failure::usage(what).hint("set such as SRC_ENDPOINT and name SRC"));
    }
    Ok(found)
}
