//! Compares tables with the lake as a whole (T4): both sides become hashes, and
//! differential dataflow cancels what is equal.
//!
//! What one side has shown and the other not yet is held in memory. Where that
//! could be more than there is room for, the hashes are divided into ranges and
//! the tables are read once for each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use highwater::app::{Failure, RunContext};
use highwater::batch::Batch;
use highwater::flow::event::FailureKind;
use highwater::flow::{Batches, Epoch, Exchange, TableFailure};
use highwater::ledger::LoggedFile;
use highwater::source::{BadRow, Readers, Split, TableRead};
use highwater_operators::ingest::lake::{LakeSnapshot, LakeTable};
use highwater_operators::transform::changes::{Count, Counted, Element, changes};
use highwater_operators::transform::fingerprint::{Fingerprint, Hash};
use highwater_operators::transform::meet::meet;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator;

use super::memory::Memory;
use super::side::{ByTable, Noticed, Side, SideRead, check_cancelled, run_dataflow};
use super::together::order::{CompareOrder, ComparedReply, DifferencesReply, Order, SideOrder};

/// A difference is kept in sets or a map: about so many bytes.
const DIFFERENCE_BYTES: u64 = 96;

/// The two sides of one table.
pub(super) struct Sides {
    /// Its position in the run's plan.
    pub(super) number: usize,
    /// What is compared of both.
    pub(super) read: TableRead,
    /// The source's splits.
    pub(super) splits: Vec<Split>,
    /// The lake's files.
    pub(super) lake: LakeTable,
}

/// What came of comparing one table.
pub(super) enum Compared {
    /// All its differences.
    Done(Box<Differences>),
    /// There are more than there is room for.
    TooMany,
}

/// How a table differs from the lake.
#[derive(Default)]
pub(super) struct Differences {
    /// Hashes of keys whose rows are not the same on both sides.
    pub(super) keys: HashSet<Hash>,
    /// Of these, the ones that the source has.
    pub(super) in_source: HashSet<Hash>,
    /// Of these, the ones that the lake has.
    pub(super) in_lake: HashSet<Hash>,
    /// For tables without a key: rows that the source has more often.
    pub(super) new: HashMap<Hash, u64>,
    /// For tables without a key: rows that the lake has more often.
    pub(super) gone: HashMap<Hash, u64>,
    /// Rows of the source that the lake cannot represent.
    pub(super) bad_rows: Vec<BadRow>,
}

/// What the lake is compared with.
pub(super) enum Newer {
    /// A view of the source.
    Source(Arc<dyn Readers>),
    /// Files of the lake, for each of the sides.
    Lake(Vec<LakeTable>),
}

/// Compares tables. What is found is by position in the run's plan, and so are
/// the tables that failed.
pub(super) fn compare(
    context: &RunContext,
    memory: &Memory,
    newer: &Newer,
    sides: &[Sides],
) -> Result<ByTable<Compared>, Failure> {
    let comparing = Comparing::new(context, memory, newer, sides)?;
    let rows: u64 = sides.iter().map(Sides::rows).sum();
    let elements = memory.elements * context.crew.place().processes as u64;
    let passes = rows.div_ceil(elements.max(1)).max(1);
    context.order(&Order::Compare(CompareOrder {
        view: match newer {
            Newer::Source(readers) => readers.share(),
            Newer::Lake(_) => None,
        },
        newer: match newer {
            Newer::Source(_) => None,
            Newer::Lake(tables) => Some(tables.iter().map(|table| table.files.clone()).collect()),
        },
        sides: sides.iter().map(SideOrder::from).collect(),
        passes,
        needs: memory.needs,
    }))?;
    for pass in 0..passes {
        context.order(&Order::Pass(pass))?;
        comparing.pass(context, memory, passes, pass)?;
        check_cancelled(context)?;
    }
    context.order(&Order::Compared)?;
    for reply in context.replies()? {
        comparing.join(reply);
    }
    let number = |at: usize| sides.get(at).map(|side| side.number);
    let (found, failed) = comparing.conclude();
    let (found, failed) = (found.into_iter().enumerate(), failed.into_iter());
    Ok(ByTable {
        found: found
            .filter_map(|(at, compared)| Some((number(at)?, compared)))
            .collect(),
        failed: failed
            .filter_map(|(at, failure)| Some((number(at)?, failure)))
            .collect(),
    })
}

/// A comparison on its way, in one process.
pub(super) struct Comparing {
    comparison: Arc<Comparison>,
    newer: Side,
    older: Side,
    noticed: Noticed,
}

