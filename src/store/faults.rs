//! A store that fails on purpose; tests only.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use url::Url;

use super::Store;

/// What happens to one put-if-absent.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// It is applied, and the answer is lost.
    LostAfter,
    /// It is applied, and the answer is 500.
    ErrorAfter,
    /// It is not applied, and the answer is 500.
    ErrorBefore,
    /// It is not applied, and the answer is 409 or 412 although nothing is there.
    ConflictBefore,
    /// It is applied, the answer is lost, and nothing below the path can be read
    /// until [`FaultyStore::heal`].
    LostAndBlind,
    /// Another's bytes are there first.
    Overtaken(Bytes),
}

/// An object store in memory with faults on puts below a path that holds `only`.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    only: &'static str,
    script: Mutex<VecDeque<Fault>>,
    always: Option<Fault>,
    blind: AtomicBool,
    pub(crate) log: Mutex<Vec<String>>,
}

impl FaultyStore {
    pub(crate) fn new(only: &'static str, script: Vec<Fault>, always: Option<Fault>) -> Arc<Self> {
        Self::around(Arc::new(InMemory::new()), only, script, always)
    }

    pub(crate) fn around(
        inner: Arc<dyn ObjectStore>,
        only: &'static str,
        script: Vec<Fault>,
        always: Option<Fault>,
    ) -> Arc<Self> {
        let script = Mutex::new(script.into());
        Arc::new(Self {
            inner,
            only,
            script,
            always,
            blind: AtomicBool::new(false),
            log: Mutex::new(Vec::new()),
        })
    }

    /// A [`Store`] whose two clients are this one.
    pub(crate) fn store(self: &Arc<Self>) -> Store {
        let objects: Arc<dyn ObjectStore> = Arc::<Self>::clone(self);
        let single = Arc::clone(&objects);
        Store::from_clients(objects, single, Url::parse("memory:///lake/").unwrap())
    }

    /// Reads work again.
    pub(crate) fn heal(&self) {
        self.blind.store(false, Ordering::SeqCst);
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        self.log
            .lock()
            .unwrap()
            .iter()
            .filter(|line| line.contains(what))
            .count()
    }

    fn fault(&self, path: &Path) -> Option<Fault> {
        if !path.as_ref().contains(self.only) {
            return None;
        }
        self.script
            .lock()
            .unwrap()
            .pop_front()
            .or_else(|| self.always.clone())
    }

    fn note(&self, what: &str, path: &Path) {
        self.log.lock().unwrap().push(format!("{what} {path}"));
    }
}

fn broken(what: &str) -> Error {
    Error::Generic {
        store: "faulty",
        source: what.into(),
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty store")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.note("put", path);
        if opts.mode != PutMode::Create {
            return self.inner.put_opts(path, payload, opts).await;
        }
        match self.fault(path) {
            None => self.inner.put_opts(path, payload, opts).await,
            Some(Fault::LostAfter) => {
                self.inner.put_opts(path, payload, opts).await?;
                Err(broken("connection reset before the response"))
            }
            Some(Fault::LostAndBlind) => {
                self.blind.store(true, Ordering::SeqCst);
                self.inner.put_opts(path, payload, opts).await?;
                Err(broken("connection reset before the response"))
            }
            Some(Fault::ErrorAfter) => {
                self.inner.put_opts(path, payload, opts).await?;
                Err(broken("Server returned non-2xx status code: 500"))
            }
            Some(Fault::ErrorBefore) => Err(broken("Server returned non-2xx status code: 500")),
            Some(Fault::ConflictBefore) => Err(Error::AlreadyExists {
                path: path.to_string(),
                source: "409".into(),
            }),
            Some(Fault::Overtaken(theirs)) => {
                self.inner
                    .put_opts(path, theirs.into(), PutOptions::default())
                    .await?;
                self.inner.put_opts(path, payload, opts).await
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        if self.blind.load(Ordering::SeqCst) && path.as_ref().contains(self.only) {
            return Err(broken("Server returned non-2xx status code: 503"));
        }
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.log.lock().unwrap().push("delete".to_owned());
        self.inner.delete_stream(locations).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
