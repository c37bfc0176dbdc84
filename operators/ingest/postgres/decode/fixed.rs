//! Columns of values of one width: numbers, dates, timestamps, booleans.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, BooleanBufferBuilder, PrimitiveArray,
};
use arrow::datatypes::DataType;

use super::flaw::{Decoded, Flaw};
use super::validity::Validity;

/// Values of one Arrow primitive type, as they are read.
pub(in super::super) struct Fixed<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    nulls: Validity,
}

impl<T: ArrowPrimitiveType> Fixed<T> {
    pub(super) fn new() -> Self {
        Self {
            values: Vec::new(),
            nulls: Validity::new(),
        }
    }

    pub(super) fn reserve(&mut self, rows: usize) {
        self.values.reserve_exact(rows);
        self.nulls.reserve(rows);
    }

    #[inline]
    pub(super) fn push(&mut self, value: T::Native) {
        self.values.push(value);
        self.nulls.push();
    }

    #[inline]
    pub(super) fn push_null(&mut self) {
        let before = self.values.len();
        self.values.push(T::Native::default());
        self.nulls.push_null(before);
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
    nulls: Validity,
}

impl Bools {
    pub(super) fn new() -> Self {
        Self {
            values: BooleanBufferBuilder::new(0),
            nulls: Validity::new(),
        }
    }

    pub(super) fn reserve(&mut self, rows: usize) {
        self.values.reserve(rows);
        self.nulls.reserve(rows);
    }

    #[inline]
    pub(super) fn push(&mut self, value: bool) {
        self.values.append(value);
        self.nulls.push();
    }

    #[inline]
    pub(super) fn push_null(&mut self) {
        let before = self.values.len();
        self.values.append(false);
        self.nulls.push_null(before);
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
