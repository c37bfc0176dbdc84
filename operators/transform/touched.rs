//! Which files of a table its changes touch, and how the rewriting is divided.
//!
//! Key ranges in the log's statistics rule out most files; of the others the key
//! columns alone are read. Each touched file becomes one unit of work, so that
//! it is replaced by one file of about the same rows and stays as clustered as it
//! was. New rows become units of their own, in key order, which absorb small
//! files: each absorbs what is at most four times its own size, so that the
//! number of small files stays logarithmic, and so does how often a row is
//! written again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use futures::{StreamExt, TryStreamExt, stream};
use highwater::budget::MemoryBudget;
use highwater::dataset::Table;
use highwater::ledger::LoggedFile;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fingerprint::{Encoder, Hash, hash_key};
use crate::ingest::lake::LakeTable;
use crate::lake::{LakeReadError, TableFile};

/// A unit absorbs a small file of at most so many times its own size.
const ABSORBS_TIMES: u64 = 4;

/// Keys that are looked for in one file at once.
const FILES_AT_ONCE: usize = 4;

/// The changed keys of one table.
#[derive(Debug, Default)]
pub struct ChangedKeys {
    /// Encoded keys of rows that the source has, in key order, without repeats.
    pub upserts: Vec<Box<[u8]>>,
    /// Hashes of these and of keys that the source has no more.
    pub hashes: HashSet<Hash>,
}

impl ChangedKeys {
    /// `keys` are in the source; of the keys behind `others`, those that are not
    /// among them are not.
    #[must_use]
    pub fn new(table: usize, mut keys: Vec<Box<[u8]>>, others: &HashSet<Hash>) -> Self {
        keys.sort_unstable();
        keys.dedup();
        let mut hashes: HashSet<Hash> = keys.iter().map(|key| hash_key(table, key)).collect();
        hashes.extend(others);
        Self {
            upserts: keys,
            hashes,
        }
    }

    /// How many keys the source has no more.
    #[must_use]
    pub fn deletes(&self) -> usize {
        self.hashes.len() - self.upserts.len()
    }

    /// Whether nothing has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
}

/// A part of the rewriting: these files go, and their rows that have not changed
/// are written again together with these changed rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Positions of the files.
    pub files: Vec<usize>,
    /// Positions of the keys among [`ChangedKeys::upserts`], ascending.
    pub upserts: Vec<usize>,
    /// About how many bytes of the lake it reads and writes.
    pub bytes: u64,
}

/// Where changed keys were found.
#[derive(Debug, Default)]
pub struct Touched {
    /// For each of [`ChangedKeys::upserts`] the file that holds it; `None` for
    /// new rows.
    home: Vec<Option<usize>>,
    /// The files that hold any changed key.
    files: BTreeSet<usize>,
    /// How many rows of the lake have a changed key.
    pub rows: u64,
}

impl Touched {
    /// How many of the changed keys are new to the lake.
    #[must_use]
    pub fn inserts(&self) -> u64 {
        self.home.iter().filter(|home| home.is_none()).count() as u64
    }

    /// Looks for `changed` in the files of `lake`.
    ///
    /// # Errors
    /// A file cannot be read.
    pub async fn find(
        number: usize,
        table: &Table,
        lake: &LakeTable,
        changed: &Arc<ChangedKeys>,
        row_groups: &MemoryBudget,
    ) -> Result<Self, LakeReadError> {
        let pruning = Pruning::new(table, changed);
        let position: Arc<HashMap<Hash, usize>> = Arc::new(
            (0..)
                .zip(&changed.upserts)
                .map(|(position, key)| (hash_key(number, key), position))
                .collect(),
        );
        let candidates = lake.files.iter().enumerate();
        let candidates = candidates.filter(|(_, file)| pruning.may_hold(file));
        let search = Search {
            number,
            table: table.clone(),
            changed: Arc::clone(changed),
            row_groups: row_groups.clone(),
        };
        let search = Arc::new(search);
        let found: Vec<(usize, Vec<Hash>)> = stream::iter(candidates)
            .map(|(file, logged)| {
                let (search, folder) = (Arc::clone(&search), lake.folder.objects());
                let logged = logged.clone();
                // On a task of its own: decoding is work, and there are cores.
                let task = tokio::spawn(async move { search.file(folder, &logged).await });
                async move {
                    let hashes = task.await.map_err(|error| LakeReadError {
                        path: String::new(),
                        reason: error.to_string(),
                        passes: false,
                    })?;
                    hashes.map(|hashes| (file, hashes))
                }
            })
            .buffer_unordered(FILES_AT_ONCE)
            .try_collect()
            .await?;
        let mut touched = Self {
            home: vec![None; changed.upserts.len()],
            ..Self::default()
        };
        for (file, hashes) in found {
            touched.rows += hashes.len() as u64;
            for hash in hashes {
                touched.files.insert(file);
                let home = position.get(&hash).and_then(|at| touched.home.get_mut(*at));
                if let Some(home) = home {
                    *home = Some(file);
                }
            }
        }
        Ok(touched)
    }

