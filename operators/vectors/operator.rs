//! [`fill_vectors`]: gives each chunk its vector.
//!
//! A model that computes here computes on the worker, one small batch of texts at a turn,
//! so that the other operators get theirs and no thread competes with another for a core.
//! A model elsewhere is asked by a task, as the table of vectors is. Batches leave in the
//! order in which they came.
//!
//! New vectors leave by a way of their own, whose epochs are ticks of a clock: they are
//! worth keeping as soon as they are made, whatever becomes of the documents. An epoch
//! also ends when there is no memory for more of them; then nobody makes any until there
//! is again.
//!
//! A text that the model refuses is no failure: its document is set aside.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use highwater::batch::Batch;
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
use super::fresh::Fresh;
use super::index::Place;
use super::window::{Next, Open, Window, text};
use crate::embed::{EmbedError, Embedded, Embedder, Part};
use crate::ingest::documents::ChunkTally;
use crate::lake::LakeReadError;

/// Texts that go through the model at one turn of a worker, and their tokens, at most.
const TEXTS_AT_ONCE: usize = 64;
const TOKENS_AT_ONCE: usize = 1024;

/// How soon a worker looks again for vectors that another one makes, or for room.
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
    /// An epoch of new vectors lasts so long at most.
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
    /// What the table has.
    Fetched(Result<HashMap<Hash, Vector>, LakeReadError>),
    /// What became of the next texts that were asked for.
    Part(Part),
    /// There will be no more parts.
    Answered(Result<(), EmbedError>),
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

impl Turn {
    /// What was to be embedded for it will not be: others may wait for that, and would for
    /// ever.
    fn give_up(mut self, cache: &VectorCache) -> Work {
        self.window.give_up(cache);
        if let Asked::Vectors(open) = &self.asked {
            give_up(open, cache);
        }
        self.work
    }
}

fn give_up<'a>(open: impl IntoIterator<Item = &'a Open>, cache: &VectorCache) {
    for open in open {
        cache.give_up(open.hash());
    }
}

/// What a task was asked for.
enum Asked {
    Nothing,
    Stored(Vec<(Open, Place)>),
    /// Texts that were not answered yet, in the order of the answers.
    Vectors(VecDeque<Open>),
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
    let workers = scope.peers();
    let again = scope.activator_for(std::rc::Rc::clone(&address));
    let (mail, mailbox) = mailbox(scope.worker().sync_activator_for(address.to_vec()), 2);

