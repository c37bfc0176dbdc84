//! From the binary fields of `COPY` to Arrow columns, without rows in between.
//!
//! One [`Decoder`] per column; which one is decided once, by the type that is
//! sent and the type the lake keeps. The branch per field is the same for every
//! row, so the processor learns it.

mod fixed;
mod flaw;
mod list;
mod moment;
mod numeric;
mod rows;
mod uuid;
mod validity;
mod varlen;

#[cfg(test)]
mod tests;

use arrow::array::ArrayRef;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, FieldRef, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType,
};

use fixed::{Bools, Fixed, exactly};
pub(super) use flaw::{Decoded, Flaw};
use list::Lists;
pub(super) use moment::civil;
use numeric::{Numeric, Shape};
pub(super) use rows::{Finished, RowError, Rows, Shape as BatchShape};
use varlen::{NotUtf8, Varlen};

/// Decodes the fields of one column. Its variants are the wire's types.
pub(super) enum Decoder {
    Bool(Bools),
    Int16(Fixed<Int16Type>),
    Int32(Fixed<Int32Type>),
    Int64(Fixed<Int64Type>),
    Float32(Fixed<Float32Type>),
    Float64(Fixed<Float64Type>),
    Date(Fixed<Date32Type>),
    Timestamp(Fixed<TimestampMicrosecondType>),
    Decimal(Fixed<Decimal128Type>, Shape),
    NumericAsFloat32(Fixed<Float32Type>),
    NumericAsFloat64(Fixed<Float64Type>),
    Text(Varlen),
    Jsonb(Varlen),
    Uuid(Varlen),
    Binary(Varlen),
    List(Box<Lists>),
}

impl Decoder {
    pub(super) fn bool() -> Self {
        Self::Bool(Bools::new())
    }

    pub(super) fn int16() -> Self {
        Self::Int16(Fixed::new())
    }

    pub(super) fn int32() -> Self {
        Self::Int32(Fixed::new())
    }

    pub(super) fn int64() -> Self {
        Self::Int64(Fixed::new())
    }

    pub(super) fn float32() -> Self {
        Self::Float32(Fixed::new())
    }

    pub(super) fn float64() -> Self {
        Self::Float64(Fixed::new())
    }

    pub(super) fn date() -> Self {
        Self::Date(Fixed::new())
    }

    pub(super) fn timestamp() -> Self {
        Self::Timestamp(Fixed::new())
    }

    pub(super) fn decimal(precision: u8, scale: i8) -> Self {
        Self::Decimal(Fixed::new(), Shape::new(precision, scale))
    }

    pub(super) fn numeric_as_float32() -> Self {
        Self::NumericAsFloat32(Fixed::new())
    }

    pub(super) fn numeric_as_float64() -> Self {
        Self::NumericAsFloat64(Fixed::new())
    }

    pub(super) fn text() -> Self {
        Self::Text(Varlen::new())
    }

    pub(super) fn jsonb() -> Self {
        Self::Jsonb(Varlen::new())
    }

    pub(super) fn uuid() -> Self {
        Self::Uuid(Varlen::new())
    }

    pub(super) fn binary() -> Self {
        Self::Binary(Varlen::new())
    }

    pub(super) fn list(field: FieldRef, items: Self) -> Self {
        Self::List(Box::new(Lists::new(field, items)))
    }

    /// Decodes one field that is not NULL. After an error nothing was appended:
    /// the caller appends a NULL in its place.
    #[inline]
    pub(super) fn push(&mut self, field: &[u8]) -> Decoded<()> {
        match self {
            Self::Bool(column) => column.push(exactly::<1>(field)? != [0]),
            Self::Int16(column) => column.push(i16::from_be_bytes(exactly(field)?)),
            Self::Int32(column) => column.push(i32::from_be_bytes(exactly(field)?)),
            Self::Int64(column) => column.push(i64::from_be_bytes(exactly(field)?)),
            Self::Float32(column) => column.push(f32::from_be_bytes(exactly(field)?)),
            Self::Float64(column) => column.push(f64::from_be_bytes(exactly(field)?)),
            Self::Date(column) => column.push(moment::date(i32::from_be_bytes(exactly(field)?))?),
            Self::Timestamp(column) => {
                column.push(moment::timestamp(i64::from_be_bytes(exactly(field)?))?)
            }
            Self::Decimal(column, shape) => column.push(Numeric::parse(field)?.to_decimal(*shape)?),
            Self::NumericAsFloat32(column) => column.push(Numeric::parse(field)?.to_f32()?),
            Self::NumericAsFloat64(column) => column.push(Numeric::parse(field)?.to_f64()?),
            Self::Text(column) | Self::Binary(column) => column.push(field)?,
            Self::Jsonb(column) => match field.split_first() {
                Some((1, text)) => column.push(text)?,
                _ => {
                    return Err(Flaw::wire(
                        "a jsonb version that is not known (1 was expected)",
                    ));
                }
            },
            Self::Uuid(column) => column.push(&uuid::text(exactly(field)?))?,
            Self::List(column) => column.push(field)?,
        }
        Ok(())
    }

