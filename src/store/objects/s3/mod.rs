//! One bucket of S3, or of anything that speaks its protocol, as Google does.
//!
//! Credentials, signatures and connections are `object_store`'s; requests and
//! keys are ours, because its paths cannot say every key. Each method is one
//! request: who calls knows best when to repeat it.
//!
//! | file | what it holds |
//! |---|---|
//! | `open` | a URL and options become a client of one bucket |
//! | `dialect` | what Google says otherwise |
//! | `listing` | one page of a listing, and what of it belongs to a range |
//! | `parts` | a large object, written in parts |
//! | `copy` | copies that the service makes by itself |
//! | `remove` | objects removed, many by one request |
//! | `answer` | what S3 answers in XML |

mod answer;
mod copy;
mod dialect;
mod listing;
mod open;
mod parts;
mod remove;

use std::collections::BTreeMap;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use url::Url;

use super::key::problem_in_an_address;
use super::request::{Ask, Client, header_text, pages};
use super::{
    Carry, Checksum, Describe, Got, Home, KeyRange, Listed, OUR_OWN, ObjectError, ObjectErrorKind,
    Objects, Pages, Parts, Written,
};
use crate::store::StoreError;
use dialect::Dialect;
use parts::S3Parts;

/// The longest key that S3 has, in bytes.
const LONGEST_KEY_BYTES: usize = 1024;

/// Objects and folders of a page.
const PAGE_NAMES: u32 = 1000;

/// How many tags an object has; told to those only who may read them.
const TAGGING_COUNT: HeaderName = HeaderName::from_static("x-amz-tagging-count");

/// The objects of a bucket below a prefix.
#[derive(Debug, Clone)]
pub struct S3Objects {
    client: Client,
    url: String,
    home: Home,
    dialect: Dialect,
}

impl S3Objects {
    /// The bucket and prefix of an `s3://` or `gs://` URL.
    ///
    /// # Errors
    /// An option is not valid, or is one that cannot be kept here.
    pub(super) fn open(url: &Url, options: &BTreeMap<String, String>) -> Result<Self, StoreError> {
        let (opened, dialect) = match url.scheme() {
            "gs" => (open::google(url, options)?, Dialect::Google),
            _ => (open::amazon(url, options)?, Dialect::Amazon),
        };
        let prefix = url.path().trim_start_matches('/').trim_end_matches('/');
        let prefix = percent_encoding::percent_decode_str(prefix).decode_utf8_lossy();
        let prefix = match prefix.as_ref() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let home = Home {
            endpoint: opened.endpoint,
            user: opened.user,
            bucket: url.host_str().unwrap_or_default().to_owned(),
            prefix,
        };
        Ok(Self {
            client: opened.client,
            url: url.to_string(),
            home,
            dialect,
        })
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.home.prefix)
    }

    /// The full key, where it can be asked for.
    fn address(&self, key: &str) -> Result<String, ObjectError> {
        let full = self.full(key);
        let problem = if full.len() > LONGEST_KEY_BYTES {
            Some("its key would be longer than the 1,024 bytes that are allowed")
        } else if key.is_empty() {
            Some("it has no key")
        } else {
            problem_in_an_address(&full).or_else(|| self.dialect.problem_with(&full))
        };
        match problem {
            None => Ok(full),
            Some(problem) => {
                let what = format!("{key:?} cannot be in {}: {problem}", self.url);
                Err(ObjectError::new(ObjectErrorKind::Impossible, key, what))
            }
        }
    }

    fn ask<'a>(
        &'a self,
        method: Method,
        key: &'a str,
        full: &'a str,
        doing: &'static str,
    ) -> Ask<'a> {
        Ask::new(method, full, key, doing)
    }
}

#[async_trait]
impl Objects for S3Objects {
    fn url(&self) -> &str {
        &self.url
    }

    fn service(&self) -> &str {
        &self.home.endpoint
    }

    fn pages(&self, range: KeyRange) -> Pages {
        let objects = self.clone();
        let after = match range.after.as_str() {
            "" => String::new(),
            after => self.full(after),
        };
        pages(move |token| {
            let (objects, range, after) = (objects.clone(), range.clone(), after.clone());
            async move {
                let prefix = &objects.home.prefix;
                let answer = objects
                    .list(prefix, &after, token.as_deref(), false, PAGE_NAMES)
                    .await?;
                let (page, over) = objects.page(&answer, &range)?;
                let next = answer.next().filter(|_| !over);
                Ok((page, next.map(str::to_owned)))
            }
        })
    }

