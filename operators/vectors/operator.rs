//! [`fill_vectors`]: gives each chunk its vector.
//!
//! A model that computes here computes on the worker, one small batch of texts at a turn,
//! so that the other operators get theirs and no thread competes with another for a core.
//! A model elsewhere is asked by a task, as the table of vectors is. Batches leave in the
//! order in which they came.
//!
//! New vectors leave by a way of their own, whose epochs are ticks of a clock: they are
//! worth keeping as soon as they are made, whatever becomes of the documents.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater::batch::Batch;
use highwater::budget::Permit;
use highwater::flow::event::FailureKind;
use highwater::flow::{
    Batches, Epoch, Event, Events, Mailbox, Sender, TableFailure, Wire, mailbox,
};
use highwater::run::stages::Stages;
use rustix::time::{ClockId, clock_gettime};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::cache::{Hash, Vector, VectorCache};
use super::index::Place;
use super::rows::vector_rows;
use super::window::{Next, Open, Window, text};
use crate::embed::{EmbedError, Embedded, Embedder};
use crate::ingest::documents::ChunkTally;
use crate::lake::LakeReadError;

/// Texts that go through the model at one turn of a worker, and their tokens, at most.
const TEXTS_AT_ONCE: usize = 64;
const TOKENS_AT_ONCE: usize = 1024;

/// New vectors that leave together.
const VECTORS_OF_A_BATCH: usize = 256;

/// How soon a worker looks again for vectors that another one makes.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What [`fill_vectors`] needs to know; shared by all workers of a process.
#[derive(Clone)]
pub struct FillVectors {
    /// Makes vectors.
    pub embedder: Arc<dyn Embedder>,
    /// Knows vectors.
    pub cache: Arc<VectorCache>,
    /// Where chunks are counted.
    pub tally: Arc<ChunkTally>,
    /// Where time spent is counted.
    pub stages: Arc<Stages>,
    /// An epoch of new vectors lasts so long.
    pub tick: Duration,
    /// Where tasks run.
    pub runtime: tokio::runtime::Handle,
}

/// The streams that come out of [`fill_vectors`].
pub struct Filled<'scope> {
    /// The chunks, each with its vector.
    pub batches: Batches<'scope>,
    /// Tables that cannot be completed.
    pub events: Events<'scope>,
    /// New vectors, in epochs of their own, as rows of table 0.
    pub vectors: Batches<'scope>,
}

/// What a task tells its operator.
enum Mail {
    Fetched(Result<HashMap<Hash, Vector>, LakeReadError>),
    Embedded(Result<Embedded, EmbedError>),
}

/// A batch that waits for its turn, or has it.
struct Work {
    rows: Capability<Epoch>,
    events: Capability<Epoch>,
    batch: Batch,
}

/// The batch whose turn it is.
struct Turn {
    work: Work,
    window: Window,
    asked: Asked,
}

/// What a task was asked for.
enum Asked {
    Nothing,
    Stored(Vec<(Open, Place)>),
    Vectors(Vec<Open>),
}

