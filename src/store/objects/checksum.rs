//! Checksums of whole objects, as stores keep them beside the content.
//!
//! S3 keeps a CRC of every object that was written since the end of 2024, also of
//! those that were written in parts, and one kept by encryption keys of one's own.
//! It is checked in hardware, and the CRCs of parts make up that of the whole: so it
//! is preferred to the MD5 that a tag may be. Source: "Checking object integrity" of
//! the Amazon S3 user guide.
//!
//! Google keeps a CRC-32C of every object (`x-goog-hash`); Azure the MD5 of those that
//! were written as a whole, or of whatever their writer said (`Content-MD5`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use http::HeaderMap;
use md5::Md5;
use sha2::{Digest as _, Sha256};

use super::crc;
use crate::ledger::hex;

/// A checksum of an object's whole content.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Checksum {
    /// A CRC and its value.
    Crc(CrcAlgorithm, u64),
    /// SHA-256.
    Sha256([u8; 32]),
    /// MD5.
    Md5([u8; 16]),
}

/// Where Google tells checksums: `crc32c=...,md5=...`, in one header or in several.
const GOOGLE: &str = "x-goog-hash";

/// The CRCs that S3 has, by their names there and their lengths in bytes.
const CRCS: [(&str, CrcAlgorithm, usize); 3] = [
    ("x-amz-checksum-crc64nvme", CrcAlgorithm::Crc64Nvme, 8),
    ("x-amz-checksum-crc32c", CrcAlgorithm::Crc32Iscsi, 4),
    ("x-amz-checksum-crc32", CrcAlgorithm::Crc32IsoHdlc, 4),
];

impl Checksum {
    /// The checksum of the whole that headers tell, if they tell one we know.
    #[must_use]
    pub fn told(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        // One made of the checksums of parts says nothing of the whole.
        if text("x-amz-checksum-type").is_some_and(|kind| kind != "FULL_OBJECT") {
            return None;
        }
        let bytes = |name| STANDARD.decode(text(name)?).ok();
        let crcs = CRCS.iter().find_map(|(name, algorithm, length)| {
            let value = bytes(name).filter(|value| value.len() == *length)?;
            Some(Self::Crc(*algorithm, number(&value)))
        });
        crcs.or_else(|| google_crc(headers))
            .or_else(|| {
                let value = bytes("x-amz-checksum-sha256")?;
                Some(Self::Sha256(value.try_into().ok()?))
            })
            .or_else(|| Some(Self::Md5(bytes("content-md5")?.try_into().ok()?)))
    }

    /// The same sort of checksum, of this content.
    #[must_use]
    pub fn same_of(&self, content: &[u8]) -> Self {
        match self {
            Self::Crc(algorithm, _) => {
                Self::Crc(*algorithm, crc_fast::checksum(*algorithm, content))
            }
            Self::Sha256(_) => Self::Sha256(Sha256::digest(content).into()),
            Self::Md5(_) => Self::Md5(Md5::digest(content).into()),
        }
    }

    /// Of the checksum of a first part (`self`) that of both, where that can be
    /// told: `next` is that of what follows it, which has `bytes`.
    #[must_use]
    pub fn and_then(self, next: Self, bytes: u64) -> Option<Self> {
        match (self, next) {
            (Self::Crc(algorithm, first), Self::Crc(other, second)) if algorithm == other => {
                let both = crc::of_both(algorithm, first, second, bytes)?;
                Some(Self::Crc(algorithm, both))
            }
            _ => None,
        }
    }

