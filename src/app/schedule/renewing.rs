//! A lease is renewed on a thread of its own: the run has the main one.

use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::cancel::Cancel;
use crate::run::schedule::{Held, RENEWED};

/// A lease that is renewed in the background.
pub(super) struct Renewing {
    stop: oneshot::Sender<()>,
    task: JoinHandle<(Held, bool)>,
    forward: JoinHandle<()>,
}

impl Renewing {
    /// Renews `held`, and cancels the run when another has taken it, or when the
    /// daemon is to end.
    pub(super) fn start(runtime: &Runtime, held: Held, run: &Cancel, daemon: &Cancel) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (lost, asked, daemon) = (run.clone(), run.clone(), daemon.clone());
        Self {
            stop,
            task: runtime.spawn(renew(held, lost, stopped)),
            forward: runtime.spawn(async move {
                daemon.cancelled().await;
                asked.cancel();
            }),
        }
    }

    /// Ends renewing; the lease, and whether it is still ours.
    pub(super) fn end(self, runtime: &Runtime) -> (Option<Held>, bool) {
        self.forward.abort();
        let _ = self.stop.send(());
        match runtime.block_on(self.task) {
            Ok((held, ours)) => (Some(held), ours),
            Err(_) => (None, true),
        }
    }
}

async fn renew(mut held: Held, run: Cancel, mut stopped: oneshot::Receiver<()>) -> (Held, bool) {
    loop {
        tokio::select! {
            _ = &mut stopped => return (held, true),
            () = tokio::time::sleep(RENEWED) => {}
        }
        match held.renew().await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!("another daemon took this one for dead and runs instead; stopping");
                run.cancel();
                return (held, false);
            }
            // The run may well go on; if it does not, another takes over.
            Err(error) => tracing::debug!(%error, "the lease was not renewed"),
        }
    }
}