impl Comparing {
    pub(super) fn new(
        context: &RunContext,
        memory: &Memory,
        newer: &Newer,
        sides: &[Sides],
    ) -> Result<Self, Failure> {
        let noticed = Noticed::default();
        let cancelled = context.cancel_flag();
        let side = |readers, doing, splits: &dyn Fn(&Sides) -> Vec<Split>| {
            let tables = sides.iter().map(|side| SideRead {
                read: side.read.clone(),
                splits: splits(side),
            });
            let tables = tables.collect();
            Side::new(
                context, memory, readers, doing, tables, &cancelled, &noticed,
            )
        };
        let in_lake = |tables: &mut dyn Iterator<Item = &LakeTable>| {
            let names = sides.iter().map(|side| side.read.table.name.clone());
            let tables = names.zip(tables.cloned()).collect();
            Arc::new(LakeSnapshot::new(tables, memory.row_groups.clone()))
        };
        let older = in_lake(&mut sides.iter().map(|side| &side.lake));
        let newer: Arc<dyn Readers> = match newer {
            Newer::Source(readers) => Arc::clone(readers),
            Newer::Lake(tables) => in_lake(&mut tables.iter()),
        };
        Ok(Self {
            comparison: Arc::new(Comparison::new(memory, sides)?),
            newer: side(newer, "compared", &|side| side.splits.clone()),
            older: side(older, "compared, lake", &|side| side.lake.splits()),
            noticed,
        })
    }

    /// Compares what has its key in one of so many ranges.
    pub(super) fn pass(
        &self,
        context: &RunContext,
        memory: &Memory,
        passes: u64,
        pass: u64,
    ) -> Result<(), Failure> {
        // Each pass reads all rows, so each meets the same bad ones.
        self.noticed.take_bad_rows();
        let range = range(passes, pass);
        self.comparison.pass(
            context,
            memory,
            &self.newer,
            &self.older,
            &range,
            &self.noticed,
        )
    }

    /// What this process has found, for the first one.
    pub(super) fn reply(self) -> ComparedReply {
        let tables = self.comparison.take_found().into_iter();
        ComparedReply {
            tables: tables
                .map(|(found, too_many)| DifferencesReply::new(found, too_many))
                .collect(),
            noticed: self.noticed.reply(),
        }
    }

    /// Adds what another process has found.
    fn join(&self, reply: ComparedReply) {
        self.comparison.join(reply.tables);
        self.noticed.join(reply.noticed);
    }

    fn conclude(self) -> (Vec<Compared>, BTreeMap<usize, Failure>) {
        self.newer.done();
        self.older.done();
        let found = self.comparison.conclude(self.noticed.take_bad_rows());
        (found, self.noticed.take_failures())
    }
}

/// What all workers share.
struct Comparison {
    tables: Vec<Table>,
    most_differences: u64,
}

struct Table {
    has_key: bool,
    print: Fingerprint,
    found: Mutex<(Differences, bool)>,
}

impl Comparison {
    fn new(memory: &Memory, sides: &[Sides]) -> Result<Self, Failure> {
        let tables = sides.iter().map(|side| {
            let table = &side.read.table;
            let print = Fingerprint::new(side.number, &table.schema(), &table.key);
            let print = print.map_err(|error| {
                let what = format!("table {} has a type that cannot be compared", table.name);
                Failure::failed(what).caused_by(&error)
            })?;
            Ok(Table {
                has_key: !table.key.is_empty(),
                print,
                found: Mutex::default(),
            })
        });
        Ok(Self {
            tables: tables.collect::<Result<_, Failure>>()?,
            most_differences: memory.keys_bytes / DIFFERENCE_BYTES,
        })
    }

    /// Compares what has its key in one range.
    fn pass(
        self: &Arc<Self>,
        context: &RunContext,
        memory: &Memory,
        newer: &Side,
        older: &Side,
        range: &RangeInclusive<Hash>,
        noticed: &Noticed,
    ) -> Result<(), Failure> {
        let hashing = Hashing {
            comparison: Arc::clone(self),
            range: range.clone(),
            noticed: noticed.clone(),
        };
        let (comparison, newer, older) = (Arc::clone(self), newer.clone(), older.clone());
        // One for each side, so that neither waits for the other's credit.
        let place = context.crew.place();
        let exchanges = [(); 2].map(|()| {
            Exchange::new(
                place,
                memory.window_bytes,
                memory.reading.clone(),
                context.runtime.clone(),
            )
        });
        run_dataflow(context, move |scope| {
            let [first, second] = &exchanges;
            let hash = |side: &Side, exchange: &Exchange, count| {
                let rows = side.clone().read(scope);
                let hashing = hashing.clone();
                if place.processes == 1 {
                    elements(rows, hashing, count)
                } else {
                    meet(rows, exchange.clone(), count, move |batch| {
                        hashing.of(batch)
                    })
                }
            };
            let differences = changes(hash(&newer, first, 1), hash(&older, second, -1));
            let comparison = Arc::clone(&comparison);
            differences.inspect(move |(element, _, count)| comparison.differs(element, *count));
        })
    }

    fn table(&self, at: u32) -> Option<&Table> {
        self.tables.get(usize::try_from(at).ok()?)
    }

    /// `element` is on one side `count` times more often than on the other.
    fn differs(&self, element: &Element, count: Count) {
        let Some(table) = self.table(element.of) else {
            return;
        };
        let mut found = table.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (differences, too_many) = &mut *found;
        let times = u64::from(count.unsigned_abs());
        let hash = element.key_hash();
        if differences.len() >= self.most_differences {
            *too_many = true;
        } else if table.has_key {
            differences.keys.insert(hash);
            if count > 0 {
                differences.in_source.insert(hash);
            } else {
                differences.in_lake.insert(hash);
            }
        } else if count > 0 {
            *differences.new.entry(hash).or_default() += times;
        } else {
            *differences.gone.entry(hash).or_default() += times;
        }
    }

