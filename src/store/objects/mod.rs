//! Objects under exact keys, for those who copy them.
//!
//! A table's files have names that we chose, and `object_store` serves them well.
//! Objects of others have any name: its paths drop a trailing `/`, and one key
//! with `//` in it makes a whole listing fail. Here a key is the text that the
//! store knows it by: carried exactly, or refused by name, never cleaned.
//! Nothing here repeats a request, and nothing decides what is copied.
//!
//! | file | what it holds |
//! |---|---|
//! | `key` | ranges of keys; which keys are nobody's to copy |
//! | `error` | [`ObjectError`] |
//! | `body` | [`Buffers`]: where bodies are put together |
//! | `checksum` | [`Checksum`]: what a store keeps beside a content |
//! | `crc` | the CRC of a whole out of those of its parts |
//! | `request` | what requests to services have in common |
//! | `s3` | [`S3Objects`]: one bucket of S3, of what speaks its protocol, of Google |
//! | `azure` | [`AzureObjects`]: one container |
//! | `folder` | [`FolderObjects`]: one local folder, walked in the order of keys |
//! | `carry` | [`Carry`]: what goes with the content |
//! | `counted` | [`Counted`]: around any of them, counts requests and keeps to caps; asks for tags |
//! | `open` | a URL becomes one of these |

mod azure;
mod body;
mod carry;
mod checksum;
mod counted;
mod crc;
mod error;
mod folder;
mod key;
mod open;
mod request;
mod s3;

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderValue};

pub use azure::AzureObjects;
pub use body::{BLOCK_BYTES, BodyBuffer, Buffers};
pub use carry::Carry;
pub use checksum::Checksum;
pub use counted::{Caps, Counted, RequestCounts};
pub use error::{ObjectError, ObjectErrorKind};
pub use folder::FolderObjects;
pub use key::{KeyRange, OUR_OWN};
pub use open::open_objects;
pub use s3::S3Objects;

/// An object as a listing has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key, below the place that was listed.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// When it was written, by the store's clock, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// The store's tag of this content, without quotes; folders have none.
    pub etag: Option<String>,
}

impl Listed {
    /// What changes whenever the content does: the tag where there is one, else
    /// the time of the last write.
    #[must_use]
    pub fn version(&self) -> String {
        match &self.etag {
            Some(etag) => etag.clone(),
            None => format!("@{}", self.modified_ns),
        }
    }

    /// The MD5 of the content, where the tag has the form of one. It may still be
    /// something else: a bucket that encrypts with keys of its own has such tags.
    #[must_use]
    pub fn md5(&self) -> Option<&str> {
        let etag = self.etag.as_deref()?;
        let is_md5 = etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_md5.then_some(etag)
    }
}

/// Something in a listing that is no object which can be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its name, as well as it can be written.
    pub key: String,
    /// Why.
    pub reason: String,
}

/// A piece of a listing, in the order of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The objects.
    pub objects: Vec<Listed>,
    /// What was met and cannot be copied.
    pub refused: Vec<Refused>,
}

/// A listing as it arrives: pages in the order of the bytes of keys.
pub type Pages = BoxStream<'static, Result<Page, ObjectError>>;

/// What is being read.
pub struct Got {
    /// How many bytes the body has.
    pub bytes: u64,
    /// The store's tag of the content.
    pub etag: Option<String>,
    /// Content type, metadata and the like, by the names that S3 has for them.
    pub attributes: HeaderMap,
    /// How many tags it has beside these, where the store tells.
    pub tags: u64,
    /// Whether a tag in the form of an MD5 is known not to be one.
    pub etag_is_no_md5: bool,
    /// That of the whole object, where all of it is read and the store tells.
    pub checksum: Option<Checksum>,
    /// The content.
    pub body: BoxStream<'static, Result<Bytes, ObjectError>>,
}

impl std::fmt::Debug for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Got")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// What was written, as a listing would show it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The store's tag, where it told.
    pub etag: Option<String>,
    /// When, where it is known: folders know, buckets do not tell.
    pub modified_ns: Option<i64>,
}

impl Written {
    /// See [`Listed::version`]; empty where it is not known.
    #[must_use]
    pub fn version(&self) -> String {
        match (&self.etag, self.modified_ns) {
            (Some(etag), _) => etag.clone(),
            (None, Some(modified)) => format!("@{modified}"),
            (None, None) => String::new(),
        }
    }
}

/// What is told of an object when it is written.
#[derive(Debug, Clone, Default)]
pub struct Describe {
    /// Content type, metadata and the like.
    pub attributes: HeaderMap,
    /// When the source's was written; folders give it to the file.
    pub modified_ns: Option<i64>,
    /// SHA-256 of the content, where it is known.
    pub sha256: Option<[u8; 32]>,
}

/// A store that other stores may copy from without the client in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The address of the service.
    pub endpoint: String,
    /// Who asks: copies happen with one set of credentials.
    pub user: String,
    /// Bucket and prefix.
    pub bucket: String,
    /// What stands before every key, with its `/`.
    pub prefix: String,
}

/// One place of objects. Every method sends a request once; callers repeat it
/// where [`ObjectError::passes`] says so.
#[async_trait]
pub trait Objects: Send + Sync + std::fmt::Debug {
    /// Where it is; holds no secrets.
    fn url(&self) -> &str;

