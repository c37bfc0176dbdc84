//! What has crossed a link, as a report or a metric wants it.

use std::sync::atomic::{AtomicU64, Ordering};

/// What has crossed the link to one peer since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkCounters {
    /// The peer's number.
    pub process: usize,
    /// The peer's address.
    pub address: String,
    /// Whether what crosses is encrypted.
    pub encrypted: bool,
    /// Bytes to the peer, before compression.
    pub raw_bytes: u64,
    /// Bytes to the peer, after compression; headers and encryption not counted.
    pub sent_bytes: u64,
    /// Frames to the peer.
    pub frames: u64,
    /// Frames to the peer that were compressed.
    pub compressed_frames: u64,
    /// Bytes from the peer, before they were decompressed.
    pub received_bytes: u64,
    /// Bytes from the peer, after they were decompressed.
    pub received_raw_bytes: u64,
    /// Frames from the peer.
    pub received_frames: u64,
    /// Time in which writing to the socket did not return, in nanoseconds.
    pub writing_nanos: u64,
    /// Time in LZ4 for sending, samples included, in nanoseconds.
    pub compressing_nanos: u64,
}

/// The same, while it is counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) raw: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) frames: AtomicU64,
    pub(super) compressed: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) received_raw: AtomicU64,
    pub(super) received_frames: AtomicU64,
    pub(super) writing: AtomicU64,
    pub(super) compressing: AtomicU64,
}

/// Adds to a counter that nothing else is ordered by.
pub(super) fn add(counter: &AtomicU64, what: usize) {
    counter.fetch_add(u64::try_from(what).unwrap_or(u64::MAX), Ordering::Relaxed);
}

impl Tally {
    pub(super) fn read(&self, process: usize, address: &str, encrypted: bool) -> LinkCounters {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LinkCounters {
            process,
            address: address.to_owned(),
            encrypted,
            raw_bytes: of(&self.raw),
            sent_bytes: of(&self.sent),
            frames: of(&self.frames),
            compressed_frames: of(&self.compressed),
            received_bytes: of(&self.received),
            received_raw_bytes: of(&self.received_raw),
            received_frames: of(&self.received_frames),
            writing_nanos: of(&self.writing),
            compressing_nanos: of(&self.compressing),
        }
    }
}
