//! Credit between processes, in bytes (B4). All workers of a process share one
//! window per other process; who found it closed waits in line, so that a large
//! batch is not overtaken for ever by small ones. Only numbers enter: what is
//! waiting stays with its operator.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use timely::scheduling::SyncActivator;

/// The windows of this process, one for each process of the run.
#[derive(Debug)]
pub(super) struct Windows {
    window_bytes: u64,
    members: AtomicU64,
    windows: Vec<Mutex<Window>>,
}

#[derive(Debug, Default)]
struct Window {
    outstanding_bytes: u64,
    peak_bytes: u64,
    /// Members that found the window closed, the longest wait first.
    waiting: VecDeque<(u64, SyncActivator)>,
}

impl Windows {
    /// Windows of `window_bytes` to each of so many processes.
    pub(super) fn new(window_bytes: u64, processes: usize) -> Self {
        Self {
            window_bytes,
            members: AtomicU64::new(0),
            windows: (0..processes).map(|_| Mutex::default()).collect(),
        }
    }

    /// A number under which an operator stands in line.
    pub(super) fn member(&self) -> u64 {
        self.members.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes credit for `bytes` to `process` if `member` is next in line and
    /// they fit; what is larger than the window fits when nothing else is
    /// outstanding. Otherwise `member` stands in line and `wake` is activated
    /// when it should try again.
    pub(super) fn take(
        &self,
        process: usize,
        member: u64,
        bytes: u64,
        wake: &SyncActivator,
    ) -> bool {
        let Some(mut window) = self.lock(process) else {
            return true;
        };
        let next = window
            .waiting
            .front()
            .is_none_or(|(first, _)| *first == member);
        let after = window.outstanding_bytes.saturating_add(bytes);
        let fits = window.outstanding_bytes == 0 || after <= self.window_bytes;
        if !(next && fits) {
            if !window.waiting.iter().any(|(waits, _)| *waits == member) {
                window.waiting.push_back((member, wake.clone()));
            }
            return false;
        }
        window.outstanding_bytes = after;
        window.peak_bytes = window.peak_bytes.max(after);
        if window.waiting.pop_front().is_some() {
            window.wake_next();
        }
        true
    }

    /// Gives back credit for what `process` has acknowledged.
    pub(super) fn give_back(&self, process: usize, bytes: u64) {
        if let Some(mut window) = self.lock(process) {
            window.outstanding_bytes = window.outstanding_bytes.saturating_sub(bytes);
            window.wake_next();
        }
    }

    /// Leaves the line of every window.
    pub(super) fn leave(&self, member: u64) {
        for process in 0..self.windows.len() {
            if let Some(mut window) = self.lock(process) {
                window.waiting.retain(|(waits, _)| *waits != member);
                window.wake_next();
            }
        }
    }

    /// The most that was outstanding to one process at a time.
    pub(super) fn peak_bytes(&self) -> u64 {
        (0..self.windows.len())
            .filter_map(|process| Some(self.lock(process)?.peak_bytes))
            .max()
            .unwrap_or(0)
    }

    /// What is outstanding now, to all processes.
    pub(super) fn outstanding_bytes(&self) -> u64 {
        (0..self.windows.len())
            .filter_map(|process| Some(self.lock(process)?.outstanding_bytes))
            .sum()
    }

    fn lock(&self, process: usize) -> Option<MutexGuard<'_, Window>> {
        let window = self.windows.get(process)?;
        Some(window.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Window {
    fn wake_next(&self) {
        if let Some((_, next)) = self.waiting.front() {
            // It fails only when the worker is gone; then the run is over.
            let _ = next.activate();
        }
    }
}
