//! What all links of a process share: where orders and notes go, and the one
//! moment in which a process learns that the run is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::{Link, Note};
use crate::cluster::Lost;

/// The longest reason that an alarm carries, in bytes.
const MAX_REASON_BYTES: usize = 1024;

/// What all links of a process share.
pub(in crate::cluster) struct Hub {
    pub(super) process: usize,
    addresses: Vec<String>,
    lost: Arc<dyn Fn(&Lost) + Send + Sync>,
    told: AtomicBool,
    links: OnceLock<Vec<Weak<Link>>>,
    orders: Mutex<Option<Sender<Vec<u8>>>>,
    notes: Mutex<Sender<Note>>,
}

impl Hub {
    pub(in crate::cluster) fn new(
        process: usize,
        addresses: Vec<String>,
        lost: Arc<dyn Fn(&Lost) + Send + Sync>,
        orders: Sender<Vec<u8>>,
        notes: Sender<Note>,
    ) -> Self {
        Self {
            process,
            addresses,
            lost,
            told: AtomicBool::new(false),
            links: OnceLock::new(),
            orders: Mutex::new(Some(orders)),
            notes: Mutex::new(notes),
        }
    }

    /// Says which links there are, once.
    pub(in crate::cluster) fn know(&self, links: &[Arc<Link>]) {
        // A second time changes nothing.
        let _ = self.links.set(links.iter().map(Arc::downgrade).collect());
    }

    pub(super) fn order(&self, order: Vec<u8>) {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(orders) = orders.as_ref() {
            // Nobody listens any more: the process is at its end.
            let _ = orders.send(order);
        }
    }

    /// The leader gives no more orders.
    pub(super) fn no_more_orders(&self) {
        *self.orders.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(in crate::cluster) fn note(&self, note: Note) {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        // As above.
        let _ = notes.send(note);
    }

    /// How this process calls another one.
    pub(super) fn lost(&self, process: usize, reason: String) -> Lost {
        let address = self.addresses.get(process).cloned().unwrap_or_default();
        Lost {
            process,
            address,
            reason,
        }
    }

    /// What an alarm of a peer means here.
    pub(super) fn alarm(&self, peer: usize, alarm: &[u8]) -> Lost {
        let Some((process, reason)) = alarm.split_first_chunk::<4>() else {
            return self.lost(peer, "it gave up without saying why".to_owned());
        };
        let process = usize::try_from(u32::from_le_bytes(*process)).unwrap_or(usize::MAX);
        let reason = reason.get(..MAX_REASON_BYTES).unwrap_or(reason);
        let reason: String = String::from_utf8_lossy(reason)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        if process == self.process || process >= self.addresses.len() {
            return self.lost(peer, format!("it counts this process as lost: {reason}"));
        }
        self.lost(process, format!("{reason} (found by process {peer})"))
    }

    /// Tells of a loss, once, the other processes first, so that all of them
    /// name the same one. The calling thread never comes back: timely would
    /// panic in it.
    pub(super) fn lose(&self, lost: &Lost) -> ! {
        if !self.told.swap(true, Ordering::SeqCst) {
            let number = u32::try_from(lost.process).unwrap_or(u32::MAX);
            let mut alarm = number.to_le_bytes().to_vec();
            alarm.extend(lost.reason.bytes().take(MAX_REASON_BYTES));
            for link in self.links.get().into_iter().flatten() {
                if let Some(link) = link.upgrade() {
                    link.warn(&alarm);
                }
            }
            (self.lost)(lost);
        }
        loop {
            std::thread::park();
        }
    }
}
