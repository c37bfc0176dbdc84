//! The objects, behind one lock.
//!
//! Contents are kept as the chunks they arrived in and served as slices of them:
//! hundreds of megabytes pass without a copy.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Bound, Range};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest as Crc};
use md5::{Digest, Md5};

/// Every bucket of one server.
#[derive(Default)]
pub(super) struct Memory {
    buckets: Mutex<HashMap<String, Bucket>>,
    /// Set: reads ignore their conditions and say that they were met.
    pub(super) ignores_conditions: AtomicBool,
    /// Set: keeps no checksums beside contents, as S3 did before 2025.
    pub(super) keeps_no_checksums: AtomicBool,
}

/// What is told of an object beside its content.
#[derive(Debug, Clone, Default)]
pub(crate) struct Description {
    pub(crate) content_type: Option<String>,
    pub(crate) metadata: HashMap<String, String>,
    pub(crate) tags: Vec<(String, String)>,
}

#[derive(Default)]
struct Bucket {
    objects: BTreeMap<String, Arc<Object>>,
    uploads: HashMap<String, Upload>,
    next: u64,
}

struct Upload {
    key: String,
    description: Description,
    parts: BTreeMap<i32, Arc<Object>>,
}

/// One object: its chunks in order.
pub(super) struct Object {
    chunks: Vec<Bytes>,
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) crc64nvme: u64,
    pub(super) modified: SystemTime,
    pub(super) description: Description,
}

/// Under which condition a write may happen.
pub(super) enum Condition {
    Always,
    Absent,
    Matches(String),
}

/// Why a request cannot be met.
pub(super) enum Refusal {
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    InvalidPart,
    PreconditionFailed,
}

impl Object {
    fn new(chunks: Vec<Bytes>, etag: String, description: Description) -> Arc<Self> {
        let size = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let mut crc = Crc::new(CrcAlgorithm::Crc64Nvme);
        chunks.iter().for_each(|chunk| crc.update(chunk));
        Arc::new(Self {
            chunks,
            size,
            etag,
            crc64nvme: crc.finalize(),
            modified: SystemTime::now(),
            description,
        })
    }

    /// The whole content; joins the chunks if there are several.
    pub(super) fn content(&self) -> Bytes {
        match self.chunks.as_slice() {
            [one] => one.clone(),
            many => {
                let mut all = BytesMut::with_capacity(self.size as usize);
                many.iter().for_each(|chunk| all.extend_from_slice(chunk));
                all.freeze()
            }
        }
    }

    /// The MD5 of the content.
    pub(super) fn md5(&self) -> String {
        md5_of(&self.chunks)
    }

