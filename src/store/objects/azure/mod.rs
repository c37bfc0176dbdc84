//! One container of Azure.
//!
//! Credentials, signatures and connections are `object_store`'s; requests and keys
//! are ours, because its paths cannot say every key. Each method is one request.
//! Source: "Blob service REST API" of Azure Storage.
//!
//! | file | what it holds |
//! |---|---|
//! | `open` | a URL and options become a client of one container |
//! | `names` | keys that Azure cannot hold |
//! | `headers` | what describes an object, by Azure's names and by ours |
//! | `listing` | one page of a listing, and what of it belongs to a range |
//! | `blocks` | a large object, written in blocks |
//! | `answer` | what Azure answers in XML |

mod answer;
mod blocks;
mod headers;
mod listing;
mod names;
mod open;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method};
use tokio::sync::OnceCell;
use url::Url;

use super::key::problem_in_an_address;
use super::request::{Ask, Client, header_text, pages, remove_each};
use super::{
    Checksum, Describe, Got, KeyRange, Listed, OUR_OWN, ObjectError, ObjectErrorKind, Objects,
    Pages, Parts, Written,
};
use crate::store::StoreError;
use blocks::Blocks;
use listing::common;
use names::problem_with;

/// Objects and folders of a page.
const PAGE_NAMES: u32 = 5000;

/// The largest object that is written by one request, in bytes.
const LARGEST_PUT_BYTES: u64 = 5000 << 20;

/// The largest block, and the most blocks of an object.
const LARGEST_BLOCK_BYTES: u64 = 4000 << 20;
const MOST_BLOCKS: u64 = 50_000;

/// What sort of object is written.
const BLOB_TYPE: HeaderName = HeaderName::from_static("x-ms-blob-type");

/// What a content must have that is sent.
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// The objects of a container below a prefix.
#[derive(Debug, Clone)]
pub struct AzureObjects {
    client: Client,
    service: String,
    url: String,
    /// What stands before every key, with its `/`.
    prefix: String,
    /// Whether a listing may begin anywhere.
    begins_anywhere: bool,
    /// Whether the account has no hierarchy of folders, once that was asked.
    flat: Arc<OnceCell<bool>>,
}

impl AzureObjects {
    /// The container and prefix of an `az://` URL.
    ///
    /// # Errors
    /// An option is not valid.
    pub(super) fn open(url: &Url, options: &BTreeMap<String, String>) -> Result<Self, StoreError> {
        let opened = open::azure(url, options)?;
        let prefix = url.path().trim_start_matches('/').trim_end_matches('/');
        let prefix = percent_encoding::percent_decode_str(prefix).decode_utf8_lossy();
        Ok(Self {
            client: opened.client,
            service: opened.service,
            url: url.to_string(),
            prefix: match prefix.as_ref() {
                "" => String::new(),
                prefix => format!("{prefix}/"),
            },
            begins_anywhere: opened.begins_anywhere,
            flat: Arc::default(),
        })
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The full key, where it can be asked for.
    fn address(&self, key: &str) -> Result<String, ObjectError> {
        let full = self.full(key);
        let problem = match key {
            "" => Some("it has no key"),
            _ => problem_in_an_address(&full).or_else(|| problem_with(&full)),
        };
        match problem {
            None => Ok(full),
            Some(problem) => {
                let what = format!("{key:?} cannot be in {}: {problem}", self.url);
                Err(ObjectError::new(ObjectErrorKind::Impossible, key, what))
            }
        }
    }

    async fn delete_one(&self, key: &str) -> Result<(), ObjectError> {
        let full = self.address(key)?;
        let ask = Ask::new(Method::DELETE, &full, key, "remove");
        self.client.send(ask).await.map(drop)
    }
}

#[async_trait]
impl Objects for AzureObjects {
    fn url(&self) -> &str {
        &self.url
    }

    fn service(&self) -> &str {
        &self.service
    }

    fn pages(&self, range: KeyRange) -> Pages {
        let objects = self.clone();
        // All keys between two begin with what both begin with.
        let shared = common(&range.after, range.upto.as_deref().unwrap_or_default());
        let prefix = self.full(shared);
        let from = match range.after.as_str() {
            "" => String::new(),
            after => self.full(after),
        };
        pages(move |marker| {
            let (objects, range) = (objects.clone(), range.clone());
            let (prefix, from) = (prefix.clone(), from.clone());
            async move {
                let from = objects.beginning(&from).await?;
                let answer = objects
                    .list(&prefix, &from, marker.as_deref(), false, PAGE_NAMES)
                    .await?;
                let next = answer.next.clone();
                let (page, over) = objects.page(answer, &range);
                Ok((page, next.filter(|_| !over)))
            }
        })
    }

