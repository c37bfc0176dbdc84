//! What Google says otherwise than S3: its XML interface is S3's protocol with
//! headers of its own. Source: "XML API reference" of Google Cloud Storage.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::carry::TAGGING;

/// What describes an object, beside metadata of a user's own.
const DESCRIBING: [HeaderName; 6] = [
    http::header::CACHE_CONTROL,
    http::header::CONTENT_DISPOSITION,
    http::header::CONTENT_ENCODING,
    http::header::CONTENT_LANGUAGE,
    http::header::CONTENT_TYPE,
    http::header::EXPIRES,
];

/// Metadata of a user's own, by the name that it has everywhere here.
const META: &str = "x-amz-meta-";

/// The same as Google names it.
const GOOGLE_META: &str = "x-goog-meta-";

/// Asks S3 for checksums with an answer.
const CHECKSUM_MODE: HeaderName = HeaderName::from_static("x-amz-checksum-mode");

/// Checksums of a content that is sent to Google, or read from it.
const GOOGLE_HASH: HeaderName = HeaderName::from_static("x-goog-hash");

/// Whose words are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// S3, and what speaks its protocol.
    Amazon,
    /// Google Cloud Storage.
    Google,
}

impl Dialect {
    /// What a read of an object (or a look at it) says beside its address.
    pub(super) fn asking(self) -> (HeaderName, &'static str) {
        match self {
            Self::Amazon => (CHECKSUM_MODE, "ENABLED"),
            // What is stored compressed is else unpacked on its way.
            Self::Google => (http::header::ACCEPT_ENCODING, "gzip"),
        }
    }

    /// Of all headers of an answer those that belong to the object.
    pub(super) fn describing(self, headers: &HeaderMap) -> HeaderMap {
        let own = headers.iter().filter_map(|(name, value)| {
            // A signature is made over text.
            std::str::from_utf8(value.as_bytes()).ok()?;
            let name = match self {
                // Computed for each answer.
                Self::Google if *name == http::header::EXPIRES => return None,
                _ if DESCRIBING.contains(name) => name.clone(),
                Self::Amazon if name.as_str().starts_with(META) => name.clone(),
                Self::Google => {
                    let own = name.as_str().strip_prefix(GOOGLE_META)?;
                    HeaderName::try_from(format!("{META}{own}")).ok()?
                }
                Self::Amazon => return None,
            };
            Some((name, value.clone()))
        });
        own.collect()
    }

    /// What is said of an object when it is written.
    pub(super) fn told(self, attributes: &HeaderMap) -> HeaderMap {
        if self == Self::Amazon {
            return attributes.clone();
        }
        let known = attributes.iter().filter_map(|(name, value)| {
            if *name == TAGGING || *name == http::header::EXPIRES {
                return None;
            }
            let name = match name.as_str().strip_prefix(META) {
                Some(own) => HeaderName::try_from(format!("{GOOGLE_META}{own}")).ok()?,
                None => name.clone(),
            };
            Some((name, value.clone()))
        });
        known.collect()
    }

    /// What the service checks the content of a request against. S3 has a SHA-256 in
    /// its signature.
    pub(super) fn check_of(self, body: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if self == Self::Google {
            let crc = crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, body);
            let crc = u32::try_from(crc).unwrap_or_default().to_be_bytes();
            let text = format!("crc32c={}", STANDARD.encode(crc));
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(GOOGLE_HASH, value);
            }
        }
        headers
    }

    /// Why the service cannot hold a key that S3 can, if it cannot.
    pub(super) fn problem_with(self, key: &str) -> Option<&'static str> {
        let broken = self == Self::Google && key.contains(['\r', '\n']);
        broken.then_some("its key has a line break, which Google does not allow")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(told: &[(&'static str, &'static str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        told.iter().map(header).collect()
    }

    #[test]
    fn metadata_has_one_name_here_and_googles_there() {
        let sent = headers(&[
            ("content-type", "text/x"),
            ("x-amz-meta-owner", "me"),
            ("expires", "never"),
        ]);
        let there = Dialect::Google.told(&sent);
        let expected = headers(&[("content-type", "text/x"), ("x-goog-meta-owner", "me")]);
        assert_eq!(there, expected);
        let back = Dialect::Google.describing(&there);
        let expected = headers(&[("content-type", "text/x"), ("x-amz-meta-owner", "me")]);
        assert_eq!(back, expected);
        assert_eq!(Dialect::Amazon.told(&sent), sent);
        assert_eq!(Dialect::Amazon.describing(&sent), sent);
    }

    #[test]
    fn what_google_is_sent_is_checked_there() {
        let check = Dialect::Google.check_of(b"123456789");
        assert_eq!(check.get(GOOGLE_HASH).unwrap(), "crc32c=4waSgw==");
        assert!(Dialect::Amazon.check_of(b"x").is_empty());
    }
}
