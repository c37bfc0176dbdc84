//! Delta statistics out of Parquet metadata, without looking at a row again.
//!
//! A bound that is wrong hides rows from readers; a bound that is missing costs
//! them time. So whatever is not certain is left out: floats that may hold NaN,
//! decimals that a JSON number does not hold exactly, dates beyond four-digit
//! years, text whose upper bound cannot be rounded up.

use arrow::array::{Array, ArrayRef, AsArray as _, BooleanArray, UInt64Array};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike as _, NaiveDate};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use serde_json::{Map, Value, json};

/// Delta collects statistics of this many leaf columns by default.
const MOST_COLUMNS: usize = 32;

/// Delta cuts text bounds at this many characters.
const MOST_CHARACTERS: usize = 32;

/// A JSON number goes through `f64` in most readers: so many decimal digits
/// survive that.
const EXACT_DIGITS: u32 = 15;

/// Statistics of one file as Delta's `stats` has them: `numRecords`,
/// `minValues`, `maxValues`, `nullCount` and `tightBounds` (true only if every
/// bound is a value of the column).
#[must_use]
pub fn delta_stats(schema: &Schema, meta: &ParquetMetaData) -> Value {
    let rows: i64 = meta.row_groups().iter().map(|group| group.num_rows()).sum();
    let (mut min, mut max, mut nulls) = (Map::new(), Map::new(), Map::new());
    let mut tight = true;
    let leaves = meta.file_metadata().schema_descr();
    for leaf in leaves.columns().iter().take(MOST_COLUMNS) {
        // Members of lists and structs have no statistics of their own here.
        let [name] = leaf.path().parts() else {
            continue;
        };
        let Ok(Some(column)) = Column::read(schema, meta, name) else {
            continue;
        };
        if let Some(count) = column.null_count() {
            nulls.insert(name.clone(), count.into());
        }
        let bounds = column.bounds();
        tight &= bounds.tight;
        if let Some(value) = bounds.min {
            min.insert(name.clone(), value);
        }
        if let Some(value) = bounds.max {
            max.insert(name.clone(), value);
        }
    }
    json!({
        "numRecords": rows,
        "minValues": min,
        "maxValues": max,
        "nullCount": nulls,
        "tightBounds": tight,
    })
}

/// Bounds of one column in one file.
struct Bounds {
    min: Option<Value>,
    max: Option<Value>,
    tight: bool,
}

impl Bounds {
    const NONE: Self = Self {
        min: None,
        max: None,
        tight: true,
    };

    fn exact(min: Option<Value>, max: Option<Value>) -> Self {
        Self {
            min,
            max,
            tight: true,
        }
    }
}

/// The statistics of one column, a value per row group.
struct Column {
    data_type: DataType,
    rows: Vec<u64>,
    mins: ArrayRef,
    maxes: ArrayRef,
    nulls: UInt64Array,
    nans: UInt64Array,
    min_exact: BooleanArray,
    max_exact: BooleanArray,
}

impl Column {
    fn read(
        schema: &Schema,
        meta: &ParquetMetaData,
        name: &str,
    ) -> Result<Option<Self>, ParquetError> {
        let file = meta.file_metadata();
        let converter = StatisticsConverter::try_new(name, schema, file.schema_descr())?
            .with_missing_null_counts_as_zero(false);
        if converter.parquet_column_index().is_none() {
            return Ok(None);
        }
        let groups = || meta.row_groups().iter();
        Ok(Some(Self {
            data_type: converter.arrow_field().data_type().clone(),
            rows: groups()
                .map(|group| u64::try_from(group.num_rows()).unwrap_or(0))
                .collect(),
            mins: converter.row_group_mins(groups())?,
            maxes: converter.row_group_maxes(groups())?,
            nulls: converter.row_group_null_counts(groups())?,
            nans: converter.row_group_nan_counts(groups())?,
            min_exact: converter.row_group_is_min_value_exact(groups())?,
            max_exact: converter.row_group_is_max_value_exact(groups())?,
        }))
    }

    /// The sum, if every row group knows it.
    fn null_count(&self) -> Option<u64> {
        self.nulls.iter().sum()
    }

