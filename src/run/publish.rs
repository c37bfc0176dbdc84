//! Makes epochs permanent: records them in the load log while a table is
//! incomplete, publishes the table with its watermark when it is whole.
//!
//! One commit publishes all files of a load at once, so that readers never see
//! half a table; a run that dies repeats at most the epochs that were open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::failure::{Exit, Failure};
use super::prepare::{LoadKind, Prepared, PreparedTable};
use super::report::{TableOutcome, TableReport};
use super::stages::Stages;
use crate::flow::event::FailureKind;
use crate::flow::{Epoch, Event, Settle, Settled, TableFailure};
use crate::ledger::{self, Attempt, Begin, Change, ChangeKind, DataFile, Writer};
use crate::source::BadRow;
use crate::store::Store;
use crate::telemetry::progress::TableProgress;
use crate::watermark::{Identity, Watermark};

/// Tables that are recorded or committed at once.
const SETTLED_AT_ONCE: usize = 16;

/// Settles the epochs of one run.
pub struct Publisher {
    lake: Store,
    tables: Vec<Publishing>,
    reports: Vec<TableReport>,
    /// Told when the publisher is dropped: then everything is said.
    told: Option<oneshot::Sender<Vec<TableReport>>>,
    stages: Arc<Stages>,
}

/// A table on its way to a commit.
struct Publishing {
    writer: Writer,
    identity: Identity,
    prepared: PreparedTable,
    progress: TableProgress,
    remaining: BTreeSet<u32>,
    /// Recorded by this run or one that it continues.
    files: Vec<DataFile>,
    /// Whether this run has written its own first entry into the load log.
    logging: bool,
    over: bool,
    /// Whether its report was taken.
    reported: bool,
    report: TableReport,
    quarantine_files: u32,
    started: Instant,
}

/// What one epoch brought for one table.
#[derive(Default)]
struct Share {
    splits: BTreeSet<u32>,
    files: Vec<DataFile>,
    bad_rows: Vec<BadRow>,
    source_bytes: u64,
    failure: Option<TableFailure>,
}

impl Publisher {
    /// A publisher for everything that was prepared; `progress` by position. The
    /// reports of all tables arrive when it is dropped.
    pub fn new(
        run: Uuid,
        lake: Store,
        prepared: Prepared,
        progress: Vec<TableProgress>,
        stages: Arc<Stages>,
        processes: usize,
    ) -> (Self, oneshot::Receiver<Vec<TableReport>>) {
        let (told, hear) = oneshot::channel();
        let Prepared {
            identity,
            tables,
            failed,
        } = prepared;
        let failed = failed.into_iter();
        let reports = failed
            .map(|(name, failure)| TableReport::failed(name.to_string(), failure))
            .collect();
        let writer = this_process(run);
        let tables = tables
            .into_iter()
            .zip(progress)
            .map(|(prepared, progress)| {
                let mut table = Publishing::new(&writer, &identity, prepared, progress);
                if processes > 1 {
                    table.report.splits_by_process = vec![0; processes];
                }
                table
            })
            .collect();
        (
            Self {
                lake,
                tables,
                reports,
                told: Some(told),
                stages,
            },
            hear,
        )
    }

    /// What comes before the first row: publishes tables that have nothing left
    /// to read (empty ones, and loads of which only the commit is missing), and
    /// lays claim to the folders of new tables, so that files which a killed run
    /// leaves there are known to be ours.
    pub async fn start(&mut self) -> Settled {
        let lake = &self.lake;
        let compared = self.tables.iter_mut().filter(|table| !table.over);
        stream::iter(compared)
            .for_each_concurrent(SETTLED_AT_ONCE, |table| table.set_aside_compared(lake))
            .await;
        let new = self.tables.iter_mut().filter(|table| {
            table.prepared.ledger.head().is_none() && table.prepared.load == LoadKind::Fresh
        });
        stream::iter(new)
            .for_each_concurrent(SETTLED_AT_ONCE, Publishing::claim)
            .await;
        self.settle_shares(BTreeMap::new()).await
    }

