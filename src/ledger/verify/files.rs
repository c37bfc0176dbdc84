//! Files against the log: is each there, as large and with the content that the
//! log recorded?

use std::collections::HashMap;

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt as _};
use sha2::{Digest as _, Sha256};

use super::super::error::LedgerError;
use super::super::files::LoggedFile;
use super::super::hex;
use super::{Checked, Depth, Finding, FindingKind, content};
use crate::store::{Store, StoreError};

/// How many files are hashed at once: each holds one piece of its content.
const HASHED_AT_ONCE: usize = 8;
/// How many files are decoded at once: each holds one row group.
const DECODED_AT_ONCE: usize = 2;

const RESTORE: &str = "restore the file from a copy of the lake; without one, have the table loaded again (mode \
     `full`, or a new folder)";

/// A finding at a file.
pub(super) fn finding(kind: FindingKind, file: &LoggedFile, what: String) -> Finding {
    Finding::new(kind, &file.path, what).advise(RESTORE)
}

/// Checks the files of one version, as deep as was asked for.
pub(super) async fn check(
    store: &Store,
    files: &[LoggedFile],
    depth: Depth,
    checked: &mut Checked,
) -> Result<(), LedgerError> {
    let damaged = sizes(store, files).await?;
    let whole = |file: &&LoggedFile| !damaged.iter().any(|found| found.path == file.path);
    let whole: Vec<&LoggedFile> = files.iter().filter(whole).collect();
    checked.findings.extend(damaged);
    let (hashed, unhashed): (Vec<&LoggedFile>, Vec<&LoggedFile>) = whole
        .iter()
        .filter(|file| depth.full || depth.share.takes(&file.path, depth.seed))
        .partition(|file| file.sha256.is_some());
    if !unhashed.is_empty() {
        let what = format!(
            "{} files have no SHA-256: others wrote them",
            unhashed.len()
        );
        let finding = Finding::new(FindingKind::Note, "_delta_log", what);
        checked.findings.push(finding);
    }
    checked.hashed_files = hashed.len() as u64;
    checked.hashed_bytes = hashed.iter().map(|file| file.bytes).sum();
    let found: Vec<Option<Finding>> = futures::stream::iter(hashed)
        .map(|file| digest(store, file))
        .buffered(HASHED_AT_ONCE)
        .try_collect()
        .await?;
    checked.findings.extend(found.into_iter().flatten());
    if depth.full {
        checked.decoded_files = whole.len() as u64;
        let found: Vec<_> = futures::stream::iter(whole)
            .map(|file| content::check(store, file))
            .buffered(DECODED_AT_ONCE)
            .try_collect()
            .await?;
        for (rows, findings) in found {
            checked.decoded_rows += rows;
            checked.findings.extend(findings);
        }
    }
    Ok(())
}

/// Where a file of the log is, below the table's folder.
pub(in super::super) fn place(path: &str) -> Option<Path> {
    Path::from_url_path(path).ok()
}

/// Files that are not there, or not as large: one listing of the folder, not a
/// request for each file.
async fn sizes(store: &Store, files: &[LoggedFile]) -> Result<Vec<Finding>, LedgerError> {
    let mut findings = Vec::new();
    let mut wanted: HashMap<Path, &LoggedFile> = HashMap::with_capacity(files.len());
    for file in files {
        match place(&file.path) {
            Some(path) => {
                wanted.insert(path, file);
            }
            None => {
                let what = "it is not a path inside the table's folder".to_owned();
                findings.push(finding(FindingKind::FileMissing, file, what));
            }
        }
    }
    let objects = store.objects();
    let doing = format!("list {}", store.url());
    let mut listing = objects.list(None);
    while let Some(object) = listing
        .try_next()
        .await
        .map_err(|error| StoreError::from_object_store(&error, &doing))?
    {
        let Some(file) = wanted.remove(&object.location) else {
            continue;
        };
        if object.size != file.bytes {
            let what = format!("it has {} bytes, the log says {}", object.size, file.bytes);
            findings.push(finding(FindingKind::FileSize, file, what));
        }
    }
    let missing = "it is not there".to_owned();
    let mut missing: Vec<Finding> = wanted
        .into_values()
        .map(|file| finding(FindingKind::FileMissing, file, missing.clone()))
        .collect();
    missing.sort_by(|a, b| a.path.cmp(&b.path));
    findings.append(&mut missing);
    Ok(findings)
}

/// Level 2: the content, piece by piece.
async fn digest(store: &Store, file: &LoggedFile) -> Result<Option<Finding>, StoreError> {
    let (Some(path), Some(recorded)) = (place(&file.path), &file.sha256) else {
        return Ok(None);
    };
    let failed = |error: Error| match error {
        Error::NotFound { .. } => None,
        error => Some(StoreError::from_object_store(
            &error,
            &format!("read {}", store.url_of(&path)),
        )),
    };
    let mut hash = Sha256::new();
    let read = async {
        let mut pieces = store.objects().get(&path).await?.into_stream();
        while let Some(piece) = pieces.try_next().await? {
            hash.update(&piece);
        }
        Ok::<_, Error>(())
    };
    if let Err(error) = read.await {
        return match failed(error) {
            Some(error) => Err(error),
            None => Ok(Some(finding(
                FindingKind::FileMissing,
                file,
                "it is not there any more".to_owned(),
            ))),
        };
    }
    let found = hex(&hash.finalize());
    Ok((found != *recorded).then(|| {
        let what = format!("its SHA-256 is {found}, the log says {recorded}");
        finding(FindingKind::FileContent, file, what)
    }))
}