    #[inline]
    pub(super) fn push_null(&mut self) {
        match self {
            Self::Bool(column) => column.push_null(),
            Self::Int16(column) => column.push_null(),
            Self::Int32(column) => column.push_null(),
            Self::Int64(column) => column.push_null(),
            Self::Float32(column) | Self::NumericAsFloat32(column) => column.push_null(),
            Self::Float64(column) | Self::NumericAsFloat64(column) => column.push_null(),
            Self::Date(column) => column.push_null(),
            Self::Timestamp(column) => column.push_null(),
            Self::Decimal(column, _) => column.push_null(),
            Self::Text(column)
            | Self::Jsonb(column)
            | Self::Uuid(column)
            | Self::Binary(column) => column.push_null(),
            Self::List(column) => column.push_null(),
        }
    }

    /// Makes room for `rows` rows with `bytes` of variable length in all.
    fn reserve(&mut self, rows: usize, bytes: usize) {
        match self {
            Self::Bool(column) => column.reserve(rows),
            Self::Int16(column) => column.reserve(rows),
            Self::Int32(column) => column.reserve(rows),
            Self::Int64(column) => column.reserve(rows),
            Self::Float32(column) | Self::NumericAsFloat32(column) => column.reserve(rows),
            Self::Float64(column) | Self::NumericAsFloat64(column) => column.reserve(rows),
            Self::Date(column) => column.reserve(rows),
            Self::Timestamp(column) => column.reserve(rows),
            Self::Decimal(column, _) => column.reserve(rows),
            Self::Text(column)
            | Self::Jsonb(column)
            | Self::Uuid(column)
            | Self::Binary(column) => {
                column.reserve(rows, bytes);
            }
            Self::List(column) => column.reserve(rows),
        }
    }

    /// Bytes that every row takes, whatever its value.
    fn row_bytes(&self) -> usize {
        match self {
            Self::Bool(_) => 1,
            Self::Int16(_) => 2,
            Self::Decimal(..) => 16,
            Self::Int64(_) | Self::Float64(_) | Self::NumericAsFloat64(_) | Self::Timestamp(_) => 8,
            _ => 4,
        }
    }

    /// Bytes of variable length so far.
    #[inline]
    fn variable_bytes(&self) -> usize {
        match self {
            Self::Text(column)
            | Self::Jsonb(column)
            | Self::Uuid(column)
            | Self::Binary(column) => column.bytes(),
            Self::List(column) => column.bytes(),
            _ => 0,
        }
    }

    fn is_variable(&self) -> bool {
        matches!(
            self,
            Self::Text(_) | Self::Jsonb(_) | Self::Uuid(_) | Self::Binary(_) | Self::List(_)
        )
    }

    /// The column as `lake_type`, and an empty decoder again. Rows whose text
    /// is not UTF-8 are NULL in it and named in `invalid`.
    fn finish(&mut self, lake_type: &DataType, invalid: &mut Vec<NotUtf8>) -> ArrayRef {
        match self {
            Self::Bool(column) => column.finish(),
            Self::Int16(column) => column.finish(lake_type),
            Self::Int32(column) => column.finish(lake_type),
            Self::Int64(column) => column.finish(lake_type),
            Self::Float32(column) | Self::NumericAsFloat32(column) => column.finish(lake_type),
            Self::Float64(column) | Self::NumericAsFloat64(column) => column.finish(lake_type),
            Self::Date(column) => column.finish(lake_type),
            Self::Timestamp(column) => column.finish(lake_type),
            Self::Decimal(column, _) => column.finish(lake_type),
            Self::Text(column) | Self::Jsonb(column) | Self::Uuid(column) => {
                column.finish_text(invalid)
            }
            Self::Binary(column) => column.finish_binary(),
            Self::List(column) => column.finish(invalid),
        }
    }
}
