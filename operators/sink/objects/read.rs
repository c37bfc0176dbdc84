//! A body, whole and checked.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt as _;
use highwater::ledger::hex;
use highwater::store::objects::{
    BodyBuffer, Buffers, Checksum, Got, Listed, ObjectError, ObjectErrorKind, Objects, patience,
};
use highwater::store::pace::{Hedges, Pace, Retries};
use http::HeaderMap;
use md5::{Digest as _, Md5};

use super::copier::{CopyObjects, Lane, Trouble};

/// How often an object is begun anew that changes while it is read.
const MOST_CHANGES: u32 = 5;

/// A body and what was told with it.
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    pub(crate) attributes: HeaderMap,
    /// The tag under which it was read, where the store tells one.
    pub(crate) etag: Option<String>,
    /// What it was compared with, as text: `md5:...`.
    pub(crate) digest: Option<String>,
}

/// Reads bodies out of one place.
#[derive(Debug, Clone)]
pub struct BodyReader {
    /// The place.
    pub source: Arc<dyn Objects>,
    /// How many at once.
    pub pace: Pace,
    /// How often each.
    pub retries: Retries,
    /// What is late is asked a second time.
    pub hedges: Option<Hedges>,
    /// Where bodies are put together.
    pub buffers: Buffers,
}

impl BodyReader {
    /// Reads an object or a part of it, as often as it takes. What comes back is
    /// as long as it should be and, where the source names a checksum or an MD5, has
    /// that.
    ///
    /// # Errors
    /// The last failure.
    pub(crate) async fn read(
        &self,
        object: &Listed,
        range: Option<Range<u64>>,
    ) -> Result<Body, ObjectError> {
        // A tag may look like an MD5 and be none: then each reading differs from it
        // in the same way.
        let before: Mutex<Option<String>> = Mutex::default();
        let once = || async {
            let mut slot = self.pace.slot().await;
            let read = self.read_once(object, range.clone(), &before).await;
            match &read {
                Ok(body) => slot.moved(body.bytes.len() as u64),
                Err(error) if error.is_overload() => slot.overloaded(),
                Err(_) => {}
            }
            read
        };
        self.retries.ask(once, |_| ()).await
    }

    /// Reads an object that may change meanwhile: as it is in the end, which is what
    /// `object` says then. A state that does not `fit` is not begun.
    ///
    /// # Errors
    /// The last failure; it has grown too large, or changed each time.
    pub(crate) async fn read_as_it_is(
        &self,
        object: &mut Listed,
        fits: impl Fn(&Listed) -> bool,
    ) -> Result<Body, ObjectError> {
        let failed = |key: &str, what| Err(ObjectError::new(ObjectErrorKind::Failed, key, what));
        for _ in 0..MOST_CHANGES {
            match self.read(object, None).await {
                Err(error) if error.kind == ObjectErrorKind::Changed => {
                    *object = self.look_again(&object.key).await?;
                }
                read => return read,
            }
            if !fits(object) {
                return failed(&object.key, "it has grown while it was read; run again");
            }
        }
        let what = "it changed each time while it was read; run again when it rests";
        failed(&object.key, what)
    }

    /// The object as it is now.
    async fn look_again(&self, key: &str) -> Result<Listed, ObjectError> {
        self.retries.ask(|| self.source.head(key), |_| ()).await
    }

    async fn read_once(
        &self,
        object: &Listed,
        range: Option<Range<u64>>,
        before: &Mutex<Option<String>>,
    ) -> Result<Body, ObjectError> {
        let whole = range.is_none();
        let got = match &self.hedges {
            None => self.source.get_within(object, range, &self.buffers).await?,
            Some(hedges) => {
                let within = |range| self.source.get_within(object, range, &self.buffers);
                let ask = || within(range.clone());
                hedges.race(&self.pace, ask).await?
            }
        };
        let checksum = got.checksum;
        let md5 = object.md5().filter(|_| whole && !got.etag_is_no_md5);
        let (attributes, etag) = (got.attributes.clone(), got.etag.clone());
        let limit = patience(got.bytes);
        let bytes = tokio::time::timeout(limit, collect(got, &object.key, &self.buffers)).await;
        let bytes = bytes.map_err(|_| {
            let what = format!(
                "{:?} did not arrive within {} s",
                object.key,
                limit.as_secs()
            );
            ObjectError::new(ObjectErrorKind::Slow, &object.key, what)
        })??;
        let digest = match (checksum, md5) {
            (Some(checksum), _) => Some(check(&object.key, &bytes, checksum)?),
            (None, Some(md5)) => check_md5(&object.key, &bytes, md5, before)?,
            (None, None) => None,
        };
        Ok(Body {
            bytes,
            attributes,
            etag,
            digest,
        })
    }
}

