//! When a request is asked a second time.
//!
//! A few answers come far later than all others: a disk that is being replaced, a
//! connection that lost a packet. Where the first byte has not come after a multiple
//! of what nearly all answers take, the same is asked again, and whichever answers
//! first is taken; the other is dropped before its body is read. Of requests that
//! are all slow few are asked twice: they share a budget.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{Either, select};

use super::Pace;
use crate::store::objects::ObjectError;

/// Answers whose times are remembered.
const REMEMBERED: usize = 256;
/// Without so many nothing is known.
const LEAST_KNOWN: usize = 32;
/// Answers between two looks at what nearly all take.
const BETWEEN_LOOKS: usize = 16;
/// What nearly all answers take, times this, is late.
const LATE: u32 = 3;
/// Sooner than this nothing is late.
const FLOOR: Duration = Duration::from_millis(50);
/// What each request adds to the budget of second ones: one in twenty.
const OF_REQUEST: f64 = 0.05;
/// What the budget holds at most.
const MOST: f64 = 32.0;

/// Second requests of one run. Cloning shares what is known and the budget.
#[derive(Debug, Clone, Default)]
pub struct Hedges {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    sent: AtomicU64,
    won: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    recent: Vec<Duration>,
    next: usize,
    late: Option<Duration>,
    budget: f64,
}

impl State {
    /// A request begins; after how long it is late, where that is known.
    fn begin(&mut self) -> Option<Duration> {
        self.budget = (self.budget + OF_REQUEST).min(MOST);
        self.late
    }

    fn answered(&mut self, took: Duration) {
        match self.recent.get_mut(self.next % REMEMBERED) {
            Some(old) => *old = took,
            None => self.recent.push(took),
        }
        self.next += 1;
        if self.recent.len() >= LEAST_KNOWN && self.next.is_multiple_of(BETWEEN_LOOKS) {
            let mut sorted = self.recent.clone();
            sorted.sort_unstable();
            let nearly_all = sorted.get(sorted.len() * 95 / 100);
            self.late = nearly_all.map(|took| (*took * LATE).max(FLOOR));
        }
    }

    fn take(&mut self) -> bool {
        let may = self.budget >= 1.0;
        if may {
            self.budget -= 1.0;
        }
        may
    }
}

