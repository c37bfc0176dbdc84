//! The record of what was copied: a Delta table in the target, to which each epoch
//! adds a file.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use highwater::app::Failure;
use highwater::cancel::Cancel;
use highwater::flow::{Epoch, Event, Settle, Settled};
use highwater::ledger::{
    Change, ChangeKind, DataFile, Ledger, LoggedFile, Rewrite, RewriteKind, Rewriter, SmallFile,
};
use highwater::store::Store;
use highwater::telemetry::objects::ObjectTally;
use highwater::watermark::{Bound, Identity, Mode, Watermark};
use highwater_operators::ingest::objects::{MergedRecord, recorded_schema};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use uuid::Uuid;

/// The record of one target.
pub(super) struct Record {
    ledger: Ledger,
    store: Store,
    source: Identity,
    run: Uuid,
}

impl Record {
    /// Opens the record of copies from the source at `source`.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) async fn open(store: &Store, source: &str, run: Uuid) -> Result<Self, Failure> {
        Ok(Self {
            ledger: Ledger::open(store.clone()).await?,
            store: store.clone(),
            source: Identity {
                kind: "objects".to_owned(),
                id: source.to_owned(),
                history: String::new(),
            },
            run,
        })
    }

    /// The files, where the record is that of copies from this source (T7).
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) async fn files(&self) -> Result<Option<Vec<LoggedFile>>, Failure> {
        match self.ledger.head() {
            Some(head) if head.watermark.source == self.source => {
                Ok(Some(self.ledger.files().await?))
            }
            _ => Ok(None),
        }
    }

    /// What the log says; `None` while there is no record.
    pub(super) fn head(&self) -> Option<&highwater::ledger::Head> {
        self.ledger.head()
    }

    /// The version; `None` while there is no record.
    pub(super) fn version(&self) -> Option<u64> {
        self.ledger.head().map(|head| head.version)
    }

    /// Makes it a table, so that files which no entry names yet are known as ours.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        match self.ledger.head() {
            Some(_) => Ok(()),
            None => self.add(Vec::new()).await,
        }
    }

    /// Publishes files.
    ///
    /// # Errors
    /// They are not published; another run has published meanwhile.
    pub(super) async fn add(&mut self, files: Vec<DataFile>) -> Result<(), Failure> {
        let bound = Bound {
            position: self.run.to_string(),
            at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        };
        let change = Change {
            run: self.run,
            schema: recorded_schema(),
            partition_columns: Vec::new(),
            kind: ChangeKind::Append,
            files,
            watermark: Watermark::new(self.source.clone(), Mode::Append, bound),
            from: self.ledger.head().map_or(0, |head| head.commit),
        };
        self.ledger.commit(change).await?;
        Ok(())
    }

    /// Writes rows as a file and publishes it.
    ///
    /// # Errors
    /// It cannot be written or published.
    pub(super) async fn add_rows(&mut self, rows: &RecordBatch) -> Result<(), Failure> {
        let mut file = record_file()?;
        file.write(rows).map_err(|error| unwritten(&error))?;
        let file = file.put(&self.store.objects(), "removed").await;
        let file = file.map_err(|error| unwritten(&error))?;
        self.add(vec![file]).await
    }

    /// Merges small files, where there are many: a run that compares with the record
    /// reads them side by side. A run that cannot is as good.
    pub(super) async fn merge_small_or_warn(&mut self, cancel: &Cancel) {
        if let Err(failure) = self.merge_small(cancel).await {
            tracing::warn!("the record of copies stays in many files: {failure}");
        }
    }

    /// # Errors
    /// A file cannot be read, written or published; another run has published meanwhile.
    /// What was there is as good as before.
    async fn merge_small(&mut self, cancel: &Cancel) -> Result<(), Failure> {
        while let Some(small) = many_small(self.ledger.files().await?) {
            if cancel.is_cancelled() {
                break;
            }
            let mut merged = record_file()?;
            let mut rows = MergedRecord::new(self.store.objects(), &small);
            while let Some(batch) = rows.next().await.map_err(|error| unwritten(&error))? {
                merged.write(&batch).map_err(|error| unwritten(&error))?;
            }
            let merged = merged.put(&self.store.objects(), "merged").await;
            let merged = merged.map_err(|error| unwritten(&error))?;
            let rewrite = Rewrite {
                run: self.run,
                removed: small.into_iter().map(|file| file.path).collect(),
                added: vec![merged],
                order: None,
                kind: RewriteKind::Newest,
                partition_columns: None,
            };
            let mut rewriter = Rewriter::open(self.store.clone()).await?;
            rewriter.commit(&rewrite).await?;
            self.ledger = Ledger::open(self.store.clone()).await?;
        }
        Ok(())
    }
}

/// So many files of a record may be small, in bytes, before they are merged: so many at
/// once, which are read side by side, and together they are so large at most.
const MOST_SMALL: usize = 32;
const MERGED_AT_ONCE: usize = 64;
const SMALL_BYTES: u64 = 1 << 20;
const MERGED_BYTES: u64 = 4 << 20;

/// The files to merge, the smallest ones, where so many are small.
fn many_small(mut files: Vec<LoggedFile>) -> Option<Vec<LoggedFile>> {
    files.retain(|file| file.bytes < SMALL_BYTES);
    if files.len() <= MOST_SMALL {
        return None;
    }
    files.sort_unstable_by_key(|file| file.bytes);
    files.truncate(MERGED_AT_ONCE);
    let mut bytes = 0;
    files.retain(|file| {
        bytes += file.bytes;
        bytes <= MERGED_BYTES
    });
    Some(files)
}

fn unwritten(error: &dyn std::error::Error) -> Failure {
    Failure::failed("cannot write a file of the record").because(error.to_string())
}

/// A file of the record, to be written.
fn record_file() -> Result<SmallFile, Failure> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let options = ArrowWriterOptions::new().with_properties(properties);
    SmallFile::new(recorded_schema(), options).map_err(|error| unwritten(&error))
}

/// Publishes each epoch. What it records is written, and durable.
pub(super) struct Keeper {
    pub(super) record: Option<Arc<tokio::sync::Mutex<Record>>>,
    pub(super) tally: Arc<ObjectTally>,
    pub(super) failure: Arc<Mutex<Option<Failure>>>,
}

impl Keeper {
    async fn keep(&self, files: Vec<DataFile>) -> Result<(), Failure> {
        match &self.record {
            Some(record) => record.lock().await.add(files).await,
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Settle for Keeper {
    async fn settle(&mut self, _epoch: Epoch, events: Vec<Event>) -> Settled {
        let mut files = Vec::new();
        for event in events {
            match event {
                Event::File { file, .. } => files.push(file),
                // The tally knows why.
                Event::Failed { .. } => self.tally.stop(),
                Event::SplitRead { .. } | Event::Quarantined { .. } => {}
            }
        }
        if files.is_empty() {
            return Settled::default();
        }
        if let Err(failure) = self.keep(files).await {
            let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(failure);
            self.tally.stop();
        }
        Settled::default()
    }
}
