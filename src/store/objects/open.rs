//! A URL becomes a place of objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{AzureObjects, FolderObjects, Objects, S3Objects};
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
    // Says what is wrong with the URL in the words of all other verbs.
    let store = Store::open(url, options)?;
    Ok(match (store.folder(), store.url().scheme()) {
        (Some(folder), _) => Arc::new(FolderObjects::new(folder)),
        (None, "az") => Arc::new(AzureObjects::open(store.url(), options)?),
        (None, _) => Arc::new(S3Objects::open(store.url(), options)?),
    })
}
