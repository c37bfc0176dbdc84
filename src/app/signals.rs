//! Stopping a run: the first signal asks, the second one insists.

use super::Exit;
use crate::cancel::Cancel;
use crate::telemetry::Progress;

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