/// Adds the operator.
pub fn fill_vectors<'scope>(
    scope: Scope<'scope, Epoch>,
    batches: Batches<'scope>,
    plan: FillVectors,
) -> Filled<'scope> {
    let mut builder = OperatorBuilder::new("fill_vectors".to_owned(), scope);
    let mut input = builder.new_input(batches, Pipeline);
    let (rows_output, filled) = builder.new_output();
    let (event_output, events) = builder.new_output();
    // What is new leaves by a clock, not at the times of the documents.
    let (vector_output, vectors) = builder.new_output_connection::<Vec<Batch>, _>([]);
    let mut rows_output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Batch>>>::from(rows_output);
    let mut event_output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Wire<Event>>>>::from(event_output);
    let mut vector_output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Batch>>>::from(vector_output);
    let address = builder.operator_info().address;
    let again = scope.activator_for(std::rc::Rc::clone(&address));
    let (mail, mailbox) = mailbox(scope.worker().sync_activator_for(address.to_vec()), 2);

    builder.build(move |mut capabilities| {
        let fresh = Fresh::new(&plan, capabilities.pop());
        let mut filling = Filling::new(plan, mail, mailbox, fresh);
        drop(capabilities);
        move |frontiers| {
            input.for_each(|capability, arrived| {
                let arrived = arrived.drain(..).map(|batch| Work {
                    rows: capability.retain(0),
                    events: capability.retain(1),
                    batch,
                });
                filling.waiting.extend(arrived);
            });
            let mut rows_output = rows_output.activate();
            let mut event_output = event_output.activate();
            let wait = filling.step();
            for (work, outcome) in filling.done.drain(..) {
                match outcome {
                    Ok(rows) => {
                        let batch = Batch { rows, ..work.batch };
                        rows_output.session(&work.rows).give(batch);
                    }
                    Err(failure) => {
                        let table = work.batch.table;
                        let failed = Wire(Event::Failed { table, failure });
                        event_output.session(&work.events).give(failed);
                    }
                }
            }
            let is_over =
                frontiers.first().is_none_or(|frontier| frontier.is_empty()) && filling.is_idle();
            let mut vector_output = vector_output.activate();
            filling.fresh.leave(is_over, |capability, batch| {
                vector_output.session(capability).give(batch);
            });
            match wait {
                Wait::Not => again.activate(),
                Wait::ForOthers => again.activate_after(LOOK_AGAIN),
                Wait::ForMail => {
                    if let Some(left) = filling.fresh.left_of_tick() {
                        again.activate_after(left);
                    }
                }
            }
        }
    });
    Filled {
        batches: filled,
        events,
        vectors,
    }
}

/// When the operator wants its next turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Not,
    ForOthers,
    ForMail,
}

/// The state of one worker.
struct Filling {
    plan: FillVectors,
    mail: Sender<Mail>,
    mailbox: Mailbox<Mail>,
    waiting: VecDeque<Work>,
    turn: Option<Turn>,
    done: Vec<(Work, Result<arrow::array::RecordBatch, TableFailure>)>,
    fresh: Fresh,
    /// Why nothing is embedded any more.
    failed: Option<TableFailure>,
}

impl Filling {
    fn new(plan: FillVectors, mail: Sender<Mail>, mailbox: Mailbox<Mail>, fresh: Fresh) -> Self {
        Self {
            plan,
            mail,
            mailbox,
            waiting: VecDeque::new(),
            turn: None,
            done: Vec::new(),
            fresh,
            failed: None,
        }
    }

    fn is_idle(&self) -> bool {
        self.turn.is_none() && self.waiting.is_empty()
    }

    /// Does what can be done in one turn of the worker.
    fn step(&mut self) -> Wait {
        while let Some(mail) = self.mailbox.take() {
            self.hear(mail);
        }
        if let Some(failure) = self.failed.clone() {
            let turn = self.turn.take().map(|mut turn| {
                turn.window.give_up(&self.plan.cache);
                turn.work
            });
            let all = turn.into_iter().chain(self.waiting.drain(..));
            self.done
                .extend(all.map(|work| (work, Err(failure.clone()))));
            return Wait::ForMail;
        }
        if self.turn.is_none() {
            let Some(work) = self.waiting.pop_front() else {
                return Wait::ForMail;
            };
            let window = Window::open(&work.batch.rows, &self.plan.cache);
            self.turn = Some(Turn {
                work,
                window,
                asked: Asked::Nothing,
            });
        }
        self.go_on()
    }

