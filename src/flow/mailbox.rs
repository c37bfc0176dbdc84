//! The way from an asynchronous task to an operator.
//!
//! A sender may wait (the mailbox holds a bounded number of messages); the
//! operator never does: it takes what has arrived and is activated again when
//! more comes, also while its worker is parked.

use timely::scheduling::SyncActivator;
use tokio::sync::mpsc;

/// A bounded mailbox of an operator: `capacity` messages wait at most, and each
/// message activates the operator behind `activator`.
#[must_use]
pub fn mailbox<T>(activator: SyncActivator, capacity: usize) -> (Sender<T>, Mailbox<T>) {
    let (sender, messages) = mpsc::channel(capacity.max(1));
    (Sender { sender, activator }, Mailbox { messages })
}

/// The task's end of a mailbox.
#[derive(Debug)]
pub struct Sender<T> {
    sender: mpsc::Sender<T>,
    activator: SyncActivator,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            activator: self.activator.clone(),
        }
    }
}

impl<T> Sender<T> {
    /// Sends one message, waiting while the mailbox is full. Says whether the
    /// operator still listens.
    pub async fn send(&self, message: T) -> bool {
        let sent = self.sender.send(message).await.is_ok();
        self.wake();
        sent
    }

    /// Activates the operator without a message.
    pub fn wake(&self) {
        // It fails only when the worker is gone; then nobody is left to wake.
        let _ = self.activator.activate();
    }
}

/// The operator's end of a mailbox.
#[derive(Debug)]
pub struct Mailbox<T> {
    messages: mpsc::Receiver<T>,
}

impl<T> Mailbox<T> {
    /// The next message, if one has arrived.
    pub fn take(&mut self) -> Option<T> {
        self.messages.try_recv().ok()
    }
}
