//! Reads some rows of many files: what ranges and ranks are made from.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use highwater::ledger::LoggedFile;
use object_store::ObjectStore;

use crate::lake::{LakeReadError, TableFile};

/// Places at which a table is looked at, evenly by bytes.
const PLACES: u64 = 128;

/// Rows that are taken at each.
const ROWS_AT_A_PLACE: usize = 256;

/// Of so many files that are looked at one is weighed: rows in all columns are read.
const WEIGH_EVERY: usize = 16;

/// Files that are looked at at once.
const READ_AT_ONCE: usize = 4;

/// Rows decoded at once.
const BATCH_ROWS: usize = 8192;

/// What a sample tells.
#[derive(Debug, Default)]
pub struct Sample {
    /// Some rows, with their section; columns that were not asked for are NULL.
    pub rows: Vec<(u32, RecordBatch)>,
    /// How many bytes of memory rows take for each byte of a file, in percent.
    pub memory_percent: u64,
    /// What a row takes in memory, in bytes.
    pub row_bytes: u64,
}

/// Reads rows of `files`, each with its section, in the columns of `schema` that
/// are named.
///
/// # Errors
/// A file is missing or damaged.
pub async fn sample(
    folder: &Arc<dyn ObjectStore>,
    files: &[(u32, LoggedFile)],
    schema: &SchemaRef,
    columns: &[&str],
) -> Result<Sample, LakeReadError> {
    let bytes: u64 = files.iter().map(|(_, file)| file.bytes).sum();
    let step = (bytes / PLACES).max(1);
    let mut chosen: BTreeMap<usize, usize> = BTreeMap::new();
    let (mut seen, mut next) = (0, step / 2);
    for (position, (_, file)) in files.iter().enumerate() {
        seen += file.bytes;
        while next < seen {
            *chosen.entry(position).or_default() += 1;
            next += step;
        }
    }
    let fields = schema.fields().iter();
    let wanted = fields.filter(|field| columns.contains(&field.name().as_str()));
    let wanted: SchemaRef = Arc::new(Schema::new(wanted.cloned().collect::<Vec<_>>()));
    let picked = chosen.into_iter().filter_map(|(position, places)| {
        let (section, file) = files.get(position)?;
        Some((*section, file, places))
    });
    let looked: Vec<Looked> = stream::iter(picked)
        .enumerate()
        .map(|(number, (section, file, places))| {
            let weigh = number % WEIGH_EVERY == 0;
            look(folder, schema, &wanted, section, file, places, weigh)
        })
        .buffered(READ_AT_ONCE)
        .try_collect()
        .await?;
    let held: u64 = looked.iter().map(|looked| looked.memory_bytes).sum();
    let read: u64 = looked.iter().map(|looked| looked.file_bytes).sum();
    let rows: u64 = looked.iter().map(|looked| looked.row_count).sum();
    Ok(Sample {
        memory_percent: (held * 100 / read.max(1)).max(100),
        row_bytes: (held / rows.max(1)).max(1),
        rows: looked.into_iter().flat_map(|looked| looked.rows).collect(),
    })
}

/// What was seen in one file; sizes only where it was weighed.
#[derive(Default)]
struct Looked {
    rows: Vec<(u32, RecordBatch)>,
    memory_bytes: u64,
    file_bytes: u64,
    row_count: u64,
}

async fn look(
    folder: &Arc<dyn ObjectStore>,
    schema: &SchemaRef,
    wanted: &SchemaRef,
    section: u32,
    file: &LoggedFile,
    places: usize,
    weigh: bool,
) -> Result<Looked, LakeReadError> {
    let mut looked = Looked::default();
    if weigh {
        let whole = TableFile::open(Arc::clone(folder), file, schema).await?;
        let groups = 0..whole.row_groups();
        looked.row_count = groups.map(|group| whole.row_count(group)).sum();
        looked.memory_bytes = row_bytes(&whole).await? * looked.row_count;
        looked.file_bytes = file.bytes;
    }
    if wanted.fields().is_empty() {
        return Ok(looked);
    }
    let keys = TableFile::open(Arc::clone(folder), file, wanted).await?;
    let groups = keys.row_groups();
    let places = places.min(groups);
    for place in 0..places {
        let mut rows = keys.rows(place * groups / places, BATCH_ROWS)?;
        // All batches of a group count alike, however many they are.
        let mut some = Vec::new();
        while let Some(batch) = rows.next().await {
            some.push(batch?);
        }
        let each = ROWS_AT_A_PLACE.div_ceil(some.len().max(1));
        for batch in some {
            let rows = thin(&batch, each, schema).map_err(|error| LakeReadError {
                path: file.path.clone(),
                reason: error.to_string(),
                passes: false,
            })?;
            looked.rows.push((section, rows));
        }
    }
    Ok(looked)
}

/// What a row takes in memory, by the first ones of a file: the size that a file
/// tells is that of its encoding.
async fn row_bytes(file: &TableFile) -> Result<u64, LakeReadError> {
    if file.row_groups() == 0 {
        return Ok(0);
    }
    let Some(batch) = file.rows(0, ROWS_AT_A_PLACE)?.next().await else {
        return Ok(0);
    };
    let batch = batch?;
    let sizes = batch.columns().iter();
    let sizes = sizes.map(|column| column.to_data().get_slice_memory_size().unwrap_or_default());
    Ok((sizes.sum::<usize>() / batch.num_rows().max(1)) as u64)
}

/// Some rows of a batch, evenly, with all columns of `schema`. Those that were not
/// read are NULL, whether the table's may be or not.
fn thin(batch: &RecordBatch, rows: usize, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let step = batch.num_rows().div_ceil(rows.max(1)).max(1);
    let kept = (0..batch.num_rows()).step_by(step);
    let kept: UInt32Array = kept.filter_map(|row| u32::try_from(row).ok()).collect();
    let thin = take_record_batch(batch, &kept)?;
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match thin.column_by_name(field.name()) {
            Some(column) => Arc::clone(column),
            None => new_null_array(field.data_type(), thin.num_rows()),
        }
    });
    let fields = schema.fields().iter();
    let fields = fields.map(|field| field.as_ref().clone().with_nullable(true));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns.collect())
}
