//! The wish that a run ends: one value for whoever may ask it and whoever must heed it.
//!
//! Nothing that knows what a run is may enter here: stores, operators and verbs share it.

use std::sync::Arc;

use tokio::sync::watch;

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
