//! The record of what was copied, read in the order of keys.
//!
//! Every epoch of every run adds files, each in the order of keys. They are read
//! side by side: of a key the newest row counts, and a file is opened only when
//! its first key is reached.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use highwater::ledger::{LakeFile, LoggedFile};
use highwater::store::objects::KeyRange;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;

/// Rows that are decoded at once.
const BATCH_ROWS: usize = 512;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    // None is ever NULL but a digest; programs that read some columns only are
    // spared from having to believe that.
    let field = |name, kind| Field::new(name, kind, true);
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        field("key", DataType::Utf8),
        field("bytes", DataType::Int64),
        field("source_version", DataType::Utf8),
        field("target_version", DataType::Utf8),
        field("digest", DataType::Utf8),
        field("at", time),
        field("deleted", DataType::Boolean),
    ]))
});

/// The columns of the record.
#[must_use]
pub fn recorded_schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// An object that was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Its key.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// What the source called this content.
    pub source_version: String,
    /// What the target called it; empty where it did not tell.
    pub target_version: String,
    /// What was computed while it was copied: `md5:...`, `sha256:...`.
    pub digest: Option<String>,
}

impl Record {
    /// Rows for the record, in the order of their keys. `deleted` says that the
    /// objects were removed.
    ///
    /// # Errors
    /// Never, unless there are too many bytes of keys for one batch.
    pub fn rows(
        mut records: Vec<Self>,
        at_us: i64,
        deleted: bool,
    ) -> Result<RecordBatch, ArrowError> {
        records.sort_unstable();
        let row = |record| Row {
            record,
            at_us,
            deleted,
        };
        batch_of(&records.into_iter().map(row).collect::<Vec<_>>())
    }
}

/// What rows of a record are stamped with. It is never behind those that are there: of a
/// key the newest row counts, whichever host's clock was ahead when it was written.
#[derive(Debug, Clone, Copy, Default)]
pub struct RecordClock {
    least_us: i64,
}

/// Statistics tell times in milliseconds, rounded in either direction.
const STATISTICS_US: i64 = 2_000;

impl RecordClock {
    /// The clock for rows that come after those of these files.
    #[must_use]
    pub fn after(files: &[LoggedFile]) -> Self {
        let newest = |file: &LoggedFile| {
            let at = file.stats.as_ref()?.get("maxValues")?.get("at")?.as_str()?;
            let at = chrono::DateTime::parse_from_rfc3339(at).ok()?;
            Some(at.timestamp_micros().saturating_add(STATISTICS_US))
        };
        Self {
            least_us: files.iter().filter_map(newest).max().unwrap_or_default(),
        }
    }

    /// Microseconds since 1970.
    #[must_use]
    pub fn now_us(self) -> i64 {
        chrono::Utc::now().timestamp_micros().max(self.least_us)
    }
}

/// A row, and how new it is.
#[derive(Debug, Clone)]
struct Row {
    record: Record,
    at_us: i64,
    deleted: bool,
}

fn batch_of(rows: &[Row]) -> Result<RecordBatch, ArrowError> {
    let text = |of: fn(&Record) -> &str| {
        StringArray::from_iter_values(rows.iter().map(|row| of(&row.record)))
    };
    let bytes = rows
        .iter()
        .map(|row| i64::try_from(row.record.bytes).unwrap_or(i64::MAX));
    let mut digests = StringBuilder::new();
    rows.iter()
        .for_each(|row| digests.append_option(row.record.digest.as_deref()));
    let times: TimestampMicrosecondArray = rows.iter().map(|row| Some(row.at_us)).collect();
    let deleted: BooleanArray = rows.iter().map(|row| Some(row.deleted)).collect();
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(text(|record| &record.key)),
        Arc::new(bytes.collect::<Int64Array>()),
        Arc::new(text(|record| &record.source_version)),
        Arc::new(text(|record| &record.target_version)),
        Arc::new(digests.finish()),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(deleted),
    ];
    RecordBatch::try_new(recorded_schema(), columns)
}