    /// The address of the service, where others of its kind may hold a place of the
    /// same URL; else nothing.
    fn service(&self) -> &str {
        ""
    }

    /// Lists the objects of a range, one page after the other as they are asked
    /// for. Our own records are left out.
    fn pages(&self, range: KeyRange) -> Pages;

    /// What lies directly below `prefix`, up to about a thousand names: folders
    /// end with `/`. For dividing work; it need not be complete.
    async fn names_below(&self, prefix: &str) -> Result<Vec<String>, ObjectError>;

    /// Whether a listing may begin anywhere at the cost of what it shows.
    fn begins_anywhere(&self) -> bool {
        false
    }

    /// The first key after a text, where listings [begin anywhere](Self::begins_anywhere).
    /// For dividing work.
    async fn first_after(&self, _text: &str) -> Result<Option<String>, ObjectError> {
        Ok(None)
    }

    /// Reads an object as it was listed, or a range of it.
    ///
    /// # Errors
    /// [`ObjectErrorKind::Changed`] if it is no longer the object that was listed.
    async fn get(&self, object: &Listed, range: Option<Range<u64>>) -> Result<Got, ObjectError>;

    /// The same, put together in a buffer of these where the body is not put together by
    /// who reads it.
    ///
    /// # Errors
    /// As `get`.
    async fn get_within(
        &self,
        object: &Listed,
        range: Option<Range<u64>>,
        _buffers: &Buffers,
    ) -> Result<Got, ObjectError> {
        self.get(object, range).await
    }

    /// Whether [`Objects::checksum`] is worth a request.
    fn keeps_checksums(&self) -> bool {
        false
    }

    /// The checksum of an object as it was listed, where the store keeps one of the
    /// whole. For objects that are read in parts; [`Objects::get`] tells it by itself.
    ///
    /// # Errors
    /// As `get`.
    async fn checksum(&self, _object: &Listed) -> Result<Option<Checksum>, ObjectError> {
        Ok(None)
    }

    /// The object as it is now.
    async fn head(&self, key: &str) -> Result<Listed, ObjectError>;

    /// Writes an object as a whole: it is there entirely or not at all.
    async fn put(&self, key: &str, body: Bytes, told: &Describe) -> Result<Written, ObjectError>;

    /// Begins to write an object in parts.
    async fn begin(
        &self,
        key: &str,
        bytes: u64,
        told: &Describe,
    ) -> Result<Box<dyn Parts>, ObjectError>;

    /// Removes objects; those that could not be removed, and why. One that is
    /// gone already is no failure.
    async fn delete(&self, keys: &[String]) -> Result<Vec<(String, ObjectError)>, ObjectError>;

    /// Objects that one request removes, at least 1.
    fn deletes_at_once(&self) -> usize {
        1
    }

    /// Whether an object here gets the time of what it is a copy of, rather than that of
    /// the writing.
    fn keeps_times(&self) -> bool {
        false
    }

    /// Whether objects here may have tags.
    fn keeps_tags(&self) -> bool {
        false
    }

    /// The tags of an object in the form in which they are written; `None` where it
    /// has none.
    async fn tags(&self, _key: &str) -> Result<Option<HeaderValue>, ObjectError> {
        Ok(None)
    }

    /// Where others may copy from.
    fn home(&self) -> Option<&Home> {
        None
    }

    /// Copies an object of another place of the same [`Home::endpoint`] to `key`, with
    /// what is carried. Tags that nobody asked for are left to the store.
    ///
    /// # Errors
    /// As `get` and `put`; this place cannot.
    async fn copy_from(
        &self,
        _home: &Home,
        _object: &Listed,
        key: &str,
        _carry: Carry,
    ) -> Result<Written, ObjectError> {
        let what = format!("{} cannot copy by itself", self.url());
        Err(ObjectError::new(ObjectErrorKind::Failed, key, what))
    }

    /// Makes everything durable that was written so far.
    async fn make_durable(&self) -> Result<(), ObjectError> {
        Ok(())
    }

    /// The largest object that is written as a whole, in bytes.
    fn largest_put_bytes(&self) -> u64 {
        5 << 30
    }

    /// What a part may be, but the last one: least and greatest size in bytes, and
    /// the greatest number of parts.
    fn parts_limits(&self) -> (Range<u64>, u64) {
        (5 << 20..5 << 30, 10_000)
    }
}

/// An object that is being written in parts. Nothing is there before it is complete.
#[async_trait]
pub trait Parts: Send + Sync {
    /// Writes the part of this number, from 0, which begins at `offset`.
    async fn part(&self, number: u32, offset: u64, body: Bytes) -> Result<(), ObjectError>;

    /// Makes it an object.
    async fn complete(&self) -> Result<Written, ObjectError>;

    /// Gives it up; what was sent is forgotten.
    async fn abandon(&self);
}

/// How long a request may take that moves so many bytes: a slow line is no
/// failure, a silent one is.
#[must_use]
pub fn patience(bytes: u64) -> Duration {
    const SLOWEST_BYTES_PER_SECOND: u64 = 32 << 10;
    Duration::from_secs(30 + bytes / SLOWEST_BYTES_PER_SECOND)
}
