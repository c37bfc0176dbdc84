//! The wire form of a batch: a head of fixed size, the schema where the receiver
//! does not have it yet, and the batch as Arrow IPC messages (its dictionaries,
//! then its rows). Everything between two processes that is not a number passes
//! here. Neither side copies columns: the sender keeps references to them until
//! they are written, the receiver's columns are slices of what was read.
//!
//! Dictionaries go with each batch. A schema goes once from a worker to a worker
//! and is a small number from then on: between two workers timely keeps order.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub(crate) use decode::contained;
pub(super) use decode::{Arrived, Decoder};
pub(super) use encode::{Encoder, Outgoing};

/// Everything is padded to so many bytes, so that columns need not be copied to
/// be aligned (but those of 16-byte values, where timely's slab puts them wrong).
const ALIGN: usize = 16;

/// First word of a frame: tells at once when two sides disagree on where it begins.
const MAGIC: u32 = u32::from_le_bytes(*b"HWf1");

/// Bytes of a [`Head`].
pub(super) const HEAD_BYTES: usize = 64;

/// Schemas that a worker may have told another at a time. One more takes the
/// place of the oldest.
const MAX_SCHEMAS: u32 = 4096;

/// Why a frame is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {bytes} bytes {reason}")]
pub struct WireError {
    /// The frame's real length, in bytes.
    pub bytes: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// What stands before a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// The worker that sent it: it waits for the acknowledgement.
    pub(super) sender: u32,
    /// The schema's number between the two workers.
    pub(super) schema: u32,
    pub(super) split: u32,
    pub(super) table: u64,
    pub(super) source_bytes: u64,
    pub(super) rows: u64,
    /// Length of the schema; 0 if the receiver has it.
    pub(super) schema_bytes: u64,
    /// Length of the IPC messages.
    pub(super) body_bytes: u64,
}

impl Head {
    fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let words = [MAGIC, self.sender, self.schema, self.split, 0, 0];
        let longs = [
            self.table,
            self.source_bytes,
            self.rows,
            self.schema_bytes,
            self.body_bytes,
        ];
        let words = words.iter().flat_map(|word| word.to_le_bytes());
        let longs = longs.iter().flat_map(|long| long.to_le_bytes());
        for (place, byte) in bytes.iter_mut().zip(words.chain(longs)) {
            *place = byte;
        }
        bytes
    }

    /// The head at the start of `bytes`, if it is one and what it announces is there.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, WireError> {
        let wrong = |reason: &str| WireError {
            bytes: bytes.len(),
            reason: reason.to_owned(),
        };
        let (words, longs) = bytes
            .split_first_chunk::<24>()
            .filter(|_| bytes.len() >= HEAD_BYTES)
            .ok_or_else(|| wrong("ends within its head"))?;
        let word = |at: usize| word_at(words, at);
        let long = |at: usize| long_at(longs, at);
        if word(0) != MAGIC || word(4) != 0 || word(5) != 0 {
            return Err(wrong("does not begin as a frame does"));
        }
        let head = Self {
            sender: word(1),
            schema: word(2),
            split: word(3),
            table: long(0),
            source_bytes: long(1),
            rows: long(2),
            schema_bytes: long(3),
            body_bytes: long(4),
        };
        match head.frame_bytes() {
            Some(announced) if announced <= bytes.len() => Ok(head),
            _ => Err(wrong("announces more bytes than there are")),
        }
    }

    /// The whole frame's length.
    pub(super) fn frame_bytes(&self) -> Option<usize> {
        let bytes = self.schema_bytes.checked_add(self.body_bytes)?;
        usize::try_from(bytes).ok()?.checked_add(HEAD_BYTES)
    }
}

/// The little-endian word number `at`; 0 beyond the end.
fn word_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at * 4..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn long_at(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at * 8..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
