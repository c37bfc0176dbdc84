//! Stopping a run: the first signal asks, the second one insists.

use std::sync::Arc;

use tokio::sync::watch;

use super::Exit;
use crate::telemetry::Progress;

/// Whether the user wants the run to end. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Cancel {
    asked: Arc<watch::Sender<bool>>,
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

impl Cancel {
    /// Not asked yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            asked: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Asks the run to end: what is being written is finished or abandoned
    /// cleanly.
    pub fn cancel(&self) {
        self.asked.send_replace(true);
    }

    /// Whether the run was asked to end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.asked.borrow()
    }

    /// Waits until the run is asked to end.
    pub async fn cancelled(&self) {
        // It fails only when the sender is gone, and this value holds it.
        let _ = self.asked.subscribe().wait_for(|asked| *asked).await;
    }
}

/// Watches for Ctrl-C and SIGTERM until the runtime ends.
pub(super) async fn watch_signals(cancel: Cancel, progress: Progress) {
    let Ok(mut signals) = Signals::new() else {
        return;
    };
    signals.next().await;
    cancel.cancel();
    progress.write_above(b"stopping; what is committed stays (again to stop at once)\n");
    signals.next().await;
    progress.finish();
    std::process::exit(i32::from(Exit::Interrupted.code()));
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn waiting_ends_when_asked_before_or_after() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let cancel = Cancel::new();
        let other = cancel.clone();
        assert!(!cancel.is_cancelled());
        runtime.block_on(async {
            let waiting = tokio::spawn(async move { other.cancelled().await });
            tokio::task::yield_now().await;
            cancel.cancel();
            waiting.await.unwrap();
            cancel.cancelled().await;
        });
        assert!(cancel.is_cancelled());
    }
}
