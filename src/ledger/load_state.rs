//! What the entries of a load log say, and what they add up to.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::data_file::DataFile;
use crate::source::{Split, TableRead};
use crate::watermark::{Bound, Identity};

/// Who wrote an entry; for people, and to name who overtook whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// The run.
    pub run: Uuid,
    /// The machine's name.
    pub host: String,
    /// The process.
    pub pid: u32,
}

/// The beginning of a load: what is read, and how it is cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    /// Who begins.
    pub writer: Writer,
    /// The source.
    pub identity: Identity,
    /// What the first snapshot contains; the watermark of the whole load.
    pub bound: Bound,
    /// What is read.
    pub read: TableRead,
    /// The partition columns of the files.
    #[serde(default)]
    pub partition_columns: Vec<String>,
    /// The splits; recorded epochs name them by ordinal.
    pub splits: Vec<Split>,
    /// Greatest cursor value in the first snapshot, in append mode.
    #[serde(default)]
    pub cursor_max: Option<String>,
    /// The physical layout that split coordinates refer to: the load may be
    /// continued only while it stays.
    pub layout: String,
}

/// Another run goes on with the load, and fences the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Who goes on.
    pub writer: Writer,
    /// What its snapshot contains. Where that differs from the first bound, the
    /// load is catching up.
    pub bound: Bound,
}

/// One finished epoch: its files are durable, its splits need not be read again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// The run.
    pub run: Uuid,
    /// Ordinals of the splits that are complete with this epoch.
    pub splits: Vec<u32>,
    /// The files.
    pub files: Vec<DataFile>,
    /// How many rows were set aside.
    pub quarantined: u64,
}

/// What happened, in one entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    Begin(Box<Begin>),
    Attempt(Attempt),
    Epoch(Epoch),
    StartOver { reason: String },
}

/// What the recorded part of a load amounts to.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadState {
    /// How it began.
    pub begin: Begin,
    /// How many runs have worked on it, the first included.
    pub attempts: u32,
    /// Who worked on it last.
    pub writer: Writer,
    /// The bound of the last attempt's snapshot.
    pub bound: Bound,
    /// Whether any attempt after the first saw another state of the source.
    pub mixed_bounds: bool,
    /// Number of recorded epochs.
    pub epochs: u32,
    /// The files of all recorded epochs.
    pub files: Vec<DataFile>,
    /// Ordinals of the splits that are done.
    pub done: BTreeSet<u32>,
    /// How many rows were set aside.
    pub quarantined: u64,
}

impl LoadState {
    pub(super) fn new(begin: Begin) -> Self {
        Self {
            attempts: 1,
            writer: begin.writer.clone(),
            bound: begin.bound.clone(),
            mixed_bounds: false,
            epochs: 0,
            files: Vec::new(),
            done: BTreeSet::new(),
            quarantined: 0,
            begin,
        }
    }

    /// The splits that are still to be read, in their order.
    pub fn remaining(&self) -> impl Iterator<Item = &Split> {
        self.begin
            .splits
            .iter()
            .filter(|split| !self.done.contains(&split.ordinal))
    }
}

/// Adds one event to a state; an event out of order is a damaged log.
pub(super) fn apply(state: &mut Option<LoadState>, event: Event) -> Result<(), String> {
    match (event, &mut *state) {
        (Event::Begin(begin), None) => *state = Some(LoadState::new(*begin)),
        (Event::Begin(_), Some(_)) => return Err("it begins twice".to_owned()),
        (Event::StartOver { .. }, state) => *state = None,
        (_, None) => return Err("it goes on before it begins".to_owned()),
        (Event::Attempt(attempt), Some(state)) => {
            state.attempts += 1;
            state.mixed_bounds |= attempt.bound.position != state.begin.bound.position;
            state.writer = attempt.writer;
            state.bound = attempt.bound;
        }
        (Event::Epoch(epoch), Some(state)) => {
            let known = |ordinal: &u32| state.begin.splits.iter().any(|s| s.ordinal == *ordinal);
            if let Some(unknown) = epoch.splits.iter().find(|ordinal| !known(ordinal)) {
                return Err(format!("it names split {unknown}, which the load has not"));
            }
            if let Some(twice) = epoch.splits.iter().find(|split| state.done.contains(split)) {
                return Err(format!("split {twice} is recorded twice"));
            }
            state.epochs += 1;
            state.done.extend(epoch.splits);
            state.files.extend(epoch.files);
            state.quarantined += epoch.quarantined;
        }
    }
    Ok(())
}
