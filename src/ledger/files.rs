//! The data files that one version of the log references.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray as _, Int64Array, MapArray, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::{Engine, FilteredEngineData, KernelError};
use serde::{Deserialize, Serialize};

use super::{ORDER_TAG, SHA256_TAG};

/// One data file of the table, as the log has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoggedFile {
    /// Path relative to the table's folder, percent-encoded as the log has it.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal; absent for files that another program
    /// wrote (C7).
    pub sha256: Option<String>,
    /// Delta statistics, where the log has them.
    pub stats: Option<serde_json::Value>,
    /// Partition column to value in Delta's serialised form; `None` is NULL.
    pub partition: BTreeMap<String, Option<String>>,
    /// The order that a compaction of ours put its rows in (see [`Rewrite::order`]).
    ///
    /// [`Rewrite::order`]: super::Rewrite
    pub order: Option<String>,
    /// How many of its rows another program deleted without rewriting the file.
    pub deleted_rows: u64,
}

impl LoggedFile {
    /// Number of rows that readers see; zero where the log does not say.
    #[must_use]
    pub fn rows(&self) -> u64 {
        let records = self
            .stats
            .as_ref()
            .and_then(|stats| stats.get("numRecords"));
        let records = records
            .and_then(serde_json::Value::as_u64)
            .unwrap_or_default();
        records.saturating_sub(self.deleted_rows)
    }
}

/// Batches of the log's scan, as the kernel wants them back for removal.
pub(super) fn scan(
    snapshot: &SnapshotRef,
    engine: &dyn Engine,
) -> Result<Vec<FilteredEngineData>, KernelError> {
    let scan = std::sync::Arc::clone(snapshot).scan_builder().build()?;
    let batches = scan.scan_metadata(engine)?;
    batches
        .map(|batch| batch.map(|batch| batch.scan_files))
        .collect()
}

/// Of the log's scan only the files at `paths`, and how many of those it has not.
pub(super) fn select(
    snapshot: &SnapshotRef,
    engine: &dyn Engine,
    paths: &[String],
) -> Result<(Vec<FilteredEngineData>, usize), KernelError> {
    let mut wanted: BTreeSet<&str> = paths.iter().map(String::as_str).collect();
    let mut found = Vec::new();
    for batch in scan(snapshot, engine)? {
        let (rows, selected) = batch.into_parts();
        let rows = ArrowEngineData::try_from_engine_data(rows)?;
        let here: Vec<bool> = {
            let columns = Columns::of(rows.record_batch())?;
            (0..rows.record_batch().num_rows())
                .map(|row| {
                    selected.get(row).copied().unwrap_or(true)
                        && wanted.remove(columns.path.value(row))
                })
                .collect()
        };
        if here.contains(&true) {
            found.push(FilteredEngineData::try_new(rows, here)?);
        }
    }
    Ok((found, wanted.len()))
}

/// Calls `each` for every file of the snapshot.
pub(super) fn visit(
    snapshot: &SnapshotRef,
    engine: &dyn Engine,
    mut each: impl FnMut(LoggedFile),
) -> Result<(), KernelError> {
    for batch in scan(snapshot, engine)? {
        let (rows, selected) = batch.into_parts();
        let rows = ArrowEngineData::try_from_engine_data(rows)?;
        let columns = Columns::of(rows.record_batch())?;
        for row in 0..rows.record_batch().num_rows() {
            // A selection that is too short selects the rest.
            if selected.get(row).copied().unwrap_or(true) {
                each(columns.file(row));
            }
        }
    }
    Ok(())
}

/// The columns of a scan batch that make a [`LoggedFile`].
struct Columns<'a> {
    path: &'a StringArray,
    size: &'a Int64Array,
    stats: &'a StringArray,
    partition: &'a MapArray,
    tags: &'a MapArray,
    deleted: Option<(&'a dyn Array, &'a Int64Array)>,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, KernelError> {
        let missing = |name: &str| KernelError::MissingData(format!("scan column {name}"));
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| missing(name));
        let constants = column("fileConstantValues")?
            .as_struct_opt()
            .ok_or_else(|| missing("fileConstantValues"))?;
        let map = |name: &str| {
            let found = constants
                .column_by_name(name)
                .and_then(|column| column.as_map_opt());
            found.ok_or_else(|| missing(name))
        };
        let text = |name: &str| {
            column(name)?
                .as_string_opt::<i32>()
                .ok_or_else(|| missing(name))
        };
        let size = column("size")?.as_primitive_opt::<Int64Type>();
        let vector = column("deletionVector")?.as_struct_opt();
        let deleted = vector.and_then(|vector| {
            let cardinality = vector.column_by_name("cardinality")?;
            Some((
                vector as &dyn Array,
                cardinality.as_primitive_opt::<Int64Type>()?,
            ))
        });
        Ok(Self {
            path: text("path")?,
            size: size.ok_or_else(|| missing("size"))?,
            stats: text("stats")?,
            partition: map("partitionValues")?,
            tags: map("tags")?,
            deleted,
        })
    }

    fn file(&self, row: usize) -> LoggedFile {
        let stats = self.stats.is_valid(row).then(|| self.stats.value(row));
        let deleted = self.deleted.filter(|(vector, _)| vector.is_valid(row));
        let deleted = deleted.map_or(0, |(_, cardinality)| cardinality.value(row));
        let mut tags = entries(self.tags, row);
        LoggedFile {
            path: self.path.value(row).to_owned(),
            bytes: u64::try_from(self.size.value(row)).unwrap_or_default(),
            sha256: tags.remove(SHA256_TAG).flatten(),
            order: tags.remove(ORDER_TAG).flatten(),
            stats: stats.and_then(|stats| serde_json::from_str(stats).ok()),
            partition: entries(self.partition, row),
            deleted_rows: u64::try_from(deleted).unwrap_or_default(),
        }
    }
}

/// One row of a map of text to text.
fn entries(map: &MapArray, row: usize) -> BTreeMap<String, Option<String>> {
    if map.is_null(row) {
        return BTreeMap::new();
    }
    let entry = map.value(row);
    let (Some(keys), Some(values)) = (
        entry.column(0).as_string_opt::<i32>(),
        entry.column(1).as_string_opt::<i32>(),
    ) else {
        return BTreeMap::new();
    };
    keys.iter()
        .zip(values)
        .filter_map(|(key, value)| Some((key?.to_owned(), value.map(str::to_owned))))
        .collect()
}
