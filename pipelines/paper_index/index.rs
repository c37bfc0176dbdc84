//! One instance, from its documents to the report.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use highwater::app::{Failure, RunContext};
use highwater::flow::Settler;
use highwater::ledger::Ledger;
use highwater::run::Config;
use highwater::run::report::{
    DocumentsReport, ObjectsReport, TableError, TableOutcome, TableReport,
};
use highwater::run::stages::Stages;
use highwater::store::objects::Buffers;
use highwater::store::pace::{Bounds, Pace};
use highwater::telemetry::objects::ObjectTally;
use highwater::watermark::Mode;
use highwater_operators::ingest::documents::{
    ChunkTally, DocumentCounts, DocumentSides, Found, Preparing, RangePlan, find_changes,
};
use highwater_operators::sink::objects::BodyReader;
use highwater_operators::transform::chunk::ChunkOptions;
use highwater_operators::vectors::FillVectors;

use super::flow::Flow;
use super::instance::Instance;
use super::memory::Memory;
use super::model::{Model, extractors, limits};
use super::publish::{Outcome, Publisher};
use super::reading::Reading;
use super::shown::show;
use super::source::Documents;
use super::vectors::Vectors;

/// Pieces that each worker gets, about: the last ones are small, so that workers end
/// together.
const PIECES_OF_A_WORKER: usize = 8;

/// What a text takes at most for each of its characters, in bytes.
const BYTES_OF_A_CHARACTER: u64 = 4;

/// What all instances of a run share. The model and the vectors are opened by whoever
/// needs them first: a run that finds nothing new needs neither.
pub(super) struct Shared<'a> {
    pub(super) config: &'a Config,
    pub(super) context: &'a RunContext,
    pub(super) memory: Memory,
    pub(super) model: Model,
    pub(super) vectors: Option<Vectors>,
    pub(super) stages: Arc<Stages>,
    /// What the user should know.
    pub(super) warnings: Vec<String>,
}

/// What became of an instance.
pub(super) struct Indexed {
    pub(super) table: TableReport,
    pub(super) documents: DocumentsReport,
}

/// An instance that was compared with its source.
struct Compared {
    /// The log of the table as it was compared: what is published follows it, or nothing.
    ledger: Option<Ledger>,
    is_new: bool,
    /// Whether the log is to say something else than it does, although no document differs.
    has_moved: bool,
    /// How the table is made.
    reading: Reading,
    documents: Documents,
    /// `None` where nothing can have changed.
    sides: Option<DocumentSides>,
    found: Found,
    tally: Arc<ObjectTally>,
    chunks: Arc<ChunkTally>,
}

