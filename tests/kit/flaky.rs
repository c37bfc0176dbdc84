//! A line that breaks: connections to it arrive somewhere else, and the first ones are
//! cut after so many bytes, on the way there or on the way back.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Where a connection is cut.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut {
    /// After so many bytes of requests: what follows never arrives.
    Requests(u64),
    /// After so many bytes of answers: what was asked is done, and nobody hears of it.
    Answers(u64),
}

/// Where the connections to come are cut, and how often that happened.
#[derive(Default)]
struct Plan {
    cuts: Mutex<VecDeque<Cut>>,
    done: AtomicU64,
}

/// The address of a line, and how often it was cut.
pub(crate) struct FlakyLine {
    /// `host:port`.
    pub address: String,
    plan: Arc<Plan>,
}

impl FlakyLine {
    /// Passes everything on to `target`. The first connections over which something is
    /// asked are cut by `cuts`, one after the other; later ones hold. A connection that
    /// ends before it could be cut leaves its cut to the next one.
    pub(crate) fn to(target: String, cuts: Vec<Cut>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let plan = Arc::new(Plan {
            cuts: Mutex::new(cuts.into()),
            ..Plan::default()
        });
        let shared = Arc::clone(&plan);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let (target, plan) = (target.clone(), Arc::clone(&shared));
                std::thread::spawn(move || plan.connection(near, &target));
            }
        });
        Self { address, plan }
    }

    /// How many connections were cut so far.
    pub(crate) fn cuts(&self) -> u64 {
        self.plan.done.load(Ordering::Relaxed)
    }
}

impl Plan {
    /// One connection, from its first byte on: clients open some that they never use.
    fn connection(&self, near: TcpStream, target: &str) -> Option<()> {
        near.peek(&mut [0]).ok().filter(|bytes| *bytes > 0)?;
        let far = TcpStream::connect(target).ok()?;
        let cut = self.cuts().pop_front();
        let (up, down) = match cut {
            Some(Cut::Requests(bytes)) => (bytes, u64::MAX),
            Some(Cut::Answers(bytes)) => (u64::MAX, bytes),
            None => (u64::MAX, u64::MAX),
        };
        let (near_too, far_too) = (near.try_clone().ok()?, far.try_clone().ok()?);
        let was_cut = std::thread::scope(|scope| {
            let requests = scope.spawn(|| self.pass_on(near, far, up));
            self.pass_on(far_too, near_too, down) | requests.join().is_ok_and(|cut| cut)
        });
        if let Some(cut) = cut.filter(|_| !was_cut) {
            self.cuts().push_front(cut);
        }
        Some(())
    }

    /// Passes on what arrives until it ends, or so many bytes of it; whether it was cut.
    fn pass_on(&self, mut from: TcpStream, mut to: TcpStream, mut left: u64) -> bool {
        let mut buffer = vec![0; 64 << 10];
        let mut was_cut = false;
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let passed = left.min(read as u64) as usize;
            if to.write_all(&buffer[..passed]).is_err() {
                break;
            }
            left -= passed as u64;
            was_cut = passed < read;
            if was_cut {
                self.done.fetch_add(1, Ordering::Relaxed);
                let _ = from.shutdown(Shutdown::Both);
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        was_cut
    }

    fn cuts(&self) -> MutexGuard<'_, VecDeque<Cut>> {
        self.cuts.lock().expect("nobody panics with it")
    }
}
