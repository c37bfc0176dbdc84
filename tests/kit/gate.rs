//! A line that holds: connections to it arrive at a ChromaDB server, so many requests that
//! write get through, and the next one waits for ever. Whoever sent it is then known to
//! have done so much and no more, and may be killed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// The address of a line, and whether it holds a request.
pub(crate) struct Gate {
    address: String,
    line: Arc<Line>,
}

/// What all connections share.
struct Line {
    target: String,
    /// Requests that write and may still pass.
    left: Mutex<u64>,
    holds: AtomicBool,
}

/// A request, to be passed on as it is.
struct Request {
    bytes: Vec<u8>,
    writes: bool,
}

impl Gate {
    /// Passes everything on to `target`, and so many requests that write.
    pub(crate) fn to(target: String, writes: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let line = Arc::new(Line {
            target,
            left: Mutex::new(writes),
            holds: AtomicBool::new(false),
        });
        let shared = Arc::clone(&line);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let line = Arc::clone(&shared);
                std::thread::spawn(move || line.connection(near));
            }
        });
        Self { address, line }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether a request waits: all that were sent before it have been answered.
    pub(crate) fn holds(&self) -> bool {
        self.line.holds.load(Ordering::Relaxed)
    }
}

impl Line {
    /// One connection: its requests by themselves, the answers as they come.
    fn connection(&self, near: TcpStream) -> Option<()> {
        let mut far = TcpStream::connect(&self.target).ok()?;
        let (mut answers, mut back) = (far.try_clone().ok()?, near.try_clone().ok()?);
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut answers, &mut back);
            let _ = back.shutdown(Shutdown::Both);
        });
        let mut near = BufReader::new(near);
        while let Some(request) = read_request(&mut near) {
            if request.writes && !self.lets_through() {
                self.holds.store(true, Ordering::Relaxed);
                // Until whoever asked is gone.
                let _ = near.fill_buf();
                break;
            }
            if far.write_all(&request.bytes).is_err() {
                break;
            }
        }
        let _ = far.shutdown(Shutdown::Both);
        Some(())
    }

    fn lets_through(&self) -> bool {
        let mut left = self.left.lock().expect("nobody panics with it");
        let less = left.checked_sub(1);
        *left = less.unwrap_or(0);
        less.is_some()
    }
}

/// The next request; `None` where the connection ends.
fn read_request(near: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    let mut bytes = Vec::new();
    let mut length = 0_usize;
    let mut writes = false;
    while line != "\r\n" {
        line.clear();
        near.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if bytes.is_empty() {
            let path = line.split(' ').nth(1).unwrap_or_default();
            // PUT: what a collection says of itself.
            writes =
                line.starts_with("PUT ") || path.ends_with("/upsert") || path.ends_with("/delete");
        }
        bytes.extend_from_slice(line.as_bytes());
        let header = line.to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let head = bytes.len();
    bytes.resize(head + length, 0);
    near.read_exact(&mut bytes[head..]).ok()?;
    Some(Request { bytes, writes })
}
