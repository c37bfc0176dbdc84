//! The open files of one worker: which there are, when one is full, what is on
//! its way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use arrow::array::RecordBatch;
use object_store::path::Path;
use tokio::sync::{mpsc, oneshot};

use highwater::batch::Batch;
use highwater::flow::{Epoch, Event, Sender, TableFailure, event::FailureKind};
use highwater::ledger::{DataFile, delta_stats};

use super::file::{Finished, OpenFile, PartitionValues};
use super::upload::{self, Durable, InFlight, upload};
use super::{LakeSink, SinkTable};

/// An upload is over; the event says how.
pub(super) struct Uploaded {
    pub(super) epoch: Epoch,
    pub(super) event: Event,
}

/// What makes a file: rows of one epoch, one table, one partition, and where the
/// table asks for it of one split, share it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct FileKey {
    epoch: Epoch,
    table: usize,
    split: Option<u32>,
    partition: PartitionValues,
}

/// The open files of one worker.
pub(super) struct Writers {
    plan: LakeSink,
    mail: Sender<Uploaded>,
    open: BTreeMap<FileKey, (OpenFile, oneshot::Sender<DataFile>)>,
    /// Uploads that have not reported yet, by epoch.
    uploads: BTreeMap<Epoch, usize>,
    in_flight: InFlight,
    failed: BTreeSet<usize>,
}

impl Writers {
    pub(super) fn new(plan: LakeSink, mail: Sender<Uploaded>) -> Self {
        Self {
            plan,
            mail,
            open: BTreeMap::new(),
            uploads: BTreeMap::new(),
            in_flight: InFlight::default(),
            failed: BTreeSet::new(),
        }
    }

    /// Whether more may be encoded, or the store must catch up first.
    pub(super) fn may_encode(&self) -> bool {
        self.in_flight.bytes() <= self.plan.format.in_flight_bytes
    }

    /// An upload of `epoch` has reported.
    pub(super) fn upload_over(&mut self, epoch: Epoch) {
        if let Some(uploads) = self.uploads.get_mut(&epoch) {
            *uploads = uploads.saturating_sub(1);
        }
    }

    /// How many files of `epoch` are not durable yet.
    pub(super) fn uploads_in_flight(&self, epoch: Epoch) -> usize {
        self.uploads.get(&epoch).copied().unwrap_or(0)
    }

    /// Whether files of an epoch before `epoch` are open. The batches of a worker
    /// come in the order of their epochs, so no more rows will come for them.
    pub(super) fn has_open_before(&self, epoch: Epoch) -> Option<Epoch> {
        let first = self.open.keys().next()?.epoch;
        (first < epoch).then_some(first)
    }

    /// Encodes one batch. The batch's memory is given back when it is done.
    pub(super) fn write(&mut self, epoch: Epoch, batch: Batch) -> Option<Event> {
        let started = Instant::now();
        let table = batch.table;
        if self.failed.contains(&table) {
            return None;
        }
        let outcome = self.write_partitions(epoch, &batch);
        self.plan.stages.encode.add(started.elapsed());
        outcome.err().map(|failure| self.fail(table, failure))
    }

    /// Completes the files of an epoch of which no more rows will come.
    pub(super) fn finish(&mut self, epoch: Epoch) -> Vec<Event> {
        let started = Instant::now();
        let failures = self
            .open_files(|key| key.epoch == epoch)
            .into_iter()
            .filter_map(|key| {
                self.finish_file(&key)
                    .err()
                    .map(|failure| self.fail(key.table, failure))
            })
            .collect();
        self.plan.stages.encode.add(started.elapsed());
        failures
    }

    fn open_files(&self, which: impl Fn(&FileKey) -> bool) -> Vec<FileKey> {
        self.open.keys().filter(|key| which(key)).cloned().collect()
    }

    fn fail(&mut self, table: usize, failure: TableFailure) -> Event {
        self.failed.insert(table);
        // Without a description the upload of an open file ends by itself.
        self.open.retain(|key, _| key.table != table);
        Event::Failed { table, failure }
    }

