//! Exact conversions of SQLite values, straight into Arrow builders.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder,
    Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use rusqlite::types::ValueRef;

use super::rule::Rule;
use super::{decimal, literal, temporal};

/// A value, or why it has no exact equivalent.
type Exactly<T> = Result<T, &'static str>;

/// The Arrow column under construction for one rule.
pub(super) enum ColumnBuilder {
    Long(Int64Builder),
    Double(Float64Builder),
    Text(StringBuilder),
    Literal(StringBuilder),
    Binary(BinaryBuilder),
    Boolean(BooleanBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Instant(TimestampMicrosecondBuilder),
    Decimal {
        column: Decimal128Builder,
        precision: u8,
        scale: i8,
    },
}

impl ColumnBuilder {
    /// An empty column with room for `rows` values of `bytes` in all.
    pub(super) fn new(rule: Rule, rows: usize, bytes: usize) -> Self {
        match rule {
            Rule::Long => Self::Long(Int64Builder::with_capacity(rows)),
            Rule::Double => Self::Double(Float64Builder::with_capacity(rows)),
            Rule::Text => Self::Text(StringBuilder::with_capacity(rows, bytes)),
            Rule::Literal => Self::Literal(StringBuilder::with_capacity(rows, bytes)),
            Rule::Binary => Self::Binary(BinaryBuilder::with_capacity(rows, bytes)),
            Rule::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            Rule::Date => Self::Date(Date32Builder::with_capacity(rows)),
            Rule::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::with_capacity(rows)),
            Rule::Instant => Self::Instant(
                TimestampMicrosecondBuilder::with_capacity(rows)
                    .with_data_type(Rule::Instant.lake_type()),
            ),
            Rule::Decimal { precision, scale } => Self::Decimal {
                column: Decimal128Builder::with_capacity(rows).with_data_type(rule.lake_type()),
                precision,
                scale,
            },
        }
    }

    /// Appends `value`. Where it has no exact equivalent a NULL is appended in
    /// its place, and the reason returned: the row is to be left out.
    pub(super) fn push(&mut self, value: ValueRef<'_>) -> Exactly<()> {
        if matches!(value, ValueRef::Null) {
            self.push_null();
            return Ok(());
        }
        let refused = match self {
            Self::Long(column) => long(value).map(|value| column.append_value(value)),
            Self::Double(column) => double(value).map(|value| column.append_value(value)),
            Self::Text(column) => text(value).map(|value| column.append_value(value)),
            Self::Literal(column) => literal::exact(value)
                .ok_or(NOT_UTF8)
                .map(|value| column.append_value(value)),
            Self::Binary(column) => binary(value).map(|value| column.append_value(value)),
            Self::Boolean(column) => boolean(value).map(|value| column.append_value(value)),
            Self::Date(column) => iso(value)
                .and_then(temporal::date)
                .map(|value| column.append_value(value)),
            Self::Timestamp(column) => iso(value)
                .and_then(temporal::timestamp)
                .map(|value| column.append_value(value)),
            Self::Instant(column) => iso(value)
                .and_then(temporal::instant)
                .map(|value| column.append_value(value)),
            Self::Decimal {
                column,
                precision,
                scale,
            } => text(value)
                .and_then(|value| decimal::scaled(&value, *precision, *scale))
                .map(|value| column.append_value(value)),
        };
        if refused.is_err() {
            self.push_null();
        }
        refused
    }

    /// Appends NULL.
    pub(super) fn push_null(&mut self) {
        match self {
            Self::Long(column) => column.append_null(),
            Self::Double(column) => column.append_null(),
            Self::Text(column) | Self::Literal(column) => column.append_null(),
            Self::Binary(column) => column.append_null(),
            Self::Boolean(column) => column.append_null(),
            Self::Date(column) => column.append_null(),
            Self::Timestamp(column) | Self::Instant(column) => column.append_null(),
            Self::Decimal { column, .. } => column.append_null(),
        }
    }

