//! The same objects, with every request counted and paced; who reads one is told
//! its tags with it, where they are wanted.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::HeaderValue;

use super::carry::TAGGING;
use super::{
    Buffers, Carry, Checksum, Describe, Got, Home, KeyRange, Listed, ObjectError, Objects, Pages,
    Parts, Written,
};
use crate::store::pace::Rate;

/// Requests by what they ask for.
#[derive(Debug, Default)]
pub struct RequestCounts([AtomicU64; 8]);

#[derive(Debug, Clone, Copy)]
enum Kind {
    List,
    Get,
    Head,
    Put,
    Part,
    Copy,
    Delete,
    Tags,
}

const KINDS: [&str; 8] = [
    "list", "get", "head", "put", "part", "copy", "delete", "tags",
];

impl RequestCounts {
    fn add(&self, kind: Kind) {
        if let Some(count) = self.0.get(kind as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The numbers, without those that are zero.
    #[must_use]
    pub fn by_kind(&self) -> BTreeMap<String, u64> {
        let counts = KINDS.iter().zip(&self.0);
        counts
            .map(|(kind, count)| ((*kind).to_owned(), count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// What requests to one place must keep to.
#[derive(Debug, Clone, Default)]
pub struct Caps {
    /// Requests a second.
    pub requests: Option<Rate>,
    /// Bytes a second that are read.
    pub read: Option<Rate>,
    /// Bytes a second that are written.
    pub write: Option<Rate>,
}

/// Objects whose requests are counted and keep to caps.
#[derive(Debug)]
pub struct Counted {
    inner: Arc<dyn Objects>,
    asked: Asked,
    tags: bool,
}

#[derive(Debug, Clone)]
struct Asked {
    counts: Arc<RequestCounts>,
    caps: Caps,
}

impl Asked {
    async fn ask(&self, kind: Kind, read: u64, write: u64) {
        self.counts.add(kind);
        let rates = [
            (&self.caps.requests, 1),
            (&self.caps.read, read),
            (&self.caps.write, write),
        ];
        for (rate, units) in rates {
            if let Some(rate) = rate.as_ref().filter(|_| units > 0) {
                rate.take(units).await;
            }
        }
    }
}

impl Counted {
    /// Counts the requests to `inner` in `counts`.
    #[must_use]
    pub fn new(inner: Arc<dyn Objects>, counts: Arc<RequestCounts>, caps: Caps) -> Self {
        Self {
            inner,
            asked: Asked { counts, caps },
            tags: false,
        }
    }

    /// Asks for tags, too: a store tells with an object how many it has, not which.
    /// Where there are some they are asked for once, however many parts are read.
    #[must_use]
    pub fn with_tags(self, tags: bool) -> Self {
        Self { tags, ..self }
    }
}

#[async_trait]
impl Objects for Counted {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn service(&self) -> &str {
        self.inner.service()
    }

    fn pages(&self, range: KeyRange) -> Pages {
        let (asked, pages) = (self.asked.clone(), self.inner.pages(range));
        stream::unfold(pages, move |mut pages| {
            let asked = asked.clone();
            async move {
                asked.ask(Kind::List, 0, 0).await;
                Some((pages.next().await?, pages))
            }
        })
        .boxed()
    }

    async fn names_below(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        self.asked.ask(Kind::List, 0, 0).await;
        self.inner.names_below(prefix).await
    }

    fn begins_anywhere(&self) -> bool {
        self.inner.begins_anywhere()
    }

    async fn first_after(&self, text: &str) -> Result<Option<String>, ObjectError> {
        self.asked.ask(Kind::List, 0, 0).await;
        self.inner.first_after(text).await
    }

    async fn get(&self, object: &Listed, range: Option<Range<u64>>) -> Result<Got, ObjectError> {
        self.get_within(object, range, &Buffers::used_once()).await
    }

    async fn get_within(
        &self,
        object: &Listed,
        range: Option<Range<u64>>,
        buffers: &Buffers,
    ) -> Result<Got, ObjectError> {
        let bytes = range
            .as_ref()
            .map_or(object.bytes, |range| range.end - range.start);
        let first = range.as_ref().is_none_or(|range| range.start == 0);
        self.asked.ask(Kind::Get, bytes, 0).await;
        let mut got = self.inner.get_within(object, range, buffers).await?;
        if self.tags
            && first
            && got.tags > 0
            && let Some(tags) = self.tags(&object.key).await?
        {
            got.attributes.insert(TAGGING, tags);
        }
        Ok(got)
    }

    fn keeps_checksums(&self) -> bool {
        self.inner.keeps_checksums()
    }

    async fn checksum(&self, object: &Listed) -> Result<Option<Checksum>, ObjectError> {
        if self.inner.keeps_checksums() {
            self.asked.ask(Kind::Head, 0, 0).await;
        }
        self.inner.checksum(object).await
    }

    async fn head(&self, key: &str) -> Result<Listed, ObjectError> {
        self.asked.ask(Kind::Head, 0, 0).await;
        self.inner.head(key).await
    }

    async fn put(&self, key: &str, body: Bytes, told: &Describe) -> Result<Written, ObjectError> {
        self.asked.ask(Kind::Put, 0, body.len() as u64).await;
        self.inner.put(key, body, told).await
    }

    async fn begin(
        &self,
        key: &str,
        bytes: u64,
        told: &Describe,
    ) -> Result<Box<dyn Parts>, ObjectError> {
        self.asked.ask(Kind::Part, 0, 0).await;
        let inner = self.inner.begin(key, bytes, told).await?;
        let asked = self.asked.clone();
        Ok(Box::new(CountedParts { inner, asked }))
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<(String, ObjectError)>, ObjectError> {
        for _ in 0..keys.len().div_ceil(self.inner.deletes_at_once()) {
            self.asked.ask(Kind::Delete, 0, 0).await;
        }
        self.inner.delete(keys).await
    }

    fn deletes_at_once(&self) -> usize {
        self.inner.deletes_at_once()
    }

    fn keeps_times(&self) -> bool {
        self.inner.keeps_times()
    }

    fn home(&self) -> Option<&Home> {
        self.inner.home()
    }

    fn keeps_tags(&self) -> bool {
        self.inner.keeps_tags()
    }

    async fn tags(&self, key: &str) -> Result<Option<HeaderValue>, ObjectError> {
        self.asked.ask(Kind::Tags, 0, 0).await;
        self.inner.tags(key).await
    }

    async fn copy_from(
        &self,
        home: &Home,
        object: &Listed,
        key: &str,
        carry: Carry,
    ) -> Result<Written, ObjectError> {
        self.asked.ask(Kind::Copy, 0, 0).await;
        self.inner.copy_from(home, object, key, carry).await
    }

    async fn make_durable(&self) -> Result<(), ObjectError> {
        self.inner.make_durable().await
    }

    fn largest_put_bytes(&self) -> u64 {
        self.inner.largest_put_bytes()
    }

    fn parts_limits(&self) -> (Range<u64>, u64) {
        self.inner.parts_limits()
    }
}

struct CountedParts {
    inner: Box<dyn Parts>,
    asked: Asked,
}

#[async_trait]
impl Parts for CountedParts {
    async fn part(&self, number: u32, offset: u64, body: Bytes) -> Result<(), ObjectError> {
        self.asked.ask(Kind::Part, 0, body.len() as u64).await;
        self.inner.part(number, offset, body).await
    }

    async fn complete(&self) -> Result<Written, ObjectError> {
        self.asked.ask(Kind::Part, 0, 0).await;
        self.inner.complete().await
    }

    async fn abandon(&self) {
        self.asked.ask(Kind::Part, 0, 0).await;
        self.inner.abandon().await;
    }
}
