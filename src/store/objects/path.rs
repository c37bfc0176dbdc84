//! Objects that are reached through `object_store` alone: Google's and Azure's.
//! Its paths cannot say every key; those that they cannot say are refused by name
//! when written, and end a listing with an error that names the key.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload,
};
use tokio::sync::Mutex;

use super::{
    Describe, Got, KeyRange, Listed, OUR_OWN, ObjectError, ObjectErrorKind, Objects, Page, Pages,
    Parts, Written,
};
use crate::store::Store;

/// Objects of a page.
const PAGE_OBJECTS: usize = 1000;

/// Metadata of a user's own, as S3 names it.
const META: &str = "x-amz-meta-";

/// Objects behind `object_store`.
#[derive(Debug)]
pub struct PathObjects {
    store: Arc<dyn ObjectStore>,
    url: String,
}

impl PathObjects {
    /// The objects of a store.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        Self {
            store: store.single_shot(),
            url: store.url().to_string(),
        }
    }

    fn path(&self, key: &str) -> Result<Path, ObjectError> {
        Path::parse(key)
            .ok()
            .filter(|path| path.as_ref() == key)
            .ok_or_else(|| {
                let what = format!("{} cannot hold the key {key:?}: a part of it is empty, `.`, `..` or has control characters", self.url);
                ObjectError::new(ObjectErrorKind::Impossible, key, what)
            })
    }

    fn failed(&self, error: &object_store::Error, key: &str, doing: &str) -> ObjectError {
        ObjectError::from_object_store(error, key, &format!("{doing} {key:?} of {}", self.url))
    }
}

fn listed(meta: ObjectMeta) -> Listed {
    Listed {
        key: meta.location.to_string(),
        bytes: meta.size,
        modified_ns: meta.last_modified.timestamp_nanos_opt().unwrap_or(0),
        etag: meta.e_tag.map(|etag| etag.trim_matches('"').to_owned()),
    }
}

#[async_trait]
impl Objects for PathObjects {
    fn url(&self) -> &str {
        &self.url
    }

    fn pages(&self, range: KeyRange) -> Pages {
        let listing = match range.after.as_str() {
            "" => self.store.list(None),
            after => self.store.list_with_offset(None, &Path::from(after)),
        };
        let url = self.url.clone();
        let within = range.clone();
        listing
            .map_err(move |error| {
                ObjectError::from_object_store(&error, "", &format!("list {url}"))
            })
            .map_ok(listed)
            .try_take_while(move |object| futures::future::ready(Ok(!range.is_beyond(&object.key))))
            .try_filter(move |object| {
                let wanted = within.holds(&object.key) && !object.key.starts_with(OUR_OWN);
                futures::future::ready(wanted)
            })
            .try_chunks(PAGE_OBJECTS)
            .map(|page| match page {
                Ok(objects) => Ok(Page {
                    objects,
                    refused: Vec::new(),
                }),
                Err(broken) => Err(broken.1),
            })
            .boxed()
    }

    async fn names_below(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let found = self
            .store
            .list_with_delimiter(Some(&Path::from(prefix)))
            .await
            .map_err(|error| self.failed(&error, prefix, "list"))?;
        let folders = found.common_prefixes.iter().map(|path| format!("{path}/"));
        let objects = found.objects.iter().map(|meta| meta.location.to_string());
        let mut names: Vec<String> = folders.chain(objects).collect();
        names.sort_unstable();
        names.truncate(PAGE_OBJECTS);
        Ok(names)
    }

    async fn get(&self, object: &Listed, range: Option<Range<u64>>) -> Result<Got, ObjectError> {
        let key = object.key.as_str();
        let path = self.path(key)?;
        let options = GetOptions {
            if_match: object.etag.as_ref().map(|etag| format!("\"{etag}\"")),
            range: range.map(Into::into),
            ..GetOptions::default()
        };
        let got = self.store.get_opts(&path, options).await;
        let got = got.map_err(|error| self.failed(&error, key, "read"))?;
        if got.meta.size != object.bytes {
            let what = format!("{key:?} has changed while it was read");
            return Err(ObjectError::new(ObjectErrorKind::Changed, key, what));
        }
        let (url, name) = (self.url.clone(), key.to_owned());
        Ok(Got {
            bytes: got.range.end - got.range.start,
            etag: got.meta.e_tag.clone(),
            attributes: headers(&got.attributes),
            tags: 0,
            // Neither service makes its tags of the content.
            etag_is_no_md5: true,
            checksum: None,
            body: got
                .into_stream()
                .map_err(move |error| {
                    ObjectError::from_object_store(
                        &error,
                        &name,
                        &format!("read {name:?} of {url}"),
                    )
                })
                .boxed(),
        })
    }