    /// What was found of each table, and whether there was more.
    fn take_found(&self) -> Vec<(Differences, bool)> {
        let tables = self.tables.iter();
        tables
            .map(|table| {
                let mut found = table.found.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *found)
            })
            .collect()
    }

    fn join(&self, replies: Vec<DifferencesReply>) {
        for (table, reply) in self.tables.iter().zip(replies) {
            let mut found = table.found.lock().unwrap_or_else(PoisonError::into_inner);
            let (differences, too_many) = &mut *found;
            *too_many |= reply.too_many;
            differences.join(reply.differences());
            *too_many |= differences.len() > self.most_differences;
            if *too_many {
                *differences = Differences::default();
            }
        }
    }

    fn conclude(&self, bad_rows: Vec<(usize, BadRow)>) -> Vec<Compared> {
        let mut by_table: BTreeMap<usize, Vec<BadRow>> = BTreeMap::new();
        for (table, row) in bad_rows {
            by_table.entry(table).or_default().push(row);
        }
        let tables = self.take_found().into_iter().enumerate();
        tables
            .map(|(at, found)| match found {
                (_, true) => Compared::TooMany,
                (differences, false) => Compared::Done(Box::new(Differences {
                    bad_rows: by_table.remove(&at).unwrap_or_default(),
                    ..differences
                })),
            })
            .collect()
    }
}

impl Sides {
    /// About how many rows it has.
    fn rows(&self) -> u64 {
        let lake: u64 = self.lake.files.iter().map(LoggedFile::rows).sum();
        lake.max(self.read.table.estimated_rows.unwrap_or(0))
    }
}

impl Differences {
    fn len(&self) -> u64 {
        (self.keys.len() + self.new.len() + self.gone.len()) as u64
    }

    /// Adds what another process has found: differences of one key may be met in
    /// two of them.
    fn join(&mut self, other: Self) {
        self.keys.extend(other.keys);
        self.in_source.extend(other.in_source);
        self.in_lake.extend(other.in_lake);
        for (mine, theirs) in [(&mut self.new, other.new), (&mut self.gone, other.gone)] {
            for (hash, count) in theirs {
                *mine.entry(hash).or_default() += count;
            }
        }
    }
}

/// One of so many ranges, into which the hashes are divided evenly.
fn range(passes: u64, pass: u64) -> RangeInclusive<Hash> {
    let (passes, pass) = (Hash::from(passes.max(1)), Hash::from(pass));
    let width = Hash::MAX / passes;
    let end = if pass + 1 == passes {
        Hash::MAX
    } else {
        width * (pass + 1) - 1
    };
    width * pass..=end
}

/// The rows of batches as elements of a side that counts `count`.
fn elements<'scope>(
    batches: Batches<'scope>,
    hashing: Hashing,
    count: Count,
) -> StreamVec<'scope, Epoch, Counted> {
    type Builder = CapacityContainerBuilder<Vec<Counted>>;
    batches.unary::<Builder, _, _, _>(Pipeline, "hash_rows", move |_, _| {
        move |input, output| {
            input.for_each(|capability, batches: &mut Vec<Batch>| {
                let epoch = *capability.time();
                let mut session = output.session(&capability);
                for batch in batches.drain(..) {
                    let of = u32::try_from(batch.table).unwrap_or(u32::MAX);
                    let hashes = hashing.of(&batch).unwrap_or_default().into_iter();
                    session.give_iterator(
                        hashes.map(|(key, row)| (Element::new(of, key, row), epoch, count)),
                    );
                }
            });
        }
    })
}

/// How rows become hashes in one pass.
#[derive(Clone)]
struct Hashing {
    comparison: Arc<Comparison>,
    range: RangeInclusive<Hash>,
    noticed: Noticed,
}

impl Hashing {
    /// Hashes of the rows whose key is in the range of this pass.
    fn of(&self, batch: &Batch) -> Option<Vec<(Hash, Hash)>> {
        let of = u32::try_from(batch.table).unwrap_or(u32::MAX);
        match self.comparison.table(of)?.print.of(&batch.rows) {
            Ok(mut hashes) => {
                hashes.retain(|(key, _)| self.range.contains(key));
                Some(hashes)
            }
            Err(error) => {
                let what = format!("rows cannot be compared: {error}");
                let failure = TableFailure::new(FailureKind::Failed, what);
                self.noticed.fail(batch.table, failure);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_every_hash_once() {
        for passes in [1, 2, 3, 7] {
            let ranges: Vec<_> = (0..passes).map(|pass| range(passes, pass)).collect();
            assert_eq!(ranges.first().map(|range| *range.start()), Some(0));
            assert_eq!(ranges.last().map(|range| *range.end()), Some(Hash::MAX));
            for pair in ranges.windows(2) {
                if let [before, after] = pair {
                    assert_eq!(before.end() + 1, *after.start());
                }
            }
        }
    }
}
