//! Drops rows that the lake holds already.
//!
//! An append reads rows *at or above* the last cursor value: rows that share it
//! may have come since. Those that were there before come again, and are known
//! by their key. Only rows at the greatest cursor value of the lake can repeat,
//! so only their keys are read, from the row groups that can hold them.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, Scalar};
use arrow::compute::kernels::cmp;
use arrow::compute::{SortOptions, filter_record_batch, sort_to_indices, take};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use futures::TryStreamExt;
use object_store::path::Path;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator;

use highwater::batch::Batch;
use highwater::budget::{MemoryBudget, Permit};
use highwater::dataset::Table;
use highwater::flow::{Batches, Epoch};
use highwater::ledger::LakeFile;
use highwater::run::failure::Failure;
use highwater::run::prepare::PreparedTable;
use highwater::store::Store;

/// What one key costs beside its bytes: its place in the set.
const BYTES_PER_KEY: u64 = 48;

/// The keys of the lake's rows at the greatest cursor value.
pub struct Repeats {
    keys: HashSet<Box<[u8]>>,
    /// Positions of the key columns in a batch.
    key: Vec<usize>,
    fields: Vec<SortField>,
    _paid: Permit,
}

impl Repeats {
    /// Reads the keys of one table; `None` where nothing can repeat.
    ///
    /// # Errors
    /// The lake cannot be read, or more rows share the greatest cursor value
    /// than the budget can hold.
    pub async fn find(
        prepared: &PreparedTable,
        folder: &Store,
        budget: &MemoryBudget,
    ) -> Result<Option<Self>, Failure> {
        let Some(range) = prepared
            .read
            .cursor
            .as_ref()
            .filter(|range| range.from.is_some())
        else {
            return Ok(None);
        };
        let table = &prepared.read.table;
        let columns: Vec<&str> = table.key_names().chain([range.column.as_str()]).collect();
        let schema = table.schema();
        if let Some(column) = columns
            .iter()
            .find(|c| prepared.shape.partition_columns.iter().any(|p| p == *c))
        {
            return Err(Failure::usage(format!(
                "table {}: column {column} is part of the key or the cursor of an append, so it \
                 cannot be a partition column",
                table.name
            ))
            .hint("partition by a date part of it instead, for instance month(...)"));
        }
        let mut found = Found {
            keys: HashSet::new(),
            paid: Permit::free(),
            fields: Vec::new(),
        };
        let mut files = Vec::new();
        for file in prepared.ledger.files().await? {
            let path = Path::from_url_path(&file.path).map_err(unreadable)?;
            let file = LakeFile::new(folder.objects(), path, file.bytes);
            files.push(OpenFile::open(file, &range.column, &schema).await?);
        }
        let Some(greatest) = greatest(&files).map_err(unreadable)? else {
            return Ok(None);
        };
        found.fields = key_fields(&schema, &table.key);
        for file in files {
            found.read(file, &columns, &greatest, budget).await?;
        }
        let Found { keys, paid, fields } = found;
        Ok(Some(Self {
            keys,
            key: table.key.clone(),
            fields,
            _paid: paid,
        }))
    }

    /// The keys, encoded.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().map(AsRef::as_ref)
    }

    /// The same as another process has found for `table`.
    ///
    /// # Errors
    /// They are more than the budget can hold.
    pub fn of(table: &Table, keys: Vec<Box<[u8]>>, budget: &MemoryBudget) -> Result<Self, Failure> {
        let bytes = keys.iter().map(|key| key.len() as u64 + BYTES_PER_KEY);
        Ok(Self {
            _paid: budget.try_take(bytes.sum()).ok_or_else(too_many)?,
            fields: key_fields(&table.schema(), &table.key),
            key: table.key.clone(),
            keys: keys.into_iter().collect(),
        })
    }

    /// The rows whose key the lake does not hold.
    fn filter(&self, rows: &RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
        let converter = RowConverter::new(self.fields.clone())?;
        let key = rows.project(&self.key)?;
        let keys = converter.convert_columns(key.columns())?;
        let fresh: BooleanArray = keys
            .iter()
            .map(|key| Some(!self.keys.contains(key.as_ref())))
            .collect();
        filter_record_batch(rows, &fresh)
    }
}

fn key_fields(schema: &SchemaRef, key: &[usize]) -> Vec<SortField> {
    key.iter()
        .map(|&index| SortField::new(schema.field(index).data_type().clone()))
        .collect()
}

fn too_many() -> Failure {
    Failure::failed("too many rows share the greatest cursor value to tell them apart in memory")
        .hint("give the run more memory, choose a finer cursor, or use mode = \"full\"")
}

fn unreadable(error: impl std::fmt::Display) -> Failure {
    Failure::failed("cannot read the keys that the lake holds already").because(error.to_string())
}