    /// Row groups that hold any value; `None` if one of them has no bounds.
    fn filled(&self) -> Option<Vec<usize>> {
        let mut filled = Vec::with_capacity(self.rows.len());
        for (group, rows) in self.rows.iter().enumerate() {
            let nulls = self.nulls.is_valid(group).then(|| self.nulls.value(group));
            if nulls == Some(*rows) {
                continue;
            }
            if self.mins.is_null(group) || self.maxes.is_null(group) {
                return None;
            }
            filled.push(group);
        }
        Some(filled)
    }

    fn bounds(&self) -> Bounds {
        let Some(filled) = self.filled().filter(|filled| !filled.is_empty()) else {
            return Bounds::NONE;
        };
        match &self.data_type {
            DataType::Int8 => self.integers::<Int8Type>(&filled),
            DataType::Int16 => self.integers::<Int16Type>(&filled),
            DataType::Int32 => self.integers::<Int32Type>(&filled),
            DataType::Int64 => self.integers::<Int64Type>(&filled),
            DataType::Float32 => self.floats::<Float32Type>(&filled),
            DataType::Float64 => self.floats::<Float64Type>(&filled),
            DataType::Decimal128(_, scale) => self.decimals(&filled, *scale),
            DataType::Date32 => {
                let (min, max) = self.extremes::<Date32Type>(&filled);
                Bounds::exact(min.and_then(date), max.and_then(date))
            }
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                let (min, max) = self.extremes::<TimestampMicrosecondType>(&filled);
                let text = |micros| timestamp(micros, zone.is_some());
                Bounds::exact(min.and_then(text), max.and_then(text))
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => self.texts(&filled),
            // Delta has no bounds of booleans, binaries and nested columns.
            _ => Bounds::NONE,
        }
    }

    fn extremes<T: ArrowPrimitiveType>(
        &self,
        filled: &[usize],
    ) -> (Option<T::Native>, Option<T::Native>)
    where
        T::Native: PartialOrd,
    {
        let of = |array: &ArrayRef, wanted: std::cmp::Ordering| {
            let values = array.as_primitive_opt::<T>()?;
            filled
                .iter()
                .map(|&group| values.value(group))
                .reduce(|best, value| {
                    if value.partial_cmp(&best) == Some(wanted) {
                        value
                    } else {
                        best
                    }
                })
        };
        (
            of(&self.mins, std::cmp::Ordering::Less),
            of(&self.maxes, std::cmp::Ordering::Greater),
        )
    }

    fn integers<T: ArrowPrimitiveType>(&self, filled: &[usize]) -> Bounds
    where
        T::Native: PartialOrd + Into<i64>,
    {
        let (min, max) = self.extremes::<T>(filled);
        let number = |value: T::Native| Value::from(value.into());
        Bounds::exact(min.map(number), max.map(number))
    }

    /// NaN is in no bound of Parquet, and readers disagree where it sorts: bounds
    /// only where the file says that there is none.
    fn floats<T: ArrowPrimitiveType>(&self, filled: &[usize]) -> Bounds
    where
        T::Native: PartialOrd + Into<f64>,
    {
        let no_nan = |group: &usize| self.nans.is_valid(*group) && self.nans.value(*group) == 0;
        if !filled.iter().all(no_nan) {
            return Bounds::NONE;
        }
        let (min, max) = self.extremes::<T>(filled);
        // JSON has no infinities; `from_f64` refuses them.
        let number = |value: T::Native| serde_json::Number::from_f64(value.into()).map(Value::from);
        Bounds::exact(min.and_then(number), max.and_then(number))
    }

    fn decimals(&self, filled: &[usize], scale: i8) -> Bounds {
        let (min, max) = self.extremes::<Decimal128Type>(filled);
        let scale = u32::try_from(scale).unwrap_or(0);
        let (min, max) = (
            min.map(|value| rounded(value, Round::Down)),
            max.map(|value| rounded(value, Round::Up)),
        );
        let unchanged = |bound: Option<(i128, bool)>| bound.is_none_or(|(_, exact)| exact);
        Bounds {
            min: min.and_then(|(value, _)| decimal(value, scale)),
            max: max.and_then(|(value, _)| decimal(value, scale)),
            tight: unchanged(min) && unchanged(max),
        }
    }

