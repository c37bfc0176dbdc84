//! From a value of the lake back to the source's exact text, as a constant of
//! the source's type. What `decode` takes apart is put together here.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType,
};

use super::decode::civil;
use super::quote;

const DAY_MICROS: i64 = 86_400_000_000;

/// Why a value cannot be written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotWritten {
    /// The lake's type is not one that this source writes.
    #[error("a value of type {0} cannot be written as PostgreSQL's")]
    Type(DataType),
    /// Keys are never NULL.
    #[error("row {0} has no value")]
    Null(usize),
}

/// The value of `array` at `row` as a constant of `source_type`.
pub(super) fn constant(
    array: &dyn Array,
    row: usize,
    source_type: &str,
) -> Result<String, NotWritten> {
    let text = quote::literal(&text(array, row)?);
    Ok(match array.data_type() {
        // An integer that the user keeps as a decimal has digits after the point.
        DataType::Decimal128(..) => format!("{text}::numeric::{source_type}"),
        _ => format!("{text}::{source_type}"),
    })
}

/// The text that the source's type reads as this value.
pub(crate) fn text(array: &dyn Array, row: usize) -> Result<String, NotWritten> {
    if row >= array.len() || array.is_null(row) {
        return Err(NotWritten::Null(row));
    }
    Ok(match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        // The shortest text that reads back as the same number.
        DataType::Float32 => format!("{:e}", array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => format!("{:e}", array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Binary => bytea(array.as_binary::<i32>().value(row)),
        DataType::Date32 => date(array.as_primitive::<Date32Type>().value(row).into(), ""),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let zone = if zone.is_some() { "+00" } else { "" };
            timestamp(
                array.as_primitive::<TimestampMicrosecondType>().value(row),
                zone,
            )
        }
        DataType::List(_) => list(array.as_list::<i32>().value(row).as_ref())?,
        other => return Err(NotWritten::Type(other.clone())),
    })
}

