//! Publishes what is complete: files of chunks take the place of old ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use highwater::app::Failure;
use highwater::flow::event::FailureKind;
use highwater::flow::{Epoch, Event, Settle, Settled, TableFailure};
use highwater::ledger::{Change, ChangeKind, DataFile, Ledger};
use highwater::telemetry::objects::ObjectTally;
use highwater::watermark::{Bound, Identity, Mode, Watermark};
use highwater_operators::ingest::documents::{ChunkTally, Group, KEY, chunks_schema};
use uuid::Uuid;

use super::reading::Reading;

/// What was published.
#[derive(Debug, Clone, Default)]
pub(super) struct Published {
    pub(super) groups: u64,
    pub(super) rows: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// What a publisher leaves for the report.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) published: Published,
    pub(super) failure: Option<Failure>,
}

/// Publishes each group when all of its pieces are complete; see `Group`.
pub(super) struct Publisher {
    ledger: Ledger,
    source: Identity,
    bound: Bound,
    /// How the table is made.
    reading: Reading,
    run: Uuid,
    groups: Vec<Group>,
    /// Groups that are begun, by number.
    open: BTreeMap<usize, Open>,
    /// Groups that cannot be completed.
    failed: BTreeSet<usize>,
    left: usize,
    set_aside: bool,
    tally: Arc<ObjectTally>,
    chunks: Arc<ChunkTally>,
    outcome: Arc<Mutex<Outcome>>,
}

#[derive(Default)]
struct Open {
    pieces: usize,
    files: Vec<DataFile>,
}

impl Publisher {
    pub(super) fn new(
        ledger: Ledger,
        (source, bound): (Identity, Bound),
        reading: Reading,
        run: Uuid,
        groups: Vec<Group>,
        (tally, chunks): (Arc<ObjectTally>, Arc<ChunkTally>),
        outcome: Arc<Mutex<Outcome>>,
    ) -> Self {
        Self {
            ledger,
            source,
            bound,
            reading,
            run,
            left: groups.len(),
            groups,
            open: BTreeMap::new(),
            failed: BTreeSet::new(),
            set_aside: false,
            tally,
            chunks,
            outcome,
        }
    }

    /// Makes it a table, so that files which no entry names yet are known as ours. Where
    /// nothing is to be done, says that the table equals the source as it is now.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        match self.ledger.head() {
            Some(_) if !self.groups.is_empty() => Ok(()),
            _ => self.commit(Vec::new(), Vec::new()).await,
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::SplitRead { table, .. } => self.open.entry(table).or_default().pieces += 1,
            Event::File { table, file } => {
                self.open.entry(table).or_default().files.push(file);
            }
            Event::Failed { table, failure } => {
                self.failed.insert(table);
                self.fail(as_failure(failure));
            }
            Event::Quarantined { .. } => self.set_aside = true,
        }
    }

    /// Nothing more is begun; what is complete stays published.
    fn fail(&self, failure: Failure) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.failure.get_or_insert(failure);
        self.tally.stop();
    }

    /// Takes out what is complete: the numbers of groups, paths that go, and files.
    fn complete(&mut self) -> (Vec<usize>, Vec<String>, Vec<DataFile>) {
        let is_complete = |(number, open): (&usize, &Open)| {
            let pieces = self
                .groups
                .get(*number)
                .map_or(0, |group| group.pieces.len());
            (open.pieces >= pieces && !self.failed.contains(number)).then_some(*number)
        };
        let complete: Vec<usize> = self.open.iter().filter_map(is_complete).collect();
        let (mut removed, mut files) = (Vec::new(), Vec::new());
        for number in &complete {
            if let Some(open) = self.open.remove(number) {
                files.extend(open.files);
            }
            let group = self.groups.get(*number);
            removed.extend(group.into_iter().flat_map(|group| group.replaces.clone()));
        }
        (complete, removed, files)
    }

    async fn commit(&mut self, removed: Vec<String>, files: Vec<DataFile>) -> Result<(), Failure> {
        let published = Published {
            groups: 0,
            rows: files.iter().map(|file| file.rows).sum(),
            files: files.len() as u64,
            bytes: files.iter().map(|file| file.bytes).sum(),
        };
        let change = Change {
            run: self.run,
            schema: chunks_schema(),
            partition_columns: Vec::new(),
            kind: match removed.is_empty() {
                true => ChangeKind::Append,
                false => ChangeKind::Merge { removed },
            },
            files,
            watermark: Watermark {
                key: vec![KEY.to_owned()],
                // Other ranges are still as the last run left them, or a document could not
                // be read. What was refused by its name is no better when it is looked at
                // again.
                catching_up: self.left > 0 || self.tally.failed.get() > self.tally.refused.get(),
                set_aside: self.set_aside,
                // When the last group is complete, all that waits has been counted; before
                // that the next run looks anyway.
                reading: self.reading.text(self.chunks.waiting.get() > 0),
                ..Watermark::new(self.source.clone(), Mode::Mirror, self.bound.clone())
            },
            from: self.ledger.head().map_or(0, |head| head.commit),
        };
        self.ledger.commit(change).await?;
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.published.rows += published.rows;
        outcome.published.files += published.files;
        outcome.published.bytes += published.bytes;
        Ok(())
    }
}

#[async_trait]
impl Settle for Publisher {
    async fn settle(&mut self, _epoch: Epoch, events: Vec<Event>) -> Settled {
        for event in events {
            self.hear(event);
        }
        let (groups, removed, files) = self.complete();
        if groups.is_empty() {
            return Settled::default();
        }
        self.left = self.left.saturating_sub(groups.len());
        match self.commit(removed, files).await {
            Ok(()) => {
                self.chunks.published(&groups);
                let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
                outcome.published.groups += groups.len() as u64;
            }
            Err(failure) => {
                self.fail(failure);
                // Another run may have overtaken this one: whatever it reads is in vain.
                self.failed.extend(0..self.groups.len());
            }
        }
        Settled::default()
    }
}

fn as_failure(failure: TableFailure) -> Failure {
    let TableFailure { kind, message } = failure;
    match kind {
        FailureKind::Usage => Failure::usage(message),
        FailureKind::Retryable => Failure::retry(message),
        _ => Failure::failed(message),
    }
}
