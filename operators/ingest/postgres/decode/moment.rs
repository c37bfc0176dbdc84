//! Dates and timestamps: PostgreSQL counts from 2000-01-01, Arrow from 1970-01-01.

use super::flaw::{Decoded, Flaw};

/// Days from 1970-01-01 to 2000-01-01.
const EPOCH_DAYS: i32 = 10_957;
const DAY_MICROS: i64 = 86_400_000_000;
/// Microseconds from 1970-01-01 to 2000-01-01.
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * DAY_MICROS;

/// Days since 1970-01-01.
#[inline]
pub(super) fn date(days: i32) -> Decoded<i32> {
    match days.checked_add(EPOCH_DAYS) {
        Some(since_1970) if days != i32::MIN => Ok(since_1970),
        _ => Err(refuse_infinity(days == i32::MIN, "a date")),
    }
}

/// Microseconds since 1970-01-01 00:00:00.
#[inline]
pub(super) fn timestamp(micros: i64) -> Decoded<i64> {
    match micros.checked_add(EPOCH_MICROS) {
        Some(since_1970) if micros != i64::MIN => Ok(since_1970),
        _ => Err(refuse_timestamp(micros)),
    }
}

#[cold]
fn refuse_timestamp(micros: i64) -> Box<Flaw> {
    if micros == i64::MIN || micros == i64::MAX {
        return refuse_infinity(micros == i64::MIN, "a timestamp");
    }
    Flaw::value(
        timestamp_text(micros),
        "after 294247-01-10 04:00:54.775807, the last microsecond a 64-bit timestamp holds",
    )
}

#[cold]
fn refuse_infinity(negative: bool, what: &str) -> Box<Flaw> {
    let value = if negative { "-infinity" } else { "infinity" };
    Flaw::value(
        value,
        format!("{value} does not exist as {what} of the lake"),
    )
}

/// A timestamp after 2000 as PostgreSQL prints it; for messages only.
fn timestamp_text(micros: i64) -> String {
    let (year, month, day) = civil(micros.div_euclid(DAY_MICROS) + i64::from(EPOCH_DAYS));
    let rest = micros.rem_euclid(DAY_MICROS);
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{fraction:06}")
}

/// Year, month and day of the proleptic Gregorian calendar, by eras of 400
/// years that begin on the first of March.
pub(in super::super) fn civil(days_since_1970: i64) -> (i64, i64, i64) {
    let days = days_since_1970 + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use chrono::{DateTime, Datelike, NaiveDate};
    use proptest::prelude::*;

    #[test]
    fn edges() {
        assert_eq!(date(0), Ok(10_957));
        // 4714-11-24 BC, PostgreSQL's first date, is Julian day 0.
        assert_eq!(date(-2_451_545), Ok(-2_440_588));
        assert!(
            matches!(*date(i32::MAX).unwrap_err(), Flaw::Value { ref value, .. } if value == "infinity")
        );
        assert!(
            matches!(*date(i32::MIN).unwrap_err(), Flaw::Value { ref value, .. } if value == "-infinity")
        );
        assert_eq!(timestamp(0), Ok(946_684_800_000_000));
        assert_eq!(timestamp(i64::MAX - EPOCH_MICROS), Ok(i64::MAX));
        let last = 9_223_371_331_199_999_999; // 294276-12-31 23:59:59.999999
        assert!(
            matches!(*timestamp(last).unwrap_err(), Flaw::Value { ref value, .. } if value == "294276-12-31 23:59:59.999999")
        );
        for (micros, text) in [(i64::MAX, "infinity"), (i64::MIN, "-infinity")] {
            assert!(
                matches!(*timestamp(micros).unwrap_err(), Flaw::Value { ref value, .. } if value == text)
            );
        }
    }

    proptest! {
        #[test]
        fn timestamps_agree_with_chrono(micros in -60_000_000_000_000_000_i64..200_000_000_000_000_000) {
            let at = DateTime::from_timestamp_micros(timestamp(micros).unwrap()).unwrap();
            let epoch = DateTime::from_timestamp(946_684_800, 0).unwrap();
            prop_assert_eq!((at - epoch).num_microseconds(), Some(micros));
        }

        #[test]
        fn calendar_agrees_with_chrono(days in -700_000_i64..3_000_000) {
            let date = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
            let date = date.checked_add_signed(chrono::TimeDelta::days(days)).unwrap();
            prop_assert_eq!(civil(days), (i64::from(date.year()), i64::from(date.month()), i64::from(date.day())));
        }
    }
}
