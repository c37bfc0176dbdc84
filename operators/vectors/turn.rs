//! The batch whose turn it is, and what a task was asked for it.

use std::collections::{HashMap, VecDeque};

use highwater::batch::Batch;
use highwater::flow::Epoch;
use timely::dataflow::operators::Capability;

use super::cache::{Hash, Vector, VectorCache};
use super::index::Place;
use super::window::{Open, Window};
use crate::embed::{EmbedError, Part};
use crate::lake::LakeReadError;

/// What a task tells its operator.
pub(super) enum Mail {
    /// What the table has.
    Fetched(Result<HashMap<Hash, Vector>, LakeReadError>),
    /// What became of the next texts that were asked for.
    Part(Part),
    /// There will be no more parts.
    Answered(Result<(), EmbedError>),
}

/// A batch that waits for its turn, or has it.
pub(super) struct Work {
    pub(super) rows: Capability<Epoch>,
    pub(super) events: Capability<Epoch>,
    pub(super) batch: Batch,
}

/// The batch whose turn it is.
pub(super) struct Turn {
    pub(super) work: Work,
    pub(super) window: Window,
    pub(super) asked: Asked,
}

impl Turn {
    /// What was to be embedded for it will not be: others may wait for that, and would for
    /// ever.
    pub(super) fn give_up(mut self, cache: &VectorCache) -> Work {
        self.window.give_up(cache);
        if let Asked::Vectors(open) = &self.asked {
            give_up(open, cache);
        }
        self.work
    }
}

/// Whoever asks next for the vectors of these is to make them.
pub(super) fn give_up<'a>(open: impl IntoIterator<Item = &'a Open>, cache: &VectorCache) {
    for open in open {
        cache.give_up(open.hash());
    }
}

/// What a task was asked for.
pub(super) enum Asked {
    Nothing,
    Stored(Vec<(Open, Place)>),
    /// Texts that were not answered yet, in the order of the answers.
    Vectors(VecDeque<Open>),
}
