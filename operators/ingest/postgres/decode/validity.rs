//! Which values of a column are not NULL.

use arrow::array::BooleanBufferBuilder;
use arrow::buffer::NullBuffer;

/// A bitmap that exists from the first NULL on: a column without NULLs pays one
/// branch per value, and no bytes.
pub(super) struct Validity {
    bits: Option<BooleanBufferBuilder>,
    capacity: usize,
}

impl Validity {
    pub(super) fn new() -> Self {
        Self {
            bits: None,
            capacity: 0,
        }
    }

    /// Expects `rows` values.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.capacity = rows;
    }

    /// The next value is there.
    #[inline]
    pub(super) fn push(&mut self) {
        if let Some(bits) = &mut self.bits {
            bits.append(true);
        }
    }

    /// The next value is NULL; `before` values came before it.
    #[inline]
    pub(super) fn push_null(&mut self, before: usize) {
        let bits = self.bits.get_or_insert_with(|| {
            let mut bits = BooleanBufferBuilder::new(self.capacity.max(before + 1));
            bits.append_n(before, true);
            bits
        });
        bits.append(false);
    }

    /// The bitmap of the batch; an empty one begins.
    pub(super) fn finish(&mut self) -> Option<NullBuffer> {
        self.bits
            .take()
            .map(|mut bits| NullBuffer::new(bits.finish()))
    }
}
