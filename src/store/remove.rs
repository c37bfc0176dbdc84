//! The one way to delete objects. Only `prune` may use it (C4): no error path,
//! and nothing that writes.

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::Error;
use object_store::path::Path;

use super::{Store, StoreError};

/// Deletes objects below `store`, in no particular order; one that is gone
/// already is no failure.
pub(crate) async fn remove_pruned(store: &Store, paths: &[Path]) -> Result<(), StoreError> {
    let listed: Vec<_> = paths.iter().cloned().map(Ok).collect();
    let objects = store.objects();
    let mut removed = objects.delete_stream(futures::stream::iter(listed).boxed());
    loop {
        match removed.try_next().await {
            Ok(Some(_)) | Err(Error::NotFound { .. }) => {}
            Ok(None) => return Ok(()),
            Err(error) => {
                let doing = format!("remove files of {}", store.url());
                return Err(StoreError::from_object_store(&error, &doing));
            }
        }
    }
}

/// The store's present: what it says a new object was modified at (C5).
pub(crate) async fn present(store: &Store) -> Result<chrono::DateTime<chrono::Utc>, StoreError> {
    use object_store::ObjectStoreExt as _;
    let path = Path::from("_highwater/clock");
    let failed = |error: Error| {
        let doing = format!("ask {} for the time", store.url_of(&path));
        StoreError::from_object_store(&error, &doing)
    };
    let text = "The store's clock is asked here.\n";
    store
        .objects()
        .put(&path, text.into())
        .await
        .map_err(failed)?;
    let found = store.objects().head(&path).await.map_err(failed)?;
    Ok(found.last_modified)
}
