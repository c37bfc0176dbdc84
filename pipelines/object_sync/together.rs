//! One run in several processes: the first one cuts the keys into ranges, records
//! what was copied and removes what is too much; all compare and copy.

use std::sync::Arc;

use highwater::app::{Exit, Failure, RunContext};
use highwater::ledger::LoggedFile;
use highwater::run::Config;
use highwater::run::report::ObjectsReport;
use highwater::store::objects::KeyRange;
use highwater_operators::ingest::objects::{ExtraKeys, RecordClock};
use serde::{Deserialize, Serialize};

use super::sync::{Doing, SyncRun};

/// Keys that a process tells at once.
const KEYS_AT_ONCE: usize = 10_000;

/// One thing to do.
#[derive(Serialize, Deserialize)]
pub(super) enum Order {
    /// Compare ranges, and copy what differs.
    Flow(Arc<FlowOrder>),
    /// Say what only the target has, some keys at a time, until there are no more.
    Extras,
}

/// What all processes build the same dataflow from.
#[derive(Serialize, Deserialize)]
pub(super) struct FlowOrder {
    /// What is done with differences.
    pub(super) doing: Doing,
    /// The ranges, by the ordinals of the splits.
    pub(super) ranges: Vec<KeyRange>,
    /// The files of the record, where there is one of this source.
    pub(super) record: Option<Vec<LoggedFile>>,
    /// Whether what is copied is recorded.
    pub(super) recorded: bool,
}

impl FlowOrder {
    /// What rows of the record are stamped with.
    pub(super) fn clock(&self) -> RecordClock {
        RecordClock::after(self.record.as_deref().unwrap_or_default())
    }
}

/// What one process did.
#[derive(Serialize, Deserialize)]
pub(super) struct FlowReply {
    /// In numbers.
    pub(super) report: ObjectsReport,
}

/// Does what the first process orders, to the end of the run.
///
/// # Errors
/// What stopped it.
pub(super) fn follow(config: &Config, context: &RunContext) -> Result<Exit, Failure> {
    let sync = SyncRun::open(config, context)?;
    let mut extras: Option<ExtraKeys> = None;
    loop {
        match context.next_order::<Order>()? {
            Ok(Order::Flow(order)) => {
                let (reply, found) = sync.take_part(&order)?;
                extras = found.map(|found| found.keys()).transpose().map_err(lost)?;
                context.reply(&reply)?;
            }
            Ok(Order::Extras) => {
                let some = extras.iter_mut().flatten().take(KEYS_AT_ONCE);
                let keys = some.collect::<Result<Vec<String>, _>>().map_err(lost)?;
                context.reply(&keys)?;
            }
            Err(exit) => return Ok(exit),
        }
    }
}

fn lost(error: std::io::Error) -> Failure {
    Failure::failed("cannot read back which objects to remove").caused_by(&error)
}
