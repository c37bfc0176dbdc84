//! One container of Azure.
//!
//! Credentials, signatures and connections are `object_store`'s; requests and keys
//! are ours, because its paths cannot say every key. Each method is one request.
//! Source: "Blob service REST API" of Azure Storage.

mod answer;
mod blocks;
mod headers;
mod open;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method};
use tokio::sync::OnceCell;
use url::Url;

use super::key::{problem_in_an_address, refused_prefix};
use super::request::{Ask, Client, header_text, pages, remove_each};
use super::{
    Checksum, Describe, Got, KeyRange, Listed, OUR_OWN, ObjectError, ObjectErrorKind, Objects,
    Page, Pages, Parts, Written,
};
use crate::store::StoreError;
use answer::ListAnswer;
use blocks::Blocks;

/// The longest key that Azure has, in characters.
const LONGEST_KEY_CHARS: usize = 1024;

/// The most parts that a key may have.
const MOST_SEGMENTS: usize = 254;

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

    /// Whether the account has no hierarchy of folders. One that has lists depth first:
    /// `a/b` before `a.txt`, which is not the order of keys.
    async fn is_flat(&self) -> Result<bool, ObjectError> {
        let look = || async { Ok(self.list("", "", None, false, 1).await?.is_flat) };
        self.flat.get_or_try_init(look).await.copied()
    }

    /// Where a listing may be told to begin, to have all keys that come after `from`:
    /// there, or at the first key of all.
    async fn beginning(&self, from: &str) -> Result<String, ObjectError> {
        let may = !from.is_empty() && self.begins_anywhere && is_plain(from);
        Ok(match may && self.is_flat().await? {
            true => from.to_owned(),
            false => String::new(),
        })
    }

    /// One page of the listing below `prefix` (a full one), of so many names, and from
    /// a [`beginning`](Self::beginning).
    async fn list(
        &self,
        prefix: &str,
        from: &str,
        marker: Option<&str>,
        by_folder: bool,
        names: u32,
    ) -> Result<ListAnswer, ObjectError> {
        let mut ask = Ask::new(Method::GET, "", "", "list")
            .query("restype", "container")
            .query("comp", "list")
            .query("maxresults", &names.to_string());
        if !prefix.is_empty() {
            ask = ask.query("prefix", prefix);
        }
        if by_folder {
            ask = ask.query("delimiter", "/");
        }
        match marker {
            Some(marker) => ask = ask.query("marker", marker),
            None if !from.is_empty() => ask = ask.query("startFrom", from),
            None => {}
        }
        let answer = self.client.send(ask).await?;
        ListAnswer::parse(&answer.text().await?, &self.url)
    }

    /// Of a page what belongs to a range, in the order of keys; whether it was the last.
    fn page(&self, answer: ListAnswer, range: &KeyRange) -> (Page, bool) {
        // Only where the listing is in the order of keys, as far as the end of the range
        // is concerned, does nothing of the range come after what is beyond it.
        let may_end = answer.is_flat && range.upto.as_deref().is_none_or(is_plain);
        let mut objects = answer.objects;
        // The service compares UTF-16, which differs in the rarest of characters.
        objects.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        let mut page = Page::default();
        for object in objects {
            let Some(key) = object.key.strip_prefix(&self.prefix) else {
                continue;
            };
            if range.is_beyond(key) {
                match may_end {
                    true => return (page, true),
                    false => continue,
                }
            }
            page.refused.extend(refused_prefix(&object, key, range));
            if !range.holds(key) || key.starts_with(OUR_OWN) {
                continue;
            }
            page.objects.push(Listed {
                key: key.to_owned(),
                ..object
            });
        }
        (page, answer.next.is_none())
    }

    async fn delete_one(&self, key: &str) -> Result<(), ObjectError> {
        let full = self.address(key)?;
        let ask = Ask::new(Method::DELETE, &full, key, "remove");
        self.client.send(ask).await.map(drop)
    }
}