impl CopyObjects {
    /// Reads by the slots of a lane; see [`BodyReader::read`].
    pub(super) async fn read(
        &self,
        lane: &Lane,
        object: &Listed,
        range: Option<Range<u64>>,
    ) -> Result<Body, Trouble> {
        let reader = BodyReader {
            source: Arc::clone(&self.source),
            pace: lane.read.clone(),
            retries: self.retries.clone(),
            hedges: self.hedges.clone(),
            buffers: lane.buffers.clone(),
        };
        reader.read(object, range).await.map_err(Trouble::Source)
    }
}

/// All of a body, which must be as long as it was said to be.
async fn collect(mut got: Got, key: &str, buffers: &Buffers) -> Result<Bytes, ObjectError> {
    let expected = usize::try_from(got.bytes).unwrap_or(usize::MAX);
    let broken = |found: usize| {
        let what = format!("{key:?} broke off after {found} of {expected} bytes");
        ObjectError::new(ObjectErrorKind::Broken, key, what)
    };
    let mut all: Option<BodyBuffer> = None;
    while let Some(chunk) = got.body.next().await {
        let chunk = chunk?;
        if all.is_none() && chunk.len() == expected {
            // It came as a whole: nothing to put together.
            return Ok(chunk);
        }
        let all = all.get_or_insert_with(|| buffers.take(expected));
        if all.len() + chunk.len() > expected {
            return Err(broken(all.len() + chunk.len()));
        }
        all.end().extend_from_slice(&chunk);
    }
    let all = all.map(BodyBuffer::into_bytes).unwrap_or_default();
    match all.len() == expected {
        true => Ok(all),
        false => Err(broken(all.len())),
    }
}

/// The checksum as text, where it is the expected one.
fn check(key: &str, bytes: &[u8], expected: Checksum) -> Result<String, ObjectError> {
    let found = expected.same_of(bytes);
    if found == expected {
        return Ok(found.to_string());
    }
    let what = format!("{key:?} arrived with the checksum {found}, {expected} was written");
    Err(ObjectError::new(ObjectErrorKind::Corrupt, key, what))
}

/// The MD5 as text, where it is the expected one; `None` where the tag is no MD5.
fn check_md5(
    key: &str,
    bytes: &[u8],
    expected: &str,
    before: &Mutex<Option<String>>,
) -> Result<Option<String>, ObjectError> {
    let found = hex(&Md5::digest(bytes));
    if found.eq_ignore_ascii_case(expected) {
        return Ok(Some(format!("md5:{found}")));
    }
    let mut before = before.lock().unwrap_or_else(PoisonError::into_inner);
    if before.as_ref() == Some(&found) {
        return Ok(None);
    }
    let what = format!("{key:?} arrived with the MD5 {found}, its tag says {expected}");
    *before = Some(found);
    Err(ObjectError::new(ObjectErrorKind::Corrupt, key, what))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::stream;

    use super::*;

    fn got(bytes: u64, chunks: &[&'static str]) -> Got {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from(*chunk))).collect();
        Got {
            bytes,
            etag: None,
            attributes: HeaderMap::new(),
            tags: 0,
            etag_is_no_md5: false,
            checksum: None,
            body: stream::iter(chunks).boxed(),
        }
    }

    async fn collected(bytes: u64, chunks: &[&'static str]) -> Result<Bytes, ObjectError> {
        collect(got(bytes, chunks), "k", &Buffers::used_once()).await
    }

    #[tokio::test]
    async fn a_body_is_as_long_as_it_was_said_to_be() {
        assert_eq!(collected(5, &["abc", "de"]).await.unwrap(), "abcde");
        assert_eq!(collected(3, &["abc"]).await.unwrap(), "abc");
        assert_eq!(collected(0, &[]).await.unwrap(), "");
        let wrong: [(u64, &[&'static str]); 3] =
            [(6, &["abc", "de"]), (4, &["abc", "de"]), (1, &[])];
        for (bytes, chunks) in wrong {
            let error = collected(bytes, chunks).await.unwrap_err();
            assert_eq!(error.kind, ObjectErrorKind::Broken);
        }
    }

    #[test]
    fn a_tag_that_is_no_md5_is_found_out_by_the_second_reading() {
        let before = Mutex::default();
        let tag = "0123456789abcdef0123456789abcdef";
        assert!(check_md5("k", b"x", tag, &before).is_err());
        assert!(check_md5("k", b"broken", tag, &before).is_err());
        assert!(check_md5("k", b"x", tag, &before).is_err());
        assert_eq!(check_md5("k", b"x", tag, &before).unwrap(), None);
        let md5 = hex(&Md5::digest(b"x"));
        assert_eq!(
            check_md5("k", b"x", &md5.to_uppercase(), &before).unwrap(),
            Some(format!("md5:{md5}"))
        );
    }
}
