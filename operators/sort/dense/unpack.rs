//! Bytes as rows again: the pieces of a range, one after the other, straight into
//! the columns that are then sorted.

use arrow::array::{
    Array as _, ArrayData, ArrayRef, BooleanBufferBuilder, NullBufferBuilder, RecordBatch,
    RecordBatchOptions, make_array,
};
use arrow::buffer::Buffer;
use arrow::compute::concat;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;

use super::{Form, HEAD_BYTES, texts, whole};

/// What is left to read of a piece.
pub(super) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// The next `count` things of `width` bytes.
    pub(super) fn take(&mut self, count: usize, width: usize) -> Result<&'a [u8], ArrowError> {
        let bytes = count.checked_mul(width);
        let split = bytes.and_then(|bytes| self.0.split_at_checked(bytes));
        let (taken, rest) = split.ok_or_else(damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], ArrowError> {
        let bytes = self.take(1, BYTES)?;
        bytes.try_into().map_err(|_| damaged())
    }

    pub(super) fn length(&mut self) -> Result<usize, ArrowError> {
        let length = u64::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| damaged())
    }
}

/// What stands before the bytes of a piece.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Head {
    /// The section of its rows.
    pub(in super::super) section: u32,
    /// How many there are.
    pub(in super::super) rows: usize,
    /// How many bytes follow.
    pub(in super::super) body_bytes: usize,
}

impl Head {
    pub(in super::super) fn of(bytes: [u8; HEAD_BYTES]) -> Result<Self, ArrowError> {
        let mut bytes = Bytes(&bytes);
        let section = u32::from_le_bytes(bytes.array()?);
        let rows = u32::from_le_bytes(bytes.array()?);
        Ok(Self {
            section,
            rows: usize::try_from(rows).map_err(|_| damaged())?,
            body_bytes: bytes.length()?,
        })
    }

    /// A piece that is in memory.
    pub(in super::super) fn divide(piece: &[u8]) -> Result<(Self, &[u8]), ArrowError> {
        let (head, body) = piece.split_first_chunk().ok_or_else(damaged)?;
        Ok((Self::of(*head)?, body))
    }
}

pub(in super::super) fn damaged() -> ArrowError {
    ArrowError::ParseError("rows that were set aside came back damaged".to_owned())
}

/// Columns that grow piece by piece.
#[derive(Debug)]
pub(in super::super) struct Unpacked {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
}

impl Unpacked {
    /// Room for so many rows; more may come.
    pub(in super::super) fn new(schema: &SchemaRef, rows: usize) -> Self {
        let columns = schema.fields().iter();
        Self {
            schema: SchemaRef::clone(schema),
            columns: columns
                .map(|field| Column::new(field.data_type(), rows))
                .collect(),
            rows: 0,
        }
    }

    pub(in super::super) fn rows(&self) -> usize {
        self.rows
    }

    /// Adds the rows of a piece, given without its head.
    pub(in super::super) fn add(&mut self, rows: usize, body: &[u8]) -> Result<(), ArrowError> {
        let mut bytes = Bytes(body);
        for column in &mut self.columns {
            column.add(rows, &mut bytes)?;
        }
        self.rows += rows;
        Ok(())
    }

    /// What it holds, in bytes.
    pub(in super::super) fn bytes(&self) -> usize {
        self.columns.iter().map(Column::bytes).sum()
    }

    /// What some of its columns hold, in bytes.
    pub(in super::super) fn bytes_of(&self, columns: &[usize]) -> usize {
        let columns = columns
            .iter()
            .filter_map(|&column| self.columns.get(column));
        columns.map(Column::bytes).sum()
    }

    /// The rows, in the order in which they were added.
    pub(in super::super) fn finish(self) -> Result<RecordBatch, ArrowError> {
        let Self {
            schema,
            columns,
            rows,
        } = self;
        let arrays = columns
            .into_iter()
            .zip(schema.fields())
            .map(|(column, field)| column.finish(field.data_type(), rows));
        let arrays: Vec<ArrayRef> = arrays.collect::<Result<_, ArrowError>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(schema, arrays, &options)
    }
}

#[derive(Debug)]
struct Column {
    nulls: NullBufferBuilder,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Whole8(Vec<i8>),
    Whole16(Vec<i16>),
    Whole32(Vec<i32>),
    Whole64(Vec<i64>),
    Whole128(Vec<i128>),
    Bools(BooleanBufferBuilder),
    Texts { offsets: Vec<i32>, bytes: Vec<u8> },
    Other(Vec<ArrayRef>),
}

