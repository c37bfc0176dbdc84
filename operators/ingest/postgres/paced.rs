//! A TCP stream that is not woken for every packet of a long `COPY`.
//!
//! The server sends 8 KiB at a time, and a reader that keeps up would be woken
//! for each. While pacing is on, a receive that emptied the socket is followed
//! by a rest: the socket leaves the reactor, the kernel collects, and one
//! receive takes it all.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Receives of more than this are worth a wake-up.
const SMALL_RECEIVE: usize = 64 * 1024;
/// At 200 MB/s this collects some 200 KiB, less than the receive buffer.
const REST: Duration = Duration::from_millis(1);

/// Turns pacing on and off.
#[derive(Clone, Default)]
pub(super) struct Pace(Arc<AtomicBool>);

impl Pace {
    /// Turns it on or off.
    pub(super) fn set(&self, on: bool) {
        self.0.store(on, Ordering::Relaxed);
    }
}

enum State {
    Awake(TcpStream),
    Resting(std::net::TcpStream, Pin<Box<Sleep>>),
    /// The socket could not change between the two: the connection is over.
    Broken,
}

/// A TCP stream with rests.
pub(super) struct Paced {
    state: State,
    pace: Pace,
}

impl Paced {
    /// Paces `stream` while `pace` is on.
    pub(super) fn new(stream: TcpStream, pace: Pace) -> Self {
        Self {
            state: State::Awake(stream),
            pace,
        }
    }

    fn rest(&mut self) -> io::Result<()> {
        if let State::Awake(stream) = std::mem::replace(&mut self.state, State::Broken) {
            let rest = Box::pin(tokio::time::sleep(REST));
            self.state = State::Resting(stream.into_std()?, rest);
        }
        Ok(())
    }

    fn awake(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if let State::Resting(..) = self.state
            && let State::Resting(stream, _) = std::mem::replace(&mut self.state, State::Broken)
        {
            self.state = State::Awake(TcpStream::from_std(stream)?);
        }
        match &mut self.state {
            State::Awake(stream) => Ok(Pin::new(stream)),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let State::Resting(_, rest) = &mut self.state {
            ready!(rest.as_mut().poll(cx));
        }
        let before = buf.filled().len();
        ready!(self.awake()?.poll_read(cx, buf))?;
        let received = buf.filled().len() - before;
        let emptied = received > 0 && received < SMALL_RECEIVE && buf.remaining() > 0;
        if emptied && self.pace.0.load(Ordering::Relaxed) {
            self.rest()?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.awake()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.awake()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.awake()?.poll_shutdown(cx)
    }
}
