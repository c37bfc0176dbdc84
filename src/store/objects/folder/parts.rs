//! A file written in parts, each at its place.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::super::{ObjectError, ObjectErrorKind, Parts, Written};
use super::{Shared, Unfinished};

/// A file that is being written.
pub(super) struct FileParts {
    shared: Arc<Shared>,
    key: String,
    file: Arc<File>,
    unfinished: Mutex<Option<Unfinished>>,
    modified_ns: Option<i64>,
}

impl FileParts {
    pub(super) fn begin(
        shared: Arc<Shared>,
        key: String,
        bytes: u64,
        modified_ns: Option<i64>,
    ) -> Result<Self, ObjectError> {
        let unfinished = shared.unfinished(&key)?;
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(&unfinished.path)
            .and_then(|file| file.set_len(bytes).map(|()| file))
            .map_err(|error| shared.failed(&error, &key, "write"))?;
        Ok(Self {
            shared,
            key,
            file: Arc::new(file),
            unfinished: Mutex::new(Some(unfinished)),
            modified_ns,
        })
    }

    fn take(&self) -> Option<Unfinished> {
        self.unfinished
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

#[async_trait]
impl Parts for FileParts {
    async fn part(&self, _number: u32, offset: u64, body: Bytes) -> Result<(), ObjectError> {
        let file = Arc::clone(&self.file);
        let written = tokio::task::spawn_blocking(move || file.write_all_at(&body, offset)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.shared.failed(&error, &self.key, "write")),
            Err(error) => Err(ObjectError::new(
                ObjectErrorKind::Failed,
                &self.key,
                error.to_string(),
            )),
        }
    }

    async fn complete(&self) -> Result<Written, ObjectError> {
        let Some(unfinished) = self.take() else {
            let what = format!("{:?} was completed twice; please report this", self.key);
            return Err(ObjectError::new(ObjectErrorKind::Failed, &self.key, what));
        };
        let (shared, file) = (Arc::clone(&self.shared), Arc::clone(&self.file));
        let (key, modified) = (self.key.clone(), self.modified_ns);
        let done = move || shared.finish(&key, &file, unfinished, modified);
        let done = tokio::task::spawn_blocking(done).await;
        done.unwrap_or_else(|error| {
            let what = error.to_string();
            Err(ObjectError::new(ObjectErrorKind::Failed, &self.key, what))
        })
    }

    async fn abandon(&self) {
        drop(self.take());
    }
}