    fn texts(&self, filled: &[usize]) -> Bounds {
        let of = |array: &ArrayRef| -> Option<Vec<String>> {
            let text = |group: &usize| match array.data_type() {
                DataType::Utf8 => Some(array.as_string_opt::<i32>()?.value(*group).to_owned()),
                DataType::LargeUtf8 => Some(array.as_string_opt::<i64>()?.value(*group).to_owned()),
                DataType::Utf8View => Some(array.as_string_view_opt()?.value(*group).to_owned()),
                _ => None,
            };
            filled.iter().map(text).collect()
        };
        let min = of(&self.mins).and_then(|values| values.into_iter().min());
        let max = of(&self.maxes).and_then(|values| values.into_iter().max());
        let (Some(min), Some(max)) = (min, max) else {
            return Bounds::NONE;
        };
        let exact = |flags: &BooleanArray| {
            filled
                .iter()
                .all(|&group| flags.is_valid(group) && flags.value(group))
        };
        let (low, high) = (cut_down(&min), cut_up(&max));
        let tight = exact(&self.min_exact)
            && exact(&self.max_exact)
            && low == min
            && high.as_deref() == Some(max.as_str());
        Bounds {
            min: Some(low.into()),
            max: high.map(Value::from),
            tight,
        }
    }
}

fn date(days: i32) -> Option<Value> {
    let day = NaiveDate::from_epoch_days(days)?;
    (1..=9999)
        .contains(&day.year())
        .then(|| day.format("%Y-%m-%d").to_string().into())
}