    /// The column, without spare room.
    pub(super) fn finish(mut self) -> ArrayRef {
        macro_rules! trimmed {
            ($column:expr) => {{
                let mut column = $column.finish();
                arrow::array::Array::shrink_to_fit(&mut column);
                Arc::new(column)
            }};
        }
        match &mut self {
            Self::Long(column) => trimmed!(column),
            Self::Double(column) => trimmed!(column),
            Self::Text(column) | Self::Literal(column) => trimmed!(column),
            Self::Binary(column) => trimmed!(column),
            Self::Boolean(column) => trimmed!(column),
            Self::Date(column) => trimmed!(column),
            Self::Timestamp(column) | Self::Instant(column) => trimmed!(column),
            Self::Decimal { column, .. } => trimmed!(column),
        }
    }
}

/// What `value` takes in Arrow memory under `rule`, at most.
pub(super) fn arrow_bytes(rule: Rule, value: ValueRef<'_>) -> u64 {
    // One more for the validity bit, rounded up generously.
    1 + match rule {
        Rule::Boolean => 1,
        Rule::Date => 4,
        Rule::Long | Rule::Double | Rule::Timestamp | Rule::Instant => 8,
        Rule::Decimal { .. } => 16,
        Rule::Binary => 4 + source_bytes(value),
        Rule::Text => 4 + number_text(value).unwrap_or_else(|| source_bytes(value)),
        // Quotes doubled, bytes in two digits.
        Rule::Literal => 7 + number_text(value).unwrap_or_else(|| 2 * source_bytes(value)),
    }
}

/// The longest text of a number; `None` for other values.
fn number_text(value: ValueRef<'_>) -> Option<u64> {
    matches!(value, ValueRef::Integer(_) | ValueRef::Real(_)).then_some(25)
}

/// What was read from the source for `value`.
pub(super) fn source_bytes(value: ValueRef<'_>) -> u64 {
    match value {
        ValueRef::Null => 0,
        ValueRef::Integer(_) | ValueRef::Real(_) => 8,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len() as u64,
    }
}

const NOT_UTF8: &str = "it is not valid UTF-8";

fn utf8(bytes: &[u8]) -> Exactly<&str> {
    std::str::from_utf8(bytes).map_err(|_| NOT_UTF8)
}

/// Integers; and, for columns whose type the user named, whole reals and text
/// that is an integer's own spelling.
pub(super) fn long(value: ValueRef<'_>) -> Exactly<i64> {
    const NOT_LONG: &str = "it is not a whole number of 64 bits";
    match value {
        ValueRef::Integer(value) => Ok(value),
        ValueRef::Real(real) => {
            // The cast saturates, so the way back decides; -0.0 has no integer.
            #[allow(clippy::cast_possible_truncation)]
            let whole = real as i64;
            let back = exact_double(whole).map(f64::to_bits);
            if back == Some(real.to_bits()) {
                Ok(whole)
            } else {
                Err(NOT_LONG)
            }
        }
        ValueRef::Text(bytes) => {
            let text = utf8(bytes)?;
            let value: i64 = text.parse().map_err(|_| NOT_LONG)?;
            if value.to_string() == text {
                Ok(value)
            } else {
                Err("it is not an integer's plain spelling")
            }
        }
        ValueRef::Null | ValueRef::Blob(_) => Err(NOT_LONG),
    }
}

/// Numbers that a double holds exactly, in any class.
pub(super) fn double(value: ValueRef<'_>) -> Exactly<f64> {
    match value {
        ValueRef::Real(value) => Ok(value),
        ValueRef::Integer(value) => {
            exact_double(value).ok_or("it is an integer that no double holds exactly")
        }
        ValueRef::Text(bytes) => {
            let text = utf8(bytes)?;
            let value: f64 = text.parse().map_err(|_| "it is not a number")?;
            let own = literal::real(value) == text || value.to_string() == text;
            if value.is_finite() && own {
                Ok(value)
            } else {
                Err("it is not a double's own spelling")
            }
        }
        ValueRef::Null | ValueRef::Blob(_) => Err("it is not a number"),
    }
}

