//! How the first process of a run has the others do the same: one order, one
//! dataflow. Orders and replies are JSON, as rare and small as what ends up in
//! the log.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Exit, Failure, RunContext};
use crate::cluster::Crew;

/// What the first process tells the others.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    /// An order of the pipeline's own.
    Order(serde_json::Value),
    /// The run is over, with this exit.
    End(Exit),
}

/// How long a process that is told of the end may go on with an order. It hangs
/// there only if the first process could not do its part.
const AFTER_END: Duration = Duration::from_secs(5);

/// The orders of a process that follows.
#[derive(Debug)]
pub(super) struct Orders {
    told: Receiver<Result<serde_json::Value, Exit>>,
    /// Set when the end was taken notice of.
    ended: Arc<AtomicBool>,
}

impl RunContext {
    /// Has every other process do the same. Nothing happens where there is none.
    ///
    /// # Errors
    /// The order cannot be sent.
    pub fn order(&self, order: &impl Serialize) -> Result<(), Failure> {
        if self.crew.place().processes == 1 {
            return Ok(());
        }
        let order = serde_json::to_value(order).map_err(|error| unspeakable(&error))?;
        tell(&self.crew, &Told::Order(order))
    }

    /// What each of the other processes has to say of the last order.
    ///
    /// # Errors
    /// A reply cannot be understood, or a process is gone.
    pub fn replies<T: DeserializeOwned>(&self) -> Result<Vec<T>, Failure> {
        let replies = self.crew.replies()?;
        let replies = replies.iter().map(|reply| serde_json::from_slice(reply));
        replies
            .collect::<Result<_, _>>()
            .map_err(|error| unspeakable(&error))
    }

    /// The next order, for a process that follows.
    ///
    /// # Errors
    /// The exit with which the run is over.
    pub fn next_order<T: DeserializeOwned>(&self) -> Result<Result<T, Exit>, Failure> {
        let orders = self.orders.lock();
        let mut orders = orders.unwrap_or_else(PoisonError::into_inner);
        let orders = orders.get_or_insert_with(|| Orders::listen(&self.crew));
        match orders.told.recv() {
            Ok(Ok(order)) => serde_json::from_value(order)
                .map(Ok)
                .map_err(|error| unspeakable(&error)),
            Ok(Err(exit)) => {
                orders.ended.store(true, Ordering::Relaxed);
                Ok(Err(exit))
            }
            Err(_) => Err(Failure::retry("the first process ended without a word")),
        }
    }

    /// Replies to the last order.
    ///
    /// # Errors
    /// The reply cannot be sent.
    pub fn reply(&self, reply: &impl Serialize) -> Result<(), Failure> {
        let reply = serde_json::to_vec(reply).map_err(|error| unspeakable(&error))?;
        Ok(self.crew.reply(&reply)?)
    }

    /// Tells every other process that the run is over. They cannot be told more
    /// than once, and a process that is gone needs not be told.
    pub(super) fn end(&self, exit: Exit) {
        let place = self.crew.place();
        if place.processes > 1 && place.leads() {
            let _ = tell(&self.crew, &Told::End(exit));
        }
    }
}

fn tell(crew: &Crew, told: &Told) -> Result<(), Failure> {
    let told = serde_json::to_vec(told).map_err(|error| unspeakable(&error))?;
    Ok(crew.tell(&told)?)
}

fn unspeakable(error: &serde_json::Error) -> Failure {
    Failure::failed("processes of this run do not understand each other; please report this")
        .caused_by(error)
}

impl Orders {
    /// Hears orders on a thread of its own, so that the end is heard while an
    /// order is being followed.
    fn listen(crew: &Arc<Crew>) -> Self {
        let (heard, told) = channel();
        let ended = Arc::new(AtomicBool::new(false));
        let (crew, taken) = (Arc::downgrade(crew), Arc::clone(&ended));
        std::thread::spawn(move || {
            while let Some(told) = crew.upgrade().and_then(|crew| crew.hear()) {
                match serde_json::from_slice(&told) {
                    Ok(Told::Order(order)) => {
                        if heard.send(Ok(order)).is_err() {
                            return;
                        }
                    }
                    Ok(Told::End(exit)) => return end(exit, &heard, &taken),
                    Err(error) => tracing::error!(%error, "an order cannot be understood"),
                }
            }
        });
        Self { told, ended }
    }
}

fn end(exit: Exit, heard: &Sender<Result<serde_json::Value, Exit>>, taken: &AtomicBool) {
    if heard.send(Err(exit)).is_err() {
        return;
    }
    std::thread::sleep(AFTER_END);
    if !taken.load(Ordering::Relaxed) {
        std::process::exit(i32::from(exit.code()));
    }
}