    async fn head(&self, key: &str) -> Result<Listed, ObjectError> {
        let found = self.store.head(&self.path(key)?).await;
        found
            .map(listed)
            .map_err(|error| self.failed(&error, key, "look at"))
    }

    async fn put(&self, key: &str, body: Bytes, told: &Describe) -> Result<Written, ObjectError> {
        let options = PutOptions {
            attributes: attributes(&told.attributes),
            ..PutOptions::default()
        };
        let path = self.path(key)?;
        let put = self.store.put_opts(&path, body.into(), options).await;
        let put = put.map_err(|error| self.failed(&error, key, "write"))?;
        Ok(Written {
            etag: put.e_tag.map(|etag| etag.trim_matches('"').to_owned()),
            modified_ns: None,
        })
    }

    async fn begin(
        &self,
        key: &str,
        _bytes: u64,
        told: &Describe,
    ) -> Result<Box<dyn Parts>, ObjectError> {
        let options = PutMultipartOptions {
            attributes: attributes(&told.attributes),
            ..PutMultipartOptions::default()
        };
        let path = self.path(key)?;
        let upload = self.store.put_multipart_opts(&path, options).await;
        Ok(Box::new(InOrder {
            upload: Mutex::new((
                0,
                upload.map_err(|error| self.failed(&error, key, "write"))?,
            )),
            turn: tokio::sync::Notify::new(),
            url: self.url.clone(),
            key: key.to_owned(),
        }))
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<(String, ObjectError)>, ObjectError> {
        let mut failed = Vec::new();
        for key in keys {
            match self.store.delete(&self.path(key)?).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => failed.push((key.clone(), self.failed(&error, key, "remove"))),
            }
        }
        Ok(failed)
    }
}

/// `object_store` numbers parts by the order in which they are handed over.
struct InOrder {
    upload: Mutex<(u32, Box<dyn MultipartUpload>)>,
    turn: tokio::sync::Notify,
    url: String,
    key: String,
}

impl InOrder {
    fn failed(&self, error: &object_store::Error) -> ObjectError {
        let doing = format!("write {:?} of {}", self.key, self.url);
        ObjectError::from_object_store(error, &self.key, &doing)
    }
}

#[async_trait]
impl Parts for InOrder {
    async fn part(&self, number: u32, _offset: u64, body: Bytes) -> Result<(), ObjectError> {
        let sent = loop {
            let turn = self.turn.notified();
            let mut upload = self.upload.lock().await;
            if upload.0 == number {
                upload.0 += 1;
                break upload.1.put_part(PutPayload::from_bytes(body));
            }
            drop(upload);
            turn.await;
        };
        self.turn.notify_waiters();
        // A part that failed cannot be sent again under its number: the object is.
        sent.await.map_err(|error| self.failed(&error))
    }

    async fn complete(&self) -> Result<Written, ObjectError> {
        let put = self.upload.lock().await.1.complete().await;
        let put = put.map_err(|error| self.failed(&error))?;
        Ok(Written {
            etag: put.e_tag.map(|etag| etag.trim_matches('"').to_owned()),
            modified_ns: None,
        })
    }

    async fn abandon(&self) {
        // What stays is removed by the store's own rules.
        let _ = self.upload.lock().await.1.abort().await;
    }
}

fn name_of(attribute: &Attribute) -> Option<HeaderName> {
    Some(match attribute {
        Attribute::CacheControl => http::header::CACHE_CONTROL,
        Attribute::ContentDisposition => http::header::CONTENT_DISPOSITION,
        Attribute::ContentEncoding => http::header::CONTENT_ENCODING,
        Attribute::ContentLanguage => http::header::CONTENT_LANGUAGE,
        Attribute::ContentType => http::header::CONTENT_TYPE,
        Attribute::Metadata(name) => format!("{META}{name}").parse().ok()?,
        _ => return None,
    })
}

fn headers(attributes: &Attributes) -> HeaderMap {
    let known = attributes.iter().filter_map(|(attribute, value)| {
        let value = HeaderValue::from_str(value.as_ref()).ok()?;
        Some((name_of(attribute)?, value))
    });
    known.collect()
}

fn attributes(headers: &HeaderMap) -> Attributes {
    let known = headers.iter().filter_map(|(name, value)| {
        let attribute = match name.as_str() {
            "cache-control" => Attribute::CacheControl,
            "content-disposition" => Attribute::ContentDisposition,
            "content-encoding" => Attribute::ContentEncoding,
            "content-language" => Attribute::ContentLanguage,
            "content-type" => Attribute::ContentType,
            other => Attribute::Metadata(other.strip_prefix(META)?.to_owned().into()),
        };
        Some((attribute, value.to_str().ok()?.to_owned().into()))
    });
    known
        .collect::<Vec<(Attribute, object_store::AttributeValue)>>()
        .into_iter()
        .collect()
}
