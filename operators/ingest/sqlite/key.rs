//! Key values: what the lake holds of them, and what SQLite may hold for that.
//!
//! A column's rule may read one lake value from several stored ones (5 and '5'
//! in a column kept as text), and SQLite's own equality takes more values for
//! equal than the lake does (`NOCASE`, 1 and 1.0). So a key is looked for by all
//! the values it may be stored as, and what is found is compared as the lake's.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use chrono::{Days, NaiveDate};
use rusqlite::types::{Value, ValueRef};

use super::columns::{binary, boolean, double, iso, long, text};
use super::rule::Rule;
use super::{cursor, decimal, literal, temporal};

/// A value as the lake holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Exact {
    Long(i64),
    /// The bits, so that every double equals itself.
    Double(u64),
    Text(String),
    Binary(Vec<u8>),
    Boolean(bool),
    Days(i32),
    Micros(i64),
    Decimal(i128),
}

impl Exact {
    /// What `rule` makes of a stored value; `None` where that is nothing.
    pub(super) fn stored(rule: Rule, cell: ValueRef<'_>) -> Option<Self> {
        Some(match rule {
            Rule::Long => Self::Long(long(cell).ok()?),
            Rule::Double => Self::Double(double(cell).ok()?.to_bits()),
            Rule::Text => Self::Text(text(cell).ok()?.into_owned()),
            Rule::Literal => Self::Text(literal::exact(cell)?),
            Rule::Binary => Self::Binary(binary(cell).ok()?.to_vec()),
            Rule::Boolean => Self::Boolean(boolean(cell).ok()?),
            Rule::Date => Self::Days(temporal::date(iso(cell).ok()?).ok()?),
            Rule::Timestamp => Self::Micros(temporal::timestamp(iso(cell).ok()?).ok()?),
            Rule::Instant => Self::Micros(temporal::instant(iso(cell).ok()?).ok()?),
            Rule::Decimal { precision, scale } => {
                Self::Decimal(decimal::scaled(&text(cell).ok()?, precision, scale).ok()?)
            }
        })
    }

    /// The value of a lake column; `None` for NULL and for types that no rule makes.
    pub(super) fn kept(array: &dyn Array, row: usize) -> Option<Self> {
        if row >= array.len() || array.is_null(row) {
            return None;
        }
        Some(match array.data_type() {
            DataType::Int64 => Self::Long(array.as_primitive::<Int64Type>().value(row)),
            DataType::Float64 => {
                Self::Double(array.as_primitive::<Float64Type>().value(row).to_bits())
            }
            DataType::Utf8 => Self::Text(array.as_string::<i32>().value(row).to_owned()),
            DataType::Binary => Self::Binary(array.as_binary::<i32>().value(row).to_vec()),
            DataType::Boolean => Self::Boolean(array.as_boolean().value(row)),
            DataType::Date32 => Self::Days(array.as_primitive::<Date32Type>().value(row)),
            DataType::Timestamp(..) => Self::Micros(
                array
                    .as_primitive_opt::<TimestampMicrosecondType>()?
                    .value(row),
            ),
            DataType::Decimal128(..) => {
                Self::Decimal(array.as_primitive::<Decimal128Type>().value(row))
            }
            _ => return None,
        })
    }

    /// The values that `rule` reads as this one, [`ways`] of them, NULL where
    /// there are fewer. Numbers that compare as equal stand for each other.
    pub(super) fn candidates(&self, rule: Rule) -> Vec<Value> {
        let mut values = match (self, rule) {
            (Self::Long(value), _) => vec![Value::Integer(*value), Value::Text(value.to_string())],
            (Self::Double(bits), _) => {
                let value = f64::from_bits(*bits);
                vec![
                    Value::Real(value),
                    Value::Text(literal::real(value)),
                    Value::Text(value.to_string()),
                ]
            }
            (Self::Text(written), Rule::Literal) => vec![parsed(written).unwrap_or(Value::Null)],
            (Self::Text(value), _) => {
                let mut values = vec![Value::Text(value.clone())];
                values.extend(value.parse().ok().map(Value::Integer));
                values.extend(value.parse().ok().map(Value::Real));
                values
            }
            (Self::Binary(value), _) => vec![Value::Blob(value.clone())],
            (Self::Boolean(value), _) => vec![Value::Integer(i64::from(*value))],
            (Self::Days(days), _) => vec![day(*days).map_or(Value::Null, Value::Text)],
            (Self::Micros(_) | Self::Decimal(_), _) => Vec::new(),
        };
        values.resize(ways(rule), Value::Null);
        values
    }
}

