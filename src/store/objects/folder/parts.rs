//! A file written in parts, each at its place.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::super::{ObjectError, ObjectErrorKind, Parts, Written};
use super::direct::Direct;
use super::{Shared, Unfinished};

/// A file that is being written.
pub(super) struct FileParts {
    shared: Arc<Shared>,
    key: String,
    file: Arc<File>,
    direct: Option<Arc<Direct>>,
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
            .and_then(|file| reserve(&file, bytes).map(|()| file))
            .map_err(|error| shared.failed(&error, &key, "write"))?;
        let direct = Direct::open(&unfinished.path);
        Ok(Self {
            shared,
            key,
            file: Arc::new(file),
            direct: direct.map(Arc::new),
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

/// Takes the space that a file needs: where there is not enough, that is known before
/// anything is read.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(bytes),
        taken => Ok(taken?),
    }
}

#[async_trait]
impl Parts for FileParts {
    async fn part(&self, _number: u32, offset: u64, body: Bytes) -> Result<(), ObjectError> {
        let (file, direct) = (Arc::clone(&self.file), self.direct.clone());
        let write = move || {
            let done = match &direct {
                Some(direct) => direct.write(&body, offset)?,
                None => 0,
            };
            file.write_all_at(body.get(done..).unwrap_or_default(), offset + done as u64)
        };
        match tokio::task::spawn_blocking(write).await {
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
        let done = move || {
            // It has had its size from the beginning: without this a power cut after the
            // rename could leave zeros that look like the whole file for ever.
            file.sync_data()
                .map_err(|error| shared.failed(&error, &key, "write"))?;
            shared.finish(&key, &file, unfinished, modified)
        };
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
