//! Batches on their way to the worker that must have them.
//!
//! Within a process they move as Rust objects, permits and all. Between
//! processes the sender keeps the permit until the receiver has acknowledged
//! (B4), and what a process may have outstanding is a window of bytes: timely's
//! own queues between processes have no bound.

use timely::dataflow::StreamVec;

use super::{Batches, Epoch};
use crate::batch::Batch;
use crate::budget::MemoryBudget;
use crate::cluster::Place;

/// What [`exchange`] needs to know.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Where the workers are.
    pub place: Place,
    /// What a process may have on its way to each other process, in bytes. A
    /// process must have set aside as much for each other process.
    pub window_bytes: u64,
    /// Pays for batches that arrived from other processes.
    pub budget: MemoryBudget,
    /// Where waiting for memory is done.
    pub runtime: tokio::runtime::Handle,
}

/// Brings each batch to the worker whose number stands beside it.
pub fn exchange<'scope>(
    _batches: StreamVec<'scope, Epoch, (usize, Batch)>,
    _plan: Exchange,
) -> Batches<'scope> {
    todo!()
}
