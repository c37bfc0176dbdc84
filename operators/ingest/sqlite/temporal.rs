//! ISO-8601 text to dates and timestamps, exactly or not at all.
//!
//! Accepted are the forms that SQLite's own functions write and that name one
//! value each: `YYYY-MM-DD`, and that followed by `T` or a space and `HH:MM`,
//! `HH:MM:SS` or `HH:MM:SS.fraction`; with a zone only where a zone is kept.

use chrono::{NaiveDate, NaiveTime};

const NOT_A_DATE: &str = "not a date of the form YYYY-MM-DD";
const NOT_A_TIMESTAMP: &str = "not a timestamp of the form YYYY-MM-DD HH:MM:SS.ffffff";

/// Days since 1970-01-01.
pub(super) fn date(text: &str) -> Result<i32, &'static str> {
    let days = calendar_date(text)
        .ok_or(NOT_A_DATE)?
        .signed_duration_since(NaiveDate::default());
    i32::try_from(days.num_days()).map_err(|_| NOT_A_DATE)
}

/// Microseconds since 1970-01-01 00:00 on a clock whose zone nobody named.
pub(super) fn timestamp(text: &str) -> Result<i64, &'static str> {
    let (micros, zone) = with_rest(text)?;
    match zone {
        "" => Ok(micros),
        zone if offset_seconds(zone).is_some() => {
            Err("it has a zone, which a timestamp without zone does not keep: use `timestamptz`")
        }
        _ => Err(NOT_A_TIMESTAMP),
    }
}

/// Microseconds since 1970-01-01 00:00 UTC; the text must name its zone.
pub(super) fn instant(text: &str) -> Result<i64, &'static str> {
    let (micros, zone) = with_rest(text)?;
    if zone.is_empty() {
        return Err("it has no zone: use `timestamp`");
    }
    let offset = offset_seconds(zone).ok_or(NOT_A_TIMESTAMP)?;
    Ok(micros - offset * 1_000_000)
}

/// The timestamp at the head of `text`, and what follows it.
fn with_rest(text: &str) -> Result<(i64, &str), &'static str> {
    let parts = text.split_at_checked(10).and_then(|(day, rest)| {
        let clock = rest.strip_prefix(['T', ' '])?;
        Some((calendar_date(day)?, clock))
    });
    let (day, clock) = parts.ok_or(NOT_A_TIMESTAMP)?;
    let end = clock.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.'));
    let (clock, zone) = clock.split_at(end.unwrap_or(clock.len()));
    let time = clock_time(clock)?;
    Ok((day.and_time(time).and_utc().timestamp_micros(), zone))
}

fn calendar_date(text: &str) -> Option<NaiveDate> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes.get(4) != Some(&b'-') || bytes.get(7) != Some(&b'-') {
        return None;
    }
    let year = digits(bytes.get(..4)?)?;
    NaiveDate::from_ymd_opt(
        i32::try_from(year).ok()?,
        digits(bytes.get(5..7)?)?,
        digits(bytes.get(8..)?)?,
    )
}

fn clock_time(text: &str) -> Result<NaiveTime, &'static str> {
    let bytes = text.as_bytes();
    let field = |at: usize| {
        bytes
            .get(at..at + 2)
            .and_then(digits)
            .ok_or(NOT_A_TIMESTAMP)
    };
    let colon = |at: usize| bytes.get(at) == Some(&b':');
    let (hour, minute) = (field(0)?, field(3)?);
    let (second, micros) = match bytes.len() {
        5 => (0, 0),
        8 if colon(5) => (field(6)?, 0),
        10.. if colon(5) && bytes.get(8) == Some(&b'.') => {
            (field(6)?, microseconds(bytes.get(9..).unwrap_or_default())?)
        }
        _ => return Err(NOT_A_TIMESTAMP),
    };
    if !colon(2) {
        return Err(NOT_A_TIMESTAMP);
    }
    NaiveTime::from_hms_micro_opt(hour, minute, second, micros).ok_or(NOT_A_TIMESTAMP)
}

