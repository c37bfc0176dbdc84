//! [`TextObjects`]: a spool as a place of objects.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use highwater::store::objects::{
    Describe, Got, KeyRange, Listed, ObjectError, ObjectErrorKind, Objects, Page, Pages, Parts,
    Refused, Written,
};
use http::HeaderMap;

use super::spool::{Place, Texts};

/// Texts of a page.
const PAGE_TEXTS: usize = 1000;

/// The rows of a text column as a place of objects that can be read. The tag of a text
/// is a hash of it.
#[derive(Debug)]
pub struct TextObjects {
    url: String,
    texts: Arc<Texts>,
}

impl TextObjects {
    /// The texts of what is at `url`.
    #[must_use]
    pub fn new(url: String, texts: Texts) -> Self {
        Self {
            url,
            texts: Arc::new(texts),
        }
    }

    fn place(&self, key: &str) -> Result<&Place, ObjectError> {
        self.texts.find(key).ok_or_else(|| {
            let what = format!("{} has no row {key:?}", self.url);
            ObjectError::new(ObjectErrorKind::Vanished, key, what)
        })
    }

    fn read_only<T>(&self, key: &str) -> Result<T, ObjectError> {
        let what = format!("{} is read, not written", self.url);
        Err(ObjectError::new(ObjectErrorKind::Impossible, key, what))
    }
}

fn listed(place: &Place) -> Listed {
    Listed {
        key: place.key.to_string(),
        bytes: place.bytes,
        modified_ns: 0,
        // Not in the form of an MD5, which it is not.
        etag: Some(format!("xxh3-{:032x}", place.hash)),
    }
}

#[async_trait]
impl Objects for TextObjects {
    fn url(&self) -> &str {
        &self.url
    }

    fn pages(&self, range: KeyRange) -> Pages {
        let from = self
            .texts
            .places()
            .partition_point(|place| *place.key <= *range.after);
        let texts = Arc::clone(&self.texts);
        // No range holds the name that is none.
        let mut refused = Vec::from_iter(
            texts
                .places()
                .first()
                .filter(|place| place.key.is_empty() && range.after.is_empty())
                .map(|_| Refused {
                    key: String::new(),
                    reason: "the key of a row is empty, which names no document".to_owned(),
                }),
        );
        let pages = stream::unfold(from, move |from| {
            let left = texts.places().get(from..).unwrap_or_default();
            let inside = left.iter().take_while(|place| !range.is_beyond(&place.key));
            let objects: Vec<Listed> = inside.take(PAGE_TEXTS).map(listed).collect();
            let refused = std::mem::take(&mut refused);
            let next = from + objects.len();
            let is_page = !objects.is_empty() || !refused.is_empty();
            let page = is_page.then_some((Ok(Page { objects, refused }), next));
            async move { page }
        });
        pages.boxed()
    }

    async fn names_below(&self, _prefix: &str) -> Result<Vec<String>, ObjectError> {
        Ok(Vec::new())
    }

    async fn get(&self, object: &Listed, range: Option<Range<u64>>) -> Result<Got, ObjectError> {
        let place = self.place(&object.key)?.clone();
        let texts = Arc::clone(&self.texts);
        let read = tokio::task::spawn_blocking(move || texts.read(&place)).await;
        let failed = |what: String| {
            let what = format!("the text of {:?} cannot be read back: {what}", object.key);
            ObjectError::new(ObjectErrorKind::Failed, &object.key, what)
        };
        let text = read.map_err(|error| failed(error.to_string()))?;
        let mut text = Bytes::from(text.map_err(|error| failed(error.to_string()))?);
        if let Some(range) = range {
            let at = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX).min(text.len());
            text = text.slice(at(range.start)..at(range.end));
        }
        Ok(Got {
            bytes: text.len() as u64,
            etag: object.etag.clone(),
            attributes: HeaderMap::new(),
            tags: 0,
            etag_is_no_md5: true,
            checksum: None,
            body: stream::once(async { Ok(text) }).boxed(),
        })
    }

    async fn head(&self, key: &str) -> Result<Listed, ObjectError> {
        self.place(key).map(listed)
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