/// `value` as a double, if that is the same number.
fn exact_double(value: i64) -> Option<f64> {
    #[allow(clippy::cast_precision_loss)]
    let double = value as f64;
    #[allow(clippy::cast_possible_truncation)]
    let same = double as i128 == i128::from(value);
    same.then_some(double)
}

/// Text, and numbers by their exact text.
pub(super) fn text(value: ValueRef<'_>) -> Exactly<Cow<'_, str>> {
    match value {
        ValueRef::Text(bytes) => utf8(bytes).map(Cow::Borrowed),
        ValueRef::Integer(value) => Ok(Cow::Owned(value.to_string())),
        ValueRef::Real(value) => Ok(Cow::Owned(literal::real(value))),
        ValueRef::Null | ValueRef::Blob(_) => Err("it is a blob, not text"),
    }
}

/// Text that may be a date or a time.
pub(super) fn iso(value: ValueRef<'_>) -> Exactly<&str> {
    match value {
        ValueRef::Text(bytes) => utf8(bytes),
        _ => Err("it is not ISO-8601 text"),
    }
}

/// Blobs.
pub(super) fn binary(value: ValueRef<'_>) -> Exactly<&[u8]> {
    match value {
        ValueRef::Blob(bytes) => Ok(bytes),
        _ => Err("it is not a blob"),
    }
}

/// 0 and 1.
pub(super) fn boolean(value: ValueRef<'_>) -> Exactly<bool> {
    match value {
        ValueRef::Integer(0) => Ok(false),
        ValueRef::Integer(1) => Ok(true),
        _ => Err("it is neither 0 nor 1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: fn(&'static str) -> ValueRef<'static> = |text| ValueRef::Text(text.as_bytes());

    #[test]
    fn longs() {
        assert_eq!(long(ValueRef::Integer(i64::MIN)), Ok(i64::MIN));
        assert_eq!(long(ValueRef::Real(3.0)), Ok(3));
        assert_eq!(
            long(ValueRef::Real(-9_223_372_036_854_775_808.0)),
            Ok(i64::MIN)
        );
        assert_eq!(long(TEXT("-12")), Ok(-12));
        for refused in [0.5, -0.0, 9_223_372_036_854_775_808.0, f64::INFINITY] {
            assert!(long(ValueRef::Real(refused)).is_err(), "{refused}");
        }
        for refused in ["012", "+1", " 1", "abc", "9223372036854775808"] {
            assert!(long(TEXT(refused)).is_err(), "{refused}");
        }
    }

    #[test]
    fn doubles() {
        assert_eq!(
            double(ValueRef::Integer(1 << 53)),
            Ok(9_007_199_254_740_992.0)
        );
        assert!(double(ValueRef::Integer((1 << 53) + 1)).is_err());
        assert!(double(ValueRef::Integer(i64::MAX)).is_err());
        assert_eq!(
            double(ValueRef::Integer(i64::MIN)),
            Ok(-9_223_372_036_854_775_808.0)
        );
        assert_eq!(double(TEXT("0.1")), Ok(0.1));
        assert_eq!(double(TEXT("5")), Ok(5.0));
        assert!(double(TEXT("0.10")).is_err());
        assert!(double(TEXT("0.1000000000000000055")).is_err());
    }

    #[test]
    fn others() {
        assert_eq!(text(ValueRef::Real(1.5)).as_deref(), Ok("1.5"));
        assert!(text(ValueRef::Text(&[0xc3])).is_err());
        assert!(boolean(TEXT("true")).is_err());
        assert!(boolean(ValueRef::Integer(2)).is_err());
        assert!(binary(TEXT("x")).is_err());
    }
}