    /// What this process reads is shown while it is read; what others have read is
    /// shown now.
    fn tell_read(&mut self, table: usize, process: usize, rows: u64, source_bytes: u64) {
        let Some(table) = self.tables.get_mut(table) else {
            return;
        };
        if process > 0 {
            table.progress.read(rows, source_bytes);
        }
        if let Some(splits) = table.report.splits_by_process.get_mut(process) {
            *splits += 1;
        }
    }

    async fn settle_shares(&mut self, mut shares: BTreeMap<usize, Share>) -> Settled {
        let started = Instant::now();
        let lake = &self.lake;
        let settling = self
            .tables
            .iter_mut()
            .enumerate()
            .filter_map(|(index, table)| {
                let share = shares.remove(&index);
                let complete = table.remaining.is_empty();
                (!table.over && (share.is_some() || complete))
                    .then_some(table.settle(lake, share.unwrap_or_default()))
            });
        stream::iter(settling)
            .for_each_concurrent(SETTLED_AT_ONCE, |settled| settled)
            .await;
        let mut settled = Settled::default();
        let over = self
            .tables
            .iter_mut()
            .enumerate()
            .filter(|(_, table)| table.over);
        for (index, table) in over.filter(|(_, table)| !table.reported) {
            table.reported = true;
            settled.skip.push(index);
            self.reports.push(std::mem::take(&mut table.report));
        }
        self.stages.commit.add(started.elapsed());
        settled
    }
}

impl Drop for Publisher {
    /// What is not over when the run ends was interrupted.
    fn drop(&mut self) {
        for table in self.tables.iter_mut().filter(|table| !table.reported) {
            table.interrupt();
            self.reports.push(std::mem::take(&mut table.report));
        }
        if let Some(told) = self.told.take() {
            // Nobody waits when the run has failed as a whole.
            let _ = told.send(std::mem::take(&mut self.reports));
        }
    }
}

#[async_trait]
impl Settle for Publisher {
    async fn settle(&mut self, epoch: Epoch, events: Vec<Event>) -> Settled {
        let mut shares: BTreeMap<usize, Share> = BTreeMap::new();
        for event in events {
            match event {
                Event::SplitRead {
                    table,
                    split,
                    rows,
                    source_bytes,
                    process,
                } => {
                    let share = shares.entry(table).or_default();
                    share.splits.insert(split);
                    share.source_bytes += source_bytes;
                    self.tell_read(table, process, rows, source_bytes);
                }
                Event::File { table, file } => shares.entry(table).or_default().files.push(file),
                Event::Quarantined { table, row } => {
                    shares.entry(table).or_default().bad_rows.push(row);
                }
                Event::Failed { table, failure } => {
                    shares
                        .entry(table)
                        .or_default()
                        .failure
                        .get_or_insert(failure);
                }
            }
        }
        tracing::debug!(epoch, tables = shares.len(), "an epoch is complete");
        self.settle_shares(shares).await
    }
}

impl Publishing {
    fn new(
        writer: &Writer,
        identity: &Identity,
        prepared: PreparedTable,
        progress: TableProgress,
    ) -> Self {
        let remaining = prepared.remaining().map(|split| split.ordinal).collect();
        let continued = matches!(prepared.load, LoadKind::Continued | LoadKind::CatchingUp);
        let recorded = prepared.load_log.state().filter(|_| continued);
        let (files, quarantined) = recorded.map_or_else(Default::default, |state| {
            (state.files.clone(), state.quarantined)
        });
        let report = TableReport {
            name: prepared.name().to_string(),
            mode: Some(prepared.mode),
            splits: prepared.splits.len() as u64,
            splits_resumed: prepared.done.len() as u64,
            continued,
            catching_up: prepared.load == LoadKind::CatchingUp,
            at_risk: prepared.watermark(identity).is_at_risk(),
            quarantined,
            ..TableReport::default()
        };
        let report = match &prepared.mirror {
            Some(mirror) => mirror.tell(report),
            None => report,
        };
        Self {
            writer: writer.clone(),
            identity: identity.clone(),
            prepared,
            progress,
            remaining,
            files,
            logging: false,
            over: false,
            reported: false,
            report,
            quarantine_files: 0,
            started: Instant::now(),
        }
    }

