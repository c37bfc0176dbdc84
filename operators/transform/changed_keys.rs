//! Collects the keys of rows that may have changed.
//!
//! A table's changed keys stay in memory until its files are rewritten, so they
//! have a limit; beyond it the table is better replaced as a whole, which needs
//! no memory for keys. The rows at or above the watermark are read in every run:
//! their digest tells whether anything among them is new.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator;

use highwater::batch::Batch;
use highwater::flow::Batches;
use highwater::source::{TAIL_COLUMN, TableRead, VERSION_COLUMN};
use highwater::watermark::Tail;

use super::fingerprint::{Encoder, Hash, hash_key};

/// What a kept key costs beside its bytes: its places in the lists and sets that
/// lead to it.
const BYTES_PER_KEY: u64 = 96;

/// Which keys of a table are kept.
#[derive(Debug, Clone)]
pub enum Keep {
    /// None: only the digests are wanted.
    Nothing,
    /// Those of all rows that were read.
    All,
    /// Those whose hash is among these.
    Only(Arc<HashSet<Hash>>),
}

/// The memory that kept keys of all tables may take.
#[derive(Debug)]
pub struct KeyLimit {
    bytes: u64,
    used: AtomicU64,
}

impl KeyLimit {
    /// A limit in bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Arc<Self> {
        let used = AtomicU64::new(0);
        Arc::new(Self { bytes, used })
    }

    fn take(&self, bytes: u64) -> bool {
        self.used.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.bytes
    }
}

/// What was found for one table.
#[derive(Debug, Default)]
pub struct FoundKeys {
    /// Encoded keys, in no order.
    pub keys: Vec<Box<[u8]>>,
    /// Whether there were more than the limit allows; then `keys` is empty.
    pub too_many: bool,
    /// All rows that were read.
    pub seen: Digest,
    /// Of these, the rows at or above the watermark to come.
    pub tail: Digest,
}

/// A number of rows, and a sum of hashes that does not depend on their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Tail", try_from = "Tail")]
pub struct Digest {
    rows: u64,
    sum: u128,
}

impl Digest {
    fn add(&mut self, hash: u128) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hash);
    }

    fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

impl From<Digest> for Tail {
    fn from(digest: Digest) -> Self {
        Self {
            rows: digest.rows,
            digest: format!("{:032x}", digest.sum),
        }
    }
}

impl TryFrom<Tail> for Digest {
    type Error = std::num::ParseIntError;

    fn try_from(tail: Tail) -> Result<Self, Self::Error> {
        Ok(Self {
            rows: tail.rows,
            sum: u128::from_str_radix(&tail.digest, 16)?,
        })
    }
}

/// Collects the keys of one table.
pub struct KeyCollector {
    table: usize,
    encoder: Encoder,
    keep: Keep,
    limit: Arc<KeyLimit>,
    found: Mutex<FoundKeys>,
}

impl KeyCollector {
    /// For what `read` emits (its projection is `Keys`) of the table with this
    /// number.
    ///
    /// # Errors
    /// The key has a type without row encoding.
    pub fn new(
        table: usize,
        read: &TableRead,
        keep: Keep,
        limit: Arc<KeyLimit>,
    ) -> Result<Self, ArrowError> {
        let key: Vec<usize> = (0..read.table.key.len()).collect();
        Ok(Self {
            table,
            encoder: Encoder::new(&read.schema(), &key)?,
            keep,
            limit,
            found: Mutex::default(),
        })
    }

