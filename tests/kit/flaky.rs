//! A line that breaks: connections to it arrive somewhere else, and the first ones are
//! cut after so many bytes, on the way there or on the way back.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a connection is cut.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut {
    /// After so many bytes of requests: what follows never arrives.
    Requests(u64),
    /// After so many bytes of answers: what was asked is done, and nobody hears of it.
    Answers(u64),
}

/// The address of a line, and how often it was cut.
pub(crate) struct FlakyLine {
    /// `host:port`.
    pub address: String,
    cuts: Arc<AtomicU64>,
}

impl FlakyLine {
    /// Passes everything on to `target`. The first connections are cut by `plan`; later
    /// ones hold.
    pub(crate) fn to(target: String, plan: Vec<Cut>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let cuts = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&cuts);
        std::thread::spawn(move || {
            let mut plan = plan.into_iter();
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(&target) else {
                    continue;
                };
                let (up, down) = match plan.next() {
                    Some(Cut::Requests(bytes)) => (bytes, u64::MAX),
                    Some(Cut::Answers(bytes)) => (u64::MAX, bytes),
                    None => (u64::MAX, u64::MAX),
                };
                if let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) {
                    pass_on(near, far, up, Arc::clone(&counted));
                    pass_on(far_too, near_too, down, Arc::clone(&counted));
                }
            }
        });
        Self { address, cuts }
    }

    /// How many connections were cut so far.
    pub(crate) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, mut left: u64, cuts: Arc<AtomicU64>) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let passed = left.min(read as u64) as usize;
            if to.write_all(&buffer[..passed]).is_err() {
                break;
            }
            left -= passed as u64;
            if passed < read {
                cuts.fetch_add(1, Ordering::Relaxed);
                let _ = from.shutdown(Shutdown::Both);
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
