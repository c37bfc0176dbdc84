//! One-dimensional arrays as lists. More dimensions, or a first index other
//! than 1, have no place in a list and are refused by value.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::FieldRef;

use super::Decoder;
use super::flaw::{Decoded, Flaw};
use super::validity::Validity;
use super::varlen::NotUtf8;

/// Lists, as they are read.
pub(in super::super) struct Lists {
    field: FieldRef,
    items: Decoder,
    offsets: Vec<i32>,
    length: i32,
    nulls: Validity,
}

impl Lists {
    pub(super) fn new(field: FieldRef, items: Decoder) -> Self {
        Self {
            field,
            items,
            offsets: vec![0],
            length: 0,
            nulls: Validity::new(),
        }
    }

    pub(super) fn reserve(&mut self, rows: usize) {
        self.offsets.reserve_exact(rows);
        self.nulls.reserve(rows);
    }

    /// Bytes of offsets' children so far.
    pub(super) fn bytes(&self) -> usize {
        let items = usize::try_from(self.length).unwrap_or(0);
        items * self.items.row_bytes() + self.items.variable_bytes()
    }

    pub(super) fn push(&mut self, field: &[u8]) -> Decoded<()> {
        // Items that were read before a flaw stay below a null list, as Arrow
        // allows; the row is filtered out of the batch anyway.
        let outcome = self.items_of(field);
        match outcome {
            Ok(()) => {
                self.offsets.push(self.length);
                self.nulls.push();
                Ok(())
            }
            Err(flaw) => Err(flaw),
        }
    }

    pub(super) fn push_null(&mut self) {
        self.offsets.push(self.length);
        // One more offset than values.
        self.nulls.push_null(self.offsets.len() - 2);
    }

    fn items_of(&mut self, field: &[u8]) -> Decoded<()> {
        let mut wire = Words(field);
        let dimensions = wire.word()?;
        let (_flags, _element_type) = (wire.word()?, wire.word()?);
        if dimensions == 0 {
            return Ok(());
        }
        if dimensions != 1 {
            let mut lengths = Vec::new();
            for _ in 0..dimensions.clamp(0, 6) {
                lengths.push(wire.word()?.to_string());
                wire.word()?;
            }
            return Err(Flaw::value(
                format!("array of {} elements", lengths.join(" x ")),
                format!(
                    "{dimensions} dimensions: a list has one; choose type \"text\" for this column"
                ),
            ));
        }
        let count = wire.word()?;
        let first = wire.word()?;
        if first != 1 {
            return Err(Flaw::value(
                format!(
                    "array [{first}:{}]",
                    i64::from(first) + i64::from(count) - 1
                ),
                format!(
                    "its first index is {first}: a list begins at 1; choose type \"text\" for this column"
                ),
            ));
        }
        for position in 1..=count {
            self.item(wire.field()?, position)?;
        }
        Ok(())
    }

    fn item(&mut self, item: Option<&[u8]>, position: i32) -> Decoded<()> {
        self.length = self
            .length
            .checked_add(1)
            .ok_or_else(|| Flaw::wire("more than 2,147,483,647 array elements in one batch"))?;
        let Some(item) = item else {
            self.items.push_null();
            return Ok(());
        };
        self.items.push(item).map_err(|flaw| {
            self.items.push_null();
            match *flaw {
                Flaw::Value { value, reason } => {
                    Flaw::value(value, format!("element {position}: {reason}"))
                }
                Flaw::Wire(what) => Flaw::wire(format!("element {position}: {what}")),
            }
        })
    }

    pub(super) fn finish(&mut self, invalid: &mut Vec<NotUtf8>) -> ArrayRef {
        let mut invalid_items = Vec::new();
        let items = self
            .items
            .finish(self.field.data_type(), &mut invalid_items);
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        for (item, value) in invalid_items {
            // The list that holds the item: the last one that begins at or before it.
            let row = offsets
                .partition_point(|&start| usize::try_from(start).is_ok_and(|start| start <= item));
            invalid.push((row.saturating_sub(1), value));
        }
        self.length = 0;
        let offsets = OffsetBuffer::new(offsets.into());
        Arc::new(ListArray::new(
            Arc::clone(&self.field),
            offsets,
            items,
            self.nulls.finish(),
        ))
    }
}

/// Reads big-endian words and length-prefixed fields off the front.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn word(&mut self) -> Decoded<i32> {
        let Some((word, rest)) = self.0.split_first_chunk::<4>() else {
            return Err(Flaw::wire("an array that ends early"));
        };
        self.0 = rest;
        Ok(i32::from_be_bytes(*word))
    }

    fn field(&mut self) -> Decoded<Option<&'a [u8]>> {
        let Ok(length) = usize::try_from(self.word()?) else {
            return Ok(None);
        };
        let Some((field, rest)) = self.0.split_at_checked(length) else {
            return Err(Flaw::wire("an array that ends early"));
        };
        self.0 = rest;
        Ok(Some(field))
    }
}
