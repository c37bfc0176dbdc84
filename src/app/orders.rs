//! How the first process of a run has the others do the same: one order, one
//! dataflow. Orders and notes are JSON, as rare and small as what ends up in the
//! log.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Exit, Failure, RunContext};
use crate::cancel::Cancel;
use crate::cluster::{Crew, Note};

/// What the first process tells the others.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    /// An order of the pipeline's own.
    Order(Value),
    /// The run is over, with this exit.
    End(Exit),
}

/// What another process tells the first one.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Noted {
    /// What it has to say of the last order.
    Reply(Value),
    /// Somebody wants the run to end.
    Stop,
    /// It cannot go on, for this reason.
    Failed(String),
}

/// How long a process that is told of the end may go on with an order. It hangs
/// there only if the first process could not do its part.
const AFTER_END: Duration = Duration::from_secs(5);

/// What a process hears from the others.
#[derive(Debug)]
pub(super) struct Heard {
    /// To the first process: replies, by process.
    replies: Mutex<Receiver<(usize, Value)>>,
    /// To the others: what comes next.
    orders: Mutex<Receiver<Result<Value, Exit>>>,
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
        let replies = self.heard.replies.lock();
        let replies = replies.unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        for _ in 1..self.crew.place().processes {
            let (_, reply) = replies.recv().map_err(|_| silent())?;
            found.push(serde_json::from_value(reply).map_err(|error| unspeakable(&error))?);
        }
        Ok(found)
    }

    /// The next order, for a process that follows; or the exit with which the run
    /// is over.
    ///
    /// # Errors
    /// The order cannot be understood, or the first process is gone.
    pub fn next_order<T: DeserializeOwned>(&self) -> Result<Result<T, Exit>, Failure> {
        let orders = self.heard.orders.lock();
        let orders = orders.unwrap_or_else(PoisonError::into_inner);
        match orders.recv() {
            Ok(Ok(order)) => serde_json::from_value(order)
                .map(Ok)
                .map_err(|error| unspeakable(&error)),
            Ok(Err(exit)) => {
                self.heard.ended.store(true, Ordering::Relaxed);
                Ok(Err(exit))
            }
            Err(_) => Err(silent()),
        }
    }

    /// Replies to the last order.
    ///
    /// # Errors
    /// The reply cannot be sent.
    pub fn reply(&self, reply: &impl Serialize) -> Result<(), Failure> {
        let reply = serde_json::to_value(reply).map_err(|error| unspeakable(&error))?;
        note(&self.crew, &Noted::Reply(reply))
    }

    /// Tells every other process that the run is over. One that is gone needs not
    /// be told.
    pub(super) fn end(&self, exit: Exit) {
        let place = self.crew.place();
        if place.processes > 1 && place.leads() {
            let _ = tell(&self.crew, &Told::End(exit));
        }
    }

    /// Tells the first process that this one cannot go on.
    pub(super) fn give_up(&self, failure: &Failure) {
        let _ = note(&self.crew, &Noted::Failed(failure.message.clone()));
    }

    /// Asks the first process to end the run.
    pub(super) fn ask_to_stop(crew: &Crew) {
        let _ = note(crew, &Noted::Stop);
    }
}

fn tell(crew: &Crew, told: &Told) -> Result<(), Failure> {
    let told = serde_json::to_vec(told).map_err(|error| unspeakable(&error))?;
    Ok(crew.tell(&told)?)
}

fn note(crew: &Crew, noted: &Noted) -> Result<(), Failure> {
    let noted = serde_json::to_vec(noted).map_err(|error| unspeakable(&error))?;
    Ok(crew.tell_leader(&noted)?)
}

fn unspeakable(error: &serde_json::Error) -> Failure {
    Failure::failed("processes of this run do not understand each other; please report this")
        .caused_by(error)
}

fn silent() -> Failure {
    Failure::retry("another process of this run ended without a word")
}

impl Heard {
    /// Listens on a thread of its own, so that the end is heard while an order is
    /// being followed. `failed` is told, with its number, of a process that cannot
    /// go on.
    pub(super) fn listen(
        crew: &Crew,
        cancel: &Cancel,
        failed: impl Fn(usize, &str) + Send + 'static,
    ) -> Self {
        let (to_replies, replies) = channel();
        let (to_orders, orders) = channel();
        let ended = Arc::new(AtomicBool::new(false));
        if let Some(notes) = crew.take_notes() {
            let cancel = cancel.clone();
            std::thread::spawn(move || hear_notes(&notes, &to_replies, &cancel, failed));
        }
        if let Some(told) = crew.take_orders() {
            let taken = Arc::clone(&ended);
            std::thread::spawn(move || hear_orders(&told, &to_orders, &taken));
        }
        Self {
            replies: Mutex::new(replies),
            orders: Mutex::new(orders),
            ended,
        }
    }
}

fn hear_notes(
    notes: &Receiver<Note>,
    replies: &Sender<(usize, Value)>,
    cancel: &Cancel,
    failed: impl Fn(usize, &str),
) {
    while let Ok(Note { process, bytes }) = notes.recv() {
        match serde_json::from_slice(&bytes) {
            // Nobody waits for a reply when the run is over.
            Ok(Noted::Reply(reply)) => drop(replies.send((process, reply))),
            Ok(Noted::Stop) => cancel.cancel(),
            Ok(Noted::Failed(reason)) => failed(process, &reason),
            Err(error) => tracing::error!(%error, process, "a note cannot be understood"),
        }
    }
}

fn hear_orders(told: &Receiver<Vec<u8>>, orders: &Sender<Result<Value, Exit>>, taken: &AtomicBool) {
    while let Ok(told) = told.recv() {
        match serde_json::from_slice(&told) {
            Ok(Told::Order(order)) => drop(orders.send(Ok(order))),
            Ok(Told::End(exit)) => return end(exit, orders, taken),
            Err(error) => tracing::error!(%error, "an order cannot be understood"),
        }
    }
}

fn end(exit: Exit, orders: &Sender<Result<Value, Exit>>, taken: &AtomicBool) {
    let _ = orders.send(Err(exit));
    std::thread::sleep(AFTER_END);
    if !taken.load(Ordering::Relaxed) {
        std::process::exit(i32::from(exit.code()));
    }
}
