//! [`PackedObjects`]: a packed table as a place of objects that can be read.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use highwater::store::objects::{
    Buffers, Describe, Got, KeyRange, Listed, ObjectError, ObjectErrorKind, Objects, Pages, Parts,
    Written,
};

use super::groups::{Found, Groups};
use super::listing::Listing;
use super::rows::{attributes_of, is_same};
use crate::lake::{KeyedTable, LakeReadError};

/// A packed table as a place of objects. It is read; it is written by
/// [`PackRanges`](super::PackRanges).
#[derive(Debug)]
pub struct PackedObjects {
    url: String,
    table: Arc<KeyedTable>,
    groups: Groups,
}

impl PackedObjects {
    /// The objects of `table`, which is at `url`; row groups that are in memory for
    /// the next object take about `share_bytes`.
    #[must_use]
    pub fn new(url: String, table: Arc<KeyedTable>, share_bytes: u64) -> Self {
        Self {
            url,
            groups: Groups::new(Arc::clone(&table), share_bytes),
            table,
        }
    }

    async fn find(&self, key: &str, in_parts: bool) -> Result<Found, ObjectError> {
        let found = self
            .groups
            .find(key, in_parts)
            .await
            .map_err(|error| unreadable(key, &error))?;
        found.ok_or_else(|| {
            let what = format!("{} does not hold {key:?}", self.url);
            ObjectError::new(ObjectErrorKind::Vanished, key, what)
        })
    }

    fn read_only<T>(&self, key: &str) -> Result<T, ObjectError> {
        let what = format!(
            "{} is written range by range, not object by object",
            self.url
        );
        Err(ObjectError::new(ObjectErrorKind::Impossible, key, what))
    }
}

/// A file of the table that cannot be read, as a failure with an object.
pub(crate) fn unreadable(key: &str, error: &LakeReadError) -> ObjectError {
    let kind = match error.passes {
        true => ObjectErrorKind::Broken,
        false => ObjectErrorKind::Failed,
    };
    ObjectError::new(kind, key, error.to_string())
}

/// A part of a content, as much of it as there is.
fn part(content: &[u8], range: Option<Range<u64>>) -> &[u8] {
    let Some(range) = range else {
        return content;
    };
    let at = |bytes: u64| {
        usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .min(content.len())
    };
    content
        .get(at(range.start)..at(range.end))
        .unwrap_or_default()
}

#[async_trait]
impl Objects for PackedObjects {
    fn url(&self) -> &str {
        &self.url
    }

    fn pages(&self, range: KeyRange) -> Pages {
        Listing::new(Arc::clone(&self.table), range).pages()
    }

    /// Folders near which files end: there it is best cut.
    async fn names_below(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let below = self
            .table
            .lasts()
            .filter_map(|last| last.strip_prefix(prefix));
        let folders = below.filter_map(|rest| {
            let (folder, _) = rest.split_once('/')?;
            Some(format!("{prefix}{folder}/"))
        });
        let mut folders: Vec<String> = folders.collect();
        folders.dedup();
        Ok(folders)
    }

    async fn get(&self, object: &Listed, range: Option<Range<u64>>) -> Result<Got, ObjectError> {
        self.get_within(object, range, &Buffers::used_once()).await
    }

    /// Of what is in memory only what is asked for is copied, so that a body holds no row
    /// group: whoever pays for the body has paid for all that it keeps.
    async fn get_within(
        &self,
        object: &Listed,
        range: Option<Range<u64>>,
        buffers: &Buffers,
    ) -> Result<Got, ObjectError> {
        let key = object.key.as_str();
        let found = self.find(key, range.is_some()).await?;
        let packed = found.object();
        if !is_same(object, &packed) {
            let what = format!("{key:?} has changed while it was read");
            return Err(ObjectError::new(ObjectErrorKind::Changed, key, what));
        }
        let (sha256, expected) = (found.sha256().await, found.packed_sha256());
        if sha256 != expected {
            let what = format!("{key:?} has the SHA-256 {sha256}, {expected} was packed");
            return Err(ObjectError::new(ObjectErrorKind::Corrupt, key, what));
        }
        let content = part(found.content(), range);
        let mut body = buffers.take(content.len());
        body.end().extend_from_slice(content);
        let body = body.into_bytes();
        Ok(Got {
            bytes: body.len() as u64,
            etag: packed.etag,
            attributes: attributes_of(found.attributes()),
            // They are among the attributes.
            tags: 0,
            // It was compared when it was packed, and the content has a hash of ours.
            etag_is_no_md5: true,
            checksum: None,
            body: stream::once(async { Ok(body) }).boxed(),
        })
    }

    fn keeps_tags(&self) -> bool {
        true
    }

    async fn head(&self, key: &str) -> Result<Listed, ObjectError> {
        Ok(self.find(key, false).await?.object())
    }

    async fn put(&self, key: &str, _: Bytes, _: &Describe) -> Result<Written, ObjectError> {
        self.read_only(key)
    }

    async fn begin(&self, key: &str, _: u64, _: &Describe) -> Result<Box<dyn Parts>, ObjectError> {
        self.read_only(key)
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<(String, ObjectError)>, ObjectError> {
        self.read_only(keys.first().map_or("", String::as_str))
    }
}
