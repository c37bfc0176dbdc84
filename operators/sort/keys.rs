//! Sort keys of the rows of a batch, in a form that compares as bytes.
//!
//! Most comparisons are decided by the first 128 bits: the section and the first
//! twelve bytes of the row's encoding. Whole encodings are kept only where these
//! may tie.

use std::cmp::Ordering;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

/// Bytes of a row's encoding that are in its prefix.
pub(super) const PREFIX_BYTES: usize = 12;

/// The keys of a batch's rows.
#[derive(Debug)]
pub struct Keys {
    pub(super) prefix: Vec<u128>,
    pub(super) rest: Option<Rows>,
}

impl Keys {
    /// Compares a row here with a row there.
    pub(super) fn compare(&self, row: usize, other: &Self, other_row: usize) -> Ordering {
        let first = self.prefix(row).cmp(&other.prefix(other_row));
        first.then_with(|| self.rest(row).cmp(other.rest(other_row)))
    }

    pub(super) fn prefix(&self, row: usize) -> u128 {
        self.prefix.get(row).copied().unwrap_or_default()
    }

    /// The whole encoding, where the prefix may tie; else nothing.
    pub(super) fn rest(&self, row: usize) -> &[u8] {
        self.rest.as_ref().map_or(&[], |rest| rest.row(row).data())
    }

    /// What the keys hold in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.prefix.len() * size_of::<u128>() + self.rest.as_ref().map_or(0, Rows::size)
    }
}

/// The least key of a section.
pub(super) fn section_start(section: u32) -> u128 {
    u128::from(section) << 96
}

/// The section of a prefix.
pub(super) fn section_of(prefix: u128) -> u32 {
    u32::try_from(prefix >> 96).unwrap_or(u32::MAX)
}

/// Encodes some columns of a batch.
#[derive(Debug)]
pub(super) struct Encoder {
    columns: Vec<usize>,
    converter: RowConverter,
    /// Whether no two different rows have the same prefix.
    prefix_is_all: bool,
}

impl Encoder {
    /// Encodes the columns at these positions, each in its direction. NULLs come
    /// last, and first where the direction is down.
    pub(super) fn new(schema: &SchemaRef, columns: &[(usize, bool)]) -> Result<Self, ArrowError> {
        let mut fields = Vec::new();
        let mut fixed = Some(0);
        for &(column, descending) in columns {
            let of = schema.fields().get(column).map(|field| field.data_type());
            let of = of.cloned().unwrap_or(DataType::Null);
            let bytes = match of {
                DataType::Boolean => Some(1),
                _ => of.primitive_width(),
            };
            // One byte says whether there is a value.
            fixed = fixed.zip(bytes).map(|(sum, bytes)| sum + bytes + 1);
            let options = arrow::compute::SortOptions {
                descending,
                nulls_first: descending,
            };
            fields.push(SortField::new_with_options(of, options));
        }
        Ok(Self {
            columns: columns.iter().map(|(column, _)| *column).collect(),
            converter: RowConverter::new(fields)?,
            prefix_is_all: fixed.is_some_and(|bytes| bytes <= PREFIX_BYTES),
        })
    }

    pub(super) fn rows(&self, batch: &RecordBatch) -> Result<Rows, ArrowError> {
        let columns: Vec<ArrayRef> = self
            .columns
            .iter()
            .filter_map(|&column| batch.columns().get(column).cloned())
            .collect();
        self.converter.convert_columns(&columns)
    }

    pub(super) fn keys(&self, section: u32, batch: &RecordBatch) -> Result<Keys, ArrowError> {
        let rows = self.rows(batch)?;
        let start = section_start(section);
        let prefix = rows.iter().map(|row| start | leading(row.data())).collect();
        Ok(Keys {
            prefix,
            rest: (!self.prefix_is_all).then_some(rows),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }
}

/// The first bytes of an encoding as a number that compares alike.
fn leading(row: &[u8]) -> u128 {
    let mut bytes = [0_u8; 16];
    for (to, from) in bytes[4..].iter_mut().zip(row) {
        *to = *from;
    }
    u128::from_be_bytes(bytes)
}

/// The first sixteen bytes of an encoding as a number that compares alike.
pub(super) fn wide(row: &[u8]) -> u128 {
    let mut bytes = [0_u8; 16];
    for (to, from) in bytes.iter_mut().zip(row) {
        *to = *from;
    }
    u128::from_be_bytes(bytes)
}