    /// Rows that the comparison met and could not represent.
    async fn set_aside_compared(&mut self, lake: &Store) {
        let merge = self
            .prepared
            .mirror
            .as_mut()
            .and_then(|mirror| mirror.merge.as_mut());
        let rows = merge.map_or_else(Vec::new, |merge| std::mem::take(&mut merge.bad_rows));
        if !rows.is_empty()
            && let Err(failure) = self.set_aside(lake, &rows).await
        {
            self.fail(failure);
        }
    }

    async fn claim(&mut self) {
        if let Err(failure) = self.open_load_log().await {
            self.fail(failure);
        }
    }

    async fn settle(&mut self, lake: &Store, share: Share) {
        self.report.source_bytes += share.source_bytes;
        let outcome = match share.failure {
            Some(failure) => Err(failure.into()),
            None => self.make_permanent(lake, share).await,
        };
        if let Err(failure) = outcome {
            self.fail(failure);
        }
    }

    async fn make_permanent(&mut self, lake: &Store, share: Share) -> Result<(), Failure> {
        let Share {
            splits,
            mut files,
            bad_rows,
            ..
        } = share;
        // Uploads of one epoch report in any order; the log should not depend on it.
        files.sort_by(|a, b| a.path.cmp(&b.path));
        if !bad_rows.is_empty() {
            self.set_aside(lake, &bad_rows).await?;
        }
        for split in &splits {
            self.remaining.remove(split);
        }
        if self.remaining.is_empty() {
            self.files.append(&mut files);
            self.publish().await
        } else {
            self.record(splits, files, bad_rows.len() as u64).await
        }
    }

    /// Writes bad rows where the user finds them, before anything that counts
    /// them becomes permanent.
    async fn set_aside(&mut self, lake: &Store, rows: &[BadRow]) -> Result<(), Failure> {
        self.report.quarantined += rows.len() as u64;
        self.quarantine_files += 1;
        let name = self.prepared.name().to_string();
        ledger::put_quarantine(lake, self.writer.run, &name, self.quarantine_files, rows).await?;
        Ok(())
    }

    /// Records an epoch of an incomplete load.
    async fn record(
        &mut self,
        splits: BTreeSet<u32>,
        files: Vec<DataFile>,
        quarantined: u64,
    ) -> Result<(), Failure> {
        if splits.is_empty() && files.is_empty() {
            return Ok(());
        }
        if self.prepared.is_merge() {
            // An increment is published at its end, and starts over after a kill:
            // it costs what has changed.
            self.files.extend(files);
            return Ok(());
        }
        self.open_load_log().await?;
        let epoch = ledger::Epoch {
            run: self.writer.run,
            splits: splits.into_iter().collect(),
            files: files.clone(),
            quarantined,
        };
        self.prepared.load_log.epoch(epoch).await?;
        self.files.extend(files);
        tracing::info!(
            "{}: {} of {} splits are recorded",
            self.report.name,
            self.prepared.splits.len() - self.remaining.len(),
            self.prepared.splits.len()
        );
        Ok(())
    }

    /// Writes this run's first entry: from then on an earlier run that is still
    /// alive cannot record anything more.
    async fn open_load_log(&mut self) -> Result<(), Failure> {
        if self.logging {
            return Ok(());
        }
        let prepared = &mut self.prepared;
        let writer = self.writer.clone();
        match &prepared.load {
            LoadKind::Continued | LoadKind::CatchingUp => {
                let bound = prepared.snapshot_bound.clone();
                prepared.load_log.resume(Attempt { writer, bound }).await?;
            }
            LoadKind::Fresh | LoadKind::StartOver(_) => {
                if let LoadKind::StartOver(reason) = &prepared.load {
                    prepared.load_log.start_over(writer.clone(), reason).await?;
                }
                let begin = Begin {
                    writer,
                    identity: self.identity.clone(),
                    bound: prepared.bound.clone(),
                    read: prepared.read.clone(),
                    partition_columns: prepared.shape.partition_columns.clone(),
                    splits: prepared.splits.clone(),
                    cursor_max: prepared
                        .read
                        .cursor
                        .as_ref()
                        .and_then(|range| range.to.clone()),
                    layout: prepared.layout.clone(),
                };
                prepared.load_log.begin(begin).await?;
            }
        }
        self.logging = true;
        Ok(())
    }

