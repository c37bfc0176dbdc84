//! The dataflow of a run: documents that differ become chunks, chunks get their vectors,
//! and both are written.

use std::sync::Arc;

use highwater::app::{Failure, RunContext};
use highwater::dataset::{Table, TableName};
use highwater::flow::{Assign, Assignment, Ingest, IngestTable, Settler, assign, commit, ingest};
use highwater::run::Config;
use highwater::run::stages::Stages;
use highwater::source::{Split, TableRead};
use highwater::store::Store;
use highwater::telemetry::TableProgress;
use highwater_operators::ingest::documents::{DocumentRanges, Group, RangePlan, chunks_schema};
use highwater_operators::sink::lake::{LakeSink, SinkTable, lake_sink};
use highwater_operators::transform::partition::Partitioning;
use highwater_operators::vectors::{FillVectors, fill_vectors, vectors_schema};
use timely::dataflow::operators::{Concatenate, ConnectLoop, Feedback};

use super::memory::Memory;

/// A file of chunks is completed at this size, in bytes: it is what a change rewrites.
const CHUNKS_FILE_BYTES: u64 = 64 << 20;

/// A file of vectors is completed at this size, in bytes.
const VECTORS_FILE_BYTES: u64 = 64 << 20;

/// What the operators are given.
pub(super) struct Flow<'a> {
    pub(super) config: &'a Config,
    pub(super) context: &'a RunContext,
    pub(super) memory: &'a Memory,
    pub(super) groups: &'a [Group],
    pub(super) ranges: Arc<RangePlan>,
    pub(super) fill: FillVectors,
    /// The folder of the chunks, and that of the vectors.
    pub(super) stores: (Store, Store),
    pub(super) shown: TableProgress,
    pub(super) stages: Arc<Stages>,
}

impl Flow<'_> {
    /// Runs to its end. A group of pieces is a table to the operators: each succeeds or
    /// fails by itself.
    ///
    /// # Errors
    /// A worker died.
    pub(super) fn run(&self, publisher: Settler, keeper: Settler) -> Result<(), Failure> {
        let assigning = self.assigning();
        let reading = self.reading();
        let chunks = self.sink(
            &chunks_schema(),
            self.groups.len(),
            CHUNKS_FILE_BYTES,
            &self.stores.0,
        )?;
        let vectors = self.sink(&vectors_schema(), 1, VECTORS_FILE_BYTES, &self.stores.1)?;
        let fill = self.fill.clone();
        let runtime = self.context.runtime.clone();
        self.context.crew.run(move |scope| {
            let (more, requests) = scope.feedback(1);
            let (forget, settled) = scope.feedback(1);
            let splits = assign(scope, assigning.clone(), requests, settled);
            let read = ingest(scope, splits, reading.clone());
            let filled = fill_vectors(scope, read.batches, fill.clone());
            let written = lake_sink(scope, filled.batches, chunks.clone());
            let kept = lake_sink(scope, filled.vectors, vectors.clone());
            commit(scope, kept, &keeper, &runtime);
            let events = scope.concatenate([read.events, filled.events, written]);
            let done = commit(scope, events, &publisher, &runtime);
            read.requests.connect_loop(more);
            done.connect_loop(forget);
        })?;
        Ok(())
    }

    /// The pieces of all groups, numbered as in the plan of the ranges.
    fn splits(&self) -> Vec<(usize, Split)> {
        let groups = self.groups.iter().enumerate();
        let pieces = groups.flat_map(|(group, of)| of.pieces.iter().map(move |one| (group, one)));
        let splits = (0..).zip(pieces).map(|(ordinal, (group, piece))| {
            let split = Split {
                ordinal,
                start: None,
                end: None,
                estimated_bytes: piece.bytes.max(1),
            };
            (group, split)
        });
        splits.collect()
    }

    fn assigning(&self) -> Assign {
        let splits = self.splits();
        let splits = splits.iter().map(|(table, split)| Assignment {
            table: *table,
            split: split.ordinal,
            estimated_bytes: split.estimated_bytes,
        });
        Assign {
            splits: splits.collect(),
            epoch_bytes: self.config.epoch.bytes.as_u64(),
            epoch_duration: self.config.epoch.duration(),
            cancelled: self.context.cancel_flag(),
        }
    }

    fn reading(&self) -> Ingest {
        let mut tables: Vec<IngestTable> = self.groups.iter().map(|_| self.table()).collect();
        for (group, split) in self.splits() {
            if let Some(table) = tables.get_mut(group) {
                table.splits.insert(split.ordinal, split);
            }
        }
        Ingest {
            readers: Arc::new(DocumentRanges(Arc::clone(&self.ranges))),
            tables: Arc::new(tables),
            budget: self.memory.reading.clone(),
            batch_bytes: self.memory.batch_bytes,
            fail_on_bad_row: true,
            process: self.context.crew.place().process,
            runtime: self.context.runtime.clone(),
            stages: Arc::clone(&self.stages),
        }
    }

    fn table(&self) -> IngestTable {
        let name = TableName {
            schema: None,
            name: "chunks".to_owned(),
        };
        IngestTable {
            read: TableRead::all(Table::of(name, &chunks_schema()), None),
            splits: std::collections::BTreeMap::new(),
            progress: self.shown.clone(),
        }
    }

    /// A file holds rows of one piece, so that files stay apart.
    fn sink(
        &self,
        schema: &arrow::datatypes::SchemaRef,
        tables: usize,
        file_bytes: u64,
        folder: &Store,
    ) -> Result<LakeSink, Failure> {
        let table = || -> Result<SinkTable, Failure> {
            let partitioning = Partitioning::new(schema, &[]).map_err(Failure::usage)?;
            Ok(SinkTable {
                file_schema: partitioning.file_schema(),
                partitioning,
                partitions: None,
                file_bytes,
                by_split: true,
                folder: folder.objects(),
                progress: self.shown.clone(),
            })
        };
        let tables = (0..tables)
            .map(|_| table())
            .collect::<Result<Vec<_>, _>>()?;
        Ok(LakeSink {
            tables: Arc::new(tables),
            format: self.memory.format,
            runtime: self.context.runtime.clone(),
            stages: Arc::clone(&self.stages),
        })
    }
}