    /// Divides the rewriting into units, with files of about `target_bytes`.
    #[must_use]
    pub fn units(&self, files: &[LoggedFile], target_bytes: u64) -> Vec<Unit> {
        let row_bytes = bytes_per_row(files);
        let is_small = |file: usize| {
            files
                .get(file)
                .is_some_and(|file| file.bytes < target_bytes / 2)
        };
        let mut whole: HashMap<usize, Unit> = HashMap::new();
        // New rows and the changes of small files are written together.
        let mut loose = Unit::default();
        for &file in &self.files {
            let bytes = files.get(file).map_or(0, |file| file.bytes);
            let unit = if is_small(file) {
                &mut loose
            } else {
                whole.entry(file).or_default()
            };
            unit.files.push(file);
            unit.bytes += bytes;
        }
        for (upsert, home) in self.home.iter().enumerate() {
            let unit = home.and_then(|home| whole.get_mut(&home));
            let unit = unit.unwrap_or(&mut loose);
            unit.upserts.push(upsert);
            unit.bytes += row_bytes;
        }
        absorb(&mut loose, files, target_bytes);
        let mut units: Vec<Unit> = whole.into_values().collect();
        units.extend(divide(loose, row_bytes, target_bytes));
        units.sort_by_key(|unit| unit.upserts.first().copied());
        units
    }
}

fn bytes_per_row(files: &[LoggedFile]) -> u64 {
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let rows: u64 = files.iter().map(LoggedFile::rows).sum();
    bytes / rows.max(1) + 1
}

/// Takes small files into a unit of new rows, while they are not much larger
/// than what it has.
fn absorb(unit: &mut Unit, files: &[LoggedFile], target_bytes: u64) {
    if unit.upserts.is_empty() {
        return;
    }
    let mut small: Vec<(u64, usize)> = (0..)
        .zip(files)
        .filter(|(at, file)| file.bytes < target_bytes / 2 && !unit.files.contains(at))
        .map(|(at, file)| (file.bytes, at))
        .collect();
    small.sort_unstable();
    for (bytes, file) in small {
        if bytes > unit.bytes.saturating_mul(ABSORBS_TIMES) {
            break;
        }
        unit.files.push(file);
        unit.bytes += bytes;
    }
}

/// Many new rows become several units, so that several workers write them; the
/// files go with the first.
fn divide(unit: Unit, row_bytes: u64, target_bytes: u64) -> Vec<Unit> {
    if unit.files.is_empty() && unit.upserts.is_empty() {
        return Vec::new();
    }
    let rows = usize::try_from(target_bytes / row_bytes.max(1)).unwrap_or(usize::MAX);
    let mut parts = unit.upserts.chunks(rows.max(1)).map(|upserts| Unit {
        files: Vec::new(),
        upserts: upserts.to_vec(),
        bytes: upserts.len() as u64 * row_bytes,
    });
    let mut first = parts.next().unwrap_or_default();
    first.files = unit.files;
    first.bytes += unit.bytes - unit.upserts.len() as u64 * row_bytes;
    std::iter::once(first).chain(parts).collect()
}

/// Looks for keys in files.
struct Search {
    number: usize,
    table: Table,
    changed: Arc<ChangedKeys>,
    row_groups: MemoryBudget,
}

impl Search {
    /// Hashes of the rows of one file whose key has changed.
    async fn file(
        &self,
        folder: Arc<dyn object_store::ObjectStore>,
        file: &LoggedFile,
    ) -> Result<Vec<Hash>, LakeReadError> {
        const KEYS_AT_ONCE: usize = 8192;
        let damaged = |error: ArrowError| LakeReadError {
            path: file.path.clone(),
            reason: error.to_string(),
            passes: false,
        };
        let schema = self.table.schema();
        // A row of a table without a key is its own key.
        let key_schema = match self.table.key.as_slice() {
            [] => schema,
            key => Arc::new(schema.project(key).map_err(damaged)?),
        };
        let encoder = Encoder::whole(&key_schema).map_err(damaged)?;
        let opened = TableFile::open(folder, file, &key_schema).await?;
        let mut found = Vec::new();
        for group in 0..opened.row_groups() {
            let _paid = self.row_groups.take(opened.compressed_bytes(group)).await;
            let mut batches = opened.rows(group, KEYS_AT_ONCE)?;
            while let Some(batch) = batches.next().await {
                let keys = encoder.encode(&batch?).map_err(damaged)?;
                let hashes = keys.iter().map(|key| hash_key(self.number, key.as_ref()));
                found.extend(hashes.filter(|hash| self.changed.hashes.contains(hash)));
            }
        }
        Ok(found)
    }
}

/// Rules out files by the range of their first key column.
struct Pruning<'a> {
    first: Option<FirstColumn<'a>>,
    changed: &'a ChangedKeys,
}

