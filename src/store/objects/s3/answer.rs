//! What S3 answers in XML.

use base64::Engine as _;
use md5::{Digest as _, Md5};
use serde::Deserialize;

use super::super::request::{element, in_query};
use super::super::{Listed, ObjectError, ObjectErrorKind};

/// A page of a listing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListAnswer {
    #[serde(default)]
    contents: Vec<Contents>,
    #[serde(default)]
    common_prefixes: Vec<CommonPrefix>,
    #[serde(default)]
    next_continuation_token: Option<String>,
    is_truncated: bool,
    #[serde(default)]
    encoding_type: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Contents {
    key: String,
    size: u64,
    last_modified: String,
    #[serde(default, rename = "ETag")]
    etag: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CommonPrefix {
    prefix: String,
}

impl ListAnswer {
    /// Understands a document. What is no listing, or broke off, or does not say how it
    /// goes on, must not look as if nothing more came.
    pub(super) fn parse(text: &str, url: &str) -> Result<Self, ObjectError> {
        let strange = |kind, why: &dyn std::fmt::Display| {
            let what = format!("cannot understand the listing of {url}: {why}");
            ObjectError::new(kind, "", what)
        };
        if !text.trim_end().ends_with("</ListBucketResult>") {
            let why = element(text, "Code").unwrap_or_else(|| "it is none".to_owned());
            return Err(strange(ObjectErrorKind::Broken, &why));
        }
        let answer: Self = quick_xml::de::from_str(text)
            .map_err(|error| strange(ObjectErrorKind::Broken, &error))?;
        if answer.is_truncated && answer.next().is_none() {
            let why = "more follows, and it does not say from where: a store that does not know \
                       version 2 of listings";
            return Err(strange(ObjectErrorKind::Failed, &why));
        }
        Ok(answer)
    }

    /// Where the next page begins.
    pub(super) fn next(&self) -> Option<&str> {
        self.next_continuation_token
            .as_deref()
            .filter(|token| self.is_truncated && !token.is_empty())
    }

    /// The objects, by their full keys.
    pub(super) fn objects(&self) -> Result<Vec<Listed>, ObjectError> {
        let listed = self.contents.iter().map(|object| {
            let modified = chrono::DateTime::parse_from_rfc3339(&object.last_modified).ok();
            let etag = object.etag.as_deref().map(|etag| etag.trim_matches('"'));
            Ok(Listed {
                key: self.decoded(&object.key)?,
                bytes: object.size,
                modified_ns: modified
                    .and_then(|time| time.timestamp_nanos_opt())
                    .unwrap_or(0),
                etag: etag.filter(|etag| !etag.is_empty()).map(str::to_owned),
            })
        });
        listed.collect()
    }

    /// The folders, each with its `/`.
    pub(super) fn folders(&self) -> impl Iterator<Item = String> {
        let folders = self.common_prefixes.iter();
        folders.filter_map(|folder| self.decoded(&folder.prefix).ok())
    }

    /// A key that was encoded, because XML cannot carry every character.
    fn decoded(&self, text: &str) -> Result<String, ObjectError> {
        if self.encoding_type.as_deref() != Some("url") {
            return Ok(text.to_owned());
        }
        // Stores that write a space as `+` write a plus as `%2B`.
        let spaced = text.replace('+', " ");
        let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8();
        decoded.map(|key| key.into_owned()).map_err(|_| {
            let what = format!("the key {text} in a listing is not UTF-8");
            ObjectError::new(ObjectErrorKind::Failed, text, what)
        })
    }
}

/// The tags of an object, in the form in which they are written.
pub(super) fn tags(xml: &str) -> Option<String> {
    let each = xml.split("<Tag>").skip(1).filter_map(|tag| {
        let value = element(tag, "Value").unwrap_or_default();
        Some(format!(
            "{}={}",
            in_query(&element(tag, "Key")?),
            in_query(&value)
        ))
    });
    let tags: Vec<String> = each.collect();
    (!tags.is_empty()).then(|| tags.join("&"))
}

/// The full keys that a request could not remove, what kind of failure it was, and why.
///
/// # Errors
/// The document tells nothing of keys: none was removed.
pub(super) fn delete_errors(
    xml: &str,
) -> Result<Vec<(String, ObjectErrorKind, String)>, ObjectError> {
    if !xml.contains("<DeleteResult") {
        fail_on_error_body(xml, "")?;
        let what = "objects were not removed: the answer is none";
        return Err(ObjectError::new(ObjectErrorKind::Broken, "", what));
    }
    let errors = xml.split("<Error>").skip(1);
    let parsed = errors.filter_map(|error| {
        let code = element(error, "Code").unwrap_or_default();
        let message = element(error, "Message").unwrap_or_default();
        let why = format!("{code} {message}").trim().to_owned();
        let kind = match code.as_str() {
            "InternalError" | "RequestTimeout" => ObjectErrorKind::Broken,
            "SlowDown" | "ServiceUnavailable" => ObjectErrorKind::Busy,
            "AccessDenied" => ObjectErrorKind::Refused,
            _ => ObjectErrorKind::Failed,
        };
        Some((element(error, "Key")?, kind, why))
    });
    Ok(parsed.collect())
}

/// Some answers say 200 before it is known whether all went well.
pub(super) fn fail_on_error_body(xml: &str, key: &str) -> Result<(), ObjectError> {
    if !xml.contains("<Error>") {
        return Ok(());
    }
    let code = element(xml, "Code").unwrap_or_default();
    let message = element(xml, "Message").unwrap_or_default();
    let kind = match code.as_str() {
        "SlowDown" | "ServiceUnavailable" => ObjectErrorKind::Busy,
        "PreconditionFailed" => ObjectErrorKind::Changed,
        "AccessDenied" => ObjectErrorKind::Refused,
        _ => ObjectErrorKind::Broken,
    };
    let what = format!("writing {key:?} failed: {code} {message}");
    Err(ObjectError::new(kind, key, what))
}

/// The MD5 of a document as a header has it.
pub(super) fn md5_base64(document: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(Md5::digest(document))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_listing_is_read_with_keys_of_every_kind() {
        let xml = "<?xml version=\"1.0\"?><ListBucketResult><EncodingType>url</EncodingType>\
            <IsTruncated>true</IsTruncated><NextContinuationToken>t+1</NextContinuationToken>\
            <Contents><Key>a%2F%2Fb+c%2B%01</Key><Size>3</Size>\
            <LastModified>2026-01-02T03:04:05.000Z</LastModified>\
            <ETag>&quot;0123456789abcdef0123456789abcdef&quot;</ETag></Contents>\
            <CommonPrefixes><Prefix>x%2F</Prefix></CommonPrefixes></ListBucketResult>";
        let answer = ListAnswer::parse(xml, "s3://b").unwrap();
        let objects = answer.objects().unwrap();
        assert_eq!(objects[0].key, "a//b c+\u{1}");
        assert_eq!(objects[0].md5(), Some("0123456789abcdef0123456789abcdef"));
        assert_eq!(answer.next(), Some("t+1"));
        assert_eq!(answer.folders().collect::<Vec<_>>(), ["x/"]);
    }

    #[test]
    fn without_an_encoding_keys_are_what_they_are() {
        let xml = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents>\
            <Key>a+b%20&amp;c</Key><Size>0</Size><LastModified>x</LastModified></Contents>\
            </ListBucketResult>";
        let answer = ListAnswer::parse(xml, "s3://b").unwrap();
        assert_eq!(answer.objects().unwrap()[0].key, "a+b%20&c");
        assert_eq!(answer.next(), None);
    }

    #[test]
    fn tags_are_read_and_written() {
        let xml = "<Tagging><TagSet><Tag><Key>a b</Key><Value>c&amp;d=e</Value></Tag>\
            <Tag><Key>z</Key><Value></Value></Tag></TagSet></Tagging>";
        assert_eq!(tags(xml).as_deref(), Some("a%20b=c%26d%3De&z="));
        assert_eq!(tags("<Tagging><TagSet></TagSet></Tagging>"), None);
    }

    #[test]
    fn answers_that_come_late_are_read() {
        let late = "<Error><Code>InternalError</Code></Error>";
        assert!(fail_on_error_body(late, "k").unwrap_err().passes());
        let errors = delete_errors(
            "<DeleteResult><Error><Key>a&amp;b</Key><Code>AccessDenied</Code></Error></DeleteResult>",
        );
        let refused = ObjectErrorKind::Refused;
        let expected = ("a&b".to_owned(), refused, "AccessDenied".to_owned());
        assert_eq!(errors.unwrap(), [expected]);
    }

    /// "Nothing is there" and "all was removed" are told by documents that say so.
    #[test]
    fn what_is_no_answer_is_not_taken_for_an_empty_one() {
        for strange in [
            "<Error><Code>InternalError</Code></Error>",
            "<html><body><p>Please log in</p></body></html>",
            "",
        ] {
            let listed = ListAnswer::parse(strange, "s3://b").unwrap_err();
            assert!(listed.passes(), "{strange}");
            assert!(delete_errors(strange).unwrap_err().passes(), "{strange}");
        }
        // More follows, and it does not say from where.
        let first_version = "<ListBucketResult><IsTruncated>true</IsTruncated>\
                             <NextMarker>k</NextMarker></ListBucketResult>";
        assert!(
            !ListAnswer::parse(first_version, "s3://b")
                .unwrap_err()
                .passes()
        );
        let unknown = "<ListBucketResult></ListBucketResult>";
        assert!(ListAnswer::parse(unknown, "s3://b").is_err());
        let none = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        assert!(ListAnswer::parse(none, "s3://b").is_ok());
        let all_removed = "<?xml version=\"1.0\"?><DeleteResult xmlns=\"x\"/>";
        assert!(delete_errors(all_removed).unwrap().is_empty());
    }
}
