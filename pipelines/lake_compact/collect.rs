//! What came of a table's dataflow, brought together when the frontier has passed.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use highwater::flow::{Epoch, Event, Settle, Settled, TableFailure};
use highwater::ledger::DataFile;

/// What came of a table's dataflow.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// Files that are durable.
    pub(super) files: Vec<DataFile>,
    /// Splits that were read to their end.
    pub(super) splits: u64,
    /// Rows that were read.
    pub(super) rows: u64,
    /// Bytes that were read.
    pub(super) bytes: u64,
    /// The first failure.
    pub(super) failure: Option<TableFailure>,
}

/// Collects events; nothing is published before all have come.
#[derive(Debug, Clone, Default)]
pub(super) struct Collector(Arc<Mutex<Collected>>);

impl Collector {
    /// What has come.
    pub(super) fn take(&self) -> Collected {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Settle for Collector {
    async fn settle(&mut self, _epoch: Epoch, events: Vec<Event>) -> Settled {
        let mut collected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            match event {
                Event::SplitRead {
                    rows, source_bytes, ..
                } => {
                    collected.splits += 1;
                    collected.rows += rows;
                    collected.bytes += source_bytes;
                }
                Event::File { file, .. } => collected.files.push(file),
                Event::Failed { failure, .. } => {
                    collected.failure.get_or_insert(failure);
                }
                Event::Quarantined { .. } => {}
            }
        }
        Settled::default()
    }
}