    /// Publishes the whole table with its watermark.
    async fn publish(&mut self) -> Result<(), Failure> {
        self.over = true;
        let prepared = &mut self.prepared;
        let watermark = Watermark {
            set_aside: self.report.quarantined > 0 || prepared.keeps_set_aside(),
            ..prepared.watermark(&self.identity)
        };
        let (kind, is_news) = match &prepared.mirror {
            Some(mirror) if prepared.is_merge() => {
                let removed = mirror.merge.as_ref().map(|merge| merge.removed.clone());
                let removed = removed.unwrap_or_default();
                let is_news = !removed.is_empty() || mirror.is_news(&watermark);
                (ChangeKind::Merge { removed }, is_news)
            }
            _ if prepared.replace => (ChangeKind::Replace, true),
            _ => (ChangeKind::Append, false),
        };
        if self.files.is_empty() && !is_news {
            self.conclude(TableOutcome::Unchanged);
            return Ok(());
        }
        self.progress.state("committing");
        let change = Change {
            run: self.writer.run,
            schema: Arc::clone(&prepared.shape.schema),
            partition_columns: prepared.shape.partition_columns.clone(),
            kind,
            files: std::mem::take(&mut self.files),
            watermark,
            from: prepared.ledger.head().map_or(0, |head| head.commit),
        };
        self.report.files = change.files.len() as u64;
        self.report.rows = change.files.iter().map(|file| file.rows).sum();
        self.report.lake_bytes = change.files.iter().map(|file| file.bytes).sum();
        prepared.ledger.commit(change).await?;
        self.conclude(TableOutcome::Committed);
        Ok(())
    }

    fn conclude(&mut self, outcome: TableOutcome) {
        self.report.outcome = outcome;
        if let Some(head) = self.prepared.ledger.head() {
            self.report.version = Some(head.version);
            self.report.watermark = serde_json::to_value(&head.watermark).unwrap_or_default();
        }
        self.report
            .seconds
            .insert("total".to_owned(), self.started.elapsed().as_secs_f64());
        self.progress.done();
        tracing::debug!(table = %self.report.name, ?outcome, "a table is over");
    }

    fn fail(&mut self, failure: Failure) {
        self.over = true;
        let (files, rows) = (0, 0);
        self.report.outcome = match failure.exit {
            Exit::Overtaken => TableOutcome::Overtaken,
            _ => TableOutcome::Failed,
        };
        self.report.error = Some(failure.into());
        (self.report.files, self.report.rows, self.report.lake_bytes) = (files, rows, 0);
        self.progress.state("failed");
    }

    fn interrupt(&mut self) {
        let done = self.prepared.splits.len() - self.remaining.len();
        self.report.outcome = TableOutcome::Interrupted;
        let recorded = if self.logging || self.report.continued {
            done
        } else {
            0
        };
        self.report.error = Some(
            Failure::interrupted(format!(
                "interrupted with {recorded} of {} splits recorded; the lake is as it was",
                self.prepared.splits.len()
            ))
            .hint("run again: recorded splits are not repeated")
            .into(),
        );
    }
}

/// Who writes, for the messages of whoever meets it.
fn this_process(run: Uuid) -> Writer {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::env::var("HOSTNAME"))
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned());
    Writer {
        run,
        host,
        pid: std::process::id(),
    }
}

impl From<TableFailure> for Failure {
    fn from(failure: TableFailure) -> Self {
        let exit = match failure.kind {
            FailureKind::Usage => Exit::Usage,
            FailureKind::Retryable => Exit::Retry,
            FailureKind::Overtaken => Exit::Overtaken,
            FailureKind::Schema => Exit::SchemaRefused,
            FailureKind::Failed => Exit::Failed,
        };
        Self::new(exit, failure.message)
    }
}
