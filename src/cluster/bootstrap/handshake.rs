//! How two processes believe each other: Noise (NN with a pre-shared key), whose
//! transcript binds the key to the hello of the one and the verdict of the other
//! (job, run, numbers of both). Every read has a length that is checked and a
//! deadline; strays are refused by the first bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use snow::{Builder, HandshakeState, StatelessTransportState};
use uuid::Uuid;

use super::hello::{Confirm, Hello, MAGIC, PROTOCOL, Verdict};
use crate::cluster::ClusterKey;
use crate::cluster::link::Session;

const PATTERN: &str = "Noise_NNpsk0_25519_AESGCM_SHA256";
/// No message of a handshake is longer, in bytes.
const MAX_MESSAGE_BYTES: usize = 8192;
/// Length of a control message: length, one byte, tag.
const CONTROL_BYTES: usize = 2 + 1 + 16;

/// The first byte of an answer.
const GO_ON: u8 = 0;
const WRONG_KEY: u8 = 1;
const WRONG_PROTOCOL: u8 = 2;

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it says nothing for {} s", .0.as_secs_f32())]
    Slow(Duration),
    #[error("it does not speak this protocol")]
    Stray,
    #[error("it speaks version {0} of the protocol")]
    Protocol(u16),
    #[error("it does not have the same key")]
    Key,
    #[error("it sent what cannot be believed: {0}")]
    Unbelievable(String),
    #[error("refused: {0}")]
    Refused(String),
    #[error("it is not ready yet")]
    Later,
}

impl From<snow::Error> for Trouble {
    fn from(error: snow::Error) -> Self {
        Self::Unbelievable(error.to_string())
    }
}

/// A control message that follows the handshake, before any frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    /// To process 0: all links are there.
    Ready,
    /// Of process 0: everybody is ready.
    Go,
}

impl Control {
    fn code(self) -> u8 {
        match self {
            Self::Ready => b'R',
            Self::Go => b'G',
        }
    }
}

/// A connection of a handshake, with a deadline for all of it.
struct Wire {
    socket: TcpStream,
    deadline: Instant,
    allowed: Duration,
}

impl Wire {
    fn new(socket: TcpStream, allowed: Duration) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(allowed))?;
        Ok(Self {
            socket,
            deadline: Instant::now() + allowed,
            allowed,
        })
    }

    fn fill(&mut self, mut out: &mut [u8]) -> Result<(), Trouble> {
        while !out.is_empty() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Trouble::Slow(self.allowed));
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.read(out) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(read) => out = out.get_mut(read..).unwrap_or_default(),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => {}
                    _ => return Err(error.into()),
                },
            }
        }
        Ok(())
    }

    fn message(&mut self) -> Result<Vec<u8>, Trouble> {
        let mut stated = [0; 2];
        self.fill(&mut stated)?;
        let length = usize::from(u16::from_be_bytes(stated));
        if length > MAX_MESSAGE_BYTES {
            return Err(Trouble::Unbelievable(format!(
                "a message of {length} bytes"
            )));
        }
        let mut message = vec![0; length];
        self.fill(&mut message)?;
        Ok(message)
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<(), Trouble> {
        Ok(self.socket.write_all(&parts.concat())?)
    }
}

fn with_length(message: &[u8]) -> Result<Vec<u8>, Trouble> {
    let length = u16::try_from(message.len());
    let length = length.map_err(|_| Trouble::Unbelievable("a message is too long".to_owned()))?;
    Ok([&length.to_be_bytes(), message].concat())
}

fn prologue() -> Vec<u8> {
    [&MAGIC[..], &PROTOCOL.to_be_bytes()].concat()
}

fn noise<'a>(key: &'a ClusterKey, prologue: &'a [u8]) -> Result<Builder<'a>, Trouble> {
    let params = PATTERN.parse()?;
    Ok(Builder::new(params).psk(0, key.psk())?.prologue(prologue)?)
}

/// A seed that nobody can guess.
fn random_seed(key: &ClusterKey) -> Result<u64, Trouble> {
    let pair = noise(key, &[])?.generate_keypair()?;
    Ok(xxhash_rust::xxh3::xxh3_64(&pair.private))
}

fn say(noise: &mut HandshakeState, what: &impl Serialize) -> Result<Vec<u8>, Trouble> {
    let mut message = vec![0; MAX_MESSAGE_BYTES];
    let length = noise.write_message(&text(what)?, &mut message)?;
    message.truncate(length);
    with_length(&message)
}

fn hear<T: DeserializeOwned>(noise: &mut HandshakeState, message: &[u8]) -> Result<T, Trouble> {
    let mut text = vec![0; MAX_MESSAGE_BYTES];
    let length = noise.read_message(message, &mut text);
    let length = length.map_err(|_| Trouble::Key)?;
    parse(text.get(..length).unwrap_or_default())
}

