//! A URL becomes a place of objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{FolderObjects, Objects, PathObjects, S3Objects};
use crate::store::{Store, StoreError};

/// Opens `file:folder`, `s3://bucket/prefix`, `gs://...` or `az://...`, with the
/// options of [`Store::open`]. Nothing is read or written yet.
///
/// # Errors
/// The URL or an option is not valid, or not known to this kind of place.
pub fn open_objects(
    url: &str,
    options: &BTreeMap<String, String>,
) -> Result<Arc<dyn Objects>, StoreError> {
    if url.starts_with("s3:") {
        // Says what is wrong with the URL in the words of all other verbs.
        let store = Store::open(url, options)?;
        return Ok(Arc::new(S3Objects::open(store.url(), options)?));
    }
    let store = Store::open(url, options)?;
    match store.folder() {
        Some(folder) => Ok(Arc::new(FolderObjects::new(folder))),
        None => Ok(Arc::new(PathObjects::new(&store))),
    }
}
