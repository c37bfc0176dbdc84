//! The operations of the S3 protocol that the lake uses, over [`Memory`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{TryStreamExt, stream};
use s3s::dto::*;
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};

use super::memory::{Condition, Description, Memory, Object as Stored, Refusal};

/// The protocol over one memory.
pub(super) struct Protocol(pub(super) Arc<Memory>);

impl From<Refusal> for S3Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchBucket => s3_error!(NoSuchBucket),
            Refusal::NoSuchKey => s3_error!(NoSuchKey),
            Refusal::NoSuchUpload => s3_error!(NoSuchUpload),
            Refusal::InvalidPart => s3_error!(InvalidPart),
            Refusal::PreconditionFailed => s3_error!(PreconditionFailed),
        }
    }
}

fn condition(
    if_none_match: Option<&ETagCondition>,
    if_match: Option<&ETagCondition>,
) -> S3Result<Condition> {
    match (if_none_match, if_match.and_then(ETagCondition::as_etag)) {
        (None, None) => Ok(Condition::Always),
        (Some(any), None) if any.is_any() => Ok(Condition::Absent),
        (None, Some(etag)) => Ok(Condition::Matches(etag.value().to_owned())),
        _ => Err(s3_error!(
            NotImplemented,
            "only If-None-Match: * or If-Match: etag"
        )),
    }
}

async fn collect(body: Option<StreamingBlob>) -> S3Result<Vec<Bytes>> {
    let Some(body) = body else {
        return Ok(Vec::new());
    };
    body.try_collect()
        .await
        .map_err(|error| S3Error::with_source(s3s::S3ErrorCode::IncompleteBody, error))
}

/// Serves slices of an object, of a length known beforehand.
struct Slices(
    stream::Iter<std::vec::IntoIter<Result<Bytes, s3s::StdError>>>,
    usize,
);

impl futures::Stream for Slices {
    type Item = Result<Bytes, s3s::StdError>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let next = std::pin::Pin::new(&mut self.0).poll_next(context);
        if let std::task::Poll::Ready(Some(Ok(slice))) = &next {
            self.1 -= slice.len();
        }
        next
    }
}

impl ByteStream for Slices {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::new_exact(self.1)
    }
}

fn blob(slices: Vec<Bytes>) -> StreamingBlob {
    let length = slices.iter().map(Bytes::len).sum();
    let slices: Vec<_> = slices.into_iter().map(Ok).collect();
    StreamingBlob::new(Slices(stream::iter(slices), length))
}

impl Protocol {
    /// What is told of an object's checksum to who asks for it.
    fn checksum(
        &self,
        object: &Stored,
        mode: Option<&ChecksumMode>,
    ) -> (Option<ChecksumCRC64NVME>, Option<ChecksumType>) {
        let keeps = !self.0.keeps_no_checksums.load(Ordering::SeqCst);
        if !keeps || mode.is_none_or(|mode| mode.as_str() != ChecksumMode::ENABLED) {
            return (None, None);
        }
        let value = STANDARD.encode(object.crc64nvme.to_be_bytes());
        let whole = ChecksumType::from_static(ChecksumType::FULL_OBJECT);
        (Some(value), Some(whole))
    }

    fn found(&self, bucket: &str, key: &str) -> S3Result<Arc<Stored>> {
        if !self.0.has_bucket(bucket) {
            return Err(s3_error!(NoSuchBucket));
        }
        self.0.get(bucket, key).ok_or_else(|| s3_error!(NoSuchKey))
    }
}

