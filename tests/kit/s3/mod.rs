//! A real S3 server for tests and benches: HTTP, signature version 4, path-style
//! addresses, everything kept in memory behind one lock.
//!
//! One lock is the point: the check and the write of a conditional PUT are one
//! step, as the protocol promises, so that races have exactly one winner. Faults
//! ([`faults`]) are applied around the protocol, at the level of HTTP requests,
//! where the network applies them.

mod faults;
mod load;
mod memory;
mod protocol;
mod serve;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

#[allow(unused_imports)] // Each test binary uses its own part.
pub(crate) use faults::{Action, FaultPlan, Rule, Seen};
#[allow(unused_imports)]
pub(crate) use load::{Bearing, Load};
pub(crate) use memory::Description;
use memory::Memory;

/// The access key that every server accepts.
pub(crate) const ACCESS_KEY: &str = "highwater-test";
/// The secret key that every server accepts.
pub(crate) const SECRET_KEY: &str = "canary-s3-secret-0b5e";

/// A running server; it ends, and forgets everything, when dropped.
pub(crate) struct S3Server {
    address: SocketAddr,
    memory: Arc<Memory>,
    faults: Arc<FaultPlan>,
    load: Load,
    user: (&'static str, &'static str),
    stop: Option<oneshot::Sender<()>>,
    runtime: Option<Runtime>,
}

impl S3Server {
    /// Starts a server with an empty bucket of the given name on a free port.
    pub(crate) fn start(bucket: &str) -> Self {
        Self::start_on(bucket, 0, Bearing::default())
    }

    /// The same on a port of the caller's choice, far or busy.
    pub(crate) fn start_on(bucket: &str, port: u16, bearing: Bearing) -> Self {
        Self::launch(bucket, port, (ACCESS_KEY, SECRET_KEY), bearing)
    }

    /// The same for a user of other keys.
    pub(crate) fn start_as(bucket: &str, access: &'static str, secret: &'static str) -> Self {
        Self::launch(bucket, 0, (access, secret), Bearing::default())
    }

    fn launch(
        bucket: &str,
        port: u16,
        user: (&'static str, &'static str),
        bearing: Bearing,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("s3-server")
            .enable_all()
            .build()
            .expect("a runtime for the S3 server");
        let memory = Arc::new(Memory::default());
        memory.create_bucket(bucket);
        let faults = Arc::new(FaultPlan::default());
        let load = Load::new(bearing);
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port for the S3 server");
        listener
            .set_nonblocking(true)
            .expect("a listener that does not block");
        let address = listener.local_addr().expect("the address of the S3 server");
        let (stop, stopped) = oneshot::channel();
        runtime.spawn(serve::accept(
            listener,
            Arc::clone(&memory),
            Arc::clone(&faults),
            load.clone(),
            user,
            stopped,
        ));
        Self {
            address,
            memory,
            faults,
            load,
            user,
            stop: Some(stop),
            runtime: Some(runtime),
        }
    }

    /// The server's URL.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The faults to apply from now on, and what has been seen so far.
    pub(crate) fn faults(&self) -> &FaultPlan {
        &self.faults
    }

    /// What is on its way, and was.
    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    /// All keys of a bucket that start with `prefix`, in order.
    pub(crate) fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        self.memory.keys(bucket, prefix)
    }

    /// The content of one object.
    pub(crate) fn object(&self, bucket: &str, key: &str) -> Option<Bytes> {
        self.memory.get(bucket, key).map(|object| object.content())
    }

    /// The length of an object in bytes, and since when it has been as it is.
    pub(crate) fn extent(&self, bucket: &str, key: &str) -> Option<(u64, SystemTime)> {
        let object = self.memory.get(bucket, key)?;
        Some((object.size, object.modified))
    }

    /// The MD5 of an object's content, also of one that was put in parts.
    pub(crate) fn md5(&self, bucket: &str, key: &str) -> Option<String> {
        self.memory.get(bucket, key).map(|object| object.md5())
    }

    /// Puts an object behind the protocol's back, as another client would have.
    pub(crate) fn put(&self, bucket: &str, key: &str, content: impl Into<Bytes>) {
        self.memory.overwrite(bucket, key, content.into());
    }

    /// The keys of its user.
    pub(crate) fn keys_of_user(&self) -> (&'static str, &'static str) {
        self.user
    }

    /// Removes an object behind the protocol's back.
    pub(crate) fn remove(&self, bucket: &str, key: &str) {
        let _ = self.memory.delete(bucket, key);
    }

    /// Gives an object that is there a content type and metadata.
    pub(crate) fn describe(
        &self,
        bucket: &str,
        key: &str,
        content_type: &str,
        metadata: &[(&str, &str)],
    ) {
        let metadata = metadata.iter();
        let metadata = metadata.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let description = Description {
            content_type: Some(content_type.to_owned()),
            metadata: metadata.collect(),
            tags: self.tags(bucket, key),
        };
        self.memory.describe(bucket, key, description);
    }

    /// Gives an object that is there tags.
    pub(crate) fn tag(&self, bucket: &str, key: &str, tags: &[(&str, &str)]) {
        let tags = tags.iter();
        let tags = tags.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let _ = self.memory.tag(bucket, key, tags.collect());
    }

    /// The tags of an object.
    pub(crate) fn tags(&self, bucket: &str, key: &str) -> Vec<(String, String)> {
        let object = self.memory.get(bucket, key);
        object.map_or_else(Vec::new, |object| object.description.tags.clone())
    }

    /// The content type and metadata of an object.
    pub(crate) fn description(
        &self,
        bucket: &str,
        key: &str,
    ) -> (Option<String>, std::collections::HashMap<String, String>) {
        let object = self.memory.get(bucket, key);
        let found = object
            .map(|object| object.description.clone())
            .unwrap_or_default();
        (found.content_type, found.metadata)
    }

    /// From now on reads ignore their conditions, and answer as if they were met.
    pub(crate) fn ignore_conditions(&self) {
        let ignores = &self.memory.ignores_conditions;
        ignores.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// From now on no checksums are told, as by S3 before 2025 and by many others.
    pub(crate) fn keep_no_checksums(&self) {
        let keeps_none = &self.memory.keeps_no_checksums;
        keeps_none.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// The requests so far that asked for objects to be deleted.
    pub(crate) fn deletes(&self) -> Vec<Seen> {
        self.faults
            .seen()
            .into_iter()
            .filter(Seen::is_delete)
            .collect()
    }

    /// Fails the test if any object was ever asked to be deleted (C4).
    #[track_caller]
    pub(crate) fn assert_no_deletes(&self) {
        let deletes = self.deletes();
        assert!(deletes.is_empty(), "objects were deleted: {deletes:#?}");
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
