//! Sort keys of the rows of a batch, in a form that compares as bytes.
//!
//! Most comparisons are decided by the first 128 bits: the section and the first
//! twelve bytes of the row's encoding. Whole encodings are kept only where these
//! may tie.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, RecordBatch};
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
    /// Where the prefix can be had without the encoding: whole numbers that fit.
    whole: Option<Vec<Whole>>,
}

/// A column of whole numbers in a prefix.
#[derive(Debug, Clone, Copy)]
struct Whole {
    column: usize,
    bytes: usize,
    descending: bool,
}

impl Whole {
    fn of(column: usize, of: &DataType, descending: bool) -> Option<Self> {
        let whole = of.is_signed_integer() || of.is_temporal();
        let bytes = of.primitive_width().filter(|&bytes| whole && bytes <= 8)?;
        let interval = matches!(of, DataType::Interval(_));
        (!interval).then_some(Self {
            column,
            bytes,
            descending,
        })
    }

    /// Puts the column into the prefixes, below `bits` of them; says how many are
    /// taken then.
    fn add(self, batch: &RecordBatch, prefixes: &mut [u128], bits: usize) -> usize {
        let end = bits + (self.bytes + 1) * 8;
        let Some(column) = batch.columns().get(self.column) else {
            return end;
        };
        let numbers = column.to_data();
        let place = Place {
            shift: 128 - end,
            value_bits: self.bytes * 8,
            descending: self.descending,
        };
        let rows = column.len();
        match self.bytes {
            1 => place.put(numbers.buffer::<i8>(0).iter().take(rows), column, prefixes),
            2 => place.put(numbers.buffer::<i16>(0).iter().take(rows), column, prefixes),
            4 => place.put(numbers.buffer::<i32>(0).iter().take(rows), column, prefixes),
            _ => place.put(numbers.buffer::<i64>(0).iter().take(rows), column, prefixes),
        }
        end
    }
}

/// Where numbers stand in a prefix: a byte that says whether there is a value, and
/// the value.
struct Place {
    shift: usize,
    value_bits: usize,
    descending: bool,
}

impl Place {
    fn put<'a, T: Copy + Into<i64> + 'a>(
        &self,
        numbers: impl Iterator<Item = &'a T>,
        column: &ArrayRef,
        prefixes: &mut [u128],
    ) {
        let most = (1_u128 << self.value_bits) - 1;
        let half = 1_i128 << (self.value_bits - 1);
        let flip = if self.descending { most } else { 0 };
        // NULLs last, and first where the direction is down.
        let (there, null) = match self.descending {
            true => (1_u128 << self.value_bits, 0),
            false => (0, 1_u128 << self.value_bits),
        };
        for (prefix, number) in prefixes.iter_mut().zip(numbers) {
            let number: i64 = (*number).into();
            // From the least number upwards.
            let above = (i128::from(number) + half).unsigned_abs();
            *prefix |= ((above ^ flip) | there) << self.shift;
        }
        let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) else {
            return;
        };
        let value = (most | there) << self.shift;
        for (prefix, valid) in prefixes.iter_mut().zip(nulls.iter()) {
            if !valid {
                *prefix = (*prefix & !value) | (null << self.shift);
            }
        }
    }
}

impl Encoder {
    /// Encodes the columns at these positions, each in its direction. NULLs come
    /// last, and first where the direction is down.
    pub(super) fn new(schema: &SchemaRef, columns: &[(usize, bool)]) -> Result<Self, ArrowError> {
        let mut fields = Vec::new();
        let mut fixed = Some(0);
        let mut whole = Some(Vec::new());
        for &(column, descending) in columns {
            let of = schema.fields().get(column).map(|field| field.data_type());
            let of = of.cloned().unwrap_or(DataType::Null);
            let bytes = match of {
                DataType::Boolean => Some(1),
                _ => of.primitive_width(),
            };
            // One byte says whether there is a value.
            fixed = fixed.zip(bytes).map(|(sum, bytes)| sum + bytes + 1);
            let number = Whole::of(column, &of, descending);
            whole = whole.zip(number).map(|(mut numbers, number)| {
                numbers.push(number);
                numbers
            });
            let options = arrow::compute::SortOptions {
                descending,
                nulls_first: descending,
            };
            fields.push(SortField::new_with_options(of, options));
        }
        let prefix_is_all = fixed.is_some_and(|bytes| bytes <= PREFIX_BYTES);
        Ok(Self {
            columns: columns.iter().map(|(column, _)| *column).collect(),
            converter: RowConverter::new(fields)?,
            prefix_is_all,
            whole: whole.filter(|_| prefix_is_all),
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
        let start = section_start(section);
        if let Some(whole) = &self.whole {
            let mut prefix = vec![start; batch.num_rows()];
            let section_bits = 128 - PREFIX_BYTES * 8;
            let add = |bits, number: &Whole| number.add(batch, &mut prefix, bits);
            whole.iter().fold(section_bits, add);
            return Ok(Keys { prefix, rest: None });
        }
        let rows = self.rows(batch)?;
        let prefix = rows.iter().map(|row| start | leading(row.data())).collect();
        Ok(Keys {
            prefix,
            rest: (!self.prefix_is_all).then_some(rows),
        })
    }

    /// The columns that a key holds as a whole beside its prefix.
    pub(super) fn kept_whole(&self) -> &[usize] {
        match self.prefix_is_all {
            true => &[],
            false => &self.columns,
        }
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
