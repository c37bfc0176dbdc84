//! How Parquet pages are compressed: `zstd(1)`, `lz4`, `snappy`, `none`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The codec of Parquet pages, written in the configuration as a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String", extend("pattern" = r"^(zstd(\(([1-9]|1[0-9]|2[0-2])\))?|lz4|snappy|none)$"))]
pub enum Compression {
    /// Zstandard at a level from 1 to 22.
    Zstd(u8),
    /// LZ4 (`LZ4_RAW` in Parquet).
    Lz4,
    /// Snappy.
    Snappy,
    /// Not compressed.
    None,
}

impl Default for Compression {
    /// Measured: level 1 costs next to nothing over no compression, and halves
    /// the bytes.
    fn default() -> Self {
        Self::Zstd(1)
    }
}

const CHOICES: &str = "\"zstd(1)\" to \"zstd(22)\", \"lz4\", \"snappy\" or \"none\"";

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "zstd" => Ok(Self::default()),
            "lz4" => Ok(Self::Lz4),
            "snappy" => Ok(Self::Snappy),
            "none" => Ok(Self::None),
            other => zstd_level(other).map(Self::Zstd).ok_or_else(|| {
                format!("\"{text}\" is no compression: choose {CHOICES}")
            }),
        }
    }
}

fn zstd_level(text: &str) -> Option<u8> {
    let level = text.strip_prefix("zstd(")?.strip_suffix(')')?.trim().parse().ok()?;
    (1..=22).contains(&level).then_some(level)
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zstd(level) => write!(f, "zstd({level})"),
            Self::Lz4 => f.write_str("lz4"),
            Self::Snappy => f.write_str("snappy"),
            Self::None => f.write_str("none"),
        }
    }
}

impl Serialize for Compression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Compression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_and_back() {
        for text in ["zstd(1)", "zstd(22)", "lz4", "snappy", "none"] {
            assert_eq!(text.parse::<Compression>().unwrap().to_string(), text);
        }
        assert_eq!("zstd".parse::<Compression>().unwrap(), Compression::Zstd(1));
    }

    #[test]
    fn choices_are_listed() {
        for text in ["gzip", "zstd(0)", "zstd(23)", "zstd(", ""] {
            assert_eq!(
                text.parse::<Compression>().unwrap_err(),
                format!(
                    "\"{text}\" is no compression: choose \"zstd(1)\" to \"zstd(22)\", \"lz4\", \"snappy\" or \"none\""
                )
            );
        }
    }
}
