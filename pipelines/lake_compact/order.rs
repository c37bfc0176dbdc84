//! What every process of a run does of one table. The first one decides it, by
//! the table's log and a look at some of its rows, and tells the others.

use arrow::datatypes::SchemaRef;
use highwater::app::{Exit, Failure, RunContext};
use highwater::dataset::{Table, TableName};
use highwater::ledger::LoggedFile;
use highwater::run::Config;
use highwater::run::prepare::table_folder;
use highwater::source::TableRead;
use highwater::store::Store;
use highwater_operators::packed;
use highwater_operators::sort::{
    Cutting, Order, OrderSpec, Ranges, Ranks, Sample, SectionShare, sample,
};
use serde::{Deserialize, Serialize};

use super::choose::Partition;
use super::job::Job;
use super::memory::Memory;

/// Splits that each worker gets, at least: the slowest must not hold the rest.
const SPLITS_OF_A_WORKER: u64 = 16;

/// What is done of one table.
#[derive(Serialize, Deserialize)]
pub(super) struct FlowOrder {
    /// What it is called in messages.
    pub(super) name: String,
    /// Which table of the lake it is; `None` where the lake is this one table.
    pub(super) in_lake: Option<TableName>,
    /// The columns that are read.
    #[serde(with = "packed")]
    pub(super) columns: SchemaRef,
    /// Rows that are read, as far as the log tells.
    pub(super) rows: u64,
    /// Files that are read one after the other. Where they are only joined a group
    /// becomes a file.
    pub(super) groups: Vec<Vec<LoggedFile>>,
    /// The section of each group; sections are never mixed.
    pub(super) sections: Vec<u32>,
    /// The partition of each section.
    pub(super) partitions: Vec<Partition>,
    /// Partition columns, where they change.
    pub(super) partition_by: Vec<String>,
    /// The size at which a file is closed, in bytes.
    pub(super) file_bytes: u64,
    /// How rows are sorted; `None` where files are only joined.
    pub(super) sort: Option<SortOrder>,
}

/// How rows are sorted, and by whom.
#[derive(Serialize, Deserialize)]
pub(super) struct SortOrder {
    /// What comes first.
    pub(super) spec: OrderSpec,
    /// What a Z-order needs to know.
    pub(super) ranks: Ranks,
    /// Which worker has which keys.
    pub(super) ranges: Ranges,
    /// What a row takes in memory, in bytes; an estimate.
    pub(super) row_bytes: u64,
}

impl FlowOrder {
    /// Decides what is done of `job`.
    pub(super) fn of(config: &Config, context: &RunContext, job: &Job) -> Result<Self, Failure> {
        let sort = match job.layout.joins() {
            true => None,
            false => Some(SortOrder::of(config, context, job)?),
        };
        let (groups, sections) = groups(job, context, sort.is_some());
        let of = job.choice.sections.iter();
        let target = job.layout.target_bytes;
        Ok(Self {
            name: job.name.clone(),
            in_lake: job.in_lake.clone(),
            columns: SchemaRef::clone(&job.columns),
            rows: job.rows(),
            groups,
            sections,
            partitions: of.map(|section| section.partition.clone()).collect(),
            partition_by: job.layout.partition_by.clone().unwrap_or_default(),
            // What is joined becomes one file, however its size was guessed.
            file_bytes: match sort {
                None => target.saturating_mul(4),
                Some(_) => target,
            },
            sort,
        })
    }

    /// The table's folder.
    pub(super) fn store(&self, lake: &Store) -> Store {
        match &self.in_lake {
            Some(name) => lake.child(&table_folder(name)),
            None => lake.clone(),
        }
    }

    /// Bytes of the files that are read.
    pub(super) fn bytes(&self) -> u64 {
        self.groups.iter().flatten().map(|file| file.bytes).sum()
    }

    /// The table as it is read.
    pub(super) fn read(&self) -> TableRead {
        let name = TableName {
            schema: None,
            name: self.name.clone(),
        };
        let table = Table {
            estimated_rows: Some(self.rows),
            estimated_bytes: self.bytes(),
            ..Table::of(name, &self.columns)
        };
        TableRead::all(table, None)
    }
}

/// Files that are read one after the other, and the section of each group.
fn groups(job: &Job, context: &RunContext, sorts: bool) -> (Vec<Vec<LoggedFile>>, Vec<u32>) {
    let (mut groups, mut sections) = (Vec::new(), Vec::new());
    let share = job.bytes() / (context.crew.place().peers() as u64 * SPLITS_OF_A_WORKER).max(1);
    for (number, section) in (0_u32..).zip(&job.choice.sections) {
        let mut bytes = u64::MAX;
        for file in &section.files {
            if bytes == u64::MAX || (sorts && bytes >= share) {
                groups.push(Vec::new());
                sections.push(number);
                bytes = 0;
            }
            bytes += file.bytes;
            if let Some(group) = groups.last_mut() {
                group.push(LoggedFile {
                    // Nobody who reads a file asks for them, and they are long.
                    stats: None,
                    ..file.clone()
                });
            }
        }
    }
    (groups, sections)
}

impl SortOrder {
    fn of(config: &Config, context: &RunContext, job: &Job) -> Result<Self, Failure> {
        let spec = job.layout.order.clone();
        let looked = look(context, job, &spec)?;
        let columns = job.columns.fields().len();
        let memory = Memory::divide(config, context, job.table.store(), columns, true);
        let rows: Vec<_> = looked.rows.iter().map(|(_, rows)| rows.clone()).collect();
        let ranks = spec.ranks(&job.columns, &rows).map_err(Failure::usage)?;
        let order = Order::new(&job.columns, &spec, ranks.clone()).map_err(Failure::usage)?;
        let in_memory = |bytes: u64| bytes.saturating_mul(looked.memory_percent) / 100;
        let sections = job.choice.sections.iter();
        let shares: Vec<SectionShare> = sections
            .map(|section| SectionShare {
                bytes: in_memory(section.bytes()),
            })
            .collect();
        let cutting = Cutting {
            workers: context.crew.place().peers(),
            least_bytes: in_memory(job.layout.target_bytes / 2).max(1),
            range_bytes: memory.range_bytes(looked.row_bytes),
        };
        let ranges = Ranges::cut(&order, &looked.rows, &shares, cutting).map_err(Failure::usage)?;
        tracing::debug!(
            table = job.name,
            ranges = ranges.len(),
            row_bytes = looked.row_bytes,
            memory_percent = looked.memory_percent,
            "cut the key space"
        );
        Ok(Self {
            spec,
            ranks,
            ranges,
            row_bytes: looked.row_bytes,
        })
    }
}

/// Reads some of the rows.
fn look(context: &RunContext, job: &Job, spec: &OrderSpec) -> Result<Sample, Failure> {
    let files: Vec<(u32, LoggedFile)> = (0_u32..)
        .zip(&job.choice.sections)
        .flat_map(|(number, section)| section.files.iter().map(move |file| (number, file.clone())))
        .collect();
    let columns: Vec<&str> = spec.columns().collect();
    let folder = job.table.store().objects();
    let looked = sample(&folder, &files, &job.columns, &columns);
    let looked = context.runtime.block_on(looked);
    looked.map_err(|error| {
        let failure = Failure::failed(error.to_string());
        match error.passes {
            true => Failure {
                exit: Exit::Retry,
                ..failure
            },
            false => failure,
        }
    })
}