    /// Whether that of the whole can be made of those of its parts.
    #[must_use]
    pub fn is_made_of_parts(&self) -> bool {
        matches!(self, Self::Crc(..))
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The CRC-32C that Google tells. What was asked for as it is stored has that of what
/// arrives.
fn google_crc(headers: &HeaderMap) -> Option<Checksum> {
    let told = headers.get_all(GOOGLE).iter();
    let mut each = told.flat_map(|value| value.to_str().unwrap_or_default().split(','));
    let crc = each.find_map(|one| one.trim().strip_prefix("crc32c="))?;
    let crc = STANDARD.decode(crc).ok().filter(|crc| crc.len() == 4)?;
    Some(Checksum::Crc(CrcAlgorithm::Crc32Iscsi, number(&crc)))
}

impl std::fmt::Display for Checksum {
    /// Its name and its value in hexadecimal: `crc64nvme:0123456789abcdef`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Crc(CrcAlgorithm::Crc64Nvme, value) => write!(f, "crc64nvme:{value:016x}"),
            Self::Crc(CrcAlgorithm::Crc32Iscsi, value) => write!(f, "crc32c:{value:08x}"),
            Self::Crc(_, value) => write!(f, "crc32:{value:08x}"),
            Self::Sha256(value) => write!(f, "sha256:{}", hex(value)),
            Self::Md5(value) => write!(f, "md5:{}", hex(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;

    fn headers(told: &[(&'static str, &str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        told.iter().map(header).collect()
    }

    #[test]
    fn what_s3_tells_is_understood() {
        // The check values of the catalogue of CRCs, for "123456789".
        let known = [
            (
                "x-amz-checksum-crc64nvme",
                "rosUhgp5mIg=",
                "crc64nvme:ae8b14860a799888",
            ),
            ("x-amz-checksum-crc32c", "4waSgw==", "crc32c:e3069283"),
            ("x-amz-checksum-crc32", "y/Q5Jg==", "crc32:cbf43926"),
        ];
        for (name, value, text) in known {
            let told = Checksum::told(&headers(&[(name, value)])).unwrap();
            assert_eq!(told.to_string(), text);
            assert_eq!(told.same_of(b"123456789"), told);
            assert_ne!(told.same_of(b"123456780"), told);
        }
        let sha = STANDARD.encode(Sha256::digest(b"x"));
        let told = Checksum::told(&headers(&[("x-amz-checksum-sha256", &sha)])).unwrap();
        assert_eq!(told.same_of(b"x"), told);
        assert!(!told.is_made_of_parts());
    }

    #[test]
    fn what_google_and_azure_tell_is_understood() {
        let md5 = STANDARD.encode(Md5::digest(b"123456789"));
        let both = format!("crc32c=4waSgw==,md5={md5}");
        let told = Checksum::told(&headers(&[("x-goog-hash", &both)])).unwrap();
        assert_eq!(told.to_string(), "crc32c:e3069283");
        let mut apart = HeaderMap::new();
        for one in [format!("md5={md5}"), "crc32c=4waSgw==".to_owned()] {
            apart.append(GOOGLE, one.parse().unwrap());
        }
        assert_eq!(Checksum::told(&apart), Some(told));
        let told = Checksum::told(&headers(&[("content-md5", &md5)])).unwrap();
        assert_eq!(told.to_string(), "md5:25f9e794323b453885f5181f1b624d0b");
        assert_eq!(told.same_of(b"123456789"), told);
        assert!(!told.is_made_of_parts());
        assert_eq!(
            Checksum::told(&headers(&[("content-md5", "4waSgw==")])),
            None
        );
    }

    #[test]
    fn what_is_none_of_the_whole_is_none() {
        let crc = ("x-amz-checksum-crc32c", "4waSgw==");
        let composite = ("x-amz-checksum-type", "COMPOSITE");
        assert_eq!(Checksum::told(&headers(&[crc, composite])), None);
        for odd in ["4waSgw==-3", "", "4waS", "no base64!"] {
            let told = Checksum::told(&headers(&[("x-amz-checksum-crc32c", odd)]));
            assert_eq!(told, None, "{odd}");
        }
        assert_eq!(Checksum::told(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn parts_make_up_the_whole(
            content in proptest::collection::vec(any::<u8>(), 0..600), cut in 0_usize..600,
        ) {
            let (first, second) = content.split_at(cut.min(content.len()));
            for (_, algorithm, _) in CRCS {
                let kind = Checksum::Crc(algorithm, 0);
                let both = kind.same_of(first).and_then(kind.same_of(second), second.len() as u64);
                prop_assert_eq!(both, Some(kind.same_of(&content)));
            }
        }
    }
}
