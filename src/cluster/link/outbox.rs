//! The writing half of a link: contents become frames, frames become records of
//! Noise where the link is encrypted, and each leaves in one piece, so that
//! timely's thread, orders and heartbeats can take turns.

use std::io::{self, IoSlice, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use snow::StatelessTransportState;

use super::counters::{Tally, add};
use super::frame::{HEADER_BYTES, Header, Kind, seed_of};
use crate::cluster::compress::{Choice, Plan, SAMPLE_BYTES, SMALL_SAMPLE_BYTES};

/// The longest message of Noise, in bytes, and its share of tag.
pub(super) const MAX_RECORD_BYTES: usize = 65535;
pub(super) const TAG_BYTES: usize = 16;

/// The writing half of one link.
pub(super) struct Outbox {
    socket: TcpStream,
    seal: Option<Sealer>,
    seed: u64,
    number: u64,
    choice: Choice,
    table: CompressTable,
    packed: Vec<u8>,
}

/// What encrypts one direction of a link.
pub(super) struct Sealer {
    transport: Arc<StatelessTransportState>,
    nonce: u64,
    /// The header and the first contents, side by side.
    first: Vec<u8>,
    /// The records of one frame.
    records: Vec<u8>,
}

impl Outbox {
    pub(super) fn new(socket: TcpStream, seal: Option<Sealer>, seed: u64, choice: Choice) -> Self {
        Self {
            socket,
            seal,
            seed,
            number: 0,
            choice,
            table: CompressTable::large(),
            packed: Vec::new(),
        }
    }

    /// The socket, for its time-outs.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Sends one frame with at most `MAX_FRAME_BYTES` of contents.
    pub(super) fn send(
        &mut self,
        kind: Kind,
        last: bool,
        contents: &[u8],
        tally: &Tally,
    ) -> io::Result<()> {
        let seed = seed_of(self.seed, self.number);
        let (packed, packing) = self.pack(contents);
        let sent = match packed {
            Some(length) => self.packed.get(..length).unwrap_or(contents),
            None => contents,
        };
        let summed = self.seal.is_none();
        let header = Header::new(kind, last, contents.len(), sent, summed.then_some(seed));
        let header = header.encode(seed);
        let before = Instant::now();
        match &mut self.seal {
            Some(sealer) => {
                let records = sealer.seal(&header, sent)?;
                self.socket.write_all(records)?;
            }
            None => write_both(&mut self.socket, &header, sent)?,
        }
        let writing = before.elapsed();
        self.number += 1;
        let sent = sent.len();
        self.choice.sent(sent, packing, writing);
        add(&tally.frames, 1);
        add(&tally.raw, contents.len());
        add(&tally.sent, sent);
        add(&tally.compressed, usize::from(packed.is_some()));
        add(&tally.writing, nanos(writing));
        add(&tally.compressing, nanos(packing));
        Ok(())
    }

    /// Compresses contents into `packed` if that pays. Says the length if it
    /// does, and the time it took to find out.
    fn pack(&mut self, contents: &[u8]) -> (Option<usize>, Duration) {
        match self.choice.plan(contents.len()) {
            Plan::Raw => (None, Duration::ZERO),
            Plan::Sample => {
                let from = contents.len().saturating_sub(SAMPLE_BYTES) / 2;
                let rest = contents.get(from..).unwrap_or(contents);
                let sample = rest.get(..SAMPLE_BYTES).unwrap_or(rest);
                let small = sample.get(..SMALL_SAMPLE_BYTES).unwrap_or(sample);
                let (_, setting_up) = self.compress(small);
                let (length, took) = self.compress(sample);
                if let Some(length) = length {
                    self.choice.set_up(setting_up);
                    self.choice.packed(sample.len(), length, took);
                }
                (None, took + setting_up)
            }
            Plan::Pack => {
                let (length, took) = self.compress(contents);
                if let Some(length) = length {
                    self.choice.packed(contents.len(), length, took);
                }
                // Nearly as long: the receiver may as well be spared.
                let pays = |length: &usize| *length < contents.len() - contents.len() / 16;
                (length.filter(pays), took)
            }
        }
    }

    fn compress(&mut self, contents: &[u8]) -> (Option<usize>, Duration) {
        let room = get_maximum_output_size(contents.len());
        if self.packed.len() < room {
            self.packed.resize(room, 0);
        }
        let before = Instant::now();
        let length = compress_into_with_table(contents, &mut self.packed, &mut self.table).ok();
        (length, before.elapsed())
    }
}

fn nanos(time: Duration) -> usize {
    usize::try_from(time.as_nanos()).unwrap_or(usize::MAX)
}

/// Writes two slices without joining them.
fn write_both(socket: &mut TcpStream, mut head: &[u8], mut rest: &[u8]) -> io::Result<()> {
    while !head.is_empty() {
        let written = match socket.write_vectored(&[IoSlice::new(head), IoSlice::new(rest)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let of_head = written.min(head.len());
        head = head.get(of_head..).unwrap_or_default();
        rest = rest.get(written - of_head..).unwrap_or_default();
    }
    socket.write_all(rest)
}

impl Sealer {
    /// Goes on with the nonce that the handshake has left.
    pub(super) fn new(transport: Arc<StatelessTransportState>, nonce: u64) -> Self {
        Self {
            transport,
            nonce,
            first: Vec::new(),
            records: Vec::new(),
        }
    }

    /// A frame as records: each with its length (2 bytes) before it.
    fn seal(&mut self, header: &[u8; HEADER_BYTES], contents: &[u8]) -> io::Result<&[u8]> {
        const ROOM: usize = MAX_RECORD_BYTES - TAG_BYTES;
        let beside = contents.len().min(ROOM - HEADER_BYTES);
        let (beside, rest) = contents.split_at(beside);
        self.first.clear();
        self.first.extend_from_slice(header);
        self.first.extend_from_slice(beside);
        let records = 1 + rest.len().div_ceil(ROOM);
        let length = HEADER_BYTES + contents.len() + records * (2 + TAG_BYTES);
        if self.records.len() < length {
            self.records.resize(length, 0);
        }
        let mut at = 0;
        for part in std::iter::once(self.first.as_slice()).chain(rest.chunks(ROOM)) {
            let sealed = part.len() + TAG_BYTES;
            let too_long = || io::Error::other("a record does not fit");
            let room = self
                .records
                .get_mut(at..at + 2 + sealed)
                .ok_or_else(too_long)?;
            let (prefix, room) = room.split_at_mut(2);
            let written = self.transport.write_message(self.nonce, part, room);
            let written = written.map_err(|e| io::Error::other(format!("encryption: {e}")))?;
            let stated = u16::try_from(written).map_err(|_| too_long())?;
            prefix.copy_from_slice(&stated.to_be_bytes());
            self.nonce += 1;
            at += 2 + written;
        }
        self.records
            .get(..at)
            .ok_or_else(|| io::ErrorKind::Other.into())
    }
}