    /// The chunks that make up `range`, cut to it, without copying.
    pub(super) fn slices(&self, range: Range<u64>) -> Vec<Bytes> {
        let mut slices = Vec::new();
        let mut offset = 0_u64;
        for chunk in &self.chunks {
            let end = offset + chunk.len() as u64;
            let from = range.start.max(offset);
            let to = range.end.min(end);
            if from < to {
                slices.push(chunk.slice((from - offset) as usize..(to - offset) as usize));
            }
            offset = end;
        }
        slices
    }
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        bucket: &str,
        act: impl FnOnce(&mut Bucket) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        act(self.lock().get_mut(bucket).ok_or(Refusal::NoSuchBucket)?)
    }

    pub(super) fn create_bucket(&self, bucket: &str) {
        self.lock().entry(bucket.to_owned()).or_default();
    }

    pub(super) fn has_bucket(&self, bucket: &str) -> bool {
        self.lock().contains_key(bucket)
    }

    pub(super) fn get(&self, bucket: &str, key: &str) -> Option<Arc<Object>> {
        self.lock().get(bucket)?.objects.get(key).cloned()
    }

    pub(super) fn overwrite(&self, bucket: &str, key: &str, content: Bytes) {
        self.create_bucket(bucket);
        let _ = self.put(
            bucket,
            key,
            vec![content],
            &Condition::Always,
            Description::default(),
        );
    }

    /// Describes an object that is there.
    pub(super) fn describe(&self, bucket: &str, key: &str, description: Description) {
        let Some(object) = self.get(bucket, key) else {
            return;
        };
        let (chunks, etag) = (object.chunks.clone(), object.etag.clone());
        let new = Object::new(chunks, etag, description);
        if let Some(bucket) = self.lock().get_mut(bucket) {
            bucket.objects.insert(key.to_owned(), new);
        }
    }

    /// Gives an object tags in place of those that it has.
    pub(super) fn tag(
        &self,
        bucket: &str,
        key: &str,
        tags: Vec<(String, String)>,
    ) -> Result<(), Refusal> {
        self.with(bucket, |bucket| {
            let old = bucket.objects.get(key).ok_or(Refusal::NoSuchKey)?;
            let new = Arc::new(Object {
                chunks: old.chunks.clone(),
                size: old.size,
                etag: old.etag.clone(),
                crc64nvme: old.crc64nvme,
                modified: old.modified,
                description: Description {
                    tags,
                    ..old.description.clone()
                },
            });
            bucket.objects.insert(key.to_owned(), new);
            Ok(())
        })
    }

    /// Writes an object if `condition` holds: the check and the write are one step.
    pub(super) fn put(
        &self,
        bucket: &str,
        key: &str,
        chunks: Vec<Bytes>,
        condition: &Condition,
        description: Description,
    ) -> Result<String, Refusal> {
        let etag = md5_of(&chunks);
        let new = Object::new(chunks, etag, description);
        self.with(bucket, |bucket| bucket.insert(key, new, condition))
    }

    pub(super) fn delete(&self, bucket: &str, key: &str) -> Result<(), Refusal> {
        self.with(bucket, |bucket| {
            bucket.objects.remove(key);
            Ok(())
        })
    }

    pub(super) fn begin_upload(
        &self,
        bucket: &str,
        key: &str,
        description: Description,
    ) -> Result<String, Refusal> {
        self.with(bucket, |bucket| {
            let id = format!("upload-{}", bucket.tick());
            let upload = Upload {
                key: key.to_owned(),
                description,
                parts: BTreeMap::new(),
            };
            bucket.uploads.insert(id.clone(), upload);
            Ok(id)
        })
    }

    pub(super) fn put_part(
        &self,
        bucket: &str,
        upload: &str,
        part: i32,
        chunks: Vec<Bytes>,
    ) -> Result<String, Refusal> {
        let etag = md5_of(&chunks);
        self.with(bucket, |bucket| {
            let upload = bucket
                .uploads
                .get_mut(upload)
                .ok_or(Refusal::NoSuchUpload)?;
            upload.parts.insert(
                part,
                Object::new(chunks, etag.clone(), Description::default()),
            );
            Ok(etag)
        })
    }

    /// Makes the listed parts one object if `condition` holds.
    pub(super) fn complete_upload(
        &self,
        bucket: &str,
        upload: &str,
        parts: &[(i32, Option<String>)],
        condition: &Condition,
    ) -> Result<String, Refusal> {
        self.with(bucket, |bucket| {
            let begun = bucket.uploads.get(upload).ok_or(Refusal::NoSuchUpload)?;
            let key = begun.key.clone();
            let (mut chunks, mut tags) = (Vec::new(), Vec::new());
            for (number, etag) in parts {
                let part = begun.parts.get(number).ok_or(Refusal::InvalidPart)?;
                if etag.as_ref().is_some_and(|etag| *etag != part.etag) {
                    return Err(Refusal::InvalidPart);
                }
                chunks.extend(part.chunks.iter().cloned());
                tags.push(part.etag.clone());
            }
            let etag = tag_of_parts(&tags);
            let new = Object::new(chunks, etag, begun.description.clone());
            let etag = bucket.insert(&key, new, condition)?;
            bucket.uploads.remove(upload);
            Ok(etag)
        })
    }

    pub(super) fn abort_upload(&self, bucket: &str, upload: &str) -> Result<(), Refusal> {
        self.with(bucket, |bucket| {
            bucket
                .uploads
                .remove(upload)
                .map(drop)
                .ok_or(Refusal::NoSuchUpload)
        })
    }

    /// The first `most` objects that start with `prefix` and come after `after`, in
    /// key order.
    pub(super) fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: &str,
        most: usize,
    ) -> Result<Vec<(String, Arc<Object>)>, Refusal> {
        self.with(bucket, |bucket| {
            let from = if after < prefix {
                Bound::Included(prefix.to_owned())
            } else {
                Bound::Excluded(after.to_owned())
            };
            Ok(bucket
                .objects
                .range((from, Bound::Unbounded))
                .take_while(|(key, _)| key.starts_with(prefix))
                .take(most)
                .map(|(key, object)| (key.clone(), Arc::clone(object)))
                .collect())
        })
    }

    pub(super) fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let found = self
            .list(bucket, prefix, "", usize::MAX)
            .unwrap_or_default();
        found.into_iter().map(|(key, _)| key).collect()
    }
}

impl Bucket {
    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn insert(
        &mut self,
        key: &str,
        new: Arc<Object>,
        condition: &Condition,
    ) -> Result<String, Refusal> {
        let present = self.objects.get(key).map(|object| object.etag.as_str());
        let allowed = match condition {
            Condition::Always => true,
            Condition::Absent => present.is_none(),
            Condition::Matches(etag) => present == Some(etag.as_str()),
        };
        if !allowed {
            return Err(Refusal::PreconditionFailed);
        }
        let etag = new.etag.clone();
        self.objects.insert(key.to_owned(), new);
        Ok(etag)
    }
}

/// The tag of an object that was put as a whole.
fn md5_of(chunks: &[Bytes]) -> String {
    let mut md5 = Md5::new();
    chunks.iter().for_each(|chunk| md5.update(chunk));
    hexadecimal(md5)
}

/// As S3 has it: not the MD5 of the content but that of the parts' MD5s, and their
/// number. It takes no time, however large the object is.
fn tag_of_parts(tags: &[String]) -> String {
    let mut md5 = Md5::new();
    for tag in tags {
        for at in (0..tag.len()).step_by(2) {
            let byte = tag.get(at..at + 2).map(|two| u8::from_str_radix(two, 16));
            md5.update([byte.expect("two digits").expect("hexadecimal")]);
        }
    }
    format!("{}-{}", hexadecimal(md5), tags.len())
}

fn hexadecimal(md5: Md5) -> String {
    md5.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