    fn write_partitions(&mut self, epoch: Epoch, batch: &Batch) -> Result<(), TableFailure> {
        let table = batch.table;
        let tables = std::sync::Arc::clone(&self.plan.tables);
        let Some(target) = tables.get(table) else {
            return Ok(());
        };
        let split = target.by_split.then_some(batch.split);
        if split.is_some() {
            // A worker reads one split after the other: earlier ones are over.
            let over = |key: &FileKey| key.table == table && key.split != split;
            for key in self.open_files(over) {
                self.finish_file(&key)?;
            }
        }
        for (partition, rows) in divide(target, batch)? {
            let key = FileKey {
                epoch,
                table,
                split,
                partition,
            };
            if !self.open.contains_key(&key) {
                self.begin_file(&key, target, &rows)?;
            }
            self.write_file(&key, target, &rows)?;
        }
        self.relieve()
    }

    fn begin_file(
        &mut self,
        key: &FileKey,
        target: &SinkTable,
        first: &RecordBatch,
    ) -> Result<(), TableFailure> {
        let path = data_path(&key.partition)?;
        let in_flight = self.in_flight.file();
        let (chunks, received) = mpsc::unbounded_channel();
        let (describe, description) = oneshot::channel::<DataFile>();
        let schema = std::sync::Arc::clone(&target.file_schema);
        let file = OpenFile::new(&self.plan.format, schema, first, chunks, in_flight.clone())
            .map_err(encode_failure)?;
        let wake = self.mail.clone();
        let written = upload(
            upload::Target {
                store: std::sync::Arc::clone(&target.folder),
                path: path.clone(),
                part_bytes: self.plan.format.part_bytes,
            },
            received,
            in_flight.clone(),
            move || wake.wake(),
        );
        let (mail, stages) = (self.mail.clone(), std::sync::Arc::clone(&self.plan.stages));
        let (epoch, table, progress) = (key.epoch, key.table, target.progress.clone());
        self.plan.runtime.spawn(async move {
            let started = Instant::now();
            let written = written.await;
            stages.upload.add(started.elapsed());
            if let Ok(durable) = &written {
                progress.wrote(durable.bytes);
            }
            let event = announce(table, &path, written, description.await.ok());
            mail.send(Uploaded { epoch, event }).await;
        });
        *self.uploads.entry(epoch).or_default() += 1;
        self.open.insert(key.clone(), (file, describe));
        Ok(())
    }

    fn write_file(
        &mut self,
        key: &FileKey,
        target: &SinkTable,
        rows: &RecordBatch,
    ) -> Result<(), TableFailure> {
        let Some((file, _)) = self.open.get_mut(key) else {
            return Ok(());
        };
        file.write(rows).map_err(encode_failure)?;
        if file.file_bytes() >= target.file_bytes {
            return self.finish_file(key);
        }
        if file.row_group_bytes() >= self.plan.format.row_group_bytes {
            file.flush().map_err(encode_failure)?;
        }
        Ok(())
    }

    /// Under pressure the largest open row group is flushed early (B3).
    fn relieve(&mut self) -> Result<(), TableFailure> {
        while self.open.len() > 1
            && self
                .open
                .values()
                .map(|(file, _)| file.memory_bytes())
                .sum::<u64>()
                > self.plan.format.open_bytes
        {
            let largest = self
                .open
                .values_mut()
                .max_by_key(|(file, _)| file.memory_bytes());
            let Some((file, _)) = largest.filter(|(file, _)| file.row_group_bytes() > 0) else {
                break;
            };
            file.flush().map_err(encode_failure)?;
        }
        Ok(())
    }

    fn finish_file(&mut self, key: &FileKey) -> Result<(), TableFailure> {
        let Some((file, describe)) = self.open.remove(key) else {
            return Ok(());
        };
        let Some(target) = self.plan.tables.get(key.table) else {
            return Ok(());
        };
        let Finished { rows, metadata } = file.finish().map_err(encode_failure)?;
        let description = DataFile {
            // Path, size and digest are known to the upload.
            path: String::new(),
            rows,
            bytes: 0,
            sha256: String::new(),
            partition: key.partition.clone(),
            stats: delta_stats(&target.file_schema, &metadata),
        };
        // A failed upload no longer listens and has said so itself.
        let _ = describe.send(description);
        Ok(())
    }
}