fn rows_of(batch: &RecordBatch) -> Result<Vec<Row>, ParquetError> {
    let wrong = || ParquetError::General("the record has other columns than it should".to_owned());
    let column = |name: &str| batch.column_by_name(name).ok_or_else(wrong);
    let text = |name: &str| -> Result<StringArray, ParquetError> {
        Ok(column(name)?
            .as_string_opt::<i32>()
            .ok_or_else(wrong)?
            .clone())
    };
    let (keys, sources) = (text("key")?, text("source_version")?);
    let (targets, digests) = (text("target_version")?, text("digest")?);
    let bytes = column("bytes")?
        .as_primitive_opt::<Int64Type>()
        .ok_or_else(wrong)?;
    let times = column("at")?
        .as_primitive_opt::<TimestampMicrosecondType>()
        .ok_or_else(wrong)?;
    let deleted = column("deleted")?.as_boolean_opt().ok_or_else(wrong)?;
    let row = |row| Row {
        record: Record {
            key: keys.value(row).to_owned(),
            bytes: u64::try_from(bytes.value(row)).unwrap_or_default(),
            source_version: sources.value(row).to_owned(),
            target_version: targets.value(row).to_owned(),
            digest: digests.is_valid(row).then(|| digests.value(row).to_owned()),
        },
        at_us: times.value(row),
        deleted: deleted.value(row),
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

/// A file of the record that has not been opened.
#[derive(Debug)]
struct Closed {
    file: LoggedFile,
    /// No row comes before it.
    least: String,
}

/// A file that is being read; its next rows, the next one last.
struct Opened {
    batches: BoxStream<'static, Result<RecordBatch, ParquetError>>,
    rows: Vec<Row>,
}

impl Opened {
    async fn key(&mut self) -> Result<Option<&str>, ParquetError> {
        while self.rows.is_empty() {
            let Some(batch) = self.batches.next().await else {
                return Ok(None);
            };
            self.rows = rows_of(&batch?)?;
            self.rows.reverse();
        }
        Ok(self.rows.last().map(|row| row.record.key.as_str()))
    }
}

/// Files of a record as one would have them: of each key the newest row.
pub struct MergedRecord(Recorded);

impl MergedRecord {
    /// The rows of these files, which are in `folder`.
    #[must_use]
    pub fn new(folder: Arc<dyn ObjectStore>, files: &[LoggedFile]) -> Self {
        Self(Recorded::new(folder, files, KeyRange::all()))
    }

    /// The next rows, in the order of keys; `None` after the last. Those of objects
    /// that were removed are among them: another file may have an older one.
    ///
    /// # Errors
    /// A file cannot be read.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, ParquetError> {
        let mut rows = Vec::new();
        while rows.len() < BATCH_ROWS
            && let Some(row) = self.0.advance().await?
        {
            rows.push(row);
        }
        match rows.is_empty() {
            true => Ok(None),
            false => Ok(Some(batch_of(&rows)?)),
        }
    }
}

/// The record within a range of keys, in their order.
pub(super) struct Recorded {
    folder: Arc<dyn ObjectStore>,
    range: KeyRange,
    /// The one with the least first key last.
    closed: Vec<Closed>,
    opened: Vec<Opened>,
    next: Option<Row>,
}

impl Recorded {
    pub(super) fn new(folder: Arc<dyn ObjectStore>, files: &[LoggedFile], range: KeyRange) -> Self {
        let bound = |file: &LoggedFile, which: &str| {
            let value = file.stats.as_ref()?.get(which)?.get("key")?;
            value.as_str().map(str::to_owned)
        };
        let touches = |file: &&LoggedFile| {
            let ends_before = bound(file, "maxValues").is_some_and(|most| most <= range.after);
            let begins_after =
                bound(file, "minValues").is_some_and(|least| range.is_beyond(&least));
            !ends_before && !begins_after
        };
        let mut closed: Vec<Closed> = files
            .iter()
            .filter(touches)
            .map(|file| Closed {
                least: bound(file, "minValues").unwrap_or_default(),
                file: file.clone(),
            })
            .collect();
        closed.sort_by(|a, b| b.least.cmp(&a.least));
        Self {
            folder,
            range,
            closed,
            opened: Vec::new(),
            next: None,
        }
    }

    /// The record of a key, where there is one. Keys must come in order.
    pub(super) async fn find(&mut self, key: &str) -> Result<Option<Record>, ParquetError> {
        loop {
            if self.next.is_none() {
                self.next = self.advance().await?;
            }
            match &self.next {
                Some(row) if row.record.key.as_str() < key => self.next = None,
                Some(row) if row.record.key == key && !row.deleted => {
                    return Ok(Some(row.record.clone()));
                }
                _ => return Ok(None),
            }
        }
    }

    /// The next object of the record.
    pub(super) async fn next(&mut self) -> Result<Option<Record>, ParquetError> {
        while let Some(row) = self.advance().await? {
            if !row.deleted {
                return Ok(Some(row.record));
            }
        }
        Ok(None)
    }

    /// The newest row of the next key within the range.
    async fn advance(&mut self) -> Result<Option<Row>, ParquetError> {
        loop {
            let Some(key) = self.least_key().await? else {
                return Ok(None);
            };
            if self.range.is_beyond(&key) {
                return Ok(None);
            }
            let mut newest: Option<Row> = None;
            for opened in &mut self.opened {
                while opened.key().await? == Some(key.as_str()) {
                    let row = opened.rows.pop();
                    let newer =
                        |row: &Row| newest.as_ref().is_none_or(|old| row.at_us >= old.at_us);
                    if let Some(row) = row.filter(newer) {
                        newest = Some(row);
                    }
                }
            }
            if self.range.holds(&key) {
                return Ok(newest);
            }
        }
    }

    /// The least key that comes next, with every file opened that may have it.
    async fn least_key(&mut self) -> Result<Option<String>, ParquetError> {
        let mut least: Option<String> = None;
        let mut position = 0;
        while position < self.opened.len() {
            let Some(opened) = self.opened.get_mut(position) else {
                break;
            };
            match opened.key().await? {
                None => drop(self.opened.swap_remove(position)),
                Some(key) => {
                    if least.as_deref().is_none_or(|least| key < least) {
                        least = Some(key.to_owned());
                    }
                    position += 1;
                }
            }
        }
        while let Some(closed) = self.closed.last()
            && least.as_ref().is_none_or(|least| closed.least <= *least)
        {
            let Some(closed) = self.closed.pop() else {
                break;
            };
            let mut opened = open(Arc::clone(&self.folder), closed.file).await?;
            if let Some(key) = opened.key().await? {
                if least.as_deref().is_none_or(|least| key < least) {
                    least = Some(key.to_owned());
                }
                self.opened.push(opened);
            }
        }
        Ok(least)
    }
}

async fn open(folder: Arc<dyn ObjectStore>, file: LoggedFile) -> Result<Opened, ParquetError> {
    let path = Path::from_url_path(&file.path);
    let path = path.map_err(|error| ParquetError::External(Box::new(error)))?;
    let lake_file = LakeFile::new(folder, path, file.bytes);
    let builder = ParquetRecordBatchStreamBuilder::new(lake_file).await?;
    let batches = builder.with_batch_size(BATCH_ROWS).build()?;
    Ok(Opened {
        batches: batches.boxed(),
        rows: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use object_store::memory::InMemory;
    use object_store::{ObjectStoreExt as _, PutPayload};
    use parquet::arrow::ArrowWriter;
    use proptest::prelude::*;

    use super::*;

    async fn put(store: &dyn ObjectStore, number: usize, batch: &RecordBatch) -> LoggedFile {
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        let path = format!("{number}.parquet");
        let keys = batch.column(0).as_string::<i32>();
        let ends = [keys.value(0), keys.value(keys.len() - 1)];
        let file = LoggedFile {
            path: path.clone(),
            bytes: bytes.len() as u64,
            sha256: None,
            stats: Some(
                serde_json::json!({"minValues": {"key": ends[0]}, "maxValues": {"key": ends[1]}}),
            ),
            partition: BTreeMap::new(),
            order: None,
            deleted_rows: 0,
        };
        store
            .put(&Path::from(path), PutPayload::from(bytes))
            .await
            .unwrap();
        file
    }

    fn record(key: &str, version: usize) -> Record {
        Record {
            key: key.to_owned(),
            bytes: version as u64,
            source_version: format!("v{version}"),
            ..Record::default()
        }
    }

    /// All files as one.
    async fn merged(store: &Arc<dyn ObjectStore>, files: &[LoggedFile]) -> Vec<LoggedFile> {
        let mut rows = MergedRecord::new(Arc::clone(store), files);
        let mut merged = Vec::new();
        while let Some(batch) = rows.next().await.unwrap() {
            merged.push(put(store.as_ref(), 1000 + merged.len(), &batch).await);
        }
        merged
    }

    #[test]
    fn the_clock_is_never_behind_what_is_there() {
        let file = |at: &str| LoggedFile {
            path: "f".to_owned(),
            bytes: 1,
            sha256: None,
            stats: Some(serde_json::json!({"maxValues": {"at": at}})),
            partition: BTreeMap::new(),
            order: None,
            deleted_rows: 0,
        };
        let now = chrono::Utc::now().timestamp_micros();
        let past = RecordClock::after(&[file("2001-01-01T00:00:00.000Z")]);
        assert!((now..now + 60_000_000).contains(&past.now_us()));
        // A host whose clock is ahead has written.
        let ahead = RecordClock::after(&[
            file("2101-01-01T00:00:00.001Z"),
            file("2001-01-01T00:00:00.000Z"),
        ]);
        let at = chrono::DateTime::from_timestamp_micros(ahead.now_us()).unwrap();
        assert_eq!(at.to_rfc3339(), "2101-01-01T00:00:00.003+00:00");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn the_newest_row_of_each_key_is_found(
            epochs in proptest::collection::vec(
                (proptest::collection::btree_set("[a-e]{1,2}", 1..6), any::<bool>()), 1..6),
            after in "[a-e]{0,1}",
            upto in proptest::option::of("[a-e]{1,2}"),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let store = InMemory::new();
                let (mut files, mut expected) = (Vec::new(), BTreeMap::new());
                for (number, (keys, deleted)) in epochs.into_iter().enumerate() {
                    let rows: Vec<_> = keys.iter().map(|key| record(key, number)).collect();
                    let at = i64::try_from(number).unwrap();
                    let batch = Record::rows(rows, at, deleted).unwrap();
                    files.push(put(&store, number, &batch).await);
                    for key in keys {
                        match deleted {
                            true => drop(expected.remove(&key)),
                            false => drop(expected.insert(key.clone(), record(&key, number))),
                        }
                    }
                }
                let range = KeyRange { after, upto };
                expected.retain(|key, _| range.holds(key));
                let store: Arc<dyn ObjectStore> = Arc::new(store);
                let mut all = Recorded::new(Arc::clone(&store), &files, range.clone());
                let mut found = Vec::new();
                while let Some(record) = all.next().await.unwrap() {
                    found.push(record);
                }
                assert_eq!(found, expected.values().cloned().collect::<Vec<_>>());
                let merged = merged(&store, &files).await;
                let mut again = Recorded::new(Arc::clone(&store), &merged, range.clone());
                for record in found {
                    assert_eq!(again.next().await.unwrap(), Some(record));
                }
                assert_eq!(again.next().await.unwrap(), None);
                let mut each = Recorded::new(store, &files, range);
                for key in ["a", "aa", "b", "bc", "c", "e", "ee"] {
                    assert_eq!(each.find(key).await.unwrap(), expected.get(key).cloned(), "{key}");
                }
            });
        }
    }
}
