//! The sending side: batches go out as credit allows, in the order in which they
//! came for each process. What has none waits here with its permit and its
//! capability, so the source is stopped by its budget and the frontier tells the
//! truth. Nothing here takes memory.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::Capability;
use timely::scheduling::SyncActivator;

use super::frame::{Encoded, Encoder, Outgoing};
use super::parcels::{Load, Parcels};
use super::window::Windows;
use crate::batch::Batch;
use crate::budget::Permit;
use crate::cluster::Place;
use crate::flow::Epoch;

/// Frames are put together up to so many bytes: what goes at once costs once.
const TOGETHER_BYTES: usize = 128 * 1024;

/// Longer batches go in parts: timely reads into slabs of 1 MiB, copies what does
/// not end with one (half a frame on average), and makes all slabs larger for good
/// when a frame does not fit. Their parts are long enough not to be copied out of
/// slabs by the receiver.
const FRAME_BYTES: usize = 256 * 1024;

/// So many frames have come: their memory is paid for by the receiver.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Ack {
    /// The worker that sent them.
    pub(super) sender: usize,
    /// The worker that has them.
    pub(super) receiver: usize,
    pub(super) frames: u64,
}

/// The state of the sending side on one worker.
pub(super) struct Dispatch {
    place: Place,
    windows: Arc<Windows>,
    member: u64,
    wake: SyncActivator,
    encoder: Encoder,
    /// What waits for credit, by process.
    queues: Vec<Queue>,
    /// What was sent and not acknowledged, by worker: its bytes, and what pays
    /// for them.
    unacknowledged: Vec<VecDeque<(u64, Permit)>>,
}

#[derive(Default)]
struct Queue {
    /// The first in line: its length is known.
    ready: Option<Ready>,
    behind: VecDeque<Waiting>,
}

impl Queue {
    fn put_back_in_parts(&mut self, waiting: Waiting, parts: usize) {
        let divided = waiting.batch.in_parts(parts);
        for batch in divided.into_iter().rev() {
            self.behind.push_front(Waiting {
                target: waiting.target,
                batch,
                is_part: true,
                capability: Rc::clone(&waiting.capability),
            });
        }
    }
}

struct Waiting {
    target: usize,
    batch: Batch,
    /// A part of a batch: it is not divided again.
    is_part: bool,
    capability: Rc<Capability<Epoch>>,
}

struct Ready {
    target: usize,
    frame: Outgoing,
    permit: Permit,
    capability: Rc<Capability<Epoch>>,
}

impl Dispatch {
    pub(super) fn new(
        place: Place,
        windows: Arc<Windows>,
        worker: usize,
        wake: SyncActivator,
    ) -> Self {
        Self {
            member: windows.member(),
            windows,
            wake,
            encoder: Encoder::new(worker, place.peers()),
            queues: (0..place.processes).map(|_| Queue::default()).collect(),
            unacknowledged: (0..place.peers()).map(|_| VecDeque::new()).collect(),
            place,
        }
    }

    /// Sorts what came in: batches for this process go at once.
    pub(super) fn accept(
        &mut self,
        batches: impl Iterator<Item = (usize, Batch)>,
        capability: Capability<Epoch>,
        mut give: impl FnMut(&Capability<Epoch>, Parcels),
    ) {
        let capability = Rc::new(capability);
        let mut local: Vec<Vec<Batch>> = Vec::new();
        for (target, batch) in batches {
            let target = target % self.place.peers().max(1);
            let process = self.place.process_of(target);
            if process == self.place.process {
                let seat = target % self.place.workers.max(1);
                local.resize_with(local.len().max(seat + 1), Vec::new);
                if let Some(seat) = local.get_mut(seat) {
                    seat.push(batch);
                }
            } else if let Some(queue) = self.queues.get_mut(process) {
                queue.behind.push_back(Waiting {
                    target,
                    batch,
                    is_part: false,
                    capability: Rc::clone(&capability),
                });
            }
        }
        for (seat, batches) in local.into_iter().enumerate() {
            if !batches.is_empty() {
                let target = self.place.process * self.place.workers + seat;
                let load = Load::Local(batches);
                give(&capability, Parcels { target, load });
            }
        }
    }

