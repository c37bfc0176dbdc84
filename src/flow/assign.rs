//! Hands splits to workers as they ask for more, and closes epochs.
//!
//! One instance works, on worker 0. A worker that is done with a split asks
//! again, so the slowest split never holds the rest. Each split goes out at the
//! current epoch; the epoch closes after so many bytes or so much time, and
//! the epoch after next opens only when this one is settled.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};
use timely::progress::Antichain;

use super::Epoch;

/// A split for a worker to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Position of the table in the run's plan.
    pub table: usize,
    /// The split's ordinal within the table.
    pub split: u32,
    /// Estimated bytes to read.
    pub estimated_bytes: u64,
}

/// A worker asks for its next split, or says that a table is not worth reading on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// `worker` is ready for a split.
    Next {
        /// Who asks.
        worker: usize,
    },
    /// The rest of `table` need not be read.
    Skip {
        /// The table that failed.
        table: usize,
    },
}

/// What [`assign`] hands out, and when it closes epochs.
#[derive(Debug, Clone)]
pub struct Assign {
    /// The splits, in the order in which they are to be read.
    pub splits: Vec<Assignment>,
    /// An epoch closes when splits of so many estimated bytes were handed out ...
    pub epoch_bytes: u64,
    /// ... or when it has been open for so long.
    pub epoch_duration: Duration,
    /// Set from outside to hand out nothing more: what is in flight is finished,
    /// and the epoch closes cleanly.
    pub cancelled: Arc<AtomicBool>,
}

/// Puts the splits that cost most first; equal ones stay in their order. Whoever
/// is last then has little left, so that workers end together: for splits whose
/// order does not matter.
pub fn longest_first(splits: &mut [Assignment]) {
    splits.sort_by_key(|split| std::cmp::Reverse(split.estimated_bytes));
}

/// How often a waiting assignment looks at the cancel flag and at the clock.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Adds the operator. Returns, on each worker, the stream of splits assigned to
/// it. `requests` and `settled` are feedback edges.
pub fn assign<'scope>(
    scope: Scope<'scope, Epoch>,
    plan: Assign,
    requests: StreamVec<'scope, Epoch, Request>,
    settled: StreamVec<'scope, Epoch, Settlement>,
) -> StreamVec<'scope, Epoch, (u64, Assignment)> {
    let mut builder = OperatorBuilder::new("assign".to_owned(), scope);
    // Neither input can make output appear at its own times (the operator holds
    // a capability of its own), so the feedback edges hold no frontier back.
    let unconnected: [(usize, Antichain<Epoch>); 0] = [];
    let mut requests = builder.new_input_connection(
        requests,
        Exchange::new(|_: &Request| 0),
        unconnected.clone(),
    );
    let mut settled =
        builder.new_input_connection(settled, Exchange::new(|_: &Settlement| 0), unconnected);
    let (output, splits) = builder.new_output_connection::<Vec<(u64, Assignment)>, _>([]);
    let mut output = OutputBuilder::from(output);
    let activator = scope.activator_for(builder.operator_info().address);
    let here = scope.worker().index() == 0;

    builder.build(move |capabilities| {
        let capability = capabilities.into_iter().next().filter(|_| here);
        let mut hand_out = HandOut::new(plan, capability);
        move |_frontiers| {
            requests.for_each(|_, messages| messages.drain(..).for_each(|m| hand_out.ask(m)));
            settled.for_each(|_, messages| messages.drain(..).for_each(|m| hand_out.settle(m)));
            let mut output = output.activate();
            hand_out.step(|capability, worker, assignment| {
                output.session(capability).give((worker as u64, assignment));
            });
            if hand_out.is_waiting() {
                activator.activate_after(LOOK_AGAIN);
            }
        }
    });
    splits
}

/// An epoch is settled: its files are recorded or published; and these tables
/// need not be read on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// The epoch.
    pub epoch: Epoch,
    /// Tables that failed while settling.
    pub skip: Vec<usize>,
}

/// The state of the assignment: which splits are left, who waits for one, which
/// epoch is open.
struct HandOut {
    left: VecDeque<Assignment>,
    waiting: VecDeque<usize>,
    skipped: BTreeSet<usize>,
    /// Held while splits are left; its time is the open epoch.
    capability: Option<Capability<Epoch>>,
    settled: Option<Epoch>,
    bytes_in_epoch: u64,
    opened: Option<Instant>,
    epoch_bytes: u64,
    epoch_duration: Duration,
    cancelled: Arc<AtomicBool>,
}

impl HandOut {
    fn new(plan: Assign, capability: Option<Capability<Epoch>>) -> Self {
        Self {
            left: plan.splits.into(),
            waiting: VecDeque::new(),
            skipped: BTreeSet::new(),
            capability,
            settled: None,
            bytes_in_epoch: 0,
            opened: None,
            epoch_bytes: plan.epoch_bytes.max(1),
            epoch_duration: plan.epoch_duration,
            cancelled: plan.cancelled,
        }
    }

    fn ask(&mut self, request: Request) {
        match request {
            Request::Next { worker } => self.waiting.push_back(worker),
            Request::Skip { table } => {
                self.skipped.insert(table);
            }
        }
    }

    fn settle(&mut self, settlement: Settlement) {
        self.settled = self.settled.max(Some(settlement.epoch));
        self.skipped.extend(settlement.skip);
    }

    /// Hands out what can be handed out now.
    fn step(&mut self, mut give: impl FnMut(&Capability<Epoch>, usize, Assignment)) {
        self.left
            .retain(|split| !self.skipped.contains(&split.table));
        if self.cancelled.load(Ordering::Relaxed) {
            self.left.clear();
        }
        self.close_epoch_if_due();
        while self.epoch_may_be_read()
            && !self.left.is_empty()
            && let Some(worker) = self.waiting.pop_front()
        {
            if let (Some(assignment), Some(capability)) = (self.left.pop_front(), &self.capability)
            {
                give(capability, worker, assignment);
                self.bytes_in_epoch += assignment.estimated_bytes;
                self.opened.get_or_insert_with(Instant::now);
            }
            self.close_epoch_if_due();
        }
        if self.left.is_empty() {
            self.capability = None;
        }
    }

    /// At most two epochs are open: the one being read and the one being settled.
    fn epoch_may_be_read(&self) -> bool {
        let Some(capability) = &self.capability else {
            return false;
        };
        let settled_epochs = self.settled.map_or(0, |epoch| epoch + 1);
        *capability.time() < settled_epochs + 2
    }

    fn close_epoch_if_due(&mut self) {
        let Some(opened) = self.opened else { return };
        let due =
            self.bytes_in_epoch >= self.epoch_bytes || opened.elapsed() >= self.epoch_duration;
        if let (true, Some(capability)) = (due, &mut self.capability) {
            let next = capability.time() + 1;
            capability.downgrade(&next);
            self.bytes_in_epoch = 0;
            self.opened = None;
        }
    }

    fn is_waiting(&self) -> bool {
        self.capability.is_some()
    }
}

#[cfg(test)]
mod tests;