    async fn names_below(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        if !self.is_flat().await? {
            // To divide it would be to list all of it again and again.
            return Ok(Vec::new());
        }
        let answer = self
            .list(&self.full(prefix), "", None, true, PAGE_NAMES)
            .await?;
        let objects = answer.objects.into_iter().map(|object| object.key);
        let mut names: Vec<String> = objects
            .chain(answer.folders)
            .filter_map(|name| Some(name.strip_prefix(&self.prefix)?.to_owned()))
            .filter(|name| !name.starts_with(OUR_OWN))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn begins_anywhere(&self) -> bool {
        self.begins_anywhere
    }

    async fn first_after(&self, text: &str) -> Result<Option<String>, ObjectError> {
        let full = self.full(text);
        if self.beginning(&full).await?.is_empty() {
            return Ok(None);
        }
        // The one that it begins with may be the text itself.
        let answer = self.list(&self.prefix, &full, None, false, 2).await?;
        let mut keys = answer.objects.into_iter().map(|object| object.key);
        let next = keys.find(|key| *key > full);
        // Our own records, too: more keys may come after them.
        Ok(next.and_then(|key| Some(key.strip_prefix(&self.prefix)?.to_owned())))
    }

    async fn get(&self, object: &Listed, range: Option<Range<u64>>) -> Result<Got, ObjectError> {
        let key = object.key.as_str();
        let full = self.address(key)?;
        let wanted = range.clone().unwrap_or(0..object.bytes);
        let mut ask = Ask::new(Method::GET, &full, key, "read").moving(wanted.end - wanted.start);
        if let Some(etag) = &object.etag {
            ask = ask.header(http::header::IF_MATCH, &format!("\"{etag}\""));
        }
        let whole = range.is_none();
        if let Some(range) = range.filter(|range| !range.is_empty()) {
            let text = format!("bytes={}-{}", range.start, range.end - 1);
            ask = ask.header(http::header::RANGE, &text);
        }
        let answer = self.client.send(ask).await?;
        let headers = answer.headers();
        let etag = tag_in(headers);
        let bytes = header_text(headers, &http::header::CONTENT_LENGTH);
        let bytes = bytes.and_then(|text| text.parse().ok());
        let other = object.etag.is_some() && etag.is_some() && etag != object.etag;
        if other || bytes.is_some_and(|bytes: u64| bytes != wanted.end - wanted.start) {
            let what = format!("{key:?} of {} has changed since it was listed", self.url);
            return Err(ObjectError::new(ObjectErrorKind::Changed, key, what));
        }
        Ok(Got {
            bytes: wanted.end - wanted.start,
            etag,
            attributes: headers::describing(headers),
            checksum: Checksum::told(headers).filter(|_| whole),
            tags: 0,
            etag_is_no_md5: true,
            body: answer.body(),
        })
    }

    async fn head(&self, key: &str) -> Result<Listed, ObjectError> {
        let full = self.address(key)?;
        let ask = Ask::new(Method::HEAD, &full, key, "look at");
        let answer = self.client.send(ask).await?;
        let headers = answer.headers();
        let time = header_text(headers, &http::header::LAST_MODIFIED).unwrap_or_default();
        let bytes = header_text(headers, &http::header::CONTENT_LENGTH);
        Ok(Listed {
            key: key.to_owned(),
            bytes: bytes.and_then(|text| text.parse().ok()).unwrap_or(0),
            modified_ns: answer::nanoseconds(&time),
            etag: tag_in(headers),
        })
    }

    async fn put(&self, key: &str, body: Bytes, told: &Describe) -> Result<Written, ObjectError> {
        let full = self.address(key)?;
        let ask = Ask::new(Method::PUT, &full, key, "write")
            .headers(&headers::told(key, &told.attributes)?)
            .header(BLOB_TYPE, "BlockBlob")
            .header(CONTENT_MD5, &answer::md5_base64(&body))
            .body(body, None);
        let answer = self.client.send(ask).await?;
        Ok(Written {
            etag: tag_in(answer.headers()),
            modified_ns: None,
        })
    }

    async fn begin(
        &self,
        key: &str,
        bytes: u64,
        told: &Describe,
    ) -> Result<Box<dyn Parts>, ObjectError> {
        let full = self.address(key)?;
        let told = headers::told(key, &told.attributes)?;
        let blocks = Blocks::new(&self.client, (key, full), bytes, told);
        Ok(Box::new(blocks))
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<(String, ObjectError)>, ObjectError> {
        Ok(remove_each(keys, |key| async move { self.delete_one(&key).await }).await)
    }

    fn largest_put_bytes(&self) -> u64 {
        LARGEST_PUT_BYTES
    }

    fn parts_limits(&self) -> (Range<u64>, u64) {
        (1..LARGEST_BLOCK_BYTES, MOST_BLOCKS)
    }
}

/// The tag of an object, without quotes.
fn tag_in(headers: &HeaderMap) -> Option<String> {
    let etag = header_text(headers, &http::header::ETAG)?;
    Some(etag.trim_matches('"').to_owned())
}
