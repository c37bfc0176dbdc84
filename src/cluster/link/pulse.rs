//! The threads that say, on each link that is silent otherwise, that this
//! process lives. One for each link: a peer that takes nothing must not keep
//! the others from hearing.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Link;

/// The threads that say that this process lives, until this is dropped.
pub(in crate::cluster) struct Pulse {
    stop: Vec<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pulse {
    /// Starts; a link is never silent for more than a quarter of `silence`.
    pub(in crate::cluster) fn start(links: &[Arc<Link>], silence: Duration) -> io::Result<Self> {
        let mut pulse = Self {
            stop: Vec::new(),
            threads: Vec::new(),
        };
        for link in links {
            let (stop, stopped) = channel();
            let link = Arc::clone(link);
            let thread = std::thread::Builder::new()
                .name(format!("link-pulse-{}", link.peer()))
                .stack_size(256 * 1024)
                .spawn(move || beat(&link, &stopped, silence / 8))?;
            pulse.stop.push(stop);
            pulse.threads.push(thread);
        }
        Ok(pulse)
    }
}

fn beat(link: &Link, stopped: &Receiver<()>, every: Duration) {
    while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        link.beat();
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.stop.clear();
        for thread in self.threads.drain(..) {
            // It cannot panic; if it did, its link has been told of.
            let _ = thread.join();
        }
    }
}