/// Whether a text compares with any other in UTF-16, which the service does, as it does
/// in UTF-8.
fn is_plain(text: &str) -> bool {
    text.chars().all(|character| u32::from(character) < 0xd800)
}

/// Why Azure cannot hold a key under this very name, if it cannot. Source: "Naming
/// and referencing containers, blobs, and metadata".
fn problem_with(full: &str) -> Option<&'static str> {
    if full.chars().count() > LONGEST_KEY_CHARS {
        return Some("its key would be longer than the 1,024 characters that Azure allows");
    }
    if full.contains('\\') {
        return Some("its key has a `\\`, of which Azure makes a `/`");
    }
    if full.chars().any(char::is_control) || full.contains(['\u{fffe}', '\u{ffff}']) {
        return Some("its key has a control character, which Azure does not allow");
    }
    if full.split('/').count() > MOST_SEGMENTS {
        return Some("its key has more than the 254 parts that Azure allows");
    }
    let dot = full.split('/').any(|part| part.ends_with('.'));
    dot.then_some("a part of its key ends with `.`, which Azure leaves out")
}

/// The part of two texts that both begin with.
fn common<'a>(one: &'a str, other: &str) -> &'a str {
    let same = one.char_indices().zip(other.chars());
    let end = same
        .take_while(|((_, here), there)| here == there)
        .map(|((at, here), _)| at + here.len_utf8())
        .last();
    one.get(..end.unwrap_or(0)).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_azure_would_clean_is_refused() {
        for key in [
            "a\\b", "a.", "a./b", "a\tb", "a\u{81}", "x\n", "...", "\u{ffff}",
        ] {
            assert!(problem_with(key).is_some(), "{key:?}");
        }
        for key in [
            "a b",
            "a//b",
            "/a",
            "a/",
            "a.b",
            ".a",
            "ü",
            "\u{1f600}",
            "%2F",
            "+#?&",
        ] {
            assert_eq!(problem_with(key), None, "{key:?}");
        }
        assert!(problem_with(&"x".repeat(1025)).is_some());
        assert!(problem_with(&"ü".repeat(1024)).is_none());
        assert!(problem_with(&"a/".repeat(254)).is_some());
    }

    fn a_page(keys: &[&str], is_flat: bool) -> ListAnswer {
        let objects = keys.iter().map(|key| Listed {
            key: (*key).to_owned(),
            bytes: 1,
            modified_ns: 0,
            etag: None,
        });
        ListAnswer {
            objects: objects.collect(),
            next: Some("more".to_owned()),
            is_flat,
            ..ListAnswer::default()
        }
    }

    /// A hierarchy lists `a/b` before `a.c`: what is beyond a range does not end it.
    #[test]
    fn a_range_ends_early_only_where_keys_come_in_their_order() {
        let options = [("account_name", "a"), ("skip_signature", "true")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let url = Url::parse("az://container").unwrap();
        let place = AzureObjects::open(&url, &BTreeMap::from(options)).unwrap();
        let upto = |key: &str| KeyRange {
            after: String::new(),
            upto: Some(key.to_owned()),
        };
        let deep_first = ["report/1", "report/2", "report.csv"];
        let (page, over) = place.page(a_page(&deep_first, false), &upto("report/"));
        let keys: Vec<_> = page
            .objects
            .iter()
            .map(|object| object.key.as_str())
            .collect();
        assert_eq!((keys, over), (vec!["report.csv"], false));
        let (_, over) = place.page(a_page(&["a", "b", "c"], true), &upto("b"));
        assert!(over);
        // UTF-16 has U+1F600 before U+F900, UTF-8 after it.
        let (_, over) = place.page(a_page(&["\u{1f600}/1"], true), &upto("\u{f900}"));
        assert!(!over);
    }

    #[test]
    fn what_two_keys_begin_with() {
        assert_eq!(common("a/b", "a/c"), "a/");
        assert_eq!(common("a", "ab"), "a");
        assert_eq!(common("ü", "ö"), "");
        assert_eq!(common("", "a"), "");
    }
}