impl Column {
    fn new(data_type: &DataType, rows: usize) -> Self {
        let values = match Form::of(data_type) {
            Form::Whole8 => Values::Whole8(Vec::with_capacity(rows)),
            Form::Whole16 => Values::Whole16(Vec::with_capacity(rows)),
            Form::Whole32 => Values::Whole32(Vec::with_capacity(rows)),
            Form::Whole64 => Values::Whole64(Vec::with_capacity(rows)),
            Form::Whole128 => Values::Whole128(Vec::with_capacity(rows)),
            Form::Bools => Values::Bools(BooleanBufferBuilder::new(rows)),
            Form::Texts => {
                let mut offsets = Vec::with_capacity(rows + 1);
                offsets.push(0);
                Values::Texts {
                    offsets,
                    bytes: Vec::new(),
                }
            }
            Form::Other => Values::Other(Vec::new()),
        };
        Self {
            nulls: NullBufferBuilder::new(rows),
            values,
        }
    }

    fn add(&mut self, rows: usize, from: &mut Bytes<'_>) -> Result<(), ArrowError> {
        if let Values::Other(arrays) = &mut self.values {
            let length = from.length()?;
            for batch in StreamReader::try_new(from.take(length, 1)?, None)? {
                arrays.extend(batch?.columns().first().cloned());
            }
            return Ok(());
        }
        match from.array()? {
            [0] => self.nulls.append_n_non_nulls(rows),
            _ => {
                let bitmap = Buffer::from(from.take(rows.div_ceil(8), 1)?);
                let valid = arrow::buffer::BooleanBuffer::new(bitmap, 0, rows);
                self.nulls.append_buffer(&valid.into());
            }
        }
        match &mut self.values {
            Values::Whole8(into) => whole::bytes1::unpack(rows, from, into),
            Values::Whole16(into) => whole::bytes2::unpack(rows, from, into),
            Values::Whole32(into) => whole::bytes4::unpack(rows, from, into),
            Values::Whole64(into) => whole::bytes8::unpack(rows, from, into),
            Values::Whole128(into) => whole::bytes16::unpack(rows, from, into),
            Values::Bools(into) => {
                into.append_packed_range(0..rows, from.take(rows.div_ceil(8), 1)?);
                Ok(())
            }
            Values::Texts { offsets, bytes } => texts::unpack(rows, from, offsets, bytes),
            Values::Other(_) => Ok(()),
        }
    }

    fn bytes(&self) -> usize {
        match &self.values {
            Values::Whole8(values) => values.len(),
            Values::Whole16(values) => size_of_val(values.as_slice()),
            Values::Whole32(values) => size_of_val(values.as_slice()),
            Values::Whole64(values) => size_of_val(values.as_slice()),
            Values::Whole128(values) => size_of_val(values.as_slice()),
            Values::Bools(values) => values.len() / 8,
            Values::Texts { offsets, bytes } => size_of_val(offsets.as_slice()) + bytes.len(),
            Values::Other(arrays) => arrays
                .iter()
                .map(|array| array.get_array_memory_size())
                .sum(),
        }
    }

    fn finish(mut self, data_type: &DataType, rows: usize) -> Result<ArrayRef, ArrowError> {
        let buffers = match self.values {
            Values::Whole8(values) => vec![Buffer::from_vec(values)],
            Values::Whole16(values) => vec![Buffer::from_vec(values)],
            Values::Whole32(values) => vec![Buffer::from_vec(values)],
            Values::Whole64(values) => vec![Buffer::from_vec(values)],
            Values::Whole128(values) => vec![Buffer::from_vec(values)],
            Values::Bools(mut values) => vec![values.finish().into_inner()],
            Values::Texts { offsets, bytes } => {
                vec![Buffer::from_vec(offsets), Buffer::from_vec(bytes)]
            }
            Values::Other(arrays) => {
                let arrays: Vec<&dyn arrow::array::Array> =
                    arrays.iter().map(AsRef::as_ref).collect();
                return concat(&arrays);
            }
        };
        let column = ArrayData::builder(data_type.clone())
            .len(rows)
            .nulls(self.nulls.finish())
            .buffers(buffers);
        Ok(make_array(column.build()?))
    }
}