    /// Lets go of what was acknowledged.
    pub(super) fn acknowledge(&mut self, ack: Ack) {
        let Some(sent) = self.unacknowledged.get_mut(ack.receiver) else {
            return;
        };
        let frames = usize::try_from(ack.frames).unwrap_or(usize::MAX);
        let bytes = sent.drain(..frames.min(sent.len())).map(|(bytes, _)| bytes);
        let process = self.place.process_of(ack.receiver);
        self.windows.give_back(process, bytes.sum());
    }

    /// Sends what there is credit for.
    ///
    /// # Errors
    /// A batch has no wire form.
    pub(super) fn send(
        &mut self,
        mut give: impl FnMut(&Capability<Epoch>, Parcels),
    ) -> Result<(), ArrowError> {
        for process in 0..self.queues.len() {
            let mut open: Option<Together> = None;
            while let Some(next) = self.next_with_credit(process)? {
                let bytes = next.frame.bytes();
                if !open.as_ref().is_some_and(|open| open.has_room_for(&next))
                    && let Some(full) = open.take()
                {
                    full.give(&mut give);
                }
                let open = open.get_or_insert_with(|| Together {
                    target: next.target,
                    capability: next.capability,
                    frames: Vec::new(),
                    bytes: 0,
                });
                open.bytes += bytes;
                open.frames.push(next.frame);
                let mut permit = next.permit;
                // The columns are gone when the frame is written; the frame is
                // what is left to be paid for.
                permit.shrink_to(bytes as u64);
                if let Some(sent) = self.unacknowledged.get_mut(next.target) {
                    sent.push_back((bytes as u64, permit));
                }
            }
            if let Some(open) = open {
                open.give(&mut give);
            }
        }
        Ok(())
    }

    /// The first in line for a process, if there is credit for it.
    fn next_with_credit(&mut self, process: usize) -> Result<Option<Ready>, ArrowError> {
        let Some(queue) = self.queues.get_mut(process) else {
            return Ok(None);
        };
        while queue.ready.is_none()
            && let Some(waiting) = queue.behind.pop_front()
        {
            let most = (!waiting.is_part).then_some(FRAME_BYTES);
            match self.encoder.encode(waiting.target, &waiting.batch, most)? {
                Encoded::Frame(frame) => {
                    queue.ready = Some(Ready {
                        target: waiting.target,
                        frame,
                        permit: waiting.batch.permit,
                        capability: waiting.capability,
                    });
                }
                Encoded::TooLong { parts } => queue.put_back_in_parts(waiting, parts),
            }
        }
        let credit = |ready: &mut Ready| {
            let bytes = ready.frame.bytes() as u64;
            self.windows.take(process, self.member, bytes, &self.wake)
        };
        Ok(queue.ready.take_if(credit))
    }
}

impl Drop for Dispatch {
    fn drop(&mut self) {
        self.windows.leave(self.member);
        for (worker, sent) in self.unacknowledged.iter().enumerate() {
            let bytes = sent.iter().map(|(bytes, _)| bytes).sum();
            self.windows.give_back(self.place.process_of(worker), bytes);
        }
    }
}

/// Frames that go to one worker at one time.
struct Together {
    target: usize,
    capability: Rc<Capability<Epoch>>,
    frames: Vec<Outgoing>,
    bytes: usize,
}

impl Together {
    fn has_room_for(&self, next: &Ready) -> bool {
        self.target == next.target
            && self.capability.time() == next.capability.time()
            && self.bytes + next.frame.bytes() <= TOGETHER_BYTES
    }

    fn give(self, give: &mut impl FnMut(&Capability<Epoch>, Parcels)) {
        let load = Load::Outgoing(self.frames);
        let target = self.target;
        give(&self.capability, Parcels { target, load });
    }
}
