//! What is asked of TCP: large buffers, no waiting for more to send, and an end
//! to connections whose other side is gone. A wish that the system refuses is
//! no error: the link works without, only slower.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// What a socket may hold on its way, in bytes: the product of 1 GB/s and 8 ms.
const BUFFER_BYTES: usize = 8 << 20;

/// Listens on an address that an earlier run may just have left.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    // Before the connection: the window's scale is agreed on at its start.
    enlarge(&socket);
    socket.bind(&address.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

/// Connects within a time.
pub(super) fn connect(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    enlarge(&socket);
    socket.connect_timeout(&address.into(), timeout)?;
    Ok(socket.into())
}

/// Makes a connection ready for a link: blocking, with `silence` as the longest
/// time that sent bytes may stay unacknowledged.
pub(super) fn prepare(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    let socket = SockRef::from(stream);
    let second = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new()
        .with_time((silence / 2).max(second))
        .with_interval((silence / 4).max(second));
    for (what, asked) in [
        ("TCP_NODELAY", socket.set_tcp_nodelay(true)),
        ("keep-alive", socket.set_tcp_keepalive(&keepalive)),
        #[cfg(target_os = "linux")]
        (
            "TCP_USER_TIMEOUT",
            socket.set_tcp_user_timeout(Some(silence)),
        ),
        #[cfg(target_os = "linux")]
        ("TCP_QUICKACK", socket.set_tcp_quickack(true)),
    ] {
        if let Err(error) = asked {
            tracing::debug!("the system refuses {what}: {error}");
        }
    }
    Ok(())
}

/// Asks for large buffers, unless the system grows them further by itself: a
/// size that is set ends this growth, and Linux cuts it to `net.core.*mem_max`.
fn enlarge(socket: &Socket) {
    if fixed_is_larger("wmem") {
        // Refused: then it is as it was.
        let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    }
    if fixed_is_larger("rmem") {
        let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    }
}

fn fixed_is_larger(which: &str) -> bool {
    let last_number = |path: String| -> Option<usize> {
        let text = std::fs::read_to_string(path).ok()?;
        text.split_whitespace().last()?.parse().ok()
    };
    let cap = last_number(format!("/proc/sys/net/core/{which}_max"));
    let grown = last_number(format!("/proc/sys/net/ipv4/tcp_{which}"));
    match (cap, grown) {
        // The kernel doubles what is asked for, for its own bookkeeping.
        (Some(cap), Some(grown)) => 2 * cap.min(BUFFER_BYTES) > grown,
        _ => true,
    }
}

/// Whether the other side has ended a connection on which nothing is expected,
/// or on which it may have begun to speak.
pub(super) fn is_gone(stream: &TcpStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return true;
    }
    let seen = stream.peek(&mut [0; 1]);
    let blocking = stream.set_nonblocking(false);
    match seen {
        Ok(bytes) => bytes == 0 || blocking.is_err(),
        Err(error) => {
            let waits = matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            );
            !waits || blocking.is_err()
        }
    }
}

/// Whether both ends are on one host: then compression takes its time from
/// those who produce and consume.
pub(super) fn is_same_host(stream: &TcpStream) -> bool {
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(here), Ok(there)) => here.ip() == there.ip() || there.ip().is_loopback(),
        _ => false,
    }
}
