//! Columns of values of one width: numbers, dates, timestamps, booleans.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, BooleanBufferBuilder, NullBufferBuilder,
    PrimitiveArray,
};
use arrow::datatypes::DataType;

use super::flaw::{Decoded, Flaw};

/// Values of one Arrow primitive type, as they are read.
pub(in super::super) struct Fixed<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    nulls: NullBufferBuilder,
}

impl<T: ArrowPrimitiveType> Fixed<T> {
    pub(super) fn new() -> Self {
        Self {
            values: Vec::new(),
            nulls: NullBufferBuilder::new(0),
        }
    }

    pub(super) fn reserve(&mut self, rows: usize) {
        self.values.reserve_exact(rows);
        self.nulls = NullBufferBuilder::new(rows);
    }

    #[inline]
    pub(super) fn push(&mut self, value: T::Native) {
        self.values.push(value);
        self.nulls.append_non_null();
    }

    #[inline]
    pub(super) fn push_null(&mut self) {
        self.values.push(T::Native::default());
        self.nulls.append_null();
    }

    pub(super) fn finish(&mut self, lake_type: &DataType) -> ArrayRef {
        let values = std::mem::take(&mut self.values);
        let array = PrimitiveArray::<T>::new(values.into(), self.nulls.finish());
        // The decoder was chosen by this very type; only zone, precision and
        // scale are still to be set.
        if array.data_type() == lake_type {
            Arc::new(array)
        } else {
            Arc::new(array.with_data_type(lake_type.clone()))
        }
    }
}

/// Booleans, as they are read.
pub(in super::super) struct Bools {
    values: BooleanBufferBuilder,
    nulls: NullBufferBuilder,
}

impl Bools {
    pub(super) fn new() -> Self {
        Self {
            values: BooleanBufferBuilder::new(0),
            nulls: NullBufferBuilder::new(0),
        }
    }

    pub(super) fn reserve(&mut self, rows: usize) {
        self.values.reserve(rows);
        self.nulls = NullBufferBuilder::new(rows);
    }

    #[inline]
    pub(super) fn push(&mut self, value: bool) {
        self.values.append(value);
        self.nulls.append_non_null();
    }

    #[inline]
    pub(super) fn push_null(&mut self) {
        self.values.append(false);
        self.nulls.append_null();
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        Arc::new(BooleanArray::new(self.values.finish(), self.nulls.finish()))
    }
}

/// The field as exactly `N` bytes.
#[inline]
pub(super) fn exactly<const N: usize>(field: &[u8]) -> Decoded<[u8; N]> {
    match field.try_into() {
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(Flaw::length(N, field.len())),
    }
}