/// The rows of each partition.
fn divide(
    target: &SinkTable,
    batch: &Batch,
) -> Result<Vec<(PartitionValues, RecordBatch)>, TableFailure> {
    let Some(partitions) = &target.partitions else {
        return target.partitioning.divide(&batch.rows);
    };
    let partition = partitions.get(batch.split as usize).cloned();
    let partition = partition.ok_or_else(|| {
        let what = format!("split {} has no partition; please report this", batch.split);
        TableFailure::new(FailureKind::Failed, what)
    })?;
    Ok(vec![(partition, batch.rows.clone())])
}

/// What an upload has to say when it is over.
fn announce(
    table: usize,
    path: &Path,
    written: object_store::Result<Durable>,
    description: Option<DataFile>,
) -> Event {
    match (written, description) {
        (Ok(Durable { bytes, sha256 }), Some(file)) => Event::File {
            table,
            file: DataFile {
                path: log_path(path),
                bytes,
                sha256,
                ..file
            },
        },
        (Ok(_), None) => Event::Failed {
            table,
            failure: TableFailure::new(
                FailureKind::Failed,
                format!("the file {path} was not completed"),
            ),
        },
        (Err(error), _) => Event::Failed {
            table,
            failure: store_failure(path, &error),
        },
    }
}

fn store_failure(path: &Path, error: &object_store::Error) -> TableFailure {
    let error = highwater::store::StoreError::from_object_store(error, &format!("write {path}"));
    let kind = if error.is_retryable() {
        FailureKind::Retryable
    } else {
        FailureKind::Failed
    };
    TableFailure::new(kind, error.to_string())
}

fn encode_failure(error: parquet::errors::ParquetError) -> TableFailure {
    TableFailure::new(
        FailureKind::Failed,
        format!("cannot encode rows as Parquet: {error}"),
    )
}

/// A unique path inside the table's folder. The name is never used twice, by any
/// run: a file is never overwritten. Partitions are Hive folders, because some
/// readers take the values from there and not from the log.
fn data_path(partition: &PartitionValues) -> Result<Path, TableFailure> {
    let folders = partition.iter().map(|(column, value)| {
        let value = value
            .as_deref()
            .map_or("__HIVE_DEFAULT_PARTITION__".to_owned(), hive_escape);
        format!("{}={value}/", hive_escape(column))
    });
    let path = format!(
        "{}part-{}.parquet",
        folders.collect::<String>(),
        uuid::Uuid::now_v7()
    );
    Path::parse(&path).map_err(|error| {
        TableFailure::new(
            FailureKind::Failed,
            format!("{path} is no path for a file: {error}"),
        )
    })
}

/// The path as the log spells it: a URL path, in which `%` itself is escaped.
fn log_path(path: &Path) -> String {
    path.to_string().replace('%', "%25")
}

/// A value as a part of a folder's name: what is not plain is `%` and two
/// hexadecimal digits for each byte, as in Hive.
fn hive_escape(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    value
        .bytes()
        .fold(String::with_capacity(value.len()), |mut text, byte| {
            if plain(byte) {
                text.push(char::from(byte));
            } else {
                text += &format!("%{byte:02X}");
            }
            text
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn partition_folders_are_escaped_once_in_the_store_and_twice_in_the_log() {
        let partition = PartitionValues::from([
            ("a".to_owned(), Some("x y/ü".to_owned())),
            ("b".to_owned(), None),
        ]);
        let path = data_path(&partition).unwrap();
        let text = path.to_string();
        assert!(
            text.starts_with("a=x%20y%2F%C3%BC/b=__HIVE_DEFAULT_PARTITION__/part-"),
            "{text}"
        );
        assert!(log_path(&path).starts_with("a=x%2520y%252F%25C3%25BC/"));
        assert_eq!(Path::from_url_path(log_path(&path)).unwrap(), path);
    }
}