/// The fraction of a second; digits after the sixth must be zero.
fn microseconds(fraction: &[u8]) -> Result<u32, &'static str> {
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(NOT_A_TIMESTAMP);
    }
    if fraction.iter().skip(6).any(|&digit| digit != b'0') {
        return Err("it is finer than a microsecond");
    }
    let six = fraction.iter().chain(std::iter::repeat(&b'0')).take(6);
    Ok(six.fold(0, |value, &digit| value * 10 + u32::from(digit - b'0')))
}

/// `Z`, `+HH:MM`, `+HHMM` or `+HH` in seconds east of UTC.
fn offset_seconds(zone: &str) -> Option<i64> {
    if zone == "Z" || zone == "z" {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let bytes = zone.as_bytes().get(1..)?;
    let minutes = match bytes.len() {
        2 => 0,
        4 => digits(bytes.get(2..)?)?,
        5 if bytes.get(2) == Some(&b':') => digits(bytes.get(3..)?)?,
        _ => return None,
    };
    let hours = digits(bytes.get(..2)?)?;
    (hours < 24 && minutes < 60).then(|| sign * i64::from(hours * 3600 + minutes * 60))
}

fn digits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0_u32, |value, &byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + u32::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use chrono::DateTime;
    use proptest::prelude::*;

    #[test]
    fn dates() {
        assert_eq!(date("1970-01-02"), Ok(1));
        assert_eq!(date("0000-01-01"), Ok(-719_528));
        assert_eq!(date("9999-12-31"), Ok(2_932_896));
        for text in [
            "",
            "2024-02-30",
            "2023-02-29",
            "2024-1-1",
            "2024-01-01 00:00",
            "0000-00-00",
            "20240101",
            "-024-01-01",
        ] {
            assert!(date(text).is_err(), "{text}");
        }
    }

    #[test]
    fn timestamps() {
        for (text, micros) in [
            ("1970-01-01 00:00", 0),
            ("1970-01-01T00:00:01", 1_000_000),
            ("1970-01-01 00:00:00.5", 500_000),
            ("1970-01-01 00:00:00.123456", 123_456),
            ("1970-01-01 00:00:00.123456000", 123_456),
            ("1969-12-31 23:59:59.999999", -1),
        ] {
            assert_eq!(timestamp(text), Ok(micros), "{text}");
        }
        for text in [
            "",
            "1970-01-01",
            "1970-01-01 24:00",
            "1970-01-01 00:00:60",
            "1970-01-01 00:00:00.",
            "1970-01-01 00:00:00.1234567",
            "1970-01-01 00:00:00Z",
            "1970-01-01  00:00",
            "1970-01-01 0:00",
            "1970-01-01 00:00:00 x",
            "1970-01-01 00.00",
            "1970-01-01é00:00",
        ] {
            assert!(timestamp(text).is_err(), "{text}");
        }
    }

    #[test]
    fn instants() {
        assert_eq!(instant("1970-01-01T00:00:00Z"), Ok(0));
        assert_eq!(
            instant("1970-01-01 00:00:00-05:00"),
            Ok(5 * 3600 * 1_000_000)
        );
        assert_eq!(
            instant("1970-01-01 00:00:00.25+0130"),
            Ok(-5_400_000_000 + 250_000)
        );
        for text in [
            "1970-01-01 00:00:00",
            "1970-01-01 00:00:00+25:00",
            "1970-01-01 00:00:00+1",
            "1970-01-01 00:00 UTC",
        ] {
            assert!(instant(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_chrono_writes_reads_back(micros in -62_167_219_200_000_000_i64..253_402_300_800_000_000) {
            let text = DateTime::from_timestamp_micros(micros).unwrap().naive_utc();
            prop_assert_eq!(timestamp(&text.format("%Y-%m-%d %H:%M:%S%.6f").to_string()), Ok(micros));
            prop_assert_eq!(instant(&text.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()), Ok(micros));
        }

        #[test]
        fn any_text_is_answered(text in "[0-9: TZ.+é-]{0,40}") {
            let _ = (date(&text), timestamp(&text), instant(&text));
        }
    }
}