#[async_trait::async_trait]
impl S3 for Protocol {
    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        self.0.create_bucket(&req.input.bucket);
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn head_bucket(
        &self,
        req: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        if !self.0.has_bucket(&req.input.bucket) {
            return Err(s3_error!(NoSuchBucket));
        }
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn put_object(
        &self,
        req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = req.input;
        let condition = condition(input.if_none_match.as_ref(), input.if_match.as_ref())?;
        let chunks = collect(input.body).await?;
        let description = Description {
            content_type: input.content_type,
            metadata: input.metadata.unwrap_or_default(),
            tags: tags_of(input.tagging.as_deref())?,
        };
        let etag = self
            .0
            .put(&input.bucket, &input.key, chunks, &condition, description)?;
        let e_tag = Some(ETag::Strong(etag));
        Ok(S3Response::new(PutObjectOutput {
            e_tag,
            ..Default::default()
        }))
    }

    async fn get_object(
        &self,
        req: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let object = self.found(&input.bucket, &input.key)?;
        let asked = input.if_match.as_ref().and_then(ETagCondition::as_etag);
        let asked = asked.map(|etag| etag.value().to_owned());
        let blind = self.0.ignores_conditions.load(Ordering::SeqCst);
        if asked.as_ref().is_some_and(|etag| *etag != object.etag) && !blind {
            return Err(s3_error!(PreconditionFailed));
        }
        let etag = asked
            .filter(|_| blind)
            .unwrap_or_else(|| object.etag.clone());
        let range = match input.range {
            Some(range) => Some(
                range
                    .check(object.size)
                    .map_err(|_| s3_error!(InvalidRange))?,
            ),
            None => None,
        };
        let content_range = range
            .as_ref()
            .map(|range| format!("bytes {}-{}/{}", range.start, range.end - 1, object.size));
        let mode = input.checksum_mode.filter(|_| range.is_none());
        let (checksum_crc64nvme, checksum_type) = self.checksum(&object, mode.as_ref());
        let range = range.unwrap_or(0..object.size);
        Ok(S3Response::new(GetObjectOutput {
            checksum_crc64nvme,
            checksum_type,
            content_length: Some((range.end - range.start) as i64),
            content_range,
            body: Some(blob(object.slices(range))),
            e_tag: Some(ETag::Strong(etag)),
            content_type: object.description.content_type.clone(),
            metadata: Some(object.description.metadata.clone()),
            tag_count: match object.description.tags.len() {
                0 => None,
                some => Some(some as i32),
            },
            last_modified: Some(object.modified.into()),
            ..Default::default()
        }))
    }

    async fn head_object(
        &self,
        req: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let object = self.found(&req.input.bucket, &req.input.key)?;
        let mode = req.input.checksum_mode.as_ref();
        let (checksum_crc64nvme, checksum_type) = self.checksum(&object, mode);
        Ok(S3Response::new(HeadObjectOutput {
            checksum_crc64nvme,
            checksum_type,
            content_length: Some(object.size as i64),
            e_tag: Some(ETag::Strong(object.etag.clone())),
            last_modified: Some(object.modified.into()),
            ..Default::default()
        }))
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.0.delete(&req.input.bucket, &req.input.key)?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let mut deleted = Vec::new();
        for object in req.input.delete.objects {
            self.0.delete(&req.input.bucket, &object.key)?;
            deleted.push(DeletedObject {
                key: Some(object.key),
                ..Default::default()
            });
        }
        let deleted = Some(deleted);
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted,
            ..Default::default()
        }))
    }

    async fn copy_object(
        &self,
        req: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = req.input;
        let CopySource::Bucket { bucket, key, .. } = &input.copy_source else {
            return Err(s3_error!(NotImplemented));
        };
        let object = self.found(bucket, key)?;
        let wanted = input.copy_source_if_match.as_ref();
        let wanted = wanted.and_then(ETagCondition::as_etag);
        if wanted.is_some_and(|etag| etag.value() != object.etag) {
            return Err(s3_error!(PreconditionFailed));
        }
        let chunks = object.slices(0..object.size);
        let mut description = object.description.clone();
        let replaces = |directive: Option<&str>| directive == Some("REPLACE");
        if replaces(input.metadata_directive.as_ref().map(|by| by.as_str())) {
            description.content_type = input.content_type;
            description.metadata = input.metadata.unwrap_or_default();
        }
        if replaces(input.tagging_directive.as_ref().map(|by| by.as_str())) {
            description.tags = tags_of(input.tagging.as_deref())?;
        }
        let etag = self.0.put(
            &input.bucket,
            &input.key,
            chunks,
            &Condition::Always,
            description,
        )?;
        let copy_object_result = Some(CopyObjectResult {
            e_tag: Some(ETag::Strong(etag)),
            last_modified: Some(object.modified.into()),
            ..Default::default()
        });
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result,
            ..Default::default()
        }))
    }

    async fn get_object_tagging(
        &self,
        req: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        let object = self.found(&req.input.bucket, &req.input.key)?;
        let tags = object.description.tags.iter();
        let tag_set = tags.map(|(key, value)| Tag {
            key: Some(key.clone()),
            value: Some(value.clone()),
        });
        Ok(S3Response::new(GetObjectTaggingOutput {
            tag_set: tag_set.collect(),
            version_id: None,
        }))
    }

    async fn put_object_tagging(
        &self,
        req: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        let input = req.input;
        let tags = input.tagging.tag_set.into_iter();
        let tags = tags.map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default()));
        self.0.tag(&input.bucket, &input.key, tags.collect())?;
        Ok(S3Response::new(PutObjectTaggingOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        Ok(S3Response::new(list(&self.0, req.input)?))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let description = Description {
            content_type: req.input.content_type,
            metadata: req.input.metadata.unwrap_or_default(),
            tags: tags_of(req.input.tagging.as_deref())?,
        };
        let id = self
            .0
            .begin_upload(&req.input.bucket, &req.input.key, description)?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(req.input.bucket),
            key: Some(req.input.key),
            upload_id: Some(id),
            ..Default::default()
        }))
    }

    async fn upload_part(
        &self,
        req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        let chunks = collect(input.body).await?;
        let etag = self
            .0
            .put_part(&input.bucket, &input.upload_id, input.part_number, chunks)?;
        let e_tag = Some(ETag::Strong(etag));
        Ok(S3Response::new(UploadPartOutput {
            e_tag,
            ..Default::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        let condition = condition(input.if_none_match.as_ref(), input.if_match.as_ref())?;
        let parts: Vec<_> = input
            .multipart_upload
            .and_then(|upload| upload.parts)
            .unwrap_or_default()
            .into_iter()
            .map(|part| {
                (
                    part.part_number.unwrap_or(0),
                    part.e_tag.map(ETag::into_value),
                )
            })
            .collect();
        let etag = self
            .0
            .complete_upload(&input.bucket, &input.upload_id, &parts, &condition)?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(etag)),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.0
            .abort_upload(&req.input.bucket, &req.input.upload_id)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}

/// The tags of a header: `name=value&...`; as S3 has it, ten at most.
fn tags_of(header: Option<&str>) -> S3Result<Vec<(String, String)>> {
    let pairs = header.unwrap_or_default().split('&');
    let pairs = pairs.filter(|pair| !pair.is_empty());
    let tags: Vec<_> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect();
    match tags.len() {
        0..=10 => Ok(tags),
        _ => Err(s3_error!(InvalidTag)),
    }
}

/// One page of a listing: keys and common prefixes count alike towards its size.
fn list(memory: &Memory, input: ListObjectsV2Input) -> Result<ListObjectsV2Output, Refusal> {
    let prefix = input.prefix.clone().unwrap_or_default();
    let delimiter = input.delimiter.clone().unwrap_or_default();
    let limit = input.max_keys.unwrap_or(1000).clamp(0, 1000) as usize;
    let after = input
        .continuation_token
        .as_deref()
        .map(decoded)
        .or(input.start_after.clone())
        .unwrap_or_default();
    let encodes = input
        .encoding_type
        .as_ref()
        .is_some_and(|how| how.as_str() == "url");
    let text = |key: String| if encodes { encoded(&key) } else { key };
    let mut contents = Vec::new();
    let mut prefixes = BTreeSet::new();
    let mut last = None;
    let mut truncated = false;
    // One more than the page says whether it is the last. Folders hold any number.
    let most = match delimiter.is_empty() {
        true => limit + 1,
        false => usize::MAX,
    };
    for (key, object) in memory.list(&input.bucket, &prefix, &after, most)? {
        let rest = key.get(prefix.len()..).unwrap_or_default();
        let folder = match rest.find(&delimiter) {
            Some(at) if !delimiter.is_empty() => Some(format!(
                "{prefix}{}{delimiter}",
                rest.get(..at).unwrap_or_default()
            )),
            _ => None,
        };
        // A page may have ended inside a folder: it was listed there already.
        if folder
            .as_ref()
            .is_some_and(|folder| after.starts_with(folder))
        {
            continue;
        }
        let known = folder
            .as_ref()
            .is_some_and(|folder| prefixes.contains(folder));
        if !known && contents.len() + prefixes.len() == limit {
            truncated = true;
            break;
        }
        last = Some(key.clone());
        match folder {
            Some(folder) => drop(prefixes.insert(folder)),
            None => contents.push(listed(text(key), &object)),
        }
    }
    Ok(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: input.prefix,
        delimiter: input.delimiter,
        max_keys: input.max_keys,
        key_count: Some((contents.len() + prefixes.len()) as i32),
        contents: Some(contents),
        common_prefixes: Some(
            prefixes
                .into_iter()
                .map(|prefix| CommonPrefix {
                    prefix: Some(text(prefix)),
                })
                .collect(),
        ),
        encoding_type: input.encoding_type,
        continuation_token: input.continuation_token,
        start_after: input.start_after,
        is_truncated: Some(truncated),
        // A token is nobody's to read: XML could not carry every key.
        next_continuation_token: last.filter(|_| truncated).map(|key| encoded(&key)),
        ..Default::default()
    })
}

/// A key as listings have it that must carry every character.
fn encoded(key: &str) -> String {
    key.bytes()
        .map(|byte| match byte {
            b' ' => "+".to_owned(),
            b'-' | b'.' | b'_' | b'~' | b'/' => char::from(byte).to_string(),
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = String::from_utf8(digits).expect("two digits");
                u8::from_str_radix(&digits, 16).expect("hexadecimal")
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).expect("a key")
}

fn listed(key: String, object: &Stored) -> Object {
    Object {
        key: Some(key),
        size: Some(object.size as i64),
        e_tag: Some(ETag::Strong(object.etag.clone())),
        last_modified: Some(object.modified.into()),
        ..Default::default()
    }
}
