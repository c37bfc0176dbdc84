//! One connection to one peer, after both have believed each other. timely
//! reads and writes it as a stream of its own; orders, notes and heartbeats
//! pass between its bytes. A link that ends otherwise than by a goodbye is told
//! of once, and its threads then wait for the end of the process: a dead peer
//! is one line, not a panic.

mod counters;
mod frame;
mod gate;
mod hub;
mod inbox;
mod outbox;
mod pulse;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use snow::StatelessTransportState;
use timely::communication::allocator::zero_copy::stream::Stream;

use self::counters::Tally;
use self::frame::{Kind, MAX_FRAME_BYTES};
use self::gate::Gate;
use self::inbox::{Arrived, Ending, Inbox, Source};
use self::outbox::{Outbox, Sealer};
use super::compress::Choice;
use super::membership::Safety;
use super::{ClusterError, Lost, Membership};

pub use self::counters::LinkCounters;
pub(super) use self::hub::Hub;
pub(super) use self::pulse::Pulse;

/// The longest order, in bytes.
pub const MAX_ORDER_BYTES: usize = 256 << 20;
/// The longest note to the leader, in bytes.
pub const MAX_NOTE_BYTES: usize = MAX_ORDER_BYTES;

/// What timely writes at once leaves in pieces of this length, in bytes: large
/// enough to forget the header, small enough to stay in the cache.
const PIECE_BYTES: usize = 256 << 10;
const _: () = assert!(PIECE_BYTES <= MAX_FRAME_BYTES);

/// How long a failed write waits for the reader to say what happened.
const EXPLANATION: Duration = Duration::from_secs(1);

/// A message to the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The process that wrote it.
    pub process: usize,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// What the handshake leaves behind.
pub(super) struct Session {
    pub(super) peer: usize,
    pub(super) socket: TcpStream,
    pub(super) transport: Arc<StatelessTransportState>,
    /// Messages that the handshake has sent and received by `transport`.
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Seeds of the checksums in both directions.
    pub(super) seed_out: u64,
    pub(super) seed_in: u64,
}

/// One connection to one peer.
pub(super) struct Link {
    peer: usize,
    address: String,
    encrypted: bool,
    hub: Arc<Hub>,
    outbox: Mutex<Outbox>,
    inbox: Mutex<Inbox>,
    /// Parts of an order or a note that is not complete.
    partial: Mutex<Vec<u8>>,
    tally: Tally,
    /// Since the last look of the heartbeat's thread.
    spoke: AtomicBool,
    said_goodbye: AtomicBool,
    heard_goodbye: AtomicBool,
}

impl Link {
    pub(super) fn new(
        session: Session,
        membership: &Membership,
        hub: Arc<Hub>,
    ) -> io::Result<Self> {
        let encrypted = membership.encrypted();
        let Session {
            peer,
            socket,
            transport,
            ..
        } = session;
        super::sockets::prepare(&socket, membership.silence)?;
        let silence = match membership.keeps(Safety::Patience) {
            true => membership.silence,
            false => Duration::MAX,
        };
        let choice = match membership.compress {
            true => Choice::new(super::sockets::is_same_host(&socket)),
            false => Choice::never(),
        };
        let reading = socket.try_clone()?;
        let (seal, source) = if encrypted {
            let sealer = Sealer::new(Arc::clone(&transport), session.sent);
            let source = Source::sealed(reading, silence, transport, session.received)?;
            (Some(sealer), source)
        } else {
            (None, Source::plain(reading, silence)?)
        };
        let gate = Gate::new(membership.process, peer, membership.workers);
        let checks = membership.keeps(Safety::Checksums);
        let inbox = Inbox::new(source, session.seed_in, gate, checks);
        Ok(Self {
            peer,
            address: membership.address(peer),
            encrypted,
            hub,
            outbox: Mutex::new(Outbox::new(socket, seal, session.seed_out, choice)),
            inbox: Mutex::new(inbox),
            partial: Mutex::default(),
            tally: Tally::default(),
            spoke: AtomicBool::new(false),
            said_goodbye: AtomicBool::new(false),
            heard_goodbye: AtomicBool::new(false),
        })
    }

    /// The peer's number.
    pub(super) fn peer(&self) -> usize {
        self.peer
    }

    /// What has crossed so far.
    pub(super) fn counters(&self) -> LinkCounters {
        self.tally.read(self.peer, &self.address, self.encrypted)
    }

    /// Sends an order in pieces; dataflows may write between them.
    pub(super) fn order(&self, order: &[u8]) -> Result<(), ClusterError> {
        self.tell_in_pieces(Kind::Order, order)
    }

    /// Sends a note, likewise.
    pub(super) fn note(&self, note: &[u8]) -> Result<(), ClusterError> {
        self.tell_in_pieces(Kind::Note, note)
    }

