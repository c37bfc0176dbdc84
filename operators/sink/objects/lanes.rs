//! Which object waits where: small ones and large ones apart.

use std::sync::Arc;

use highwater::flow::Sender;
use highwater::store::objects::Listed;
use tokio::sync::{Semaphore, mpsc};

use super::copier::{CopyObjects, Outcome};
use super::operator::{Mail, Unsaved};
use super::share::Share;

/// Large objects that are copied side by side; their parts share the lane.
const LARGE_AT_ONCE: usize = 4;

/// An object that waits for its turn.
pub(super) struct Entry {
    pub(super) object: Listed,
    pub(super) share: Share,
}

/// Copies what comes until no more comes.
pub(super) async fn copy_all(
    plan: CopyObjects,
    mut entries: mpsc::UnboundedReceiver<Entry>,
    again: mpsc::WeakUnboundedSender<Entry>,
    mail: Sender<Mail>,
) {
    let (small, waiting_small) = mpsc::unbounded_channel();
    let (large, waiting_large) = mpsc::unbounded_channel();
    let lane = Waiting {
        plan: plan.clone(),
        again,
        mail,
    };
    tokio::spawn(lane.clone().copy_small_ones(waiting_small));
    tokio::spawn(lane.copy_large_ones(waiting_large));
    while let Some(entry) = entries.recv().await {
        let lane = if plan.is_large(&entry.object) {
            &large
        } else {
            &small
        };
        // Both tasks live as long as this one.
        let _ = lane.send(entry);
    }
}

#[derive(Clone)]
struct Waiting {
    plan: CopyObjects,
    again: mpsc::WeakUnboundedSender<Entry>,
    mail: Sender<Mail>,
}

impl Waiting {
    async fn copy_small_ones(self, mut entries: mpsc::UnboundedReceiver<Entry>) {
        while let Some(entry) = entries.recv().await {
            let cost = self.plan.cost_bytes(&entry.object);
            let paid = self.plan.small.budget.take(cost).await;
            let waiting = self.clone();
            tokio::spawn(async move {
                let bytes = cost.max(paid.bytes());
                let outcome = waiting.plan.copy(entry.object, Some(bytes)).await;
                drop(paid);
                waiting.over(entry.share, outcome).await;
            });
        }
    }

    async fn copy_large_ones(self, mut entries: mpsc::UnboundedReceiver<Entry>) {
        let turns = Arc::new(Semaphore::new(LARGE_AT_ONCE));
        while let Some(entry) = entries.recv().await {
            let turn = Arc::clone(&turns).acquire_owned().await;
            let waiting = self.clone();
            tokio::spawn(async move {
                let outcome = waiting.plan.copy(entry.object, None).await;
                drop(turn);
                waiting.over(entry.share, outcome).await;
            });
        }
    }

    async fn over(&self, share: Share, outcome: Outcome) {
        let copied = match outcome {
            Outcome::Copied(record) => Some(Unsaved {
                record,
                _share: share,
            }),
            Outcome::Over => None,
            Outcome::Again(object) => {
                // The operator waits for this object, so it still listens.
                if let Some(again) = self.again.upgrade() {
                    let _ = again.send(Entry { object, share });
                }
                return;
            }
        };
        // Without the operator the run is already over.
        let _ = self.mail.send(Mail::Done(copied)).await;
    }
}
