//! Columns of text and bytes: offsets and one run of values, no value by itself.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};

use super::flaw::{Decoded, Flaw};
use super::validity::Validity;

/// A row whose text is not UTF-8: its position in the batch, and the value.
pub(super) type NotUtf8 = (usize, String);

/// Text or bytes, as they are read.
pub(in super::super) struct Varlen {
    offsets: Vec<i32>,
    values: Vec<u8>,
    nulls: Validity,
}

impl Varlen {
    pub(super) fn new() -> Self {
        Self {
            offsets: vec![0],
            values: Vec::new(),
            nulls: Validity::new(),
        }
    }

    pub(super) fn reserve(&mut self, rows: usize, bytes: usize) {
        self.offsets.reserve_exact(rows);
        self.values.reserve_exact(bytes);
        self.nulls.reserve(rows);
    }

    /// Bytes of the values so far.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.values.len()
    }

    #[inline]
    pub(super) fn push(&mut self, value: &[u8]) -> Decoded<()> {
        let Ok(end) = i32::try_from(self.values.len() + value.len()) else {
            return Err(Flaw::wire("more than 2 GiB of text in one batch"));
        };
        self.values.extend_from_slice(value);
        self.offsets.push(end);
        self.nulls.push();
        Ok(())
    }

    #[inline]
    pub(super) fn push_null(&mut self) {
        self.offsets.push(self.offsets.last().copied().unwrap_or(0));
        // One more offset than values.
        self.nulls.push_null(self.offsets.len() - 2);
    }

    pub(super) fn finish_binary(&mut self) -> ArrayRef {
        let (offsets, values) = self.take();
        Arc::new(BinaryArray::new(
            OffsetBuffer::new(offsets),
            values,
            self.nulls.finish(),
        ))
    }

    /// The text column. It is validated once, as a whole; only where that fails
    /// (a database in `SQL_ASCII`) is every row looked at by itself.
    pub(super) fn finish_text(&mut self, invalid: &mut Vec<NotUtf8>) -> ArrayRef {
        let (offsets, values) = self.take();
        let nulls = self.nulls.finish();
        let whole = StringArray::try_new(
            OffsetBuffer::new(offsets.clone()),
            values.clone(),
            nulls.clone(),
        );
        if let Ok(array) = whole {
            return Arc::new(array);
        }
        let bytes = BinaryArray::new(OffsetBuffer::new(offsets), values, nulls);
        let repaired: StringArray = bytes
            .iter()
            .enumerate()
            .map(|(row, value)| match std::str::from_utf8(value?) {
                Ok(text) => Some(text),
                Err(_) => {
                    invalid.push((row, value.unwrap_or_default().escape_ascii().to_string()));
                    None
                }
            })
            .collect();
        Arc::new(repaired)
    }

    fn take(&mut self) -> (ScalarBuffer<i32>, Buffer) {
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        (
            offsets.into(),
            Buffer::from_vec(std::mem::take(&mut self.values)),
        )
    }
}