    fn tell_in_pieces(&self, kind: Kind, message: &[u8]) -> Result<(), ClusterError> {
        let mut rest = message;
        loop {
            let (piece, after) = rest.split_at(rest.len().min(PIECE_BYTES));
            rest = after;
            self.tell(kind, rest.is_empty(), piece)?;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Says that this process lives, if it has said nothing since it was last
    /// asked to.
    pub(super) fn beat(&self) {
        if self.spoke.swap(false, Ordering::Relaxed) {
            return;
        }
        // Locked: somebody is writing just now.
        if let Ok(mut outbox) = self.outbox.try_lock()
            && !self.said_goodbye.load(Ordering::SeqCst)
        {
            // The reader finds out, and can say why.
            let _ = outbox.send(Kind::Heartbeat, true, &[], &self.tally);
        }
    }

    /// Passes on, if that can be done at once, which process is lost.
    fn warn(&self, alarm: &[u8]) {
        for _ in 0..10 {
            if let Ok(mut outbox) = self.outbox.try_lock() {
                let quick = Some(Duration::from_millis(200));
                if !self.said_goodbye.load(Ordering::SeqCst)
                    && outbox.socket().set_write_timeout(quick).is_ok()
                {
                    // It was worth a try.
                    let _ = outbox.send(Kind::Alarm, true, alarm, &self.tally);
                }
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn tell(&self, kind: Kind, last: bool, contents: &[u8]) -> Result<(), ClusterError> {
        self.send(kind, last, contents).map_err(|error| {
            let reason = Ending::Failed(error).to_string();
            ClusterError::Lost(self.hub.lost(self.peer, reason))
        })
    }

    fn send(&self, kind: Kind, last: bool, contents: &[u8]) -> io::Result<()> {
        let mut outbox = self.outbox();
        self.spoke.store(true, Ordering::Relaxed);
        if kind == Kind::Goodbye {
            self.said_goodbye.store(true, Ordering::SeqCst);
        }
        outbox.send(kind, last, contents, &self.tally)
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Link::send`], for timely's thread: a peer that has said goodbye
    /// needs nothing more, and one that is lost ends the process.
    fn write(&self, kind: Kind, contents: &[u8]) {
        if let Err(error) = self.send(kind, true, contents) {
            if self.heard_goodbye.load(Ordering::SeqCst) {
                return;
            }
            // The reader has seen the same, or even an alarm that names another.
            std::thread::sleep(EXPLANATION);
            if !self.heard_goodbye.load(Ordering::SeqCst) {
                self.lose(&self.hub.lost(self.peer, Ending::Failed(error).to_string()));
            }
        }
    }

    /// Bytes for timely; none after the peer's goodbye.
    fn read(&self, out: &mut [u8]) -> usize {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match inbox.next(out, &self.tally) {
                Ok(Arrived::Dataflow(0) | Arrived::Heartbeat) => {}
                Ok(Arrived::Dataflow(bytes)) => return bytes,
                Ok(Arrived::Order(part, last)) => self.hear(part, last),
                Ok(Arrived::Note(part, last)) => self.read_note(part, last),
                Ok(Arrived::Alarm(alarm)) => self.lose(&self.hub.alarm(self.peer, alarm)),
                Ok(Arrived::Goodbye) => {
                    self.heard_goodbye.store(true, Ordering::SeqCst);
                    if self.peer == 0 {
                        self.hub.no_more_orders();
                    }
                    return 0;
                }
                Err(ending) => self.lose(&self.hub.lost(self.peer, ending.to_string())),
            }
        }
    }

    fn hear(&self, part: &[u8], last: bool) {
        if self.peer != 0 {
            self.disbelieve("an order, though it does not lead");
        }
        if let Some(order) = self.complete(part, last) {
            self.hub.order(order);
        }
    }

    fn read_note(&self, part: &[u8], last: bool) {
        if self.hub.process != 0 {
            self.disbelieve("a note, though this process does not lead");
        }
        if let Some(bytes) = self.complete(part, last) {
            self.hub.note(Note {
                process: self.peer,
                bytes,
            });
        }
    }

    /// The whole message, when its last part has come. No link carries orders and
    /// notes in the same direction.
    fn complete(&self, part: &[u8], last: bool) -> Option<Vec<u8>> {
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        if partial.len() + part.len() > MAX_ORDER_BYTES {
            self.disbelieve("a message that is too long");
        }
        partial.extend_from_slice(part);
        last.then(|| std::mem::take(&mut *partial))
    }

    fn disbelieve(&self, what: &'static str) -> ! {
        let reason = Ending::Unbelievable(what).to_string();
        self.lose(&self.hub.lost(self.peer, reason))
    }

    fn lose(&self, lost: &Lost) -> ! {
        self.hub.lose(lost)
    }
}

/// A link as timely sees it: a stream that never fails.
pub(super) struct LinkStream(pub(super) Arc<Link>);

impl Read for LinkStream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        Ok(self.0.read(out))
    }
}

impl Write for LinkStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes.get(..PIECE_BYTES).unwrap_or(bytes);
        self.0.write(Kind::Dataflow, piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for LinkStream {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(Arc::clone(&self.0)))
    }

    fn set_nonblocking(&self, _: bool) -> io::Result<()> {
        // timely asks for blocking sockets, which these are.
        Ok(())
    }

    fn shutdown(&self, _: Shutdown) -> io::Result<()> {
        self.0.write(Kind::Goodbye, &[]);
        Ok(())
    }
}
