//! One run in several processes. The first one decides and commits, the others
//! do as they are told: read splits, write files, compare rows. What they find
//! goes back as a reply; files and events travel through the dataflow.

mod nobody;
pub(crate) mod order;

use std::sync::Arc;

use highwater::app::{Exit, Failure, RunContext};
use highwater::run::Config;
use highwater::run::lake::open_lake;
use highwater::run::stages::Stages;
use highwater::source::{Readers, Source};
use highwater::store::Store;
use highwater_operators::ingest as sources;
use highwater_operators::ingest::merge::MergeSnapshot;
use highwater_operators::transform::changed_keys::KeyLimit;
use nobody::Nobody;
use order::{CompareOrder, FlowOrder, KeysOrder, Needs, Order, SharedView, lake_table};

use crate::compare::{Comparing, Newer, Sides};
use crate::keys::Collecting;
use crate::memory::Memory;
use crate::side::SideRead;
use crate::{FlowPlan, run_flow};

/// Does what the first process orders, to the end of the run.
pub(crate) fn follow(config: &Config, context: &RunContext) -> Result<Exit, Failure> {
    let mut follower = Follower {
        config,
        context,
        source: sources::open(config.source.expose())?,
        lake: open_lake(config)?,
        comparing: None,
    };
    loop {
        match context.next_order()? {
            Ok(order) => follower.perform(order)?,
            Err(exit) => return Ok(exit),
        }
    }
}

struct Follower<'a> {
    config: &'a Config,
    context: &'a RunContext,
    source: Arc<dyn Source>,
    lake: Store,
    /// A comparison, its memory, and in how many passes it is done.
    comparing: Option<(Comparing, Memory, u64)>,
}

impl Follower<'_> {
    fn perform(&mut self, order: Order) -> Result<(), Failure> {
        match order {
            Order::Compare(order) => self.compare(order),
            Order::Pass(pass) => {
                let comparing = self.comparing.as_ref();
                let (comparing, memory, passes) = comparing.ok_or_else(out_of_order)?;
                comparing.pass(self.context, memory, *passes, pass)
            }
            Order::Compared => {
                let (comparing, _, _) = self.comparing.take().ok_or_else(out_of_order)?;
                self.context.reply(&comparing.reply())
            }
            Order::Keys(order) => self.keys(order),
            Order::Flow(order) => self.flow(&order),
        }
    }

    fn memory(&self, needs: Needs) -> Memory {
        Memory::divide(self.config, self.context, &self.lake, needs)
    }

    fn view(&self, shared: &SharedView) -> Result<Arc<dyn Readers>, Failure> {
        match shared {
            Some(shared) => {
                let readers = self.context.crew.place().peers();
                Ok(self.source.join(shared, readers)?)
            }
            None => Ok(Arc::new(Nobody)),
        }
    }

    fn compare(&mut self, order: CompareOrder) -> Result<(), Failure> {
        let sides = order.sides.into_iter();
        let sides: Vec<Sides> = sides.map(|side| side.sides(&self.lake)).collect();
        let newer = match order.newer {
            None => Newer::Source(self.view(&order.view)?),
            Some(files) => {
                let names = sides.iter().map(|side| &side.read.table.name);
                let tables = names.zip(files);
                Newer::Lake(
                    tables
                        .map(|(name, files)| lake_table(&self.lake, name, files))
                        .collect(),
                )
            }
        };
        let memory = self.memory(order.needs);
        let comparing = Comparing::new(self.context, &memory, &newer, &sides)?;
        self.comparing = Some((comparing, memory, order.passes));
        Ok(())
    }

    fn keys(&self, order: KeysOrder) -> Result<(), Failure> {
        let memory = self.memory(order.needs);
        let limit = KeyLimit::new(memory.keys_bytes);
        let reads = order.reads.into_iter();
        let reads: Vec<(usize, _, SideRead)> = reads.map(|read| read.of()).collect();
        let view = self.view(&order.view)?;
        let collecting = Collecting::new(self.context, &memory, view, reads, &limit)?;
        collecting.collect(self.context)?;
        self.context.reply(&collecting.reply())
    }

    fn flow(&self, order: &FlowOrder) -> Result<(), Failure> {
        let memory = self.memory(order.needs);
        let merges = order.merges.iter();
        let merges = merges.map(|merge| merge.merge(&self.lake)).collect();
        let view = self.view(&order.view)?;
        let view = MergeSnapshot::new(view, merges, memory.row_groups.clone());
        let tables = order.tables.iter();
        let progress = tables.map(|table| {
            let name = table.read.table.name.to_string();
            self.context.progress.table(&name, 0, 0)
        });
        let progress = progress.collect();
        let stages = Arc::new(Stages::default());
        let plan = FlowPlan::new(
            self.config,
            self.context,
            &self.lake,
            &order.tables,
            Arc::new(view),
            progress,
            &memory,
            &stages,
        )?;
        run_flow(self.context, plan, None)
    }
}

fn out_of_order() -> Failure {
    Failure::failed("an order came out of order; please report this")
}
