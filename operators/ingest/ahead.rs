//! [`Ahead`]: what is on its way into a file, prepared many at once, handed out in the
//! order in which it was asked for, and paid for from its beginning.

use std::collections::VecDeque;

use highwater::budget::{MemoryBudget, Permit};
use highwater::store::objects::{ObjectError, ObjectErrorKind};
use tokio::task::JoinHandle;

enum Coming<T> {
    Here(T),
    Begun(Begun<T>),
}

/// A task for which nobody waits any more once this is gone.
struct Begun<T>(JoinHandle<Option<T>>);

impl<T> Drop for Begun<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What comes next.
pub(crate) enum Next<T> {
    /// Room for one more.
    Room(Permit),
    /// The first of those that are on their way: there is no room before it is taken.
    First(T),
    /// Nothing is on its way, and yet there is no room: whoever asks holds what pays for
    /// it, and has to give it back first.
    Nothing,
}

/// Things on their way, in order. Each carries the permit that pays for it.
pub(crate) struct Ahead<T> {
    coming: VecDeque<Coming<T>>,
    most: usize,
    budget: MemoryBudget,
}

impl<T: Send + 'static> Ahead<T> {
    /// At most so many at once, and what `budget` pays for, which is nobody else's: so
    /// nobody ever waits for it, who would wait for himself.
    pub(crate) fn new(most: usize, budget: MemoryBudget) -> Self {
        Self {
            coming: VecDeque::new(),
            most,
            budget,
        }
    }

    /// Room for one more of so many bytes, or what has to be done before there is.
    ///
    /// # Errors
    /// As for [`Ahead::next`].
    pub(crate) async fn room(&mut self, bytes: u64) -> Result<Next<T>, ObjectError> {
        loop {
            if self.coming.len() < self.most
                && let Some(permit) = self.budget.try_take(bytes)
            {
                return Ok(Next::Room(permit));
            }
            if self.coming.is_empty() {
                return Ok(Next::Nothing);
            }
            if let Some(first) = self.next().await? {
                return Ok(Next::First(first));
            }
        }
    }

    /// What is here already is the next one.
    pub(crate) fn keep(&mut self, here: T) {
        self.coming.push_back(Coming::Here(here));
    }

    /// What `work` makes is the next one; nothing is, where it makes nothing.
    pub(crate) fn begin(&mut self, work: impl Future<Output = Option<T>> + Send + 'static) {
        self.coming
            .push_back(Coming::Begun(Begun(tokio::spawn(work))));
    }

    /// The next one, when it has come; `None` where nothing is on its way.
    ///
    /// # Errors
    /// The task ended early: an error of ours.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, ObjectError> {
        while let Some(coming) = self.coming.pop_front() {
            let come = match coming {
                Coming::Here(here) => Some(here),
                Coming::Begun(mut task) => (&mut task.0).await.map_err(|error| {
                    let what = format!("a reader ended early: {error}");
                    ObjectError::new(ObjectErrorKind::Failed, "", what)
                })?,
            };
            if come.is_some() {
                return Ok(come);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn what_is_late_keeps_its_place_and_what_is_nothing_has_none() {
        let mut ahead = Ahead::new(3, MemoryBudget::new(100));
        let mut seen = Vec::new();
        for number in 0..20_u64 {
            let permit = loop {
                match ahead.room(40).await.unwrap() {
                    Next::Room(permit) => break permit,
                    Next::First((first, _)) => seen.push(first),
                    Next::Nothing => unreachable!("everything was given back"),
                }
            };
            assert!(ahead.coming.len() < 2, "two of 40 is all that 100 pay for");
            match number % 3 {
                0 => ahead.keep((number, permit)),
                rest => ahead.begin(async move {
                    tokio::time::sleep(Duration::from_millis(20 - number)).await;
                    (rest == 1).then_some((number, permit))
                }),
            }
        }
        while let Some((first, _)) = ahead.next().await.unwrap() {
            seen.push(first);
        }
        let wanted: Vec<u64> = (0..20).filter(|number| number % 3 < 2).collect();
        assert_eq!(seen, wanted);
    }

    #[tokio::test]
    async fn who_holds_what_pays_is_told_and_does_not_wait() {
        let mut ahead = Ahead::new(3, MemoryBudget::new(1 << 20));
        let mut held = Vec::new();
        for number in 0..10 {
            let permit = loop {
                match ahead.room(300 << 10).await.unwrap() {
                    Next::Room(permit) => break permit,
                    Next::First(first) => held.push(first),
                    Next::Nothing => held.clear(),
                }
            };
            ahead.keep((number, permit));
        }
        assert!(held.len() < 4);
    }

    #[tokio::test]
    async fn a_task_that_dies_is_an_error() {
        let mut ahead = Ahead::<()>::new(3, MemoryBudget::new(100));
        ahead.begin(async { std::panic::resume_unwind(Box::new(())) });
        assert!(ahead.next().await.is_err());
    }
}
