//! Streams one file to the store while it is still being encoded.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::FuturesUnordered;
use highwater::ledger::hex;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

/// Parts of one file on their way at once.
const PARTS_IN_FLIGHT: usize = 2;

/// A durable file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Durable {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// The encoded bytes on their way of all files of one worker. What waits for the
/// rest of its part does not count: it would wait for ever if the encoder waited
/// for it. It is less than one part for each open file.
#[derive(Debug, Clone, Default)]
pub(super) struct InFlight(Arc<AtomicU64>);

impl InFlight {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The account of one file.
    pub(super) fn file(&self) -> FileInFlight {
        FileInFlight {
            all: self.clone(),
            own: Arc::new(Mutex::new(Some(0))),
        }
    }
}

/// The encoded bytes of one file that are on their way; shared by its encoder,
/// which adds, and its upload, which removes.
#[derive(Debug, Clone)]
pub(super) struct FileInFlight {
    all: InFlight,
    /// `None` when the upload is over: nothing is on its way then, whatever the
    /// encoder still hands over.
    own: Arc<Mutex<Option<u64>>>,
}

impl FileInFlight {
    pub(super) fn add(&self, bytes: u64) {
        if let Some(own) = &mut *self.own.lock().unwrap_or_else(PoisonError::into_inner) {
            *own += bytes;
            self.all.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn remove(&self, bytes: u64) {
        if let Some(own) = &mut *self.own.lock().unwrap_or_else(PoisonError::into_inner) {
            *own = own.saturating_sub(bytes);
            self.all.0.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// The upload is over, well or not.
    fn close(&self) {
        let rest = self
            .own
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        self.all.0.fetch_sub(rest.unwrap_or(0), Ordering::Relaxed);
    }
}

/// Where a file goes.
pub(super) struct Target {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) path: Path,
    /// Every part but the last has exactly this size, as some stores demand.
    pub(super) part_bytes: usize,
}

/// Writes the chunks, in order; done when the file is durable. What arrives is
/// taken off `in_flight` when it is written, and `moved` is called. On an error
/// the multipart upload is aborted; a file that is already in its place is never
/// touched (C4).
pub(super) async fn upload(
    target: Target,
    chunks: mpsc::UnboundedReceiver<Bytes>,
    in_flight: FileInFlight,
    moved: impl Fn(),
) -> object_store::Result<Durable> {
    let mut parts = Parts {
        target,
        multipart: None,
        writing: FuturesUnordered::new(),
    };
    let outcome = parts.take_all(chunks, &in_flight, &moved).await;
    in_flight.close();
    moved();
    if outcome.is_err() {
        parts.abort().await;
    }
    outcome
}

/// The parts of one file: a single put where they fit in one part.
struct Parts {
    target: Target,
    multipart: Option<Box<dyn MultipartUpload>>,
    writing: FuturesUnordered<PartWrite>,
}

type PartWrite = futures::future::BoxFuture<'static, object_store::Result<u64>>;

impl Parts {
    async fn take_all(
        &mut self,
        mut chunks: mpsc::UnboundedReceiver<Bytes>,
        in_flight: &FileInFlight,
        moved: &impl Fn(),
    ) -> object_store::Result<Durable> {
        let mut hash = Sha256::new();
        let mut bytes = 0;
        let mut pending = Pending::default();
        while let Some(mut chunk) = chunks.recv().await {
            hash.update(&chunk);
            bytes += chunk.len() as u64;
            while pending.bytes + chunk.len() >= self.target.part_bytes {
                in_flight.add(pending.bytes as u64);
                pending.push(chunk.split_to(self.target.part_bytes - pending.bytes));
                self.write(pending.take(), in_flight, moved).await?;
            }
            in_flight.remove(chunk.len() as u64);
            moved();
            pending.push(chunk);
        }
        self.complete(pending.take()).await?;
        let sha256 = hex(&hash.finalize());
        Ok(Durable { bytes, sha256 })
    }

    async fn write(
        &mut self,
        part: PutPayload,
        in_flight: &FileInFlight,
        moved: &impl Fn(),
    ) -> object_store::Result<()> {
        let multipart = match &mut self.multipart {
            Some(multipart) => multipart,
            none => {
                let Target { store, path, .. } = &self.target;
                none.insert(store.put_multipart(path).await?)
            }
        };
        let bytes = part.content_length() as u64;
        let write = multipart.put_part(part);
        self.writing
            .push(Box::pin(async move { write.await.map(|()| bytes) }));
        while self.writing.len() >= PARTS_IN_FLIGHT {
            if let Some(written) = self.writing.try_next().await? {
                in_flight.remove(written);
                moved();
            }
        }
        Ok(())
    }

    async fn complete(&mut self, rest: PutPayload) -> object_store::Result<()> {
        let Some(multipart) = &mut self.multipart else {
            let Target { store, path, .. } = &self.target;
            store.put(path, rest).await?;
            return Ok(());
        };
        if rest.content_length() > 0 {
            let last = multipart.put_part(rest);
            self.writing
                .push(Box::pin(async move { last.await.map(|()| 0) }));
        }
        while self.writing.try_next().await?.is_some() {}
        multipart.complete().await?;
        self.multipart = None;
        Ok(())
    }

    async fn abort(&mut self) {
        self.writing.clear();
        if let Some(mut multipart) = self.multipart.take() {
            // Best effort: what is left of it is not a file of the table.
            let _ = multipart.abort().await;
        }
    }
}

/// Chunks that do not fill a part yet; they are never copied.
#[derive(Default)]
struct Pending {
    chunks: Vec<Bytes>,
    bytes: usize,
}

impl Pending {
    fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.bytes += chunk.len();
            self.chunks.push(chunk);
        }
    }

    fn take(&mut self) -> PutPayload {
        self.bytes = 0;
        std::mem::take(&mut self.chunks).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use object_store::memory::InMemory;

    use super::*;

    const PART_BYTES: usize = 1 << 20;

    fn target(store: Arc<dyn ObjectStore>, path: &str) -> Target {
        Target {
            store,
            path: Path::from(path),
            part_bytes: PART_BYTES,
        }
    }

    async fn round_trip(sizes: &[usize]) {
        let store = Arc::new(InMemory::new());
        let (sender, receiver) = mpsc::unbounded_channel();
        let (all, mut expected_bytes) = (InFlight::default(), 0);
        let in_flight = all.file();
        let mut expected = Vec::new();
        for (index, &size) in sizes.iter().enumerate() {
            let chunk = vec![u8::try_from(index).unwrap(); size];
            in_flight.add(size as u64);
            expected_bytes += size as u64;
            expected.extend_from_slice(&chunk);
            sender.send(chunk.into()).unwrap();
        }
        drop(sender);
        assert_eq!(all.bytes(), expected_bytes);
        let folder: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(&store);
        let durable = upload(target(folder, "f"), receiver, in_flight.clone(), || ())
            .await
            .unwrap();
        let stored = store
            .get(&Path::from("f"))
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        assert_eq!(stored, expected);
        assert_eq!(durable.bytes, expected.len() as u64);
        let digest: String = Sha256::digest(&expected)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(durable.sha256, digest);
        assert_eq!(all.bytes(), 0, "everything handed over was taken off again");
    }

    #[tokio::test]
    async fn small_files_are_one_put_and_large_ones_are_parts() {
        round_trip(&[]).await;
        round_trip(&[10, 20]).await;
        round_trip(&[PART_BYTES]).await;
        round_trip(&[PART_BYTES - 1, 2, 3 * PART_BYTES, 5]).await;
    }

    /// A failed upload must not leave bytes on the account: the encoder would
    /// wait for them for ever.
    #[tokio::test]
    async fn a_failed_upload_leaves_nothing_in_flight() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("f"), "a file where a folder is needed").unwrap();
        let store = object_store::local::LocalFileSystem::new_with_prefix(folder.path()).unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        let all = InFlight::default();
        let in_flight = all.file();
        in_flight.add(5);
        sender.send(Bytes::from_static(b"12345")).unwrap();
        drop(sender);
        let target = target(Arc::new(store), "f/below");
        let failed = upload(target, receiver, in_flight.clone(), || ()).await;
        assert!(failed.is_err());
        in_flight.add(7);
        assert_eq!(all.bytes(), 0);
    }
}