/// Microseconds, so that no rounding is needed.
fn timestamp(micros: i64, utc: bool) -> Option<Value> {
    let at = DateTime::from_timestamp_micros(micros)?;
    let form = if utc {
        "%Y-%m-%dT%H:%M:%S%.6fZ"
    } else {
        "%Y-%m-%dT%H:%M:%S%.6f"
    };
    (1..=9999)
        .contains(&at.year())
        .then(|| at.format(form).to_string().into())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Round {
    Down,
    Up,
}

/// `value` with at most [`EXACT_DIGITS`] significant digits, rounded outwards,
/// and whether it is unchanged.
fn rounded(value: i128, round: Round) -> (i128, bool) {
    let digits = value
        .unsigned_abs()
        .checked_ilog10()
        .map_or(1, |log| log + 1);
    let unit = 10_i128.pow(digits.saturating_sub(EXACT_DIGITS));
    let below = value.div_euclid(unit) * unit;
    if below == value {
        (value, true)
    } else if round == Round::Down {
        (below, false)
    } else {
        (below + unit, false)
    }
}

/// The JSON number `value / 10^scale`, if it prints without exponent and is
/// exact; `value` has at most [`EXACT_DIGITS`] significant digits.
fn decimal(value: i128, scale: u32) -> Option<Value> {
    if scale == 0 {
        return i64::try_from(value).ok().map(Value::from);
    }
    let divisor = 10_i128.checked_pow(scale)?;
    let sign = if value < 0 { "-" } else { "" };
    let (whole, fraction) = (
        value.unsigned_abs() / divisor.unsigned_abs(),
        value.unsigned_abs() % divisor.unsigned_abs(),
    );
    let width = usize::try_from(scale).ok()?;
    let number: f64 = format!("{sign}{whole}.{fraction:0width$}").parse().ok()?;
    let plain = value == 0 || (1e-5..1e15).contains(&number.abs());
    plain
        .then(|| serde_json::Number::from_f64(number).map(Value::from))
        .flatten()
}

/// The first characters: never above the text itself.
fn cut_down(text: &str) -> String {
    text.chars().take(MOST_CHARACTERS).collect()
}

/// The first characters with the last one that can be raised raised: above every
/// text that begins with them. `None` if none can be.
fn cut_up(text: &str) -> Option<String> {
    if text.chars().nth(MOST_CHARACTERS).is_none() {
        return Some(text.to_owned());
    }
    let mut characters: Vec<char> = text.chars().take(MOST_CHARACTERS).collect();
    while let Some(last) = characters.pop() {
        // The next character by code point; the range skips surrogates.
        if let Some(next) = (last..=char::MAX).nth(1) {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::sync::Arc;

    use arrow::array::{
        Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
        TimestampMicrosecondArray,
    };
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;
    use proptest::prelude::*;

    use super::*;

    fn stats_of(columns: Vec<(&str, ArrayRef)>) -> Value {
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, array)| (name, array, true)),
        )
        .unwrap();
        let small = WriterProperties::builder()
            .set_max_row_group_row_count(Some(2))
            .build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(small)).unwrap();
        writer.write(&batch).unwrap();
        let meta = writer.finish().unwrap();
        delta_stats(&batch.schema(), &meta)
    }

    #[test]
    fn bounds_span_row_groups() {
        let stats = stats_of(vec![
            (
                "i.j",
                Arc::new(Int64Array::from(vec![Some(5), None, Some(-3), Some(9)])),
            ),
            ("f", Arc::new(Float64Array::from(vec![0.5, -1.5, 2.0, 1.0]))),
            ("d", Arc::new(Date32Array::from(vec![0, 1, 2, 19_000]))),
            ("s", Arc::new(StringArray::from(vec!["b", "a", "z", "y"]))),
            (
                "t",
                Arc::new(
                    TimestampMicrosecondArray::from(vec![1, 2, 3, 1_700_000_000_123_456])
                        .with_timezone("UTC"),
                ),
            ),
        ]);
        let expected = json!({
            "numRecords": 4,
            "minValues": {"i.j": -3, "f": -1.5, "d": "1970-01-01", "s": "a", "t": "1970-01-01T00:00:00.000001Z"},
            "maxValues": {"i.j": 9, "f": 2.0, "d": "2022-01-08", "s": "z", "t": "2023-11-14T22:13:20.123456Z"},
            "nullCount": {"i.j": 1, "f": 0, "d": 0, "s": 0, "t": 0},
            "tightBounds": true,
        });
        assert_eq!(stats, expected);
    }

    #[test]
    fn nothing_uncertain_is_claimed() {
        let wide = Decimal128Array::from(vec![12_345_678_901_234_567_890, 0, 1, 2]);
        let stats = stats_of(vec![
            (
                "nan",
                Arc::new(Float64Array::from(vec![1.0, f64::NAN, 3.0, 4.0])),
            ),
            ("far", Arc::new(Date32Array::from(vec![0, 1, 2, i32::MAX]))),
            (
                "wide",
                Arc::new(wide.with_precision_and_scale(38, 9).unwrap()),
            ),
            ("null", Arc::new(Int64Array::from(vec![None::<i64>; 4]))),
            (
                "top",
                Arc::new(StringArray::from(vec!["\u{10FFFF}".repeat(40); 4])),
            ),
        ]);
        assert!(stats["minValues"].get("nan").is_none(), "{stats}");
        assert!(stats["maxValues"].get("far").is_none(), "{stats}");
        assert_eq!(stats["minValues"]["far"], json!("1970-01-01"));
        assert_eq!(
            stats["maxValues"]["wide"].as_f64().unwrap().to_string(),
            "12345678901.2346"
        );
        assert!(stats["minValues"].get("null").is_none(), "{stats}");
        assert_eq!(stats["nullCount"]["null"], json!(4));
        assert_eq!(stats["tightBounds"], json!(false));
    }

    #[test]
    fn long_text_is_cut_outwards() {
        let long = "x".repeat(100);
        let stats = stats_of(vec![(
            "s",
            Arc::new(StringArray::from(vec![long.clone(); 3])),
        )]);
        assert_eq!(stats["minValues"]["s"], json!("x".repeat(32)));
        assert_eq!(
            stats["maxValues"]["s"],
            json!(format!("{}y", "x".repeat(31)))
        );
        assert_eq!(stats["tightBounds"], json!(false));
    }

    proptest! {
        #[test]
        fn text_bounds_hold(text in "\\PC{0,80}") {
            prop_assert!(cut_down(&text).as_str() <= text.as_str());
            if let Some(high) = cut_up(&text) {
                prop_assert!(high.as_str() >= text.as_str());
            }
        }

        #[test]
        fn decimal_bounds_hold(value: i128, scale in 0_u32..38) {
            let value = value / 10;
            for round in [Round::Down, Round::Up] {
                let (bound, exact) = rounded(value, round);
                let holds = match round {
                    Round::Down => bound <= value,
                    Round::Up => bound >= value,
                };
                prop_assert!(holds);
                prop_assert_eq!(exact, bound == value);
                if let Some(number) = decimal(bound, scale) {
                    // The printed number, read as a decimal, is the bound itself.
                    let text = number.to_string();
                    prop_assert!(!text.contains('e'), "{}", text);
                    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
                    let fraction = format!("{fraction:0<width$}", width = scale as usize);
                    let (kept, rest) = fraction.split_at(scale as usize);
                    prop_assert!(rest.bytes().all(|digit| digit == b'0'));
                    prop_assert_eq!(format!("{whole}{kept}").parse::<i128>().unwrap(), bound);
                }
            }
        }
    }
}
