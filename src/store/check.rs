//! One clear error before any work is done.

use std::path::Path as FsPath;
use std::time::Duration;

use futures::TryStreamExt as _;
use object_store::path::Path;
use uuid::Uuid;

use super::{Store, StoreError, StoreErrorKind};

/// How often a busy or unreachable store is asked, over about six seconds: longer
/// than a moment of too many requests, shorter than a user's patience with a
/// wrong address.
const ATTEMPTS: u64 = 6;

impl Store {
    /// Finds out whether the store can be used, before a run does any work: a
    /// bucket must be reachable and listable, a local folder (or the nearest
    /// folder above it that exists) must be writable. Creates nothing that stays.
    ///
    /// # Errors
    /// One error that names what is wrong: unreachable, no such bucket, wrong
    /// credentials, no permission, folder not writable.
    pub async fn check(&self) -> Result<(), StoreError> {
        match self.folder() {
            Some(folder) => {
                let folder = folder.to_owned();
                let checked = tokio::task::spawn_blocking(move || check_folder(&folder));
                checked
                    .await
                    .map_err(|e| StoreError::new(StoreErrorKind::Failed, e.to_string()))?
            }
            None => self.check_bucket().await,
        }
    }

    async fn check_bucket(&self) -> Result<(), StoreError> {
        // A name that nothing has: the cheapest request that needs the bucket,
        // the credentials and the permission to list.
        let nothing = Path::from(format!("_highwater/check/{}", Uuid::now_v7()));
        let mut attempt = 0_u64;
        loop {
            // Once each: the retrying client would keep a wrong address for minutes.
            let Err(error) = self.single_shot().list(Some(&nothing)).try_next().await else {
                return Ok(());
            };
            let said = StoreError::from_object_store(&error, &format!("use {}", self.url()));
            attempt += 1;
            if said.kind != StoreErrorKind::Unavailable || attempt >= ATTEMPTS {
                return Err(said);
            }
            tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
        }
    }
}

fn check_folder(folder: &FsPath) -> Result<(), StoreError> {
    let existing = folder
        .ancestors()
        .find(|above| above.exists())
        .unwrap_or(folder);
    let wrong = |kind, what: String| {
        let message = format!("cannot use the folder {}: {what}", folder.display());
        Err(StoreError::new(kind, message))
    };
    if !existing.is_dir() {
        let what = format!("{} is a file; name another folder", existing.display());
        return wrong(StoreErrorKind::Usage, what);
    }
    let trial = existing.join(format!(".highwater-check-{}", Uuid::now_v7()));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&trial);
    match written.and_then(|_| std::fs::remove_file(&trial)) {
        Ok(()) => Ok(()),
        Err(error) => {
            let what = format!(
                "{} is not writable by this user ({error}); change its permissions or name another",
                existing.display()
            );
            wrong(StoreErrorKind::Refused, what)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[tokio::test]
    async fn folders_are_checked_without_being_created() {
        let home = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let url = format!("file:{}", home.path().join(name).display());
            Store::open(&url, &Default::default()).unwrap()
        };
        open("a/b").check().await.unwrap();
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
        std::fs::write(home.path().join("file"), "x").unwrap();
        let error = open("file/lake").check().await.unwrap_err();
        assert!(error.message.contains("is a file"), "{error}");
    }

    #[tokio::test]
    async fn an_unreachable_endpoint_is_named_quickly() {
        let options = [
            ("endpoint", "http://127.0.0.1:9"),
            ("allow_http", "true"),
            ("access_key_id", "a"),
            ("secret_access_key", "canary"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()));
        let store = Store::open("s3://bucket/lake", &options.into()).unwrap();
        let error = store.check().await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Unavailable, "{error}");
        assert!(!error.message.contains("canary"), "{error}");
    }
}