fn text(what: &impl Serialize) -> Result<Vec<u8>, Trouble> {
    serde_json::to_vec(what).map_err(|e| Trouble::Unbelievable(e.to_string()))
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Trouble> {
    serde_json::from_slice(text).map_err(|e| Trouble::Unbelievable(e.to_string()))
}

/// The side of the process that connects.
pub(super) fn ask(
    socket: TcpStream,
    allowed: Duration,
    key: &ClusterKey,
    hello: &Hello,
) -> Result<(Session, Uuid), Trouble> {
    let mut wire = Wire::new(socket, allowed)?;
    let prologue = prologue();
    let mut noise = noise(key, &prologue)?.build_initiator()?;
    let first = say(&mut noise, hello)?;
    wire.write(&[&prologue, &first])?;
    let mut answer = [0; MAGIC.len() + 3];
    wire.fill(&mut answer)?;
    let [magic @ .., p0, p1, status] = answer;
    let protocol = u16::from_be_bytes([p0, p1]);
    match status {
        _ if magic != MAGIC => return Err(Trouble::Stray),
        _ if protocol != PROTOCOL => return Err(Trouble::Protocol(protocol)),
        GO_ON => {}
        WRONG_KEY => return Err(Trouble::Key),
        _ => return Err(Trouble::Stray),
    }
    let answer = wire.message()?;
    let (run, seed_in) = match hear(&mut noise, &answer)? {
        Verdict::Welcome { run, seed } => (run, seed),
        Verdict::Later => return Err(Trouble::Later),
        Verdict::Refused(why) => return Err(Trouble::Refused(why)),
    };
    let transport = noise.into_stateless_transport_mode()?;
    let seed_out = random_seed(key)?;
    let confirm = text(&Confirm {
        run,
        seed: seed_out,
    })?;
    wire.write(&[&sealed(&transport, 0, &confirm)?])?;
    let session = Session {
        peer: hello.to,
        socket: wire.socket,
        transport: Arc::new(transport),
        sent: 1,
        received: 0,
        seed_out,
        seed_in,
    };
    Ok((session, run))
}

/// The side of the process that is connected to. `judge` says what a hello
/// deserves; the seed of a welcome is filled in here.
pub(super) fn answer(
    socket: TcpStream,
    allowed: Duration,
    key: &ClusterKey,
    judge: impl FnOnce(&Hello) -> Verdict,
) -> Result<(Session, Uuid), Trouble> {
    let mut wire = Wire::new(socket, allowed)?;
    let mut start = [0; MAGIC.len() + 2];
    let (magic, protocol) = start.split_at_mut(MAGIC.len());
    wire.fill(magic)?;
    if *magic != MAGIC {
        return Err(Trouble::Stray);
    }
    wire.fill(protocol)?;
    let protocol = u16::from_be_bytes([start[8], start[9]]);
    let prologue = prologue();
    if protocol != PROTOCOL {
        // It may not understand this; it is too old or too new for more.
        let _ = wire.write(&[&prologue, &[WRONG_PROTOCOL]]);
        return Err(Trouble::Protocol(protocol));
    }
    let mut noise = noise(key, &prologue)?.build_responder()?;
    let first = wire.message()?;
    let hello: Hello = match hear(&mut noise, &first) {
        Ok(hello) => hello,
        Err(trouble) => {
            if matches!(trouble, Trouble::Key) {
                // That it is refused is known either way.
                let _ = wire.write(&[&prologue, &[WRONG_KEY]]);
            }
            return Err(trouble);
        }
    };
    let mut verdict = judge(&hello);
    let mut seed_out = 0;
    if let Verdict::Welcome { seed, .. } = &mut verdict {
        seed_out = random_seed(key)?;
        *seed = seed_out;
    }
    let second = say(&mut noise, &verdict)?;
    wire.write(&[&prologue, &[GO_ON], &second])?;
    let run = match verdict {
        Verdict::Welcome { run, .. } => run,
        Verdict::Later => return Err(Trouble::Later),
        Verdict::Refused(why) => return Err(Trouble::Refused(why)),
    };
    let transport = noise.into_stateless_transport_mode()?;
    let confirm: Confirm = parse(&opened(&transport, 0, &wire.message()?)?)?;
    if confirm.run != run {
        return Err(Trouble::Unbelievable("it confirms another run".to_owned()));
    }
    let session = Session {
        peer: hello.from,
        socket: wire.socket,
        transport: Arc::new(transport),
        sent: 0,
        received: 1,
        seed_out,
        seed_in: confirm.seed,
    };
    Ok((session, run))
}

fn sealed(
    transport: &StatelessTransportState,
    nonce: u64,
    text: &[u8],
) -> Result<Vec<u8>, Trouble> {
    let mut message = vec![0; text.len() + 16];
    let length = transport.write_message(nonce, text, &mut message)?;
    message.truncate(length);
    with_length(&message)
}

fn opened(
    transport: &StatelessTransportState,
    nonce: u64,
    message: &[u8],
) -> Result<Vec<u8>, Trouble> {
    let mut text = vec![0; message.len()];
    let length = transport.read_message(nonce, message, &mut text);
    let length = length.map_err(|_| Trouble::Key)?;
    text.truncate(length);
    Ok(text)
}

/// Sends a control message.
pub(super) fn tell(session: &mut Session, control: Control) -> Result<(), Trouble> {
    let message = sealed(&session.transport, session.sent, &[control.code()])?;
    session.sent += 1;
    Ok(session.socket.write_all(&message)?)
}

/// Whether a control message has come. Never waits.
pub(super) fn has_told(session: &mut Session, control: Control) -> Result<bool, Trouble> {
    let mut message = [0; CONTROL_BYTES];
    session.socket.set_nonblocking(true)?;
    let seen = session.socket.peek(&mut message);
    session.socket.set_nonblocking(false)?;
    match seen {
        Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
        Ok(CONTROL_BYTES) => {}
        Ok(_) => return Ok(false),
        Err(error) => {
            return match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(false),
                _ => Err(error.into()),
            };
        }
    }
    session.socket.read_exact(&mut message)?;
    let [l0, l1, sealed @ ..] = message;
    if usize::from(u16::from_be_bytes([l0, l1])) != sealed.len() {
        return Err(Trouble::Unbelievable("no control message".to_owned()));
    }
    let told = opened(&session.transport, session.received, &sealed)?;
    session.received += 1;
    if told == [control.code()] {
        Ok(true)
    } else {
        Err(Trouble::Unbelievable(
            "an unknown control message".to_owned(),
        ))
    }
}
