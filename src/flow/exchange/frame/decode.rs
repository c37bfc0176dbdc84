//! Frame to batch: checked before it is believed.
//!
//! Lengths and bounds are checked here, values (offsets, UTF-8, null counts) by
//! Arrow, whose validation stays on. Nothing is allocated by a number that the
//! frame says: columns are slices of it, and where Arrow must copy one to align
//! it, no byte is copied twice because no two buffers may overlap.

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::convert::try_fb_to_schema;
use arrow::ipc::reader::{RecordBatchDecoder, read_dictionary};
use arrow::ipc::{self, MessageHeader, MetadataVersion};

use super::{HEAD_BYTES, Head, MAX_SCHEMAS, WireError};

/// Rows that one batch may have, and values that one column of it may have.
const MAX_ROWS: u64 = 1 << 31;

/// What came in a frame; its permit is taken by who knows the budget.
#[derive(Debug)]
pub(in super::super) struct Arrived {
    pub(in super::super) sender: usize,
    pub(in super::super) table: usize,
    pub(in super::super) split: u32,
    pub(in super::super) source_bytes: u64,
    pub(in super::super) rows: RecordBatch,
}

/// Reads the frames of all workers that send to this one, each worker's in the
/// order in which it made them.
#[derive(Debug, Default)]
pub(in super::super) struct Decoder {
    schemas: HashMap<(u32, u32), SchemaRef>,
}

/// What is wrong, without the length that the caller knows.
type Reason = String;

impl Decoder {
    /// Reads the frame at the start of `frame`.
    ///
    /// # Errors
    /// It is no frame, or says what is not so.
    pub(in super::super) fn decode(&mut self, frame: &Buffer) -> Result<Arrived, WireError> {
        let head = Head::read(frame)?;
        // Arrow panics on some inputs that it should refuse, and what it is given
        // here was written by others: this is the one place where that is caught.
        let read = catching(|| self.read(&head, frame));
        let read = read.unwrap_or_else(|| Err("cannot be read by Arrow".to_owned()));
        read.map_err(|reason| WireError {
            bytes: frame.len(),
            reason,
        })
    }

    fn read(&mut self, head: &Head, frame: &Buffer) -> Result<Arrived, Reason> {
        let schema = slice(frame, HEAD_BYTES as u64, head.schema_bytes)?;
        let body = slice(
            frame,
            HEAD_BYTES as u64 + head.schema_bytes,
            head.body_bytes,
        )?;
        let key = (head.sender, head.schema);
        if !schema.is_empty() {
            if head.schema >= MAX_SCHEMAS {
                return Err(format!("numbers its schema {}", head.schema));
            }
            self.schemas.insert(key, Arc::new(read_schema(&schema)?));
        }
        let known = self.schemas.get(&key);
        let schema = known.ok_or_else(|| format!("is of schema {}, never told", head.schema))?;
        let rows = read_body(&body, schema)?;
        if rows.num_rows() as u64 != head.rows {
            return Err(format!("holds {} rows, not {}", rows.num_rows(), head.rows));
        }
        let index =
            |number: u64| usize::try_from(number).map_err(|_| "has a table too many".to_owned());
        Ok(Arrived {
            sender: index(u64::from(head.sender))?,
            table: index(head.table)?,
            split: head.split,
            source_bytes: head.source_bytes,
            rows,
        })
    }
}

fn read_schema(bytes: &Buffer) -> Result<Schema, Reason> {
    let (message, _) = next_message(bytes)?;
    let message = verified(&message)?;
    let schema = message.header_as_schema();
    let schema = schema.ok_or("announces a schema that is none")?;
    try_fb_to_schema(schema).map_err(|error| format!("holds a schema that is wrong: {error}"))
}

