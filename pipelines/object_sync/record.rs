//! The record of what was copied: a Delta table in the target, to which each epoch
//! adds a file.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use highwater::app::Failure;
use highwater::flow::{Epoch, Event, Settle, Settled};
use highwater::ledger::{Change, ChangeKind, DataFile, Ledger, LoggedFile, delta_stats, hex};
use highwater::store::Store;
use highwater::store::objects::Objects;
use highwater::telemetry::objects::ObjectTally;
use highwater::watermark::{Bound, Identity, Mode, Watermark};
use highwater_operators::ingest::objects::recorded_schema;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};
use parquet::arrow::ArrowWriter;
use sha2::{Digest as _, Sha256};
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
        let failed = |error: &dyn std::error::Error| {
            Failure::failed("cannot write the record of what was removed")
                .because(error.to_string())
        };
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), None)
            .map_err(|error| failed(&error))?;
        writer.write(rows).map_err(|error| failed(&error))?;
        let metadata = writer.close().map_err(|error| failed(&error))?;
        let name = format!("removed-{}.parquet", Uuid::now_v7());
        let file = DataFile {
            path: name.clone(),
            rows: rows.num_rows() as u64,
            bytes: bytes.len() as u64,
            sha256: hex(&Sha256::digest(&bytes)),
            partition: std::collections::BTreeMap::new(),
            stats: delta_stats(&rows.schema(), &metadata),
        };
        let put = self
            .store
            .objects()
            .put(&Path::from(name), PutPayload::from(bytes))
            .await;
        put.map_err(|error| failed(&error))?;
        self.add(vec![file]).await
    }
}

/// Publishes each epoch, when its objects are written.
pub(super) struct Keeper {
    pub(super) record: Option<Arc<tokio::sync::Mutex<Record>>>,
    pub(super) target: Arc<dyn Objects>,
    pub(super) durable: bool,
    pub(super) tally: Arc<ObjectTally>,
    pub(super) failure: Arc<Mutex<Option<Failure>>>,
}

impl Keeper {
    async fn keep(&self, files: Vec<DataFile>) -> Result<(), Failure> {
        if self.durable {
            // What is recorded must outlive a power cut.
            self.target.make_durable().await?;
        }
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