    /// What was found; call when the dataflow is over.
    #[must_use]
    pub fn take(&self) -> FoundKeys {
        std::mem::take(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds what another process has found for the same table.
    pub fn join(&self, found: FoundKeys) {
        let bytes = found
            .keys
            .iter()
            .map(|key| key.len() as u64 + BYTES_PER_KEY);
        let bytes = bytes.sum();
        self.merge(found, bytes);
    }

    fn add(&self, rows: &RecordBatch) -> Result<(), ArrowError> {
        let missing = |name: &str| ArrowError::SchemaError(format!("no column {name}"));
        let versions = rows
            .column_by_name(VERSION_COLUMN)
            .and_then(|column| column.as_string_opt::<i32>())
            .ok_or_else(|| missing(VERSION_COLUMN))?;
        let tail = rows
            .column_by_name(TAIL_COLUMN)
            .and_then(|column| column.as_boolean_opt())
            .ok_or_else(|| missing(TAIL_COLUMN))?;
        let keys = self.encoder.encode(rows)?;
        let mut batch = FoundKeys::default();
        let mut kept_bytes = 0;
        for (row, key) in keys.iter().enumerate() {
            let hash = hash_key(self.table, key.as_ref());
            let version = if versions.is_valid(row) {
                versions.value(row)
            } else {
                ""
            };
            let mut versioned = key.as_ref().to_vec();
            versioned.extend(version.as_bytes());
            let digest = hash_key(self.table, &versioned);
            batch.seen.add(digest);
            if tail.is_valid(row) && tail.value(row) {
                batch.tail.add(digest);
            }
            let kept = match &self.keep {
                Keep::Nothing => false,
                Keep::All => true,
                Keep::Only(wanted) => wanted.contains(&hash),
            };
            if kept {
                kept_bytes += key.as_ref().len() as u64 + BYTES_PER_KEY;
                batch.keys.push(key.as_ref().into());
            }
        }
        self.merge(batch, kept_bytes);
        Ok(())
    }

    fn merge(&self, mut batch: FoundKeys, kept_bytes: u64) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.seen.merge(batch.seen);
        found.tail.merge(batch.tail);
        if !found.too_many && (batch.too_many || !self.limit.take(kept_bytes)) {
            found.too_many = true;
            found.keys = Vec::new();
        }
        if !found.too_many {
            found.keys.append(&mut batch.keys);
        }
    }
}

/// Adds the operator: gives each batch to its table's collector. `collectors` is
/// by position of the table among those that are read; `failed` is told once if keys cannot be
/// encoded, which the types rule out.
pub fn collect_keys(
    batches: Batches<'_>,
    collectors: Arc<Vec<KeyCollector>>,
    failed: impl Fn(usize, ArrowError) + 'static,
) {
    batches.sink(Pipeline, "collect_keys", move |(input, _)| {
        input.for_each(|_, batches: &mut Vec<Batch>| {
            for batch in batches.drain(..) {
                if let Some(collector) = collectors.get(batch.table)
                    && let Err(error) = collector.add(&batch.rows)
                {
                    failed(batch.table, error);
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::{ArrayRef, BooleanArray, Int64Array, StringArray};
    use arrow::datatypes::DataType;
    use highwater::dataset::{Column, Fidelity, Table, TableName};
    use highwater::source::Projection;

    use super::*;

    fn read() -> TableRead {
        let table = Table {
            name: TableName {
                schema: None,
                name: "t".to_owned(),
            },
            columns: vec![Column {
                name: "id".to_owned(),
                source_type: "bigint".to_owned(),
                lake_type: DataType::Int64,
                nullable: false,
                fidelity: Fidelity::Exact,
            }],
            key: vec![0],
            estimated_rows: None,
            estimated_bytes: 0,
        };
        TableRead {
            projection: Projection::Keys { tail_from: None },
            ..TableRead::all(table, None)
        }
    }

    fn rows(ids: &[i64], version: &str) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(ids.to_vec())),
            Arc::new(StringArray::from(vec![version; ids.len()])),
            Arc::new(BooleanArray::from_iter(ids.iter().map(|id| Some(*id > 2)))),
        ];
        RecordBatch::try_new(read().schema(), columns).unwrap()
    }

    fn collector(keep: Keep, limit: u64) -> KeyCollector {
        KeyCollector::new(0, &read(), keep, KeyLimit::new(limit)).unwrap()
    }

    #[test]
    fn digests_depend_on_rows_and_versions_but_not_on_order() {
        let digest = |batches: &[RecordBatch]| {
            let collector = collector(Keep::Nothing, 0);
            batches.iter().for_each(|b| collector.add(b).unwrap());
            let found = collector.take();
            assert!(found.keys.is_empty() && !found.too_many);
            (found.seen, found.tail)
        };
        let together = digest(&[rows(&[1, 2, 3], "7")]);
        assert_eq!(digest(&[rows(&[3], "7"), rows(&[2, 1], "7")]), together);
        assert_ne!(digest(&[rows(&[1, 2, 3], "8")]).0, together.0);
        assert_eq!((together.0.rows, together.1.rows), (3, 1));
    }

    #[test]
    fn keys_beyond_the_limit_are_forgotten_but_still_counted() {
        let collector = collector(Keep::All, 250);
        collector.add(&rows(&[1, 2], "7")).unwrap();
        collector.add(&rows(&[3], "7")).unwrap();
        let found = collector.take();
        assert!(found.too_many && found.keys.is_empty());
        assert_eq!(found.seen.rows, 3);
    }
}