    fn go_on(&mut self) -> Wait {
        let Some(turn) = &mut self.turn else {
            return Wait::ForMail;
        };
        if !matches!(turn.asked, Asked::Nothing) {
            return Wait::ForMail;
        }
        turn.window.look_for_theirs(&self.plan.cache);
        match turn.window.next() {
            Next::Fetch => {
                self.ask_table();
                Wait::ForMail
            }
            Next::Embed if self.plan.embedder.is_remote() => {
                self.ask_model();
                Wait::ForMail
            }
            Next::Embed => {
                self.embed();
                Wait::Not
            }
            Next::WaitForOthers => Wait::ForOthers,
            Next::Close => {
                self.close();
                Wait::Not
            }
        }
    }

    fn ask_table(&mut self) {
        let Some(turn) = &mut self.turn else { return };
        let wanted = turn.window.take_stored();
        let places = wanted.iter().map(|(open, place)| (open.hash(), *place));
        let places: Vec<_> = places.collect();
        turn.asked = Asked::Stored(wanted);
        let (cache, mail) = (Arc::clone(&self.plan.cache), self.mail.clone());
        self.plan.runtime.spawn(async move {
            let fetched = cache.fetch(places).await;
            mail.send(Mail::Fetched(fetched)).await;
        });
    }

    /// Embeds a few texts here and now.
    fn embed(&mut self) {
        let Some(turn) = &mut self.turn else { return };
        let chosen = turn
            .window
            .next_for_the_model(TEXTS_AT_ONCE, TOKENS_AT_ONCE);
        let rows = &turn.work.batch.rows;
        let texts: Vec<&str> = chosen.iter().map(|open| text(rows, open.row())).collect();
        let before = processor_time();
        let embedded = self.plan.embedder.embed(&texts);
        let spent = processor_time().saturating_sub(before);
        self.plan.stages.embed.add(spent);
        self.take(&chosen, embedded);
    }

    /// Lets a task ask for the vectors of all texts of the window.
    fn ask_model(&mut self) {
        let Some(turn) = &mut self.turn else { return };
        let chosen = turn.window.next_for_the_model(usize::MAX, usize::MAX);
        let rows = &turn.work.batch.rows;
        let texts: Vec<String> = chosen
            .iter()
            .map(|open| text(rows, open.row()).to_owned())
            .collect();
        turn.asked = Asked::Vectors(chosen);
        let (embedder, mail) = (Arc::clone(&self.plan.embedder), self.mail.clone());
        let runtime = self.plan.runtime.clone();
        self.plan.runtime.spawn_blocking(move || {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let embedded = embedder.embed(&texts);
            runtime.block_on(mail.send(Mail::Embedded(embedded)));
        });
    }

    fn hear(&mut self, mail: Mail) {
        let Some(turn) = &mut self.turn else { return };
        match (std::mem::replace(&mut turn.asked, Asked::Nothing), mail) {
            (Asked::Stored(wanted), Mail::Fetched(Ok(vectors))) => {
                turn.window.fetched(&wanted, &vectors, &self.plan.cache);
            }
            (Asked::Stored(_), Mail::Fetched(Err(error))) => {
                let kind = match error.passes {
                    true => FailureKind::Retryable,
                    false => FailureKind::Failed,
                };
                self.failed = Some(TableFailure::new(kind, error.to_string()));
            }
            (Asked::Vectors(chosen), Mail::Embedded(embedded)) => self.take(&chosen, embedded),
            _ => {}
        }
    }

    /// New vectors of `chosen`, in their order.
    fn take(&mut self, chosen: &[Open], embedded: Result<Embedded, EmbedError>) {
        let dimensions = self.plan.embedder.dimensions();
        let embedded = match whole(embedded, chosen.len(), dimensions) {
            Ok(embedded) => embedded,
            Err(failure) => {
                for open in chosen {
                    // Another worker may wait for them, and would for ever.
                    self.plan.cache.give_up(open.hash());
                }
                self.failed = Some(failure);
                return;
            }
        };
        let Some(turn) = &mut self.turn else { return };
        self.plan.tally.tokens.add(embedded.tokens as u64);
        self.plan.tally.padding.add(embedded.padding as u64);
        let vectors = embedded.vectors.chunks_exact(dimensions);
        for (open, vector) in chosen.iter().zip(vectors) {
            let vector: Vector = Arc::from(vector);
            self.plan.cache.made(open.hash(), Arc::clone(&vector));
            self.fresh.push(open.hash(), Arc::clone(&vector));
            turn.window.embedded(*open, vector);
        }
    }

