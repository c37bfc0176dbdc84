//! Sizes in the configuration: `"512MiB"`, `"1.5 GB"`, or a number of bytes.

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// What a size looks like in the JSON Schema.
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
#[expect(dead_code, reason = "describes a form; never made")]
pub(crate) enum SizeText {
    /// A number and its unit: `"512MiB"`, `"1.5 GB"`.
    Text(#[schemars(regex(pattern = r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtT]?[iI]?[bB]?)\s*$"))] String),
    /// A number of bytes.
    Bytes(u64),
}

/// Reads a size, in words that a user understands when it is none.
pub(crate) fn parse(text: &str) -> Result<ByteSize, String> {
    text.trim().parse().map_err(|_| {
        format!("\"{text}\" is no size: write a number and a unit, for instance \"512MiB\" or \"1.5GB\"")
    })
}

/// A size as short as it can be written exactly.
fn exact(size: ByteSize) -> String {
    for (unit, name) in [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if size.0 >= unit && size.0.is_multiple_of(unit) {
            return format!("{}{name}", size.0 / unit);
        }
    }
    format!("{}B", size.0)
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = ByteSize;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a size such as \"512MiB\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ByteSize, E> {
        parse(text).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<ByteSize, E> {
        Ok(ByteSize(bytes))
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<ByteSize, E> {
        u64::try_from(bytes)
            .map(ByteSize)
            .map_err(|_| E::custom(format!("a size cannot be negative: {bytes}")))
    }
}

/// For fields of type `ByteSize`.
pub(crate) mod required {
    use super::{ByteSize, Deserializer, Serializer, SizeVisitor, exact};

    pub(crate) fn serialize<S: Serializer>(
        size: &ByteSize,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&exact(*size))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<ByteSize, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

/// For fields of type `Option<ByteSize>`: an absent field is `None`.
pub(crate) mod optional {
    use super::{ByteSize, Deserializer, Serializer, required};

    pub(crate) fn serialize<S: Serializer>(
        size: &Option<ByteSize>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match size {
            Some(size) => required::serialize(size, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<ByteSize>, D::Error> {
        required::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_are_read_and_written_exactly() {
        for (text, bytes) in [("256MiB", 256 << 20), ("1.5 GB", 1_500_000_000), (" 10 ", 10)] {
            assert_eq!(parse(text).unwrap().0, bytes, "{text}");
        }
        assert_eq!(exact(ByteSize::mib(1536)), "1536MiB");
        assert_eq!(exact(ByteSize(1_000)), "1000B");
        assert_eq!(parse(&exact(ByteSize(123_456))).unwrap().0, 123_456);
    }

    #[test]
    fn what_is_no_size_is_said_so() {
        assert_eq!(
            parse("lots").unwrap_err(),
            "\"lots\" is no size: write a number and a unit, for instance \"512MiB\" or \"1.5GB\""
        );
        assert!(parse("-5MiB").is_err());
        assert!(parse("").is_err());
    }
}