/// In how many ways a value of `rule` may be stored; 0 where they cannot be
/// listed (a timestamp with any zone and any number of zeros).
pub(super) fn ways(rule: Rule) -> usize {
    match rule {
        Rule::Long => 2,
        Rule::Double | Rule::Text => 3,
        Rule::Literal | Rule::Binary | Rule::Boolean | Rule::Date => 1,
        Rule::Timestamp | Rule::Instant | Rule::Decimal { .. } => 0,
    }
}

fn day(days: i32) -> Option<String> {
    let epoch = NaiveDate::default();
    let distance = Days::new(days.unsigned_abs().into());
    let day = if days < 0 {
        epoch.checked_sub_days(distance)
    } else {
        epoch.checked_add_days(distance)
    };
    day.map(|day| day.format("%Y-%m-%d").to_string())
}

/// The value of a literal that [`literal::exact`] wrote.
fn parsed(written: &str) -> Option<Value> {
    let inside = |rest: &str| rest.strip_suffix('\'').map(ToOwned::to_owned);
    if let Some(rest) = written.strip_prefix("x'") {
        return cursor::bytes(&inside(rest)?).map(Value::Blob);
    }
    if let Some(rest) = written.strip_prefix('\'') {
        return Some(Value::Text(inside(rest)?.replace("''", "'")));
    }
    let integer = written.parse().ok().map(Value::Integer);
    integer.or_else(|| written.parse().ok().map(Value::Real))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::array::Int8Array;
    use proptest::prelude::*;

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::Integer),
            any::<f64>()
                .prop_filter("NaN is NULL", |v| !v.is_nan())
                .prop_map(Value::Real),
            ".*".prop_map(Value::Text),
            any::<Vec<u8>>().prop_map(Value::Blob),
        ]
    }

    proptest! {
        #[test]
        fn a_literal_finds_its_value(value in any_value()) {
            let exact = Exact::stored(Rule::Literal, ValueRef::from(&value)).unwrap();
            prop_assert_eq!(exact.candidates(Rule::Literal), vec![value]);
        }

        #[test]
        fn a_stored_value_is_among_its_candidates(value in any_value()) {
            for rule in [Rule::Long, Rule::Double, Rule::Text, Rule::Binary, Rule::Boolean, Rule::Date] {
                let Some(exact) = Exact::stored(rule, ValueRef::from(&value)) else { continue };
                let candidates = exact.candidates(rule);
                prop_assert_eq!(candidates.len(), ways(rule));
                let same = |candidate: &Value| {
                    *candidate == value || match (candidate, &value) {
                        (Value::Integer(a), Value::Real(b)) | (Value::Real(b), Value::Integer(a)) => *a as f64 == *b,
                        _ => false,
                    }
                };
                prop_assert!(candidates.iter().any(same), "{:?} of {:?}", candidates, value);
            }
        }
    }

    #[test]
    fn days_as_they_are_stored() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-719_528, "0000-01-01"),
            (2_932_896, "9999-12-31"),
        ] {
            assert_eq!(
                Exact::Days(days).candidates(Rule::Date),
                [Value::Text(text.to_owned())]
            );
        }
    }

    #[test]
    fn what_is_no_key() {
        assert_eq!(Exact::kept(&Int8Array::from(vec![1]), 0), None);
        assert_eq!(
            Exact::kept(&arrow::array::Int64Array::from(vec![None]), 0),
            None
        );
        for written in ["", "'", "x'0", "NULL", "'a"] {
            assert_eq!(
                Exact::Text(written.to_owned()).candidates(Rule::Literal),
                [Value::Null],
                "{written}"
            );
        }
    }
}
