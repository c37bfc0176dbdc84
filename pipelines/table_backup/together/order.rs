//! What the first process of a run has the others do. One order, one dataflow:
//! what is not in the order each process finds in its own configuration.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use highwater::dataset::TableName;
use highwater::flow::TableFailure;
use highwater::ledger::LoggedFile;
use highwater::run::config::PartitionBy;
use highwater::run::prepare::table_folder;
use highwater::source::{BadRow, Split, TableRead};
use highwater::store::Store;
use highwater_operators::ingest::lake::LakeTable;
use highwater_operators::ingest::merge::{Changed, Merge};
use highwater_operators::packed;
use highwater_operators::transform::changed_keys::{Digest, FoundKeys, Keep};
use highwater_operators::transform::fingerprint::Hash;
use highwater_operators::transform::touched::{ChangedKeys, Unit};
use serde::{Deserialize, Serialize};

use crate::compare::{Differences, Sides};
use crate::side::SideRead;

/// One thing to do.
#[derive(Serialize, Deserialize)]
pub(crate) enum Order {
    /// Make ready to compare tables.
    Compare(CompareOrder),
    /// Compare what has its key in one range of hashes.
    Pass(u64),
    /// Say what was found ([`ComparedReply`]).
    Compared,
    /// Read keys, and say which were kept ([`KeysReply`]).
    Keys(KeysOrder),
    /// Read rows and write files.
    Flow(Arc<FlowOrder>),
}

/// What decides how a process divides its memory.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Needs {
    /// Columns of the widest table.
    pub(crate) widest: u64,
    /// Whether the lake is read too.
    pub(crate) merges: bool,
}

/// Which view of the source is read: what the first process shares, or none
/// where only it can read.
pub(crate) type SharedView = Option<String>;

#[derive(Serialize, Deserialize)]
pub(crate) struct CompareOrder {
    pub(crate) view: SharedView,
    /// In place of the source: files of the lake, for each side.
    pub(crate) newer: Option<Vec<Vec<LoggedFile>>>,
    pub(crate) sides: Vec<SideOrder>,
    pub(crate) passes: u64,
    pub(crate) needs: Needs,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct SideOrder {
    number: usize,
    read: TableRead,
    splits: Vec<Split>,
    files: Vec<LoggedFile>,
}

impl From<&Sides> for SideOrder {
    fn from(sides: &Sides) -> Self {
        Self {
            number: sides.number,
            read: sides.read.clone(),
            splits: sides.splits.clone(),
            files: sides.lake.files.clone(),
        }
    }
}

impl SideOrder {
    pub(super) fn sides(self, lake: &Store) -> Sides {
        Sides {
            number: self.number,
            lake: lake_table(lake, &self.read.table.name, self.files),
            read: self.read,
            splits: self.splits,
        }
    }
}

/// Files of a table of the lake.
pub(super) fn lake_table(lake: &Store, name: &TableName, files: Vec<LoggedFile>) -> LakeTable {
    LakeTable {
        folder: lake.child(&table_folder(name)),
        files,
    }
}

/// What went wrong in a process, by position of the table in the order.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct NoticedReply {
    pub(crate) failures: Vec<(usize, TableFailure)>,
    pub(crate) bad_rows: Vec<(usize, BadRow)>,
}

/// What a process has found of the tables of a [`CompareOrder`], in its order.
#[derive(Serialize, Deserialize)]
pub(crate) struct ComparedReply {
    pub(crate) tables: Vec<DifferencesReply>,
    pub(crate) noticed: NoticedReply,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct DifferencesReply {
    pub(crate) too_many: bool,
    #[serde(with = "packed")]
    keys: HashSet<Hash>,
    #[serde(with = "packed")]
    in_source: HashSet<Hash>,
    #[serde(with = "packed")]
    in_lake: HashSet<Hash>,
    #[serde(with = "packed")]
    new: HashMap<Hash, u64>,
    #[serde(with = "packed")]
    gone: HashMap<Hash, u64>,
}

impl DifferencesReply {
    pub(crate) fn new(found: Differences, too_many: bool) -> Self {
        Self {
            too_many,
            keys: found.keys,
            in_source: found.in_source,
            in_lake: found.in_lake,
            new: found.new,
            gone: found.gone,
        }
    }

