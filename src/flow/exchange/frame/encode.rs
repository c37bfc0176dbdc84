//! Batch to frame.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, GenericByteViewArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{ByteViewType, DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::MetadataVersion;
use arrow::ipc::writer::{
    DictionaryTracker, IpcDataGenerator, IpcWriteOptions, StreamEncoder, write_message,
};

use super::{ALIGN, HEAD_BYTES, Head, MAX_SCHEMAS};
use crate::batch::Batch;

/// A frame that is ready to be written: references to columns, not copies.
#[derive(Debug)]
pub(in super::super) struct Outgoing {
    head: [u8; HEAD_BYTES],
    pieces: Vec<Buffer>,
    bytes: usize,
}

impl Outgoing {
    /// How long it is, in bytes.
    pub(in super::super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its parts, in order.
    pub(in super::super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.head.as_slice()).chain(self.pieces.iter().map(Buffer::as_slice))
    }
}

/// Makes the frames of one worker. Frames must be sent in the order in which they
/// were made.
pub(in super::super) struct Encoder {
    sender: u32,
    peers: usize,
    schemas: Vec<Told>,
    /// The place that the next schema takes when all are taken.
    oldest: u32,
}

/// A schema, and who was told of it.
struct Told {
    schema: SchemaRef,
    /// As an IPC message.
    message: Buffer,
    /// `None` where dictionaries occur: they must go with each batch, and an
    /// encoder sends the same dictionary only once.
    encoder: Option<StreamEncoder>,
    workers: Vec<bool>,
}

impl Encoder {
    /// For the worker `sender` of so many.
    pub(in super::super) fn new(sender: usize, peers: usize) -> Self {
        Self {
            sender: u32::try_from(sender).unwrap_or(u32::MAX),
            peers,
            schemas: Vec::new(),
            oldest: 0,
        }
    }

    /// The frame of `batch` for the worker `target`.
    ///
    /// # Errors
    /// A type has no wire form.
    pub(in super::super) fn encode(
        &mut self,
        target: usize,
        batch: &Batch,
    ) -> Result<Outgoing, ArrowError> {
        let number = self.number_of(batch.rows.schema_ref())?;
        let position = usize::try_from(number).unwrap_or(usize::MAX);
        let Some(told) = self.schemas.get_mut(position) else {
            return Err(ArrowError::IpcError("too many schemas".to_owned()));
        };
        let mut pieces = Vec::new();
        let schema_bytes = match told.workers.get_mut(target) {
            Some(true) => 0,
            unknown => {
                if let Some(told) = unknown {
                    *told = true;
                }
                pieces.push(told.message.clone());
                told.message.len()
            }
        };
        let rows = without_strangers(&batch.rows)?;
        told.messages(rows.as_ref().unwrap_or(&batch.rows), &mut pieces)?;
        let bytes: usize = pieces.iter().map(Buffer::len).sum();
        let head = Head {
            sender: self.sender,
            schema: number,
            split: batch.split,
            table: batch.table as u64,
            source_bytes: batch.source_bytes,
            rows: batch.rows.num_rows() as u64,
            schema_bytes: schema_bytes as u64,
            body_bytes: (bytes - schema_bytes) as u64,
        };
        Ok(Outgoing {
            head: head.to_bytes(),
            pieces,
            bytes: HEAD_BYTES + bytes,
        })
    }

    fn number_of(&mut self, schema: &SchemaRef) -> Result<u32, ArrowError> {
        let same = |told: &Told| Arc::ptr_eq(&told.schema, schema);
        let equal = |told: &Told| told.schema == *schema;
        let known = self.schemas.iter().position(same);
        if let Some(known) = known.or_else(|| self.schemas.iter().position(equal)) {
            if let Some(told) = self.schemas.get_mut(known) {
                // The next batch will be found by its pointer.
                told.schema = Arc::clone(schema);
            }
            return Ok(u32::try_from(known).unwrap_or(u32::MAX));
        }
        let told = Told::new(schema, self.peers)?;
        let taken = u32::try_from(self.schemas.len()).unwrap_or(u32::MAX);
        if taken < MAX_SCHEMAS {
            self.schemas.push(told);
            return Ok(taken);
        }
        let number = self.oldest;
        self.oldest = (self.oldest + 1) % MAX_SCHEMAS;
        if let Some(place) = self.schemas.get_mut(usize::try_from(number).unwrap_or(0)) {
            *place = told;
        }
        Ok(number)
    }
}

impl Told {
    fn new(schema: &SchemaRef, peers: usize) -> Result<Self, ArrowError> {
        let mut tracker = DictionaryTracker::new(false);
        let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
            schema,
            &mut tracker,
            &options()?,
        );
        let mut message = Vec::new();
        write_message(&mut message, encoded, &options()?)?;
        let encoder = match has_dictionaries(schema) {
            true => None,
            false => Some(StreamEncoder::try_new_with_options(schema, options()?)?),
        };
        let mut told = Self {
            schema: Arc::clone(schema),
            message: Buffer::from_vec(message),
            encoder,
            workers: vec![false; peers],
        };
        if let Some(encoder) = &mut told.encoder {
            // The first batch of a stream comes with the schema: have it behind us.
            encoder.encode(&RecordBatch::new_empty(Arc::clone(schema)))?;
        }
        Ok(told)
    }

    /// Adds the messages of `rows` to `pieces`.
    fn messages(&mut self, rows: &RecordBatch, pieces: &mut Vec<Buffer>) -> Result<(), ArrowError> {
        if let Some(encoder) = &mut self.encoder {
            pieces.extend(encoder.encode(rows)?);
            return Ok(());
        }
        let mut encoder = StreamEncoder::try_new_with_options(&self.schema, options()?)?;
        let mut skip = self.message.len();
        for piece in encoder.encode(rows)? {
            if skip > 0 {
                skip = skip.saturating_sub(piece.len());
            } else {
                pieces.push(piece);
            }
        }
        Ok(())
    }
}

fn options() -> Result<IpcWriteOptions, ArrowError> {
    IpcWriteOptions::try_new(ALIGN, false, MetadataVersion::V5)
}

fn has_dictionaries(schema: &Schema) -> bool {
    let fields = schema.flattened_fields();
    fields
        .iter()
        .any(|field| matches!(field.data_type(), DataType::Dictionary(..)))
}

/// A slice or a selection of views still refers to all bytes that it was taken
/// from, and would carry them all; these rows without what they do not use, or
/// `None` where that is no matter.
fn without_strangers(rows: &RecordBatch) -> Result<Option<RecordBatch>, ArrowError> {
    let is_view = |kind: &DataType| matches!(kind, DataType::Utf8View | DataType::BinaryView);
    let columns = rows.columns();
    if !columns.iter().any(|column| is_view(column.data_type())) {
        return Ok(None);
    }
    let columns = columns.iter().map(|column| match column.data_type() {
        DataType::Utf8View => own_bytes(column, column.as_string_view()),
        DataType::BinaryView => own_bytes(column, column.as_binary_view()),
        _ => Arc::clone(column),
    });
    RecordBatch::try_new(rows.schema(), columns.collect()).map(Some)
}

fn own_bytes<T: ByteViewType>(column: &ArrayRef, views: &GenericByteViewArray<T>) -> ArrayRef {
    let held: usize = views.data_buffers().iter().map(Buffer::len).sum();
    if views.total_buffer_bytes_used() * 2 < held {
        return Arc::new(views.gc());
    }
    Arc::clone(column)
}