impl Hedges {
    /// Requests that were asked a second time.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Of these, requests whose second answer came first.
    #[must_use]
    pub fn won(&self) -> u64 {
        self.shared.won.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock only means that a task died; the numbers are whole.
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, and asks again where the answer is late; `ask` is over when an answer
    /// begins. The second request takes a slot of `pace` as any other does.
    ///
    /// # Errors
    /// The first request's, or the second's where both fail. A store that says that
    /// it is too much is not waited for.
    pub async fn race<T, F: Future<Output = Result<T, ObjectError>>>(
        &self,
        pace: &Pace,
        ask: impl Fn() -> F,
    ) -> Result<T, ObjectError> {
        let began = Instant::now();
        let late = self.state().begin();
        let mut first = pin!(ask());
        let in_time = match late {
            Some(late) => tokio::time::timeout(late, &mut first).await.ok(),
            None => Some(first.as_mut().await),
        };
        let answer = match in_time {
            Some(answer) => answer,
            None if self.state().take() => {
                let is_asked = AtomicBool::new(false);
                let second = pin!(self.again(pace, &is_asked, &ask));
                match select(first, second).await {
                    Either::Left((Ok(answer), _)) => Ok(answer),
                    Either::Left((Err(error), _)) if error.is_overload() => Err(error),
                    // It waits for a slot, of which the caller holds one: where all that
                    // do wait here, nobody gives one back.
                    Either::Left((Err(error), _)) if !is_asked.load(Ordering::Relaxed) => {
                        Err(error)
                    }
                    Either::Left((Err(_), second)) => second.await,
                    Either::Right((Ok(answer), _)) => {
                        self.shared.won.fetch_add(1, Ordering::Relaxed);
                        Ok(answer)
                    }
                    Either::Right((Err(_), first)) => first.await,
                }
            }
            None => first.await,
        };
        if answer.is_ok() {
            // Of one that was overtaken it is known that it took at least so long.
            self.state().answered(began.elapsed());
        }
        answer
    }

    async fn again<T, F: Future<Output = Result<T, ObjectError>>>(
        &self,
        pace: &Pace,
        is_asked: &AtomicBool,
        ask: impl Fn() -> F,
    ) -> Result<T, ObjectError> {
        let _slot = pace.slot().await;
        is_asked.store(true, Ordering::Relaxed);
        self.shared.sent.fetch_add(1, Ordering::Relaxed);
        ask().await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::store::objects::ObjectErrorKind;
    use crate::store::pace::Bounds;

    /// A source that is known to answer at once.
    fn known(requests: usize) -> Hedges {
        let hedges = Hedges::default();
        for _ in 0..requests {
            hedges.state().begin();
            hedges.state().answered(Duration::from_millis(1));
        }
        hedges
    }

    fn failed(kind: ObjectErrorKind) -> ObjectError {
        ObjectError::new(kind, "k", "planned")
    }

    /// Asks once; the answers in the order of the requests, `None` for never.
    async fn asked(
        hedges: &Hedges,
        answers: &[Option<Result<u32, ObjectErrorKind>>],
    ) -> (Result<u32, ObjectErrorKind>, usize) {
        let pace = Pace::new(Bounds::default());
        let count = AtomicUsize::new(0);
        let ask = || {
            let answer = answers[count.fetch_add(1, Ordering::SeqCst)];
            async move {
                match answer {
                    Some(answer) => {
                        tokio::time::sleep(FLOOR * 2).await;
                        answer.map_err(failed)
                    }
                    None => std::future::pending().await,
                }
            }
        };
        let answer = hedges.race(&pace, ask).await;
        (
            answer.map_err(|error| error.kind),
            count.load(Ordering::SeqCst),
        )
    }

    #[tokio::test]
    async fn a_second_request_answers_for_one_that_never_does() {
        let hedges = known(100);
        assert_eq!(asked(&hedges, &[None, Some(Ok(2))]).await, (Ok(2), 2));
        assert_eq!((hedges.sent(), hedges.won()), (1, 1));
        // The first one comes first where it answers at all.
        let both = [Some(Ok(1)), Some(Ok(2))];
        assert_eq!(asked(&hedges, &both).await, (Ok(1), 2));
        assert_eq!((hedges.sent(), hedges.won()), (2, 1));
    }

    #[tokio::test]
    async fn failures_wait_for_the_other_answer_but_not_when_it_is_too_much() {
        let hedges = known(200);
        let broken = Some(Err(ObjectErrorKind::Broken));
        assert_eq!(asked(&hedges, &[broken, Some(Ok(2))]).await.0, Ok(2));
        assert_eq!(
            asked(&hedges, &[broken, broken]).await.0,
            Err(ObjectErrorKind::Broken)
        );
        let busy = Some(Err(ObjectErrorKind::Busy));
        assert_eq!(
            asked(&hedges, &[busy, Some(Ok(2))]).await.0,
            Err(ObjectErrorKind::Busy)
        );
    }

    #[tokio::test]
    async fn one_that_waits_for_a_slot_is_not_waited_for() {
        let hedges = known(100);
        let pace = Pace::new(Bounds {
            start: 1,
            least: 1,
            most: 1,
        });
        let _only = pace.slot().await;
        let ask = || async {
            tokio::time::sleep(FLOOR * 2).await;
            Err::<(), _>(failed(ObjectErrorKind::Broken))
        };
        let raced = tokio::time::timeout(FLOOR * 50, hedges.race(&pace, ask)).await;
        assert_eq!(raced.unwrap().unwrap_err().kind, ObjectErrorKind::Broken);
        assert_eq!(hedges.sent(), 0);
    }

    #[tokio::test]
    async fn nothing_is_asked_twice_before_anything_is_known() {
        let hedges = known(LEAST_KNOWN - 1);
        assert_eq!(asked(&hedges, &[Some(Ok(1))]).await, (Ok(1), 1));
        assert_eq!(hedges.sent(), 0);
    }

    #[test]
    fn one_in_twenty_is_asked_twice_at_most() {
        let mut state = State::default();
        let taken = (0..10_000)
            .filter(|_| {
                state.begin();
                state.take()
            })
            .count();
        assert!((499..=500).contains(&taken), "{taken}");
    }

    #[test]
    fn what_is_late_follows_what_nearly_all_take() {
        let mut state = State::default();
        for number in 0..1_000 {
            let slow = number % 50 == 0;
            state.answered(Duration::from_millis(if slow { 9_000 } else { 100 }));
        }
        assert_eq!(state.late, Some(Duration::from_millis(300)));
        for _ in 0..1_000 {
            state.answered(Duration::from_millis(2));
        }
        assert_eq!(state.late, Some(FLOOR));
    }
}
