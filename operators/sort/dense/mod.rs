//! Rows as bytes: the form in which they are kept until all have come, in memory
//! and on disk. No row is looked at alone here, and no order is known.
//!
//! A whole number is kept as what it is above the least of its batch, in as few
//! bytes as the greatest of them needs: the rows of one key range are close to
//! each other, so that a key of eight bytes often takes two. Of a text its length
//! is kept so; its bytes stay as they are, or become LZ4 where a sample says that
//! a third is left. Whatever else there is becomes Arrow IPC. This costs about as
//! much as copying, where LZ4 on everything cost more than sorting.

#[cfg(test)]
mod tests;
mod texts;
mod unpack;
mod whole;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};

pub(super) use unpack::{Head, Unpacked, damaged};

use texts::Sampled;

/// Bytes before a piece: its section, its rows, and how many bytes follow.
pub(super) const HEAD_BYTES: usize = 16;

/// Rows of one section as bytes, with a head that says so.
pub(super) type Piece = Box<[u8]>;

/// How a column is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Whole8,
    Whole16,
    Whole32,
    Whole64,
    Whole128,
    Bools,
    Texts,
    Other,
}

impl Form {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Bools,
            DataType::Utf8 | DataType::Binary => Self::Texts,
            other => match other.primitive_width() {
                Some(1) => Self::Whole8,
                Some(2) => Self::Whole16,
                Some(4) => Self::Whole32,
                Some(8) => Self::Whole64,
                // Intervals are three numbers, not one.
                Some(16) if matches!(other, DataType::Decimal128(..)) => Self::Whole128,
                _ => Self::Other,
            },
        }
    }
}

/// Makes bytes of rows of one schema.
#[derive(Debug)]
pub(super) struct Packer {
    forms: Vec<(Form, Sampled)>,
    /// What a piece is made in: its size is not known before.
    draft: Vec<u8>,
}

impl Packer {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        let forms = schema.fields().iter();
        Self {
            forms: forms
                .map(|field| (Form::of(field.data_type()), Sampled::default()))
                .collect(),
            draft: Vec::new(),
        }
    }

    /// The rows of one section as bytes.
    ///
    /// # Errors
    /// A column has no such form.
    pub(super) fn pack(&mut self, section: u32, rows: &RecordBatch) -> Result<Piece, ArrowError> {
        let Self { forms, draft } = self;
        draft.clear();
        draft.resize(HEAD_BYTES, 0);
        for (column, (form, sampled)) in rows.columns().iter().zip(forms) {
            pack_column(column, *form, sampled, draft)?;
        }
        let body = (draft.len() - HEAD_BYTES) as u64;
        let count = u32::try_from(rows.num_rows())
            .map_err(|_| ArrowError::InvalidArgumentError("a batch too long".to_owned()))?;
        let head = [
            &section.to_le_bytes()[..],
            &count.to_le_bytes(),
            &body.to_le_bytes(),
        ];
        for (to, from) in draft.iter_mut().zip(head.into_iter().flatten()) {
            *to = *from;
        }
        Ok(Piece::from(draft.as_slice()))
    }
}

fn pack_column(
    column: &ArrayRef,
    form: Form,
    sampled: &mut Sampled,
    out: &mut Vec<u8>,
) -> Result<(), ArrowError> {
    if form == Form::Other {
        return pack_other(column, out);
    }
    match column.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => out.push(0),
        Some(nulls) => {
            out.push(1);
            out.extend_from_slice(nulls.inner().sliced().as_slice());
        }
    }
    let rows = column.len();
    let numbers = column.to_data();
    match form {
        Form::Whole8 => whole::bytes1::pack(slice(&numbers, rows), out),
        Form::Whole16 => whole::bytes2::pack(slice(&numbers, rows), out),
        Form::Whole32 => whole::bytes4::pack(slice(&numbers, rows), out),
        Form::Whole64 => whole::bytes8::pack(slice(&numbers, rows), out),
        Form::Whole128 => whole::bytes16::pack(slice(&numbers, rows), out),
        Form::Bools => out.extend_from_slice(column.as_boolean().values().sliced().as_slice()),
        Form::Texts => {
            let bytes = numbers.buffers().get(1).map_or(&[][..], |bytes| bytes);
            texts::pack(slice(&numbers, rows + 1), bytes, sampled, out);
        }
        Form::Other => {}
    }
    Ok(())
}

fn slice<T: arrow::datatypes::ArrowNativeType>(
    numbers: &arrow::array::ArrayData,
    count: usize,
) -> &[T] {
    // An array without rows may lack its buffer's only offset.
    match numbers.is_empty() {
        true => &[],
        false => numbers.buffer::<T>(0).get(..count).unwrap_or_default(),
    }
}

fn pack_other(column: &ArrayRef, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let rows = RecordBatch::try_new(other_schema(column.data_type()), vec![Arc::clone(column)])?;
    let options =
        IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), rows.schema_ref(), options)?;
    writer.write(&rows)?;
    let bytes = writer.into_inner()?;
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(&bytes);
    Ok(())
}

fn other_schema(data_type: &DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("", data_type.clone(), true)]))
}