impl Shared<'_> {
    /// Compares, and does nothing.
    ///
    /// # Errors
    /// One side cannot be read.
    pub(super) fn plan(&self, instance: &Instance) -> Result<DocumentsReport, Failure> {
        let compared = self.compare(instance)?;
        Ok(self.report(instance, &compared, Instant::now()))
    }

    /// Makes the table of an instance equal to its documents.
    ///
    /// # Errors
    /// There is nothing to report: a place cannot be read at all.
    pub(super) fn index(&mut self, instance: &Instance) -> Result<Indexed, Failure> {
        let began = Instant::now();
        let mut compared = self.compare(instance)?;
        let outcome = Arc::new(Mutex::new(Outcome::default()));
        let mut written = Ok(());
        if !compared.found.groups.is_empty() || compared.is_new || compared.has_moved {
            // Whatever it fails of, what was published before is to be told.
            written = self.write(instance, &mut compared, &outcome);
        }
        let outcome = std::mem::take(&mut *outcome.lock().unwrap_or_else(PoisonError::into_inner));
        let documents = self.report_of_run(instance, &compared, began);
        let head = self
            .context
            .runtime
            .block_on(Ledger::open(instance.store.clone()));
        let (version, unread) = match head {
            Ok(head) => (head.head().map(|head| head.version), None),
            Err(error) => (None, Some(Failure::from(error))),
        };
        let failure = written.err();
        let failure = failure.or_else(|| self.failure(&compared, &outcome));
        let failure = failure.or(unread);
        let published = outcome.published;
        let table = TableReport {
            name: instance.name.clone(),
            mode: Some(Mode::Mirror),
            outcome: match (&failure, published.files, compared.found.groups.len()) {
                (Some(_), ..) => TableReport::failed("", clone(&failure)).outcome,
                (None, 0, 0) if !compared.is_new => TableOutcome::Unchanged,
                _ => TableOutcome::Committed,
            },
            version,
            rows: published.rows,
            source_bytes: documents.read_bytes,
            files: published.files,
            lake_bytes: published.bytes,
            inserted: documents.new,
            updated: documents.changed,
            deleted: documents.deleted,
            error: failure.map(TableError::from),
            ..TableReport::default()
        };
        Ok(Indexed { table, documents })
    }

    /// Why not everything is published, where that is so.
    fn failure(&self, compared: &Compared, outcome: &Outcome) -> Option<Failure> {
        let is_whole = outcome.published.groups >= compared.found.groups.len() as u64;
        match self.context.cancel.is_cancelled() && !is_whole {
            true => Some(Failure::interrupted("the run was asked to end")),
            false => compared.tally.ended_by().or(outcome.failure.clone()),
        }
    }

    fn compare(&self, instance: &Instance) -> Result<Compared, Failure> {
        let tally = Arc::new(ObjectTally::new(None));
        let chunks = Arc::new(ChunkTally::default());
        self.stop_when_asked(&tally);
        show(self.context, instance, &tally, &chunks);
        let accept = self.config.accept_other_source;
        let wanted = self.context.workers() * PIECES_OF_A_WORKER;
        self.context.runtime.block_on(async {
            let known = self.known_position(instance).await?;
            let mut documents = self.documents(instance, known.as_deref()).await?;
            let ledger = instance.ledger(&documents.identity, accept).await?;
            let then = ledger.head().map(|head| &head.watermark);
            // The position of another source says nothing of this one.
            let is_other = then.is_some_and(|then| then.source != documents.identity);
            if is_other && documents.objects.is_none() {
                documents = self.documents(instance, None).await?;
            }
            let mut compared = Compared {
                ledger: None,
                is_new: ledger.head().is_none(),
                has_moved: false,
                reading: self.reading(instance),
                sides: None,
                found: Found::default(),
                tally,
                chunks,
                documents,
            };
            if let Some(objects) = compared.documents.objects.clone() {
                let (model, limits) = (self.model.name(), limits(&instance.papers, &self.memory));
                let sides = instance.sides(objects, &ledger, model, limits, &compared.tally);
                let sides = sides.await?;
                compared.found = find_changes(&sides, &compared.chunks, wanted).await?;
                compared.sides = Some(sides);
                let now = &compared.documents.bound.position;
                let reading = compared.reading.text(compared.chunks.waiting.get() > 0);
                compared.has_moved = instance.source.has_positions()
                    && ledger.head().is_some_and(|head| {
                        let then = &head.watermark;
                        then.bound.position != *now
                            || then.catching_up
                            || then.reading != reading
                            || is_other
                            || head.changed_by_others
                    });
            }
            compared.ledger = Some(ledger);
            Ok(compared)
        })
    }

    /// The documents of an instance, unless its source is where it is `known` to have
    /// been.
    async fn documents(
        &self,
        instance: &Instance,
        known: Option<&str>,
    ) -> Result<Documents, Failure> {
        let (budget, keys) = (&self.memory.reading, self.memory.keys_bytes);
        let source = &instance.source;
        let documents = source.documents(self.context.run, known, budget, keys);
        tokio::select! {
            biased;
            documents = documents => documents,
            () = self.context.cancel.cancelled() => {
                Err(Failure::interrupted("the run was asked to end"))
            }
        }
    }

    /// The position at which the source was looked at last, where the table was made of
    /// all of it as it would be now.
    async fn known_position(&self, instance: &Instance) -> Result<Option<String>, Failure> {
        let ledger = Ledger::open(instance.store.clone()).await?;
        // What another program has done to the table is seen by comparing.
        let head = ledger.head().filter(|head| !head.changed_by_others);
        let head = head.map(|head| &head.watermark);
        let now = self.reading(instance);
        let known = head.filter(|then| !then.catching_up && now.still_holds(&then.reading));
        Ok(known.map(|then| then.bound.position.clone()))
    }

    /// How the table of an instance is made now.
    fn reading(&self, instance: &Instance) -> Reading {
        let limits = limits(&instance.papers, &self.memory);
        Reading::of(instance, self.model.name(), &limits)
    }

    fn stop_when_asked(&self, tally: &Arc<ObjectTally>) {
        let (cancel, tally) = (self.context.cancel.clone(), Arc::clone(tally));
        self.context.runtime.spawn(async move {
            cancel.cancelled().await;
            tally.stop();
        });
    }

    fn write(
        &mut self,
        instance: &Instance,
        compared: &mut Compared,
        outcome: &Arc<Mutex<Outcome>>,
    ) -> Result<(), Failure> {
        let Some(ledger) = compared.ledger.take() else {
            return Err(Failure::failed("the log was not read; please report this"));
        };
        let mut publisher = Publisher::new(
            ledger,
            (
                compared.documents.identity.clone(),
                compared.documents.bound.clone(),
            ),
            compared.reading.clone(),
            self.context.run,
            compared.found.groups.clone(),
            (Arc::clone(&compared.tally), Arc::clone(&compared.chunks)),
            Arc::clone(outcome),
        );
        self.context.runtime.block_on(publisher.begin())?;
        if compared.found.groups.is_empty() {
            return Ok(());
        }
        self.open_vectors()?;
        let Some(vectors) = &self.vectors else {
            return Err(Failure::failed(
                "the vectors are not open; please report this",
            ));
        };
        let embedder = self.model.embedder(self.context)?;
        let unkept = Arc::new(Mutex::new(None));
        let keeper = vectors.keeper(Arc::clone(&unkept));
        let keeper = self.context.runtime.block_on(keeper)?;
        let shown = self
            .context
            .progress
            .table(&instance.name, 0, compared.found.bytes);
        let flow = Flow {
            config: self.config,
            context: self.context,
            memory: &self.memory,
            groups: &compared.found.groups,
            ranges: Arc::new(self.ranges(instance, compared)?),
            fill: FillVectors {
                embedder,
                cache: Arc::clone(&vectors.cache),
                tally: Arc::clone(&compared.chunks),
                stages: Arc::clone(&self.stages),
                tick: instance.papers.keep_vectors_every,
                runtime: self.context.runtime.clone(),
            },
            stores: (instance.store.clone(), vectors.store.clone()),
            shown: shown.clone(),
            stages: Arc::clone(&self.stages),
        };
        let publisher = Settler::new(Some(Box::new(publisher)));
        flow.run(publisher, Settler::new(Some(Box::new(keeper))))?;
        shown.done();
        let unkept = unkept.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.warnings.extend(unkept.map(|failure: Failure| {
            format!(
                "new vectors were not kept for later runs: {}",
                failure.message
            )
        }));
        Ok(())
    }

    fn open_vectors(&mut self) -> Result<(), Failure> {
        if self.vectors.is_none() {
            let lake = highwater::run::lake::open_lake(self.config)?;
            let most = self.memory.known_bytes + self.memory.new_bytes;
            let opened = Vectors::open(&lake, self.model.name(), most, self.context);
            self.vectors = Some(self.context.runtime.block_on(opened)?);
        }
        Ok(())
    }

    /// What the user should know of vectors that cannot be read, and of those for which
    /// there was no memory.
    pub(super) fn warn_of_left_out(&mut self) {
        let unreadable = self
            .vectors
            .as_ref()
            .map_or(0, |open| open.cache.unreadable());
        if unreadable > 0 {
            self.warnings.push(format!(
                "{unreadable} files of known vectors cannot be read (the log names them): their \
                 texts are embedded again where they come again"
            ));
        }
        let left_out = self
            .vectors
            .as_ref()
            .map_or(0, |open| open.cache.left_out());
        if left_out > 0 {
            self.warnings.push(format!(
                "there was no memory to know {left_out} vectors of the lake: their texts are \
                 embedded again where they come again; give more --memory"
            ));
        }
    }

    fn ranges(&self, instance: &Instance, compared: &Compared) -> Result<RangePlan, Failure> {
        let Some(sides) = compared.sides.clone() else {
            return Err(Failure::failed(
                "there is nothing to read; please report this",
            ));
        };
        let groups = compared.found.groups.iter();
        let ahead_bytes = self.memory.ahead_bytes;
        let papers = &instance.papers;
        let text_bytes = papers.text_characters as u64 * BYTES_OF_A_CHARACTER;
        Ok(RangePlan {
            preparing: Arc::new(Preparing {
                reader: Arc::new(BodyReader {
                    source: Arc::clone(&sides.source),
                    pace: Pace::new(Bounds {
                        start: 8,
                        least: 1,
                        most: 64,
                    }),
                    retries: instance.retries.clone(),
                    hedges: None,
                    buffers: Buffers::used_once(),
                }),
                extractors: Arc::new(extractors(papers, &self.memory)?),
                tokens: self.model.tokens(self.context)?,
                stages: Arc::clone(&self.stages),
                options: ChunkOptions {
                    max_tokens: papers.chunk_tokens,
                    overlap_tokens: papers.overlap_tokens,
                    ..ChunkOptions::default()
                },
                text_bytes,
            }),
            sides,
            pieces: groups.flat_map(|group| group.pieces.clone()).collect(),
            ahead_bytes,
            vector_bytes: self.model.dimensions() as u64 * size_of::<f32>() as u64,
            chunks: Arc::clone(&compared.chunks),
        })
    }

    /// What was done. Of documents: what the lake has of it, also where the run failed; of
    /// chunks, tokens and bytes: what was read, embedded and paid for, also in vain.
    fn report_of_run(
        &self,
        instance: &Instance,
        compared: &Compared,
        began: Instant,
    ) -> DocumentsReport {
        let mut report = self.report(instance, compared, began);
        report.dry_run = false;
        let DocumentCounts {
            new,
            changed,
            deleted,
            quarantined,
            truncated,
        } = compared.chunks.documents();
        (report.new, report.changed, report.deleted) = (new, changed, deleted);
        (report.quarantined, report.truncated) = (quarantined, truncated);
        report.set_aside = compared.chunks.set_aside();
        let in_lake = |key: &str| compared.chunks.is_published(key);
        report.set_aside.retain(|one| in_lake(&one.key));
        report
    }

    /// What is to be done, and what has been counted so far.
    fn report(&self, instance: &Instance, compared: &Compared, began: Instant) -> DocumentsReport {
        let mut objects = ObjectsReport {
            source: instance.source.url(),
            dry_run: true,
            ..ObjectsReport::default()
        };
        compared.tally.fill(&mut objects);
        let mut report = DocumentsReport {
            instance: instance.name.clone(),
            ..DocumentsReport::default()
        };
        report.take(objects);
        report.read_bytes = compared.tally.copied_bytes.get();
        let chunks = &compared.chunks;
        report.still_quarantined = chunks.still_quarantined.get();
        report.chunks = chunks.chunks.get();
        report.kept = chunks.kept.get();
        report.reused = chunks.reused.get();
        report.embedded = chunks.embedded.get();
        report.tokens = chunks.tokens.get();
        report.padding = chunks.padding.get();
        report.tokens_per_second = report.tokens as f64 / began.elapsed().as_secs_f64().max(1e-3);
        report.cost = self.model.cost(report.tokens);
        report
    }
}

fn clone(failure: &Option<Failure>) -> Failure {
    failure.clone().unwrap_or_else(|| Failure::failed(""))
}
