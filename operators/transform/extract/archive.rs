//! Files in files: gzip, and tar archives of LaTeX sources. What is unpacked is
//! counted while it is, so that a bomb ends at the limit.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};

use flate2::read::MultiGzDecoder;

use super::{Format, Limits, Reason};

/// Files of LaTeX sources that hold text.
const SOURCES: [&str; 4] = [".tex", ".ltx", ".latex", ".bbl"];
/// More files than any paper has.
const MOST_FILES: usize = 10_000;

/// What `contents` is without its compression.
pub(super) fn gunzip(contents: &[u8], limits: &Limits) -> Result<Vec<u8>, Reason> {
    let limit = limits.unpacked_bytes;
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(contents)
        .take(limit.saturating_add(1))
        .read_to_end(&mut unpacked)
        .map_err(|error| match error.kind() {
            // What it unpacks to may be allowed, and yet more than the child has.
            ErrorKind::OutOfMemory => Reason::TooMuchMemory {
                limit: limits.memory_bytes,
            },
            _ => Reason::Unsupported(format!("damaged gzip: {error}")),
        })?;
    if unpacked.len() as u64 > limit {
        return Err(Reason::Unpacks { limit });
    }
    Ok(unpacked)
}

/// `paper.tex.gz` -> `paper.tex`, `paper.tgz` -> `paper.tar`.
pub(super) fn without_gz(key: &str) -> String {
    let lower = key.to_ascii_lowercase();
    let stem = |end: usize| key.get(..key.len() - end).unwrap_or(key);
    if lower.ends_with(".tgz") {
        format!("{}.tar", stem(4))
    } else if lower.ends_with(".gz") {
        stem(3).to_owned()
    } else {
        key.to_owned()
    }
}

/// The files of LaTeX sources in a tar archive, by their paths within it.
pub(super) fn untar(contents: &[u8], limits: &Limits) -> Result<BTreeMap<String, Vec<u8>>, Reason> {
    let mut files = BTreeMap::new();
    let mut left = limits.unpacked_bytes;
    let damaged = |error: std::io::Error| match error.kind() {
        ErrorKind::OutOfMemory => Reason::TooMuchMemory {
            limit: limits.memory_bytes,
        },
        _ => Reason::Malformed {
            format: Format::Latex,
            what: format!("damaged tar archive: {error}"),
        },
    };
    let mut archive = tar::Archive::new(contents);
    for entry in archive.entries().map_err(damaged)?.take(MOST_FILES) {
        let entry = entry.map_err(damaged)?;
        let path = String::from_utf8_lossy(&entry.path_bytes())
            .trim_start_matches("./")
            .to_owned();
        let lower = path.to_ascii_lowercase();
        let wanted = SOURCES.iter().any(|end| lower.ends_with(end)) || !lower.contains('.');
        if !entry.header().entry_type().is_file() || !wanted {
            continue;
        }
        let mut file = Vec::new();
        entry
            .take(left.saturating_add(1))
            .read_to_end(&mut file)
            .map_err(damaged)?;
        left = left.checked_sub(file.len() as u64).ok_or(Reason::Unpacks {
            limit: limits.unpacked_bytes,
        })?;
        files.insert(path, file);
    }
    Ok(files)
}
