//! What is carried of an object beside its content.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use super::{Describe, Got, Home, KeyRange, Listed, ObjectError, Objects, Pages, Parts, Written};

/// Tags, as they are told when an object is written: `name=value&...`.
pub(super) const TAGGING: HeaderName = HeaderName::from_static("x-amz-tagging");

/// What is carried of an object beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carry {
    /// Content type, metadata and the like.
    pub metadata: bool,
    /// Tags.
    pub tags: bool,
}

impl Carry {
    /// Of all that is known of an object what is carried.
    #[must_use]
    pub fn of(self, attributes: HeaderMap) -> HeaderMap {
        if self.metadata && self.tags {
            return attributes;
        }
        let wanted = |name: &HeaderName| match *name == TAGGING {
            true => self.tags,
            false => self.metadata,
        };
        let kept = attributes.iter().filter(|(name, _)| wanted(name));
        kept.map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

/// The same objects; who reads one is told its tags with it.
///
/// A store tells with an object how many tags it has, not which: they are asked for
/// where there are some, and once for an object, however many parts it is read in.
#[derive(Debug)]
pub struct Tagged(Arc<dyn Objects>);

impl Tagged {
    /// Asks `inner` for tags.
    #[must_use]
    pub fn new(inner: Arc<dyn Objects>) -> Self {
        Self(inner)
    }
}

#[async_trait]
impl Objects for Tagged {
    fn url(&self) -> &str {
        self.0.url()
    }

    fn pages(&self, range: KeyRange) -> Pages {
        self.0.pages(range)
    }

    async fn names_below(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        self.0.names_below(prefix).await
    }

    async fn get(&self, object: &Listed, range: Option<Range<u64>>) -> Result<Got, ObjectError> {
        let first = range.as_ref().is_none_or(|range| range.start == 0);
        let mut got = self.0.get(object, range).await?;
        if first
            && got.tags > 0
            && let Some(tags) = self.0.tags(&object.key).await?
        {
            got.attributes.insert(TAGGING, tags);
        }
        Ok(got)
    }

    async fn head(&self, key: &str) -> Result<Listed, ObjectError> {
        self.0.head(key).await
    }

    async fn put(&self, key: &str, body: Bytes, told: &Describe) -> Result<Written, ObjectError> {
        self.0.put(key, body, told).await
    }

    async fn begin(
        &self,
        key: &str,
        bytes: u64,
        told: &Describe,
    ) -> Result<Box<dyn Parts>, ObjectError> {
        self.0.begin(key, bytes, told).await
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<(String, ObjectError)>, ObjectError> {
        self.0.delete(keys).await
    }

    fn home(&self) -> Option<&Home> {
        self.0.home()
    }

    fn keeps_tags(&self) -> bool {
        self.0.keeps_tags()
    }

    async fn copy_from(
        &self,
        home: &Home,
        object: &Listed,
        key: &str,
        carry: Carry,
    ) -> Result<Written, ObjectError> {
        self.0.copy_from(home, object, key, carry).await
    }

    async fn make_durable(&self) -> Result<(), ObjectError> {
        self.0.make_durable().await
    }

    fn largest_put_bytes(&self) -> u64 {
        self.0.largest_put_bytes()
    }

    fn parts_limits(&self) -> (Range<u64>, u64) {
        self.0.parts_limits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_is_what_was_asked_for() {
        let mut all = HeaderMap::new();
        all.insert("content-type", http::HeaderValue::from_static("text/plain"));
        all.insert("x-amz-meta-owner", http::HeaderValue::from_static("me"));
        all.insert(TAGGING, http::HeaderValue::from_static("a=b"));
        for (metadata, tags, kept) in [
            (true, true, 3),
            (true, false, 2),
            (false, true, 1),
            (false, false, 0),
        ] {
            let carried = Carry { metadata, tags }.of(all.clone());
            assert_eq!(carried.len(), kept);
            assert_eq!(carried.contains_key(TAGGING), tags);
        }
    }
}
