//! A local folder that keeps an object store's promises (C8).
//!
//! `object_store`'s own [`LocalFileSystem`] already writes to a temporary name
//! beside the target, links it into place for create and renames it for
//! overwrite; told to, it also calls `fsync` on the file, on its folder and on
//! folders it had to create. What is missing for our use is added here: listings
//! in the order of names (object stores give that, and the table log is read
//! so), and no blocking call on an asynchronous thread.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// The local file system as a durable object store; paths are absolute paths
/// without the leading `/`. Nothing is created until something is written.
#[derive(Debug, Clone)]
pub struct DurableFolder {
    files: LocalFileSystem,
}

impl DurableFolder {
    /// The whole file system; give it a prefix to make it one folder.
    #[must_use]
    pub fn new() -> Self {
        Self {
            files: LocalFileSystem::new().with_fsync(true),
        }
    }

    fn in_order(
        listing: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        futures::stream::once(async move {
            let mut objects: Vec<ObjectMeta> = listing.try_collect().await?;
            objects.sort_unstable_by(|a, b| a.location.cmp(&b.location));
            Ok::<_, object_store::Error>(futures::stream::iter(objects.into_iter().map(Ok)))
        })
        .try_flatten()
        .boxed()
    }
}

impl Default for DurableFolder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for DurableFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("local folder")
    }
}

#[async_trait]
impl ObjectStore for DurableFolder {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.files.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        // Creates the temporary file, and folders with their fsync, before the
        // first await: that belongs on a blocking thread.
        let files = self.files.clone();
        let location = location.clone();
        let here = tokio::runtime::Handle::current();
        let started = tokio::task::spawn_blocking(move || {
            here.block_on(files.put_multipart_opts(&location, opts))
        });
        started.await?
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        Self::in_order(self.files.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        Self::in_order(self.files.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut found = self.files.list_with_delimiter(prefix).await?;
        found
            .objects
            .sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.files.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use object_store::{ObjectStoreExt as _, PutMode};

    use super::*;
    use crate::store::Store;

    fn store(folder: &std::path::Path) -> Store {
        Store::open(&format!("file:{}", folder.display()), &Default::default()).unwrap()
    }

    fn names(folder: &std::path::Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn c8_create_fails_if_it_exists_and_leaves_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let lake = home.path().join("a/b");
        let objects = store(&lake).objects();
        assert!(
            !home.path().join("a").exists(),
            "opening must not create folders"
        );
        let path = Path::from("_delta_log/0.json");
        let create = || PutOptions {
            mode: PutMode::Create,
            ..Default::default()
        };
        objects
            .put_opts(&path, "ours".into(), create())
            .await
            .unwrap();
        let second = objects
            .put_opts(&path, "theirs".into(), create())
            .await
            .unwrap_err();
        assert!(
            matches!(second, object_store::Error::AlreadyExists { .. }),
            "{second}"
        );
        assert_eq!(
            std::fs::read(lake.join("_delta_log/0.json")).unwrap(),
            b"ours"
        );
        assert_eq!(names(&lake.join("_delta_log")), ["0.json"]);
    }

    #[tokio::test]
    async fn c8_parts_stream_to_disk_and_appear_whole_or_not_at_all() {
        let home = tempfile::tempdir().unwrap();
        let objects = store(home.path()).objects();
        let path = Path::from("t/part.parquet");
        let mut upload = objects.put_multipart(&path).await.unwrap();
        upload.put_part(vec![1_u8; 100_000].into()).await.unwrap();
        assert!(
            objects.head(&path).await.is_err(),
            "not visible before it is complete"
        );
        let staged = std::fs::metadata(home.path().join("t/part.parquet#1")).unwrap();
        assert_eq!(staged.len(), 100_000, "parts are on disk, not in memory");
        upload.put_part(vec![2_u8; 5].into()).await.unwrap();
        upload.complete().await.unwrap();
        assert_eq!(objects.head(&path).await.unwrap().size, 100_005);
        assert_eq!(names(&home.path().join("t")), ["part.parquet"]);
    }

    #[tokio::test]
    async fn listings_are_in_order() {
        let home = tempfile::tempdir().unwrap();
        let objects = store(home.path()).objects();
        for name in ["c", "a", "b/d", "b.x"] {
            objects.put(&Path::from(name), "x".into()).await.unwrap();
        }
        let listed: Vec<_> = objects
            .list(None)
            .map_ok(|meta| meta.location.to_string())
            .try_collect()
            .await
            .unwrap();
        assert_eq!(listed, ["a", "b.x", "b/d", "c"]);
    }
}
