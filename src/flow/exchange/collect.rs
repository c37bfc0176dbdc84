//! The receiving side: what arrived is paid for, acknowledged and passed on, in
//! the order in which it came. Frames are read here and nowhere else, when their
//! memory has been taken.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use arrow::buffer::Buffer;
use timely::dataflow::operators::Capability;

use super::dispatch::Ack;
use super::frame::{Arrived, Decoder, WireError};
use super::parcels::{Load, Parcels, cut};
use crate::batch::Batch;
use crate::budget::{MemoryBudget, Permit};
use crate::flow::{Epoch, Mailbox, Sender};

/// What pays for arrivals.
#[derive(Debug, Clone)]
pub(super) struct Purse {
    /// Shared with everything else that holds batches.
    pub(super) budget: MemoryBudget,
    /// Only for arrivals of this exchange, for when the budget is spent.
    pub(super) reserve: MemoryBudget,
}

impl Purse {
    fn try_take(&self, bytes: u64) -> Option<Permit> {
        let permit = self.budget.try_take(bytes);
        permit.or_else(|| self.reserve.try_take(bytes))
    }

    async fn take(self, bytes: u64) -> Permit {
        tokio::select! {
            biased;
            permit = self.budget.take(bytes) => permit,
            permit = self.reserve.take(bytes) => permit,
        }
    }
}

/// The state of the receiving side on one worker.
pub(super) struct Collect {
    worker: usize,
    purse: Purse,
    runtime: tokio::runtime::Handle,
    decoder: Decoder,
    arrivals: VecDeque<Arrival>,
    mail: Sender<Permit>,
    permits: Mailbox<Permit>,
    /// Whether a task waits for the memory of the first arrival.
    asked: bool,
}

/// A frame, and the capabilities to pass its batch on and to acknowledge it.
struct Arrival {
    frame: Buffer,
    held: Rc<Held>,
}

struct Held {
    batches: Capability<Epoch>,
    acks: Capability<Epoch>,
}

/// What comes out of a step.
pub(super) enum Out<'a> {
    Batches(&'a Capability<Epoch>, Vec<Batch>),
    Ack(&'a Capability<Epoch>, Ack),
}

impl Collect {
    pub(super) fn new(
        worker: usize,
        purse: Purse,
        runtime: tokio::runtime::Handle,
        (mail, permits): (Sender<Permit>, Mailbox<Permit>),
    ) -> Self {
        Self {
            worker,
            purse,
            runtime,
            decoder: Decoder::default(),
            arrivals: VecDeque::new(),
            mail,
            permits,
            asked: false,
        }
    }

    /// Takes what arrived; batches of this process pass at once.
    ///
    /// # Errors
    /// It is not made of frames.
    pub(super) fn accept(
        &mut self,
        parcels: &mut Parcels,
        batches: Capability<Epoch>,
        acks: Capability<Epoch>,
        mut give: impl FnMut(Out<'_>),
    ) -> Result<(), WireError> {
        match std::mem::take(&mut parcels.load) {
            Load::Local(local) => give(Out::Batches(&batches, local)),
            Load::Arrived { frames, bytes } => {
                let held = Rc::new(Held { batches, acks });
                let cut = cut(frames, bytes)?;
                self.arrivals.extend(cut.into_iter().map(|frame| Arrival {
                    frame,
                    held: Rc::clone(&held),
                }));
            }
            // Frames stay frames only on their way to another process.
            Load::Nothing | Load::Outgoing(_) => {}
        }
        Ok(())
    }

    /// Passes on and acknowledges what can be paid for.
    ///
    /// # Errors
    /// A frame is not believed.
    pub(super) fn step(&mut self, mut give: impl FnMut(Out<'_>)) -> Result<(), WireError> {
        let mut run: Option<Run> = None;
        while let Some(first) = self.arrivals.front() {
            let bytes = first.frame.len() as u64;
            let Some(permit) = self.permit(bytes) else {
                break;
            };
            let Some(Arrival { frame, held }) = self.arrivals.pop_front() else {
                break;
            };
            let arrived = self.decoder.decode(&frame)?;
            let same = |run: &Run| Rc::ptr_eq(&run.held, &held);
            if !run.as_ref().is_some_and(same)
                && let Some(run) = run.take()
            {
                run.give(self.worker, &mut give);
            }
            run.get_or_insert_with(|| Run::new(held))
                .add(arrived, permit);
        }
        if let Some(run) = run {
            run.give(self.worker, &mut give);
        }
        Ok(())
    }

    /// Pays for the first arrival: now if possible, else a task waits for it.
    fn permit(&mut self, bytes: u64) -> Option<Permit> {
        if !self.asked {
            let permit = self.purse.try_take(bytes);
            if permit.is_none() {
                self.asked = true;
                let (purse, mail) = (self.purse.clone(), self.mail.clone());
                self.runtime.spawn(async move {
                    // Without its operator nobody needs the permit.
                    mail.send(purse.take(bytes).await).await;
                });
            }
            return permit;
        }
        let permit = self.permits.take()?;
        self.asked = false;
        Some(permit)
    }
}

/// Batches that go on together, and whom to tell.
struct Run {
    held: Rc<Held>,
    batches: Vec<Batch>,
    frames: BTreeMap<usize, u64>,
}

impl Run {
    fn new(held: Rc<Held>) -> Self {
        Self {
            held,
            batches: Vec::new(),
            frames: BTreeMap::new(),
        }
    }

    fn add(&mut self, arrived: Arrived, permit: Permit) {
        *self.frames.entry(arrived.sender).or_default() += 1;
        self.batches.push(Batch {
            table: arrived.table,
            split: arrived.split,
            source_bytes: arrived.source_bytes,
            rows: arrived.rows,
            permit,
        });
    }

    fn give(self, receiver: usize, give: &mut impl FnMut(Out<'_>)) {
        give(Out::Batches(&self.held.batches, self.batches));
        for (sender, frames) in self.frames {
            let ack = Ack {
                sender,
                receiver,
                frames,
            };
            give(Out::Ack(&self.held.acks, ack));
        }
    }
}