/// A file of the lake and the greatest cursor value of each of its row groups.
struct OpenFile {
    builder: ParquetRecordBatchStreamBuilder<LakeFile>,
    maxima: ArrayRef,
}

impl OpenFile {
    async fn open(file: LakeFile, cursor: &str, schema: &SchemaRef) -> Result<Self, Failure> {
        let builder = ParquetRecordBatchStreamBuilder::new(file)
            .await
            .map_err(unreadable)?;
        let metadata = builder.metadata();
        let maxima =
            StatisticsConverter::try_new(cursor, schema, metadata.file_metadata().schema_descr())
                .and_then(|statistics| statistics.row_group_maxes(metadata.row_groups()))
                .map_err(unreadable)?;
        Ok(Self { builder, maxima })
    }
}

/// The greatest cursor value of all files, as an array of one; `None` where no
/// row has a cursor value.
fn greatest(files: &[OpenFile]) -> Result<Option<ArrayRef>, arrow::error::ArrowError> {
    let maxima: Vec<&dyn arrow::array::Array> = files.iter().map(|f| &*f.maxima as _).collect();
    if maxima.is_empty() {
        return Ok(None);
    }
    let all = arrow::compute::concat(&maxima)?;
    let order = SortOptions {
        descending: true,
        nulls_first: false,
    };
    let first = take(&all, &sort_to_indices(&all, Some(order), Some(1))?, None)?;
    Ok((first.null_count() < first.len()).then_some(first))
}

struct Found {
    keys: HashSet<Box<[u8]>>,
    paid: Permit,
    fields: Vec<SortField>,
}

impl Found {
    async fn read(
        &mut self,
        file: OpenFile,
        columns: &[&str],
        greatest: &ArrayRef,
        budget: &MemoryBudget,
    ) -> Result<(), Failure> {
        let greatest = Scalar::new(Arc::clone(greatest));
        let holds = cmp::eq(&file.maxima, &greatest).map_err(unreadable)?;
        let groups = (0..holds.len())
            .filter(|&group| holds.value(group))
            .collect();
        let wanted =
            ProjectionMask::columns(file.builder.parquet_schema(), columns.iter().copied());
        let mut rows = file
            .builder
            .with_row_groups(groups)
            .with_projection(wanted)
            .build()
            .map_err(unreadable)?;
        while let Some(batch) = rows.try_next().await.map_err(unreadable)? {
            self.take_keys(&batch, columns, &greatest, budget)?;
        }
        Ok(())
    }

    fn take_keys(
        &mut self,
        batch: &RecordBatch,
        columns: &[&str],
        greatest: &Scalar<ArrayRef>,
        budget: &MemoryBudget,
    ) -> Result<(), Failure> {
        let column = |name: &str| {
            batch
                .column_by_name(name)
                .cloned()
                .ok_or_else(|| unreadable(format!("no column {name}")))
        };
        let Some((cursor, key)) = columns.split_last() else {
            return Ok(());
        };
        let tied = cmp::eq(&column(cursor)?, greatest).map_err(unreadable)?;
        let key = key
            .iter()
            .map(|name| column(name))
            .collect::<Result<Vec<_>, _>>()?;
        let converter = RowConverter::new(self.fields.clone()).map_err(unreadable)?;
        let keys = converter.convert_columns(&key).map_err(unreadable)?;
        let before = self.keys.len();
        let mut bytes = 0;
        for (key, tied) in keys.iter().zip(tied.iter()) {
            if tied == Some(true) && self.keys.insert(key.as_ref().into()) {
                bytes += key.as_ref().len() as u64;
            }
        }
        let added = (self.keys.len() - before) as u64;
        let paid = budget
            .try_take(bytes + added * BYTES_PER_KEY)
            .ok_or_else(too_many)?;
        self.paid.merge(paid);
        Ok(())
    }
}

/// Adds the operator: batches without the rows that the lake holds already.
/// `repeats` is by position of the table in the plan.
pub fn drop_repeats<'scope>(
    batches: Batches<'scope>,
    repeats: Arc<Vec<Option<Repeats>>>,
) -> Batches<'scope> {
    batches.unary::<CapacityContainerBuilder<Vec<Batch>>, _, _, _>(
        Pipeline,
        "drop_repeats",
        move |_, _| {
            move |input, output| {
                input.for_each(
                    |capability: timely::dataflow::operators::InputCapability<Epoch>, batches| {
                        let mut session = output.session(&capability);
                        for mut batch in batches.drain(..) {
                            if let Some(Some(repeats)) = repeats.get(batch.table) {
                                match repeats.filter(&batch.rows) {
                                    Ok(rows) => batch.rows = rows,
                                    // The types were checked when the keys were read.
                                    Err(error) => tracing::error!(%error, "cannot compare keys"),
                                }
                            }
                            if batch.rows.num_rows() > 0 {
                                session.give(batch);
                            }
                        }
                    },
                );
            }
        },
    )
}
