//! Spans of time in the configuration: `"15m"`, `"1h30m"`, `"30d"`, `"500ms"`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// What a span of time looks like in the JSON Schema.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "describes a form; never made")]
pub(crate) struct DurationText(
    #[schemars(regex(pattern = r"^\s*([0-9]+\s*(ms|s|m|h|d|w)\s*)+$"))] String,
);

/// Units and their milliseconds, the longest first.
const UNITS: [(&str, u64); 6] = [
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Reads a span of time, in words that a user understands when it is none. The
/// longest is a hundred years: what is added to a date stays one.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    const LONGEST: u64 = 100 * 366 * 86_400_000;
    let wrong = || {
        format!(
            "\"{text}\" is no span of time: write a number and a unit (ms, s, m, h, d, w), for \
             instance \"15m\", \"1h30m\" or \"30d\""
        )
    };
    let milliseconds = sum(text).ok_or_else(wrong)?;
    if milliseconds > LONGEST {
        return Err(format!(
            "\"{text}\" is no span of time that can be waited for: write at most a hundred years"
        ));
    }
    Ok(Duration::from_millis(milliseconds))
}

/// The milliseconds of numbers, each with its unit; `None` if there are none.
fn sum(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total: Option<u64> = None;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at_checked(digits)?;
        let after = after.trim_start();
        let letters = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(letters)?;
        let (_, each) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let part = number.parse::<u64>().ok()?.checked_mul(*each)?;
        total = Some(total.unwrap_or(0).checked_add(part)?);
        rest = next.trim_start();
    }
    total
}

/// A span of time as the configuration spells it: `1h30m`.
#[must_use]
pub fn text(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, each) in UNITS {
        if left >= each {
            text += &format!("{}{unit}", left / each);
            left %= each;
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a span of time such as \"15m\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }
}

/// For fields of type `Duration`.
pub(crate) mod required {
    use super::{Deserializer, Duration, DurationVisitor, Serializer, text};

    pub(crate) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(*duration))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        deserializer.deserialize_any(DurationVisitor)
    }
}

/// For fields of type `Option<Duration>`: an absent field is `None`.
pub(crate) mod optional {
    use super::{Deserializer, Duration, Serializer, required};

    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => required::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        required::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn spans_are_read_and_written_exactly() {
        for (given, milliseconds, spelled) in [
            ("15m", 900_000, "15m"),
            ("30s", 30_000, "30s"),
            ("500ms", 500, "500ms"),
            (" 1h 30m ", 5_400_000, "1h30m"),
            ("90m", 5_400_000, "1h30m"),
            ("30d", 30 * 86_400_000, "4w2d"),
            ("2 w", 14 * 86_400_000, "2w"),
            ("0s", 0, "0s"),
        ] {
            let read = parse(given).unwrap();
            assert_eq!(read, Duration::from_millis(milliseconds), "{given}");
            assert_eq!(text(read), spelled, "{given}");
            assert_eq!(parse(&text(read)).unwrap(), read, "{given}");
        }
    }

    #[test]
    fn what_is_no_span_is_said_so() {
        for wrong in [
            "",
            "soon",
            "15",
            "m",
            "1.5h",
            "-5m",
            "5 minutes",
            "5m x",
            "größe",
        ] {
            let said = parse(wrong).unwrap_err();
            assert!(said.starts_with(&format!("\"{wrong}\" is no span of time: write")));
        }
        let said = parse("99999999999w").unwrap_err();
        assert!(said.contains("at most a hundred years"), "{said}");
        assert!(parse("99999999999999999999s").is_err());
    }
}
