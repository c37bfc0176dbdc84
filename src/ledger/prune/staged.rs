//! Uploads in local folders that never ended.
//!
//! A killed process leaves the parts of a file it was writing under a name that
//! no listing of the store shows. In buckets such uploads are the provider's to
//! remove (a lifecycle rule for incomplete multipart uploads).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::super::error::LedgerError;
use super::{Amount, names};
use crate::store::{Store, StoreError, StoreErrorKind};

/// Those that are older than `young`, and what they amount to.
pub(super) async fn find(
    store: &Store,
    now: DateTime<Utc>,
    young: Duration,
) -> Result<(Vec<PathBuf>, Amount), LedgerError> {
    let Some(folder) = store.folder().map(Path::to_owned) else {
        return Ok(Default::default());
    };
    in_background(move || {
        let mut found = (Vec::new(), Amount::default());
        walk(&folder, now, young, &mut found)
            .map_err(|error| failed("look through", &folder, &error))?;
        Ok(found)
    })
    .await
}

/// Removes them.
pub(super) async fn remove(staged: &[PathBuf]) -> Result<(), LedgerError> {
    let staged = staged.to_vec();
    in_background(move || {
        for path in staged {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path, &error));
                }
                _ => {}
            }
        }
        Ok(())
    })
    .await
}

fn walk(
    folder: &Path,
    now: DateTime<Utc>,
    young: Duration,
    found: &mut (Vec<PathBuf>, Amount),
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let kind = entry.file_type()?;
        // Partitions are Hive folders; anything else below is not this table.
        if kind.is_dir() && name.contains('=') {
            walk(&entry.path(), now, young, found)?;
        } else if kind.is_file() && names::is_staged(&name) {
            let meta = entry.metadata()?;
            let modified = DateTime::<Utc>::from(meta.modified()?);
            let age = (now - modified).to_std().unwrap_or_default();
            if age > young {
                found.0.push(entry.path());
                found.1.add(meta.len());
            }
        }
    }
    Ok(())
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, LedgerError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(StoreError::new(StoreErrorKind::Failed, error.to_string()).into()),
    }
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> StoreError {
    let message = format!("cannot {doing} {}: {error}", path.display());
    StoreError::new(StoreErrorKind::Failed, message)
}
