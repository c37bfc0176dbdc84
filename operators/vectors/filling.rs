//! What one worker does at a turn: the next thing for the batch whose turn it is. What
//! comes of it, now or by mail, is in `answers`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use highwater::flow::event::FailureKind;
use highwater::flow::{Mailbox, Sender, TableFailure};
use rustix::time::{ClockId, clock_gettime};

use super::answers::failure_of;
use super::fresh::Fresh;
use super::operator::FillVectors;
use super::turn::{Asked, Mail, Turn, Work};
use super::window::{Next, Window, text};

/// Texts that go through the model at one turn of a worker, and their tokens, at most.
const TEXTS_AT_ONCE: usize = 64;
const TOKENS_AT_ONCE: usize = 1024;

/// When the operator wants its next turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Not,
    ForOthers,
    ForMail,
}

/// The state of one worker.
pub(super) struct Filling {
    pub(super) plan: FillVectors,
    /// How many workers share the room for new vectors.
    workers: usize,
    mail: Sender<Mail>,
    mailbox: Mailbox<Mail>,
    pub(super) waiting: VecDeque<Work>,
    pub(super) turn: Option<Turn>,
    pub(super) done: Vec<(Work, Result<RecordBatch, TableFailure>)>,
    pub(super) fresh: Fresh,
    /// Why nothing is embedded any more.
    pub(super) failed: Option<TableFailure>,
}

impl Filling {
    pub(super) fn new(
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

    pub(super) fn is_idle(&self) -> bool {
        self.turn.is_none() && self.waiting.is_empty()
    }

    /// Does what can be done in one turn of the worker.
    pub(super) fn step(&mut self) -> Wait {
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

/// The processor time of this thread so far.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}
