//! What a table is partitioned by: a column, or a date part of one.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One level of Hive partitions, written in the configuration as a string:
/// `"status"`, `"year(created_at)"`, `"month(...)"`, `"day(...)"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(with = "String")]
pub enum PartitionBy {
    /// By the value of a column.
    Column(String),
    /// By the year of a date or timestamp column.
    Year(String),
    /// By the year and month of a date or timestamp column.
    Month(String),
    /// By the day of a date or timestamp column.
    Day(String),
}

impl PartitionBy {
    /// The column it is computed from.
    #[must_use]
    pub fn column(&self) -> &str {
        match self {
            Self::Column(name) | Self::Year(name) | Self::Month(name) | Self::Day(name) => name,
        }
    }
}

impl FromStr for PartitionBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some((part, rest)) = text.split_once('(') else {
            return match text {
                "" => Err(refused(text)),
                column => Ok(Self::Column(column.to_owned())),
            };
        };
        let column = rest.strip_suffix(')').map(str::trim).filter(|column| !column.is_empty());
        let column = column.ok_or_else(|| refused(text))?.to_owned();
        match part.trim() {
            "year" => Ok(Self::Year(column)),
            "month" => Ok(Self::Month(column)),
            "day" => Ok(Self::Day(column)),
            _ => Err(refused(text)),
        }
    }
}

fn refused(text: &str) -> String {
    format!(
        "\"{text}\" is no partition: write a column (\"status\") or a date part of one \
         (\"year(created_at)\", \"month(created_at)\", \"day(created_at)\")"
    )
}

impl fmt::Display for PartitionBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(name) => f.write_str(name),
            Self::Year(name) => write!(f, "year({name})"),
            Self::Month(name) => write!(f, "month({name})"),
            Self::Day(name) => write!(f, "day({name})"),
        }
    }
}

impl Serialize for PartitionBy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PartitionBy {
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
        for text in ["status", "year(created_at)", "month(a b)", "day(d)"] {
            let partition = text.parse::<PartitionBy>().unwrap();
            assert_eq!(partition.to_string(), text);
        }
        let spaced = " year ( at ) ".parse::<PartitionBy>().unwrap();
        assert_eq!(spaced, PartitionBy::Year("at".into()));
        assert_eq!(spaced.column(), "at");
    }

    #[test]
    fn other_functions_are_refused() {
        for text in ["hour(at)", "year()", "year(at", "(at)", ""] {
            let error = text.parse::<PartitionBy>().unwrap_err();
            assert!(error.contains(&format!("\"{text}\" is no partition")), "{error}");
        }
    }
}
