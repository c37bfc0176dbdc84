//! What a worker hears of the vectors that it asked for, from tasks and from the model.

use std::collections::HashMap;
use std::sync::Arc;

use highwater::flow::TableFailure;
use highwater::flow::event::FailureKind;

use super::cache::{Hash, Vector};
use super::filling::Filling;
use super::turn::{Asked, Mail, Turn, give_up};
use super::window::Open;
use crate::embed::{EmbedError, Embedded, Part};
use crate::lake::LakeReadError;

impl Filling {
    pub(super) fn hear(&mut self, mail: Mail) {
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
    pub(super) fn fail(&mut self, chosen: &[Open], failure: TableFailure) {
        give_up(chosen, &self.plan.cache);
        self.failed = Some(failure);
    }

    /// New vectors of `chosen`, in their order.
    pub(super) fn take(&mut self, chosen: &[Open], embedded: &Embedded) {
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

/// An error of the model, as the failure of a table.
pub(super) fn failure_of(error: &EmbedError) -> TableFailure {
    let kind = match error.passes() {
        true => FailureKind::Retryable,
        false => FailureKind::Failed,
    };
    TableFailure::new(kind, error.to_string())
}