    async fn names_below(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let answer = self
            .list(&self.full(prefix), "", None, true, PAGE_NAMES)
            .await?;
        let objects = answer.objects()?.into_iter().map(|object| object.key);
        let mut names: Vec<String> = objects
            .chain(answer.folders())
            .filter_map(|name| Some(name.strip_prefix(&self.home.prefix)?.to_owned()))
            .filter(|name| !name.starts_with(OUR_OWN))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn begins_anywhere(&self) -> bool {
        true
    }

    async fn first_after(&self, text: &str) -> Result<Option<String>, ObjectError> {
        let answer = self
            .list(&self.home.prefix, &self.full(text), None, false, 1)
            .await?;
        let first = answer.objects()?.into_iter().next();
        // Our own records, too: more keys may come after them.
        Ok(first.and_then(|first| {
            let key = first.key.strip_prefix(&self.home.prefix)?;
            Some(key.to_owned())
        }))
    }

    async fn get(&self, object: &Listed, range: Option<Range<u64>>) -> Result<Got, ObjectError> {
        let key = object.key.as_str();
        let full = self.address(key)?;
        let wanted = range.clone().unwrap_or(0..object.bytes);
        let mut ask = self.ask(Method::GET, key, &full, "read");
        ask = ask.moving(wanted.end - wanted.start);
        if let Some(etag) = &object.etag {
            ask = ask.header(http::header::IF_MATCH, &format!("\"{etag}\""));
        }
        let whole = range.is_none();
        ask = match range.filter(|range| !range.is_empty()) {
            Some(range) => {
                let text = format!("bytes={}-{}", range.start, range.end - 1);
                ask.header(http::header::RANGE, &text)
            }
            None => ask,
        };
        // A part has no checksum of its own to be asked for.
        if whole || self.dialect == Dialect::Google {
            let (name, value) = self.dialect.asking();
            ask = ask.header(name, value);
        }
        let answer = self.client.send(ask).await?;
        let headers = answer.headers();
        let etag = header_text(headers, &http::header::ETAG);
        let etag = etag.map(|etag| etag.trim_matches('"').to_owned());
        let bytes = header_text(headers, &http::header::CONTENT_LENGTH);
        let bytes = bytes.and_then(|text| text.parse().ok());
        let other = object.etag.is_some() && etag.is_some() && etag != object.etag;
        if other || bytes.is_some_and(|bytes: u64| bytes != wanted.end - wanted.start) {
            let what = format!("{key:?} of {} has changed since it was listed", self.url);
            return Err(ObjectError::new(ObjectErrorKind::Changed, key, what));
        }
        let encryption = header_text(
            headers,
            &HeaderName::from_static("x-amz-server-side-encryption"),
        );
        let own_key = headers.contains_key("x-amz-server-side-encryption-customer-algorithm");
        Ok(Got {
            bytes: wanted.end - wanted.start,
            etag,
            attributes: self.dialect.describing(headers),
            checksum: Checksum::told(headers).filter(|_| whole),
            tags: header_text(headers, &TAGGING_COUNT)
                .and_then(|count| count.parse().ok())
                .unwrap_or(0),
            etag_is_no_md5: own_key || encryption.is_some_and(|by| by.starts_with("aws:")),
            body: answer.body(),
        })
    }

    fn keeps_checksums(&self) -> bool {
        true
    }

    async fn checksum(&self, object: &Listed) -> Result<Option<Checksum>, ObjectError> {
        let key = object.key.as_str();
        let full = self.address(key)?;
        let mut ask = self.ask(Method::HEAD, key, &full, "look at");
        let (name, value) = self.dialect.asking();
        ask = ask.header(name, value);
        if let Some(etag) = &object.etag {
            ask = ask.header(http::header::IF_MATCH, &format!("\"{etag}\""));
        }
        let answer = self.client.send(ask).await?;
        Ok(Checksum::told(answer.headers()))
    }

    async fn head(&self, key: &str) -> Result<Listed, ObjectError> {
        let full = self.address(key)?;
        let (name, value) = self.dialect.asking();
        let ask = self.ask(Method::HEAD, key, &full, "look at");
        let answer = self.client.send(ask.header(name, value)).await?;
        let headers = answer.headers();
        let time = header_text(headers, &http::header::LAST_MODIFIED).unwrap_or_default();
        let time = chrono::DateTime::parse_from_rfc2822(&time).ok();
        let bytes = header_text(headers, &http::header::CONTENT_LENGTH);
        Ok(Listed {
            key: key.to_owned(),
            bytes: bytes.and_then(|text| text.parse().ok()).unwrap_or(0),
            modified_ns: time
                .and_then(|time| time.timestamp_nanos_opt())
                .unwrap_or(0),
            etag: header_text(headers, &http::header::ETAG)
                .map(|etag| etag.trim_matches('"').to_owned()),
        })
    }

    async fn put(&self, key: &str, body: Bytes, told: &Describe) -> Result<Written, ObjectError> {
        let full = self.address(key)?;
        let ask = self
            .ask(Method::PUT, key, &full, "write")
            .headers(&self.dialect.told(&told.attributes))
            .headers(&self.dialect.check_of(&body))
            .body(body, told.sha256);
        let answer = self.client.send(ask).await?;
        let etag = header_text(answer.headers(), &http::header::ETAG);
        Ok(Written {
            etag: etag.map(|etag| etag.trim_matches('"').to_owned()),
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
        let parts = S3Parts::begin(&self.client, self.dialect, (key, full), bytes, told).await?;
        Ok(Box::new(parts))
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<(String, ObjectError)>, ObjectError> {
        self.remove(keys).await
    }

    fn deletes_at_once(&self) -> usize {
        match self.dialect {
            Dialect::Google => 1,
            Dialect::Amazon => remove::KEYS_AT_ONCE,
        }
    }

    fn keeps_tags(&self) -> bool {
        self.dialect == Dialect::Amazon
    }

    async fn tags(&self, key: &str) -> Result<Option<HeaderValue>, ObjectError> {
        let full = self.address(key)?;
        let ask = self.ask(Method::GET, key, &full, "read the tags of");
        let text = self.client.send(ask.query("tagging", "")).await?.text();
        let tags = answer::tags(&text.await?);
        Ok(tags.and_then(|tags| HeaderValue::try_from(tags).ok()))
    }

    fn home(&self) -> Option<&Home> {
        Some(&self.home).filter(|_| self.dialect == Dialect::Amazon)
    }

    async fn copy_from(
        &self,
        home: &Home,
        object: &Listed,
        key: &str,
        carry: Carry,
    ) -> Result<Written, ObjectError> {
        self.copy(home, object, key, carry).await
    }
}
