//! Reads keys of rows, and keeps those that matter.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::error::ArrowError;
use highwater::app::{Failure, RunContext};
use highwater::flow::TableFailure;
use highwater::flow::event::FailureKind;
use highwater::source::{Readers, Snapshot, Split, TableRead};
use highwater_operators::transform::changed_keys::{
    FoundKeys, Keep, KeyCollector, KeyLimit, collect_keys,
};

use super::memory::Memory;
use super::side::{ByTable, Noticed, Side, SideRead, check_cancelled, run_dataflow};
use super::together::order::{FoundReply, KeyReadOrder, KeysOrder, KeysReply, Order};

/// The keys that are read of one table.
pub(super) struct KeyRead {
    /// The table's position in the run's plan.
    pub(super) number: usize,
    pub(super) read: TableRead,
    pub(super) keep: Keep,
    /// How the table is cut; `None` asks the source.
    pub(super) splits: Option<Vec<Split>>,
}

/// Splits of keys are small, and there is nothing to commit after each.
const SPLIT_BYTES: u64 = 32 << 20;

/// Reads keys. What is found is by position in the run's plan, and so are the
/// tables that failed.
pub(super) fn read_keys(
    context: &RunContext,
    memory: &Memory,
    snapshot: Arc<dyn Snapshot>,
    wanted: Vec<KeyRead>,
    limit: &Arc<KeyLimit>,
) -> Result<ByTable<FoundKeys>, Failure> {
    let numbers: Vec<usize> = wanted.iter().map(|wanted| wanted.number).collect();
    let mut orders = Vec::new();
    let mut reads = Vec::new();
    for wanted in wanted {
        let splits = match wanted.splits {
            Some(splits) => splits,
            None => {
                let split = snapshot.split(&wanted.read, SPLIT_BYTES);
                context.runtime.block_on(split)?.splits
            }
        };
        let read = SideRead {
            read: wanted.read,
            splits,
        };
        orders.push(KeyReadOrder::new(wanted.number, &wanted.keep, &read));
        reads.push((wanted.number, wanted.keep, read));
    }
    let order = KeysOrder {
        view: snapshot.share(),
        reads: orders,
        needs: memory.needs,
    };
    let collecting = Collecting::new(context, memory, snapshot, reads, limit)?;
    context.order(&Order::Keys(order))?;
    collecting.collect(context)?;
    check_cancelled(context)?;
    for reply in context.replies()? {
        collecting.join(reply);
    }
    let (found, failed) = collecting.conclude();
    let by_number = |position: usize| numbers.get(position).copied();
    let (found, failed) = (found.into_iter().enumerate(), failed.into_iter());
    Ok(ByTable {
        found: found
            .filter_map(|(at, found)| Some((by_number(at)?, found)))
            .collect(),
        failed: failed
            .filter_map(|(at, failure)| Some((by_number(at)?, failure)))
            .collect(),
    })
}

/// A reading of keys on its way, in one process.
pub(super) struct Collecting {
    side: Side,
    collectors: Arc<Vec<KeyCollector>>,
    noticed: Noticed,
}

impl Collecting {
    /// `reads` are tables of these numbers.
    pub(super) fn new(
        context: &RunContext,
        memory: &Memory,
        readers: Arc<dyn Readers>,
        reads: Vec<(usize, Keep, SideRead)>,
        limit: &Arc<KeyLimit>,
    ) -> Result<Self, Failure> {
        let mut collectors = Vec::new();
        let mut tables = Vec::new();
        for (number, keep, side) in reads {
            collectors.push(collector(number, keep, &side.read, limit)?);
            tables.push(side);
        }
        let noticed = Noticed::default();
        let cancelled = context.cancel_flag();
        Ok(Self {
            side: Side::new(
                context, memory, readers, "changes", tables, &cancelled, &noticed,
            ),
            collectors: Arc::new(collectors),
            noticed,
        })
    }

    pub(super) fn collect(&self, context: &RunContext) -> Result<(), Failure> {
        let (read, collectors) = (self.side.clone(), Arc::clone(&self.collectors));
        let noticed = self.noticed.clone();
        run_dataflow(context, move |scope| {
            let noticed = noticed.clone();
            let failed = move |table, error: ArrowError| {
                let what = format!("a key cannot be compared: {error}");
                noticed.fail(table, TableFailure::new(FailureKind::Failed, what));
            };
            collect_keys(read.clone().read(scope), Arc::clone(&collectors), failed);
        })
    }

    /// What this process has found, for the first one.
    pub(super) fn reply(self) -> KeysReply {
        let found = self.collectors.iter().map(KeyCollector::take);
        KeysReply {
            tables: found.map(FoundReply::from).collect(),
            noticed: self.noticed.reply(),
        }
    }

    /// Adds what another process has found.
    fn join(&self, reply: KeysReply) {
        for (collector, found) in self.collectors.iter().zip(reply.tables) {
            collector.join(found.into());
        }
        self.noticed.join(reply.noticed);
    }

    fn conclude(self) -> (Vec<FoundKeys>, BTreeMap<usize, Failure>) {
        self.side.done();
        let found = self.collectors.iter().map(KeyCollector::take).collect();
        (found, self.noticed.take_failures())
    }
}

fn collector(
    number: usize,
    keep: Keep,
    read: &TableRead,
    limit: &Arc<KeyLimit>,
) -> Result<KeyCollector, Failure> {
    KeyCollector::new(number, read, keep, Arc::clone(limit)).map_err(|error| {
        let what = format!("table {}: the key cannot be compared", read.table.name);
        Failure::failed(what).caused_by(&error)
    })
}