fn bytea(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold("\\x".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A day of the proleptic Gregorian calendar, with `rest` before its era.
fn date(days: i64, rest: &str) -> String {
    let (year, month, day) = civil(days);
    // There is no year 0: the one before 1 is 1 BC.
    let (year, era) = if year > 0 {
        (year, "")
    } else {
        (1 - year, " BC")
    };
    format!("{year:04}-{month:02}-{day:02}{rest}{era}")
}

fn timestamp(micros: i64, zone: &str) -> String {
    let rest = micros.rem_euclid(DAY_MICROS);
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let clock = format!(" {hour:02}:{minute:02}:{second:02}.{fraction:06}{zone}");
    date(micros.div_euclid(DAY_MICROS), &clock)
}

/// An array's text: every element in quotes, so that none is mistaken for NULL
/// or for the array's own signs.
fn list(items: &dyn Array) -> Result<String, NotWritten> {
    let elements: Vec<String> = (0..items.len())
        .map(|item| {
            if items.is_null(item) {
                return Ok("NULL".to_owned());
            }
            let text = text(items, item)?
                .replace('\\', "\\\\")
                .replace('"', "\\\"");
            Ok(format!("\"{text}\""))
        })
        .collect::<Result<_, _>>()?;
    Ok(format!("{{{}}}", elements.join(",")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array,
        Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, ListArray, StringArray,
        TimestampMicrosecondArray,
    };

    fn all(array: impl Array, source_type: &str) -> Vec<String> {
        (0..array.len())
            .map(|row| constant(&array, row, source_type).unwrap())
            .collect()
    }

    #[test]
    fn numbers_and_truth() {
        assert_eq!(
            all(BooleanArray::from(vec![true]), "boolean"),
            ["'true'::boolean"]
        );
        assert_eq!(
            all(Int16Array::from(vec![i16::MIN]), "smallint"),
            ["'-32768'::smallint"]
        );
        assert_eq!(
            all(Int32Array::from(vec![7]), "s.posint"),
            ["'7'::s.posint"]
        );
        assert_eq!(
            all(Int64Array::from(vec![i64::MIN]), "bigint"),
            ["'-9223372036854775808'::bigint"]
        );
        assert_eq!(all(Float32Array::from(vec![0.1]), "real"), ["'1e-1'::real"]);
        assert_eq!(
            all(
                Float64Array::from(vec![f64::NAN, f64::NEG_INFINITY, -0.0, 1e300, 0.1 + 0.2]),
                "double precision"
            ),
            ["NaN", "-inf", "-0e0", "1e300", "3.0000000000000004e-1"]
                .map(|text| format!("'{text}'::double precision"))
        );
        let decimals = Decimal128Array::from(vec![-5, 10_i128.pow(38) - 1])
            .with_precision_and_scale(38, 2)
            .unwrap();
        assert_eq!(
            all(decimals, "numeric(38,2)"),
            [
                "'-0.05'::numeric::numeric(38,2)",
                "'999999999999999999999999999999999999.99'::numeric::numeric(38,2)"
            ]
        );
    }

    #[test]
    fn texts_that_would_break_out_of_their_quotes() {
        let texts = StringArray::from(vec![
            "",
            "it's",
            "a\\b'c",
            "{a,\"b\"}",
            "Grüße \u{1F600}\n--",
            "NULL",
        ]);
        assert_eq!(
            all(texts, "text"),
            [
                "''",
                "'it''s'",
                "E'a\\\\b''c'",
                "'{a,\"b\"}'",
                "'Grüße \u{1F600}\n--'",
                "'NULL'"
            ]
            .map(|text| format!("{text}::text"))
        );
        let bytes = BinaryArray::from(vec![&b""[..], b"\x00\xff'"]);
        assert_eq!(
            all(bytes, "bytea"),
            ["E'\\\\x'::bytea", "E'\\\\x00ff27'::bytea"]
        );
    }

    #[test]
    fn moments_at_the_edges() {
        let days = Date32Array::from(vec![0, -719_529, -2_440_588, 2_145_042_905]);
        assert_eq!(
            all(days, "date"),
            [
                "1970-01-01",
                "0002-12-31 BC",
                "4714-11-24 BC",
                "5874897-12-31"
            ]
            .map(|day| format!("'{day}'::date"))
        );
        let micros = vec![-1, i64::MAX, -210_866_803_200_000_000];
        let wanted = [
            "1969-12-31 23:59:59.999999",
            "294247-01-10 04:00:54.775807",
            "4714-11-24 00:00:00.000000",
        ];
        let texts = all(TimestampMicrosecondArray::from(micros.clone()), "timestamp");
        for (text, wanted) in texts.iter().zip(wanted) {
            assert!(text.contains(wanted), "{text}");
        }
        assert!(texts[2].contains(" BC'"), "{}", texts[2]);
        let zoned = TimestampMicrosecondArray::from(micros).with_timezone("UTC");
        assert!(all(zoned, "timestamptz")[2].contains("00:00:00.000000+00 BC'"));
    }

    #[test]
    fn lists_and_what_is_refused() {
        let numbers = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            Some(vec![]),
        ]);
        assert_eq!(
            all(numbers, "integer[]"),
            ["'{\"1\",NULL}'::integer[]", "'{}'::integer[]"]
        );
        let mut texts = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
        texts.append_value([Some("a,\"b\\"), Some("")]);
        assert_eq!(
            all(texts.finish(), "text[]"),
            ["E'{\"a,\\\\\"b\\\\\\\\\",\"\"}'::text[]"]
        );
        let null: ArrayRef = Arc::new(Int32Array::from(vec![None]));
        assert_eq!(constant(&null, 0, "integer"), Err(NotWritten::Null(0)));
        assert_eq!(constant(&null, 1, "integer"), Err(NotWritten::Null(1)));
        let other = Int8Array::from(vec![1]);
        assert_eq!(
            constant(&other, 0, "x"),
            Err(NotWritten::Type(DataType::Int8))
        );
    }
}
