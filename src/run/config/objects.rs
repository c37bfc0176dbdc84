//! `[objects]`: how `object-sync` copies.

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::size;

/// How objects are compared and copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectsConfig {
    /// How it is decided that an object has not changed.
    pub compare: Compare,
    /// What the source is compared with.
    pub against: Against,
    /// Globs of keys to take; all when absent. `*` stands for any text, also with
    /// `/` in it.
    pub include: Vec<String>,
    /// Globs of keys to leave out; they win over `include`. What is left out is
    /// not deleted either.
    pub exclude: Vec<String>,
    /// Removes objects of the target that the source has not.
    pub delete: bool,
    /// The greatest share of the target's objects that may be removed in one run:
    /// `"10%"`.
    pub max_delete: Percent,
    /// Compares and says what would be done, and does nothing.
    pub dry_run: bool,
    /// The greatest rate in each direction, in bytes a second: `"100MB"`.
    #[serde(with = "size::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<size::SizeText>")]
    pub bandwidth: Option<ByteSize>,
    /// The greatest number of requests a second, over both sides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u64>,
    /// The run ends when more objects than this have failed; it goes on for ever
    /// when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_errors: Option<u64>,
    /// Copies content type and metadata, too.
    pub metadata: bool,
    /// Copies tags, too, where both sides have them.
    pub tags: bool,
    /// Asks a second time for what is late to answer, and takes what comes first; of
    /// reads, and at most one in twenty.
    pub hedge: bool,
    /// Lets the store copy by itself where source and target are at one address
    /// with one key.
    pub server_side_copy: bool,
    /// Keeps a record of what was copied in the target, under `_highwater/objects`.
    pub ledger: bool,
    /// In a local folder: files are safe from a power cut before they are recorded.
    pub durable: bool,
    /// Objects from this size on are copied in parts; found from the memory limit
    /// when absent.
    #[serde(with = "size::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<size::SizeText>")]
    pub multipart_from: Option<ByteSize>,
}

impl Default for ObjectsConfig {
    fn default() -> Self {
        Self {
            compare: Compare::default(),
            against: Against::default(),
            include: Vec::new(),
            exclude: Vec::new(),
            delete: false,
            max_delete: Percent::default(),
            dry_run: false,
            bandwidth: None,
            requests_per_second: None,
            max_errors: None,
            metadata: true,
            tags: false,
            hedge: false,
            server_side_copy: true,
            ledger: true,
            durable: true,
            multipart_from: None,
        }
    }
}

/// How it is decided that an object has not changed. Objects of other sizes have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compare {
    /// Both have the same MD5 as their tag; else both are as the record of the last
    /// run has them; else the target is not older than the source.
    #[default]
    Etag,
    /// The target is not older than the source.
    SizeTime,
    /// As `etag`, but never by time: what cannot be told from tags or the record is
    /// copied again.
    Checksum,
}

/// What the source is compared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// A listing of the target.
    #[default]
    Target,
    /// The record of what was copied: the target is not listed. For a target that
    /// nobody else writes to.
    Ledger,
}

/// A share of a hundred: `"10%"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Percent(u32);

impl Default for Percent {
    fn default() -> Self {
        Self(10)
    }
}

impl Percent {
    /// The share that `part` is of `whole` is not greater.
    #[must_use]
    pub fn allows(self, part: u64, whole: u64) -> bool {
        u128::from(part) * 100 <= u128::from(whole) * u128::from(self.0)
    }
}

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl From<Percent> for String {
    fn from(percent: Percent) -> Self {
        percent.to_string()
    }
}

impl TryFrom<String> for Percent {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = text.trim().strip_suffix('%').unwrap_or(&text).trim();
        match number.parse() {
            Ok(percent) if percent <= 100 => Ok(Self(percent)),
            _ => Err(format!(
                "\"{text}\" is no share: write 0% to 100%, for instance \"10%\""
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shares_are_read_and_kept() {
        let ten: Percent = "10%".to_owned().try_into().unwrap();
        assert!(ten.allows(10, 100) && !ten.allows(11, 100));
        assert!(ten.allows(0, 0) && !ten.allows(1, 0));
        assert!(Percent::try_from("101%".to_owned()).is_err());
        assert!(Percent::try_from("ten".to_owned()).is_err());
        let config: ObjectsConfig =
            toml::from_str("max_delete = \"100%\"\ncompare = \"size-time\"").unwrap();
        assert!(config.max_delete.allows(7, 7) && config.metadata);
        assert_eq!(config.compare, Compare::SizeTime);
    }
}
