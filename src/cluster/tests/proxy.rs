//! A network that fails: a proxy in front of one process.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Pieces of such a length are contents of frames, in their middle at least.
const LONG_BYTES: usize = 8 << 10;

/// A proxy in front of one process, which can stop carrying one or both ways.
pub(super) struct Proxy {
    pub(super) address: String,
    pairs: Arc<Mutex<Vec<(TcpStream, TcpStream)>>>,
    stopped: Arc<Mutex<Stopped>>,
}

#[derive(Default, Clone, Copy)]
pub(super) struct Stopped {
    pub(super) to: bool,
    pub(super) from: bool,
    pub(super) garble: bool,
    /// One bit of what comes next in a long piece is changed, once.
    pub(super) flip: bool,
    /// Takes nothing and closes nothing.
    pub(super) frozen: bool,
    /// Bytes per second in each direction, if they are limited.
    pub(super) rate: Option<u32>,
}

impl Proxy {
    pub(super) fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // What it holds itself would hide how slow it is.
        let small = socket2::SockRef::from(&listener).set_recv_buffer_size(64 << 10);
        small.unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap().to_string(),
            pairs: Arc::default(),
            stopped: Arc::default(),
        };
        let (pairs, stopped) = (Arc::clone(&proxy.pairs), Arc::clone(&proxy.stopped));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(&target) else {
                    continue;
                };
                let clone = |s: &TcpStream| s.try_clone().unwrap();
                pairs.lock().unwrap().push((clone(&near), clone(&far)));
                for (mut from, mut to, forth) in
                    [(clone(&near), clone(&far), true), (far, near, false)]
                {
                    let stopped = Arc::clone(&stopped);
                    std::thread::spawn(move || {
                        let mut bytes = [0; 64 << 10];
                        while let Ok(read @ 1..) = from.read(&mut bytes) {
                            let stopped = loop {
                                let mut now = stopped.lock().unwrap();
                                if !now.frozen {
                                    let seen = *now;
                                    now.flip &= read < LONG_BYTES;
                                    break seen;
                                }
                                drop(now);
                                std::thread::sleep(Duration::from_millis(5));
                            };
                            if let Some(rate) = stopped.rate {
                                let share = read as f64 / f64::from(rate);
                                std::thread::sleep(Duration::from_secs_f64(share));
                            }
                            if if forth { stopped.to } else { stopped.from } {
                                continue;
                            }
                            if stopped.garble || stopped.flip && read >= LONG_BYTES {
                                bytes[read / 2] ^= 1;
                            }
                            if to.write_all(&bytes[..read]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        proxy
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Stopped)) {
        change(&mut self.stopped.lock().unwrap());
    }

    pub(super) fn cut(&self) {
        for (near, far) in self.pairs.lock().unwrap().iter() {
            let _ = near.shutdown(Shutdown::Both);
            let _ = far.shutdown(Shutdown::Both);
        }
    }
}