    fn close(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        let (made, found) = turn.window.made_and_found();
        self.plan.tally.embedded.add(made);
        self.plan.tally.reused.add(found);
        let rows = turn.window.close(&turn.work.batch.rows);
        let rows = rows.map_err(|error| {
            let what = format!("chunks and vectors do not make a batch: {error}");
            TableFailure::new(FailureKind::Failed, what)
        });
        self.done.push((turn.work, rows));
    }
}

/// The vectors of so many texts, or why there are none.
fn whole(
    embedded: Result<Embedded, EmbedError>,
    texts: usize,
    dimensions: usize,
) -> Result<Embedded, TableFailure> {
    let embedded = embedded.map_err(|error| {
        let kind = match error.passes() {
            true => FailureKind::Retryable,
            false => FailureKind::Failed,
        };
        TableFailure::new(kind, error.to_string())
    })?;
    let made = embedded.vectors.chunks_exact(dimensions).len();
    if made != texts {
        let what = format!("the model made {made} vectors of {texts} texts; please report this");
        return Err(TableFailure::new(FailureKind::Failed, what));
    }
    Ok(embedded)
}

/// The processor time of this thread so far.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// New vectors on their way out.
struct Fresh {
    capability: Option<Capability<Epoch>>,
    vectors: Vec<(Hash, Vector)>,
    model: String,
    began: Instant,
    tick: Duration,
}

impl Fresh {
    fn new(plan: &FillVectors, capability: Option<Capability<Epoch>>) -> Self {
        Self {
            capability,
            vectors: Vec::new(),
            model: plan.cache.model().to_owned(),
            began: Instant::now(),
            tick: plan.tick.max(Duration::from_millis(1)),
        }
    }

    fn push(&mut self, hash: Hash, vector: Vector) {
        self.vectors.push((hash, vector));
    }

    /// How long the epoch lasts. Also a worker that has nothing to do has to end it: what
    /// the others have made is kept only when all have.
    fn left_of_tick(&self) -> Option<Duration> {
        self.capability.is_some().then(|| {
            let into = self.began.elapsed().as_nanos() % self.tick.as_nanos();
            let into = Duration::from_nanos(u64::try_from(into).unwrap_or(0));
            self.tick.saturating_sub(into) + Duration::from_millis(1)
        })
    }

    /// Lets go what is enough for a batch, and all of it where the epoch or the run is
    /// over.
    fn leave(&mut self, is_over: bool, mut give: impl FnMut(&Capability<Epoch>, Batch)) {
        let Some(capability) = &mut self.capability else {
            return;
        };
        let ticks = self.began.elapsed().as_nanos() / self.tick.as_nanos();
        let now = Epoch::try_from(ticks).unwrap_or(Epoch::MAX);
        let next = now > *capability.time();
        if self.vectors.len() >= VECTORS_OF_A_BATCH || (next || is_over) && !self.vectors.is_empty()
        {
            let vectors = std::mem::take(&mut self.vectors);
            // Its columns are ours: what does not fit is an error that tests find.
            if let Ok(rows) = vector_rows(&vectors, &self.model) {
                let batch = Batch {
                    table: 0,
                    split: 0,
                    source_bytes: 0,
                    rows,
                    permit: Permit::free(),
                };
                give(capability, batch);
            }
        }
        if next {
            capability.downgrade(&now);
        }
        if is_over {
            self.capability = None;
        }
    }
}
