//! The container of the exchange: batches for one worker. Within a process they
//! are objects; between processes frames that were encoded before they came here
//! (timely asks for a length first) and are read by the receiving operator, which
//! can refuse them as [`ContainerBytes::from_bytes`] cannot. Nothing is checked
//! or decoded in this file but where the frames begin.

use std::io::Write;

use arrow::buffer::Buffer;
use timely::Accountable;
use timely::bytes::arc::Bytes;
use timely::communication::Push;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{ContainerBytes, Message};

use super::frame::{Head, Outgoing, WireError};
use crate::batch::Batch;

/// Frames shorter than this are copied out of timely's slab of 1 MiB: a batch
/// that is kept would keep the whole slab, and nobody paid for that.
const COPY_BELOW_BYTES: usize = 128 * 1024;

/// First word of parcels on the wire.
const MAGIC: u64 = u64::from_le_bytes(*b"HWparcel");

/// [`MAGIC`] and how many frames follow.
const PREFIX_BYTES: usize = 16;

/// Batches for one worker.
#[derive(Debug, Default)]
pub(super) struct Parcels {
    /// The worker, among all peers. Not told to the receiver, who is it.
    pub(super) target: usize,
    pub(super) load: Load,
}

#[derive(Debug, Default)]
pub(super) enum Load {
    #[default]
    Nothing,
    /// For a worker of this process.
    Local(Vec<Batch>),
    /// For a worker of another process.
    Outgoing(Vec<Outgoing>),
    /// From a worker of another process: so many frames, not yet looked at.
    Arrived { frames: u64, bytes: Buffer },
}

impl Accountable for Parcels {
    fn record_count(&self) -> i64 {
        let count = match &self.load {
            Load::Nothing => 0,
            Load::Local(batches) => batches.len() as u64,
            Load::Outgoing(frames) => frames.len() as u64,
            Load::Arrived { frames, .. } => *frames,
        };
        i64::try_from(count).unwrap_or(i64::MAX)
    }
}

impl ContainerBytes for Parcels {
    fn from_bytes(bytes: Bytes) -> Self {
        let long = |at: usize| {
            let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk());
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        // What does not begin as it should counts as one frame, which will be
        // found to be none.
        let frames = if long(0) == MAGIC { long(8) } else { 1 };
        let skip = if long(0) == MAGIC { PREFIX_BYTES } else { 0 };
        let bytes = match bytes.len() {
            ..COPY_BELOW_BYTES => Buffer::from(&bytes[..]),
            _ => Buffer::from(bytes::Bytes::from_owner(Slab(bytes))),
        };
        let bytes = bytes.slice(skip.min(bytes.len()));
        Self {
            target: 0,
            load: Load::Arrived { frames, bytes },
        }
    }

    fn length_in_bytes(&self) -> usize {
        match &self.load {
            Load::Outgoing(frames) => {
                PREFIX_BYTES + frames.iter().map(Outgoing::bytes).sum::<usize>()
            }
            Load::Arrived { bytes, .. } => PREFIX_BYTES + bytes.len(),
            Load::Nothing | Load::Local(_) => PREFIX_BYTES,
        }
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        let frames = u64::try_from(self.record_count()).unwrap_or(0);
        let mut write = |part: &[u8]| {
            // The writer is memory of the length that was asked for above.
            let _ = writer.write_all(part);
        };
        write(&MAGIC.to_le_bytes());
        write(&frames.to_le_bytes());
        match &self.load {
            Load::Outgoing(frames) => frames.iter().flat_map(Outgoing::parts).for_each(write),
            Load::Arrived { bytes, .. } => write(bytes),
            // Objects cannot leave the process: the receiver finds fewer frames
            // than announced, and says so.
            Load::Nothing | Load::Local(_) => {}
        }
    }
}

/// Memory of timely as the owner of an Arrow buffer.
struct Slab(Bytes);

impl AsRef<[u8]> for Slab {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Cuts what arrived into its frames.
pub(super) fn cut(frames: u64, mut bytes: Buffer) -> Result<Vec<Buffer>, WireError> {
    let wrong = |bytes: &Buffer, reason: &str| WireError {
        bytes: bytes.len(),
        reason: reason.to_owned(),
    };
    let mut cut = Vec::new();
    for _ in 0..frames {
        let length = Head::read(&bytes)?.frame_bytes();
        let length = length.filter(|length| *length <= bytes.len());
        let length = length.ok_or_else(|| wrong(&bytes, "is longer than it is"))?;
        cut.push(bytes.slice_with_length(0, length));
        bytes = bytes.slice(length);
    }
    if bytes.is_empty() {
        Ok(cut)
    } else {
        Err(wrong(&bytes, "was not announced"))
    }
}

/// Brings parcels to their worker.
pub(super) struct ToTarget;

impl Distributor<Parcels> for ToTarget {
    fn partition<T: Clone, P: Push<Message<T, Parcels>>>(
        &mut self,
        parcels: &mut Parcels,
        time: &T,
        pushers: &mut [P],
    ) {
        let target = parcels.target % pushers.len().max(1);
        if let Some(pusher) = pushers.get_mut(target) {
            Message::push_at(parcels, time.clone(), pusher);
        }
        // What was written has become bytes; the columns are let go of here.
        parcels.load = Load::Nothing;
    }

    fn flush<T: Clone, P: Push<Message<T, Parcels>>>(&mut self, _: &T, _: &mut [P]) {}
}