    pub(crate) fn differences(self) -> Differences {
        Differences {
            keys: self.keys,
            in_source: self.in_source,
            in_lake: self.in_lake,
            new: self.new,
            gone: self.gone,
            bad_rows: Vec::new(),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct KeysOrder {
    pub(crate) view: SharedView,
    pub(crate) reads: Vec<KeyReadOrder>,
    pub(crate) needs: Needs,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct KeyReadOrder {
    number: usize,
    read: TableRead,
    splits: Vec<Split>,
    keep: KeepOrder,
}

#[derive(Serialize, Deserialize)]
enum KeepOrder {
    Nothing,
    All,
    Only(#[serde(with = "packed")] HashSet<Hash>),
}

impl KeyReadOrder {
    /// `keep` of what is read of the table with this number.
    pub(crate) fn new(number: usize, keep: &Keep, side: &SideRead) -> Self {
        Self {
            number,
            read: side.read.clone(),
            splits: side.splits.clone(),
            keep: match keep {
                Keep::Nothing => KeepOrder::Nothing,
                Keep::All => KeepOrder::All,
                Keep::Only(hashes) => KeepOrder::Only(HashSet::clone(hashes)),
            },
        }
    }

    /// The number, what is kept, and what is read.
    pub(super) fn of(self) -> (usize, Keep, SideRead) {
        let keep = match self.keep {
            KeepOrder::Nothing => Keep::Nothing,
            KeepOrder::All => Keep::All,
            KeepOrder::Only(hashes) => Keep::Only(Arc::new(hashes)),
        };
        let side = SideRead {
            read: self.read,
            splits: self.splits,
        };
        (self.number, keep, side)
    }
}

/// What a process has found of the tables of a [`KeysOrder`], in its order.
#[derive(Serialize, Deserialize)]
pub(crate) struct KeysReply {
    pub(crate) tables: Vec<FoundReply>,
    pub(crate) noticed: NoticedReply,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct FoundReply {
    #[serde(with = "packed")]
    keys: Vec<Box<[u8]>>,
    too_many: bool,
    seen: Digest,
    tail: Digest,
}

impl From<FoundKeys> for FoundReply {
    fn from(found: FoundKeys) -> Self {
        Self {
            keys: found.keys,
            too_many: found.too_many,
            seen: found.seen,
            tail: found.tail,
        }
    }
}

impl From<FoundReply> for FoundKeys {
    fn from(reply: FoundReply) -> Self {
        Self {
            keys: reply.keys,
            too_many: reply.too_many,
            seen: reply.seen,
            tail: reply.tail,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct FlowOrder {
    pub(crate) view: SharedView,
    pub(crate) merges: Vec<MergeOrder>,
    pub(crate) tables: Vec<TableOrder>,
    pub(crate) needs: Needs,
}

/// One table to read and write.
#[derive(Serialize, Deserialize)]
pub(crate) struct TableOrder {
    pub(crate) read: TableRead,
    pub(crate) splits: Vec<Split>,
    pub(crate) partition_by: Vec<PartitionBy>,
    pub(crate) file_bytes: u64,
    pub(crate) by_split: bool,
    /// Keys that the lake holds already, where any can repeat.
    pub(crate) repeats: Option<Keys>,
}

/// Encoded keys.
#[derive(Serialize, Deserialize)]
pub(crate) struct Keys(#[serde(with = "packed")] pub(crate) Vec<Box<[u8]>>);

/// The rewriting of one table with a key.
#[derive(Serialize, Deserialize)]
pub(crate) struct MergeOrder {
    name: TableName,
    number: usize,
    files: Vec<LoggedFile>,
    #[serde(with = "packed")]
    upserts: Vec<Box<[u8]>>,
    #[serde(with = "packed")]
    hashes: HashSet<Hash>,
    units: Vec<Unit>,
}

impl MergeOrder {
    /// `None` where the table has no key: its changed rows are counted down as
    /// they are met, which only one process can do.
    pub(crate) fn of(name: &TableName, merge: &Merge) -> Option<Self> {
        let Changed::Keys(changed) = &merge.changed else {
            return None;
        };
        Some(Self {
            name: name.clone(),
            number: merge.number,
            files: merge.lake.files.clone(),
            upserts: changed.upserts.clone(),
            hashes: changed.hashes.clone(),
            units: merge.units.clone(),
        })
    }

    pub(super) fn merge(&self, lake: &Store) -> (TableName, Merge) {
        let changed = ChangedKeys {
            upserts: self.upserts.clone(),
            hashes: self.hashes.clone(),
        };
        let merge = Merge {
            number: self.number,
            lake: lake_table(lake, &self.name, self.files.clone()),
            changed: Changed::Keys(Arc::new(changed)),
            units: self.units.clone(),
        };
        (self.name.clone(), merge)
    }
}
