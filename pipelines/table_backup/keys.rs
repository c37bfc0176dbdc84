//! Reads keys of rows, and keeps those that matter.

use std::sync::Arc;

use arrow::error::ArrowError;
use highwater::app::{Failure, RunContext};
use highwater::flow::TableFailure;
use highwater::flow::event::FailureKind;
use highwater::source::{Snapshot, Split, TableRead};
use highwater_operators::transform::changed_keys::{
    FoundKeys, Keep, KeyCollector, KeyLimit, collect_keys,
};

use super::cancel_flag;
use super::memory::Memory;
use super::side::{ByTable, Noticed, Side, SideRead, check_cancelled, run_dataflow};

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
    let mut collectors = Vec::new();
    let mut tables = Vec::new();
    for wanted in wanted {
        collectors.push(collector(&wanted, limit)?);
        let KeyRead { read, splits, .. } = wanted;
        let splits = match splits {
            Some(splits) => splits,
            None => {
                let split = snapshot.split(&read, SPLIT_BYTES);
                context.runtime.block_on(split)?.splits
            }
        };
        tables.push(SideRead { read, splits });
    }
    let collectors = Arc::new(collectors);
    let noticed = Noticed::default();
    let side = Side::new(
        context,
        memory,
        snapshot,
        "changes",
        tables,
        &cancel_flag(context),
        &noticed,
    );
    collect(context, &side, &collectors, &noticed)?;
    let by_number = |position: usize| numbers.get(position).copied();
    let found = collectors.iter().enumerate();
    let found = found.filter_map(|(at, collector)| Some((by_number(at)?, collector.take())));
    let failed = noticed.take_failures().into_iter();
    Ok(ByTable {
        found: found.collect(),
        failed: failed
            .filter_map(|(at, failure)| Some((by_number(at)?, failure)))
            .collect(),
    })
}

fn collector(wanted: &KeyRead, limit: &Arc<KeyLimit>) -> Result<KeyCollector, Failure> {
    let KeyRead {
        number, read, keep, ..
    } = wanted;
    KeyCollector::new(*number, read, keep.clone(), Arc::clone(limit)).map_err(|error| {
        let what = format!("table {}: the key cannot be compared", read.table.name);
        Failure::failed(what).caused_by(&error)
    })
}

fn collect(
    context: &RunContext,
    side: &Side,
    collectors: &Arc<Vec<KeyCollector>>,
    noticed: &Noticed,
) -> Result<(), Failure> {
    let (read, collectors, noticed) = (side.clone(), Arc::clone(collectors), noticed.clone());
    run_dataflow(context, move |scope| {
        let noticed = noticed.clone();
        let failed = move |table, error: ArrowError| {
            let what = format!("a key cannot be compared: {error}");
            noticed.fail(table, TableFailure::new(FailureKind::Failed, what));
        };
        collect_keys(read.clone().read(scope), Arc::clone(&collectors), failed);
    })?;
    side.done();
    check_cancelled(context)
}