struct FirstColumn<'a> {
    name: &'a str,
    lake_type: &'a DataType,
    converter: RowConverter,
}

impl<'a> Pruning<'a> {
    fn new(table: &'a Table, changed: &'a ChangedKeys) -> Self {
        let first = table.key.first().and_then(|&at| table.columns.get(at));
        // Of deleted rows only the hash is known: they may be anywhere.
        let first = first.filter(|_| changed.deletes() == 0);
        let first = first.and_then(|column| FirstColumn::new(&column.name, &column.lake_type));
        Self { first, changed }
    }

    fn may_hold(&self, file: &LoggedFile) -> bool {
        let bounds = self.first.as_ref().and_then(|first| first.bounds(file));
        let Some((least, greatest)) = bounds else {
            return true;
        };
        let keys = &self.changed.upserts;
        let first = keys.partition_point(|key| key.as_ref() < least.as_slice());
        keys.get(first)
            .is_some_and(|key| key.as_ref() <= greatest.as_slice() || key.starts_with(&greatest))
    }
}

impl<'a> FirstColumn<'a> {
    fn new(name: &'a str, lake_type: &'a DataType) -> Option<Self> {
        let field = SortField::new(lake_type.clone());
        Some(Self {
            name,
            lake_type,
            converter: RowConverter::new(vec![field]).ok()?,
        })
    }

    /// Least and greatest value, where the log has them, in the form of the first
    /// column of an encoded key.
    fn bounds(&self, file: &LoggedFile) -> Option<(Vec<u8>, Vec<u8>)> {
        let bound = |which: &str| {
            let value = file.stats.as_ref()?.get(which)?.get(self.name)?;
            self.encode(value)
        };
        Some((bound("minValues")?, bound("maxValues")?))
    }

    fn encode(&self, value: &Value) -> Option<Vec<u8>> {
        let value: ArrayRef = match value {
            Value::Number(number) => Arc::new(Int64Array::from(vec![number.as_i64()?])),
            Value::String(text) => Arc::new(StringArray::from(vec![text.as_str()])),
            _ => return None,
        };
        let value = cast(&value, self.lake_type).ok()?;
        let value = Some(value).filter(|value| value.null_count() == 0)?;
        let encoded = self.converter.convert_columns(&[value]).ok()?;
        Some(encoded.iter().next()?.as_ref().to_vec())
    }
}

/// The columns of a key as a batch, for [`highwater::source::Reader::fetch`].
///
/// # Errors
/// The bytes are no encoded keys of this table.
pub fn key_batch<'a>(
    table: &Table,
    keys: impl IntoIterator<Item = &'a [u8]>,
) -> Result<RecordBatch, ArrowError> {
    let schema = table.schema();
    Encoder::new(&schema, &table.key)?.decode(&schema, keys)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;

    fn file(bytes: u64) -> LoggedFile {
        LoggedFile {
            path: String::new(),
            bytes,
            sha256: None,
            stats: Some(serde_json::json!({ "numRecords": bytes })),
            partition: BTreeMap::new(),
            order: None,
            deleted_rows: 0,
        }
    }

    #[test]
    fn large_files_are_rewritten_alone_and_new_rows_absorb_small_ones() {
        let files: Vec<_> = [100, 100, 3, 40, 9].map(file).into();
        let touched = Touched {
            home: vec![Some(0), None, Some(2), None],
            files: [0, 2].into(),
            rows: 2,
        };
        let units = touched.units(&files, 100);
        // Two bytes a row: 3 + 3 * 2 = 9 bytes take 9 (of 36), then 40 (of 72).
        let loose = Unit {
            files: vec![2, 4, 3],
            upserts: vec![1, 2, 3],
            bytes: 58,
        };
        let whole = Unit {
            files: vec![0],
            upserts: vec![0],
            bytes: 102,
        };
        assert_eq!(units, [whole, loose]);
    }

    #[test]
    fn deletes_alone_absorb_nothing() {
        let touched = Touched {
            home: Vec::new(),
            files: [1].into(),
            rows: 1,
        };
        let units = touched.units(&[file(1), file(4)], 100);
        assert_eq!(units.len(), 1);
        assert_eq!(units[0].files, [1]);
    }

    #[test]
    fn many_new_rows_become_several_units() {
        let touched = Touched {
            home: vec![None; 100],
            ..Touched::default()
        };
        let units = touched.units(&[file(1000)], 50);
        assert_eq!(units.len(), 4);
        let all: Vec<usize> = units.iter().flat_map(|unit| unit.upserts.clone()).collect();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn bounds_encode_as_keys_do() {
        let first = FirstColumn::new("d", &DataType::Date32).unwrap();
        let day: ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![19782]));
        let key = first.converter.convert_columns(&[day]).unwrap();
        let bound = first.encode(&Value::from("2024-02-29")).unwrap();
        assert_eq!(bound, key.row(0).as_ref());
        assert_eq!(first.encode(&Value::from(1.5)), None);
    }
}