/// Dictionaries, then one batch.
fn read_body(body: &Buffer, schema: &SchemaRef) -> Result<RecordBatch, Reason> {
    let wrong = |error| format!("holds wrong columns: {error}");
    let mut dictionaries: HashMap<i64, ArrayRef> = HashMap::new();
    let mut rest = body.clone();
    loop {
        let (metadata, after) = next_message(&rest)?;
        let message = verified(&metadata)?;
        let length = u64::try_from(message.bodyLength()).map_err(|_| "has a length below zero")?;
        let columns = slice(&after, 0, length)?;
        rest = slice(&after, length, after.len() as u64 - length)?;
        match message.header_type() {
            MessageHeader::DictionaryBatch => {
                let batch = message.header_as_dictionary_batch();
                let batch = batch.ok_or("announces a dictionary that is none")?;
                let values = batch.data().ok_or("has a dictionary without values")?;
                check_columns(&values, columns.len())?;
                if batch.isDelta() || dictionaries.contains_key(&batch.id()) {
                    return Err("brings a dictionary twice".to_owned());
                }
                read_dictionary(
                    &columns,
                    batch,
                    schema,
                    &mut dictionaries,
                    &message.version(),
                )
                .map_err(wrong)?;
            }
            MessageHeader::RecordBatch => {
                let batch = message.header_as_record_batch();
                let batch = batch.ok_or("announces rows that are none")?;
                check_columns(&batch, columns.len())?;
                if !rest.is_empty() {
                    return Err("goes on after its rows".to_owned());
                }
                let version = message.version();
                return RecordBatchDecoder::try_new(
                    &columns,
                    batch,
                    Arc::clone(schema),
                    &dictionaries,
                    &version,
                )
                .and_then(RecordBatchDecoder::read_record_batch)
                .map_err(wrong);
            }
            other => return Err(format!("holds a message of another kind, {other:?}")),
        }
    }
}

/// The metadata of the next message, and what comes after it.
fn next_message(bytes: &Buffer) -> Result<(Buffer, Buffer), Reason> {
    const PREFIX: u64 = 8;
    let prefix = bytes.first_chunk::<8>();
    let [a, b, c, d, length @ ..] = *prefix.ok_or("ends within a message")?;
    if [a, b, c, d] != [0xff; 4] {
        return Err("holds what is no message".to_owned());
    }
    let length = u64::from(u32::from_le_bytes(length));
    let metadata = slice(bytes, PREFIX, length)?;
    let after = PREFIX + length;
    Ok((metadata, slice(bytes, after, bytes.len() as u64 - after)?))
}

fn verified(metadata: &Buffer) -> Result<ipc::Message<'_>, Reason> {
    let message = ipc::root_as_message(metadata)
        .map_err(|error| format!("holds a message that is wrong: {error}"))?;
    if message.version() != MetadataVersion::V5 {
        return Err("is of another version of Arrow IPC".to_owned());
    }
    Ok(message)
}

/// Buffers lie within the body, in order and apart; counts are possible.
fn check_columns(batch: &ipc::RecordBatch<'_>, body_bytes: usize) -> Result<(), Reason> {
    if batch.compression().is_some() {
        // What a codec says would decide how much is allocated. Links compress.
        return Err("is compressed inside".to_owned());
    }
    let count = |count: i64| u64::try_from(count).ok().filter(|count| *count <= MAX_ROWS);
    count(batch.length()).ok_or("has an impossible number of rows")?;
    let mut end = 0;
    for buffer in batch.buffers().ok_or("has no buffers")? {
        let begin = u64::try_from(buffer.offset()).map_err(|_| "has a buffer before its start")?;
        let length = u64::try_from(buffer.length()).map_err(|_| "has a buffer of no length")?;
        let ends = begin.checked_add(length);
        let inside = ends.filter(|ends| begin >= end && *ends <= body_bytes as u64);
        end = inside.ok_or("has a buffer outside of its body, or two in one place")?;
    }
    for node in batch.nodes().ok_or("has no columns")? {
        let length = count(node.length()).ok_or("has a column of impossible length")?;
        let nulls = count(node.null_count()).ok_or("has an impossible number of NULLs")?;
        if nulls > length {
            return Err("has more NULLs than values".to_owned());
        }
    }
    Ok(())
}

/// `length` bytes from `begin`, without a copy.
fn slice(bytes: &Buffer, begin: u64, length: u64) -> Result<Buffer, Reason> {
    let end = begin.checked_add(length);
    match end.filter(|end| *end <= bytes.len() as u64) {
        None => Err("says that it is longer than it is".to_owned()),
        // Both fit, as the end does.
        Some(_) => Ok(bytes.slice_with_length(
            usize::try_from(begin).unwrap_or(0),
            usize::try_from(length).unwrap_or(0),
        )),
    }
}

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread is caught and becomes an error: then nobody
/// need be told of it.
pub(crate) fn contained() -> bool {
    CONTAINED.get()
}

/// What `read` returns; `None` if it panics.
fn catching<T>(read: impl FnOnce() -> T) -> Option<T> {
    CONTAINED.set(true);
    // What a panic leaves half done is a table of schemas, whole in itself.
    let read = catch_unwind(AssertUnwindSafe(read)).ok();
    CONTAINED.set(false);
    read
}
