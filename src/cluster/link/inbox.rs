//! The reading half of a link: frames are read, checked, and only then handed
//! on. What cannot be believed, and a peer that says nothing, is an [`Ending`].

use std::io::{self, ErrorKind, IoSliceMut, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use snow::StatelessTransportState;

use super::counters::{Tally, add};
use super::frame::{FrameError, HEADER_BYTES, Header, Kind, seed_of};
use super::gate::Gate;
use super::outbox::{MAX_RECORD_BYTES, TAG_BYTES};

/// How often the socket wakes the reader while a peer is silent.
const PATIENCE: u32 = 8;

/// Why a link came to an end that nobody wanted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ending {
    #[error("nothing has been heard of it for {} s", .0.as_secs_f32())]
    Silent(Duration),
    #[error("it closed the connection without a goodbye")]
    Closed,
    #[error("the connection failed: {0}")]
    Failed(#[from] io::Error),
    #[error("it sent what cannot be believed: {0}")]
    Frame(#[from] FrameError),
    #[error("it sent what cannot be believed: {0}")]
    Unbelievable(&'static str),
}

/// What a frame has brought.
pub(super) enum Arrived<'a> {
    /// So many bytes for timely have been put where it wants them.
    Dataflow(usize),
    Order(&'a [u8], bool),
    Note(&'a [u8], bool),
    Alarm(&'a [u8]),
    Heartbeat,
    Goodbye,
}

/// The reading half of one link.
pub(super) struct Inbox {
    source: Source,
    seed: u64,
    number: u64,
    gate: Gate,
    /// Always, but in a control arm.
    checks: bool,
    /// Contents of a frame as they were sent, and decompressed.
    sent: Vec<u8>,
    raw: Vec<u8>,
    /// What timely has not taken yet, and whether it stands in `raw`.
    left: std::ops::Range<usize>,
    in_raw: bool,
    ended: bool,
}

impl Inbox {
    /// `checks` whether contents are what their header speaks of.
    pub(super) fn new(source: Source, seed: u64, gate: Gate, checks: bool) -> Self {
        Self {
            source,
            seed,
            number: 0,
            gate,
            checks,
            sent: Vec::new(),
            raw: Vec::new(),
            left: 0..0,
            in_raw: false,
            ended: false,
        }
    }

    /// Waits for what comes next; bytes for timely are put into `out`.
    pub(super) fn next(&mut self, out: &mut [u8], tally: &Tally) -> Result<Arrived<'_>, Ending> {
        if !self.left.is_empty() {
            let whole = if self.in_raw { &self.raw } else { &self.sent };
            let left = whole.get(self.left.clone()).unwrap_or_default();
            let taken = hand_on(left, out);
            self.left.start += taken;
            return Ok(Arrived::Dataflow(taken));
        }
        if self.ended {
            return Ok(Arrived::Goodbye);
        }
        let seed = seed_of(self.seed, self.number);
        let mut head = [0; HEADER_BYTES];
        self.source.fill(&mut head)?;
        let header = Header::decode(&head, seed)?;
        // Decrypted bytes have been checked already.
        let seed = matches!(self.source, Source::Plain(_)).then_some(seed);
        self.number += 1;
        add(&tally.received_frames, 1);
        add(&tally.received, header.sent);
        add(&tally.received_raw, header.raw);
        if header.kind == Kind::Dataflow && !header.packed {
            return self.read_raw(&header, seed, out);
        }
        if self.sent.len() < header.sent {
            self.sent.resize(header.sent, 0);
        }
        let sent = self
            .sent
            .get_mut(..header.sent)
            .ok_or(FrameError::Contents)?;
        self.source.fill(sent)?;
        if self.checks {
            header.check(&[sent], seed)?;
        }
        let contents: &[u8] = if header.packed {
            header.unpack(sent, &mut self.raw)?
        } else {
            sent
        };
        match header.kind {
            Kind::Dataflow => {
                self.gate.pass(contents).map_err(Ending::Unbelievable)?;
                let taken = hand_on(contents, out);
                self.left = taken..header.raw;
                self.in_raw = header.packed;
                Ok(Arrived::Dataflow(taken))
            }
            Kind::Order => Ok(Arrived::Order(contents, header.last)),
            Kind::Note => Ok(Arrived::Note(contents, header.last)),
            Kind::Alarm => Ok(Arrived::Alarm(contents)),
            Kind::Heartbeat => Ok(Arrived::Heartbeat),
            Kind::Goodbye if self.gate.is_over() => {
                self.ended = true;
                Ok(Arrived::Goodbye)
            }
            Kind::Goodbye => Err(Ending::Unbelievable("a goodbye amid its messages")),
        }
    }

    /// Reads contents straight to where timely wants them, and what has no room
    /// there beside it. timely looks only at what it is told of, which is after
    /// the check of both.
    fn read_raw(
        &mut self,
        header: &Header,
        seed: Option<u64>,
        out: &mut [u8],
    ) -> Result<Arrived<'_>, Ending> {
        let taken = header.sent.min(out.len());
        let (room, _) = out.split_at_mut(taken);
        let left = header.sent - taken;
        if self.sent.len() < left {
            self.sent.resize(left, 0);
        }
        let rest = self.sent.get_mut(..left).ok_or(FrameError::Contents)?;
        self.source.fill(room)?;
        self.source.fill(rest)?;
        if self.checks {
            header.check(&[room, rest], seed)?;
        }
        self.gate.pass(room).map_err(Ending::Unbelievable)?;
        self.gate.pass(rest).map_err(Ending::Unbelievable)?;
        self.left = 0..left;
        self.in_raw = false;
        Ok(Arrived::Dataflow(taken))
    }
}

/// Copies what has room, and says how much that was.
fn hand_on(bytes: &[u8], out: &mut [u8]) -> usize {
    let taken = bytes.len().min(out.len());
    if let (Some(room), Some(bytes)) = (out.get_mut(..taken), bytes.get(..taken)) {
        room.copy_from_slice(bytes);
    }
    taken
}

/// Where bytes come from.
pub(super) enum Source {
    Plain(Socket),
    Sealed(Opener),
}

impl Source {
    pub(super) fn plain(socket: TcpStream, silence: Duration) -> io::Result<Self> {
        // Small: it is for the next header, and for frames that are small themselves.
        Socket::new(socket, silence, 4096).map(Self::Plain)
    }

    pub(super) fn sealed(
        socket: TcpStream,
        silence: Duration,
        transport: Arc<StatelessTransportState>,
        nonce: u64,
    ) -> io::Result<Self> {
        Ok(Self::Sealed(Opener {
            socket: Socket::new(socket, silence, 256 * 1024)?,
            transport,
            nonce,
            record: vec![0; MAX_RECORD_BYTES],
            opened: vec![0; MAX_RECORD_BYTES],
            left: 0..0,
        }))
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<(), Ending> {
        match self {
            Self::Plain(socket) => socket.fill(out),
            Self::Sealed(opener) => opener.fill(out),
        }
    }
}

/// A socket that notices when its peer is silent. Only time in which the reader
/// really waited counts: a process that was itself stopped blames nobody.
pub(super) struct Socket {
    stream: TcpStream,
    silence: Duration,
    /// What came beyond what was asked for, in the same call.
    ahead: Vec<u8>,
    held: std::ops::Range<usize>,
}

impl Socket {
    fn new(stream: TcpStream, silence: Duration, ahead_bytes: usize) -> io::Result<Self> {
        stream.set_read_timeout(Some(silence / PATIENCE))?;
        Ok(Self {
            stream,
            silence,
            ahead: vec![0; ahead_bytes],
            held: 0..0,
        })
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<(), Ending> {
        let held = self.ahead.get(self.held.clone()).unwrap_or_default();
        let taken = hand_on(held, out);
        self.held.start += taken;
        let mut out = out.get_mut(taken..).unwrap_or_default();
        let mut waited = 0;
        while !out.is_empty() {
            let wanted = out.len();
            let mut parts = [IoSliceMut::new(out), IoSliceMut::new(&mut self.ahead)];
            match self.stream.read_vectored(&mut parts) {
                Ok(0) => return Err(Ending::Closed),
                Ok(read) => {
                    waited = 0;
                    self.held = 0..read.saturating_sub(wanted);
                    out = out.get_mut(read.min(wanted)..).unwrap_or_default();
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut if waited + 1 < PATIENCE => {
                        waited += 1;
                    }
                    ErrorKind::WouldBlock => return Err(Ending::Silent(self.silence)),
                    ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => {
                        return Err(Ending::Closed);
                    }
                    // Of TCP itself: what was sent has not been acknowledged.
                    ErrorKind::TimedOut => return Err(Ending::Silent(self.silence)),
                    _ => return Err(Ending::Failed(error)),
                },
            }
        }
        Ok(())
    }
}

/// Decrypts one direction of a link.
pub(super) struct Opener {
    socket: Socket,
    transport: Arc<StatelessTransportState>,
    nonce: u64,
    record: Vec<u8>,
    opened: Vec<u8>,
    left: std::ops::Range<usize>,
}

impl Opener {
    fn fill(&mut self, mut out: &mut [u8]) -> Result<(), Ending> {
        while !out.is_empty() {
            if self.left.is_empty() {
                let length = self.read_record()?;
                // Room for the tag too: then it is decrypted in its place.
                if length <= out.len() {
                    let written = self.open(length, Some(out))?;
                    out = out.get_mut(written..).unwrap_or_default();
                } else {
                    self.left = 0..self.open(length, None)?;
                }
                continue;
            }
            let left = self.opened.get(self.left.clone()).unwrap_or_default();
            let taken = left.len().min(out.len());
            let (here, after) = out.split_at_mut(taken);
            here.copy_from_slice(left.get(..taken).unwrap_or_default());
            self.left.start += taken;
            out = after;
        }
        Ok(())
    }

    /// The length of the next record, which then stands in `record`.
    fn read_record(&mut self) -> Result<usize, Ending> {
        let mut stated = [0; 2];
        self.socket.fill(&mut stated)?;
        let length = usize::from(u16::from_be_bytes(stated));
        if length <= TAG_BYTES {
            return Err(Ending::Unbelievable("a record without contents"));
        }
        let room = self.record.get_mut(..length);
        self.socket.fill(room.unwrap_or_default())?;
        Ok(length)
    }

    fn open(&mut self, length: usize, out: Option<&mut [u8]>) -> Result<usize, Ending> {
        let record = self.record.get(..length).unwrap_or_default();
        let out = out.unwrap_or(&mut self.opened);
        let opened = self.transport.read_message(self.nonce, record, out);
        self.nonce += 1;
        opened.map_err(|_| Ending::Unbelievable("a record that was not encrypted by it"))
    }
}