    builder.build(move |mut capabilities| {
        let cache = Arc::clone(&plan.cache);
        let fresh = Fresh::new(cache, plan.tick, capabilities.pop());
        let mut filling = Filling::new(plan, workers, mail, mailbox, fresh);
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
    /// How many workers share the room for new vectors.
    workers: usize,
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
    fn new(
        plan: FillVectors,
        workers: usize,
        mail: Sender<Mail>,
        mailbox: Mailbox<Mail>,
        fresh: Fresh,
    ) -> Self {
        Self {
            plan,
            workers,
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
            let turn = self.turn.take();
            let turn = turn.map(|turn| turn.give_up(&self.plan.cache));
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
            // This epoch is over: when the table has its vectors there is room.
            Next::Embed if !self.plan.cache.has_room() => Wait::ForOthers,
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
        let dimensions = self.plan.embedder.dimensions();
        let (cache, mail) = (Arc::clone(&self.plan.cache), self.mail.clone());
        self.plan.runtime.spawn(async move {
            let fetched = cache.fetch(places, dimensions).await;
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
        match embedded {
            Ok(embedded) => self.take(&chosen, &embedded),
            Err(error) => self.fail(&chosen, failure_of(&error)),
        }
    }

    /// Lets a task ask for the vectors of the texts of the window, or of as many as there
    /// is room for.
    fn ask_model(&mut self) {
        let Some(turn) = &mut self.turn else { return };
        let dimensions = self.plan.embedder.dimensions();
        let most = self.plan.cache.window(dimensions, self.workers);
        let chosen = turn.window.next_for_the_model(most, usize::MAX);
        let rows = &turn.work.batch.rows;
        let texts: Vec<String> = chosen
            .iter()
            .map(|open| text(rows, open.row()).to_owned())
            .collect();
        turn.asked = Asked::Vectors(chosen.into());
        let (embedder, cache) = (
            Arc::clone(&self.plan.embedder),
            Arc::clone(&self.plan.cache),
        );
        let (runtime, mail) = (self.plan.runtime.clone(), self.mail.clone());
        self.plan.runtime.spawn_blocking(move || {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let tell = |what: Mail| {
                runtime.block_on(mail.send(what));
            };
            let answered = embedder.embed_in_parts(&texts, cache.until(), &mut |part| {
                tell(Mail::Part(part));
            });
            tell(Mail::Answered(answered));
        });
    }

    fn hear(&mut self, mail: Mail) {
        match mail {
            Mail::Fetched(fetched) => self.hear_fetched(fetched),
            Mail::Part(part) => self.hear_part(part),
            Mail::Answered(answered) => self.hear_answered(answered),
        }
    }

    fn hear_fetched(&mut self, fetched: Result<HashMap<Hash, Vector>, LakeReadError>) {
        let Some(turn) = &mut self.turn else { return };
        let asked = std::mem::replace(&mut turn.asked, Asked::Nothing);
        match (asked, fetched) {
            (Asked::Stored(wanted), Ok(vectors)) => {
                turn.window.fetched(&wanted, &vectors, &self.plan.cache);
            }
            (_, Err(error)) => {
                let kind = match error.passes {
                    true => FailureKind::Retryable,
                    false => FailureKind::Failed,
                };
                self.failed = Some(TableFailure::new(kind, error.to_string()));
            }
            _ => {}
        }
    }

    /// What is told of the next texts is kept at once, whatever becomes of the others.
    fn hear_part(&mut self, part: Part) {
        let dimensions = self.plan.embedder.dimensions();
        let Some(Turn {
            window,
            asked: Asked::Vectors(open),
            ..
        }) = &mut self.turn
        else {
            return;
        };
        match part {
            Part::Made(embedded) => {
                let texts = count(&embedded, dimensions).min(open.len());
                let chosen: Vec<Open> = open.drain(..texts).collect();
                self.take(&chosen, &embedded);
            }
            Part::Refused(why) => {
                let why: Arc<str> = why.into();
                if let Some(open) = open.pop_front() {
                    self.plan.cache.refused(open.hash(), Arc::clone(&why));
                    window.refused(open, why);
                }
            }
            Part::Wasted(tokens) => self.plan.tally.tokens.add(tokens),
        }
    }

    fn hear_answered(&mut self, answered: Result<(), EmbedError>) {
        let Some(turn) = &mut self.turn else { return };
        let asked = std::mem::replace(&mut turn.asked, Asked::Nothing);
        let open = match asked {
            Asked::Vectors(open) => Vec::from(open),
            _ => Vec::new(),
        };
        match answered {
            Err(error) => self.fail(&open, failure_of(&error)),
            Ok(()) if open.is_empty() => {}
            Ok(()) => {
                let left = open.len();
                let what = format!("the model did not answer for {left} texts; please report this");
                self.fail(&open, TableFailure::new(FailureKind::Failed, what));
            }
        }
    }

    /// Nothing is embedded any more, and these are not.
    fn fail(&mut self, chosen: &[Open], failure: TableFailure) {
        give_up(chosen, &self.plan.cache);
        self.failed = Some(failure);
    }

    /// New vectors of `chosen`, in their order.
    fn take(&mut self, chosen: &[Open], embedded: &Embedded) {
        self.plan.tally.tokens.add(embedded.tokens as u64);
        self.plan.tally.padding.add(embedded.padding as u64);
        let dimensions = self.plan.embedder.dimensions();
        if let Err(failure) = whole(embedded, chosen.len(), dimensions) {
            self.fail(chosen, failure);
            return;
        }
        let Some(turn) = &mut self.turn else { return };
        self.plan.tally.embedded.add(chosen.len() as u64);
        let vectors = embedded.vectors.chunks_exact(dimensions.max(1));
        for (open, vector) in chosen.iter().zip(vectors) {
            let vector: Vector = Arc::from(vector);
            self.plan.cache.made(open.hash(), Arc::clone(&vector));
            self.fresh.push(open.hash(), Arc::clone(&vector));
            turn.window.embedded(*open, vector);
        }
    }

    fn close(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        self.plan.tally.reused.add(turn.window.found());
        let closed = turn.window.close(&turn.work.batch.rows);
        let rows = closed.map(|(rows, set_aside)| {
            for document in set_aside {
                self.plan.tally.quarantine(&document.key, &document.reason);
            }
            rows
        });
        let rows = rows.map_err(|error| {
            let what = format!("chunks and vectors do not make a batch: {error}");
            TableFailure::new(FailureKind::Failed, what)
        });
        self.done.push((turn.work, rows));
    }
}

/// How many vectors there are.
fn count(embedded: &Embedded, dimensions: usize) -> usize {
    embedded.vectors.len() / dimensions.max(1)
}

/// Whether these are the vectors of so many texts.
fn whole(embedded: &Embedded, texts: usize, dimensions: usize) -> Result<(), TableFailure> {
    let made = count(embedded, dimensions);
    if made == texts {
        return Ok(());
    }
    let what = format!("the model made {made} vectors of {texts} texts; please report this");
    Err(TableFailure::new(FailureKind::Failed, what))
}

fn failure_of(error: &EmbedError) -> TableFailure {
    let kind = match error.passes() {
        true => FailureKind::Retryable,
        false => FailureKind::Failed,
    };
    TableFailure::new(kind, error.to_string())
}

/// The processor time of this thread so far.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}
