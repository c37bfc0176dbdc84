//! What blocks, done in turns by few threads.
//!
//! To wake a thread for each file costs more than to write a small one, and threads that
//! make files in one folder wait for each other. So a thread that is done takes what comes
//! next, and another one is woken only when there is more than two jobs for each: one or two
//! where the system's cache takes everything, half of what is asked for at once where a disk
//! is slow.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// Threads that take turns. Cloning shares them.
#[derive(Clone, Default)]
pub(super) struct Turns {
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    /// Jobs that wait or are being done.
    unfinished: usize,
    threads: usize,
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.queue();
        f.debug_struct("Turns")
            .field("unfinished", &queue.unfinished)
            .field("threads", &queue.threads)
            .finish_non_exhaustive()
    }
}

impl Turns {
    /// What `work` returns; `None` where it panicked, or the runtime ends.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (told, done) = oneshot::channel();
        let job = Box::new(move || {
            // Nobody may be waiting any more.
            let _ = told.send(work());
        });
        if self.queue().push(job) {
            let thread = Thread(Some(self.clone()));
            tokio::task::spawn_blocking(move || thread.work());
        }
        done.await.ok()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Whether one more thread is to come.
    fn push(&mut self, job: Job) -> bool {
        self.waiting.push_back(job);
        self.unfinished += 1;
        let more = self.unfinished > 2 * self.threads;
        self.threads += usize::from(more);
        more
    }
}

/// A thread that was woken; nothing once it is no longer counted.
struct Thread(Option<Turns>);

impl Thread {
    /// Does what waits until nothing does.
    fn work(mut self) {
        while let Some(job) = self.next() {
            // Of a panic its caller hears, whose sender is dropped; the others go on.
            let _ = catch_unwind(AssertUnwindSafe(job));
            if let Some(turns) = &self.0 {
                turns.queue().unfinished -= 1;
            }
        }
    }

    fn next(&mut self) -> Option<Job> {
        let turns = self.0.as_ref()?;
        let mut queue = turns.queue();
        let job = queue.waiting.pop_front();
        if job.is_none() {
            // Under the same lock: who comes next sees that nobody is there.
            queue.threads -= 1;
            drop(queue);
            self.0 = None;
        }
        job
    }
}

impl Drop for Thread {
    /// It is still counted where its runtime has ended before it could begin.
    fn drop(&mut self) {
        let Some(turns) = self.0.take() else { return };
        let mut queue = turns.queue();
        queue.threads -= 1;
        if queue.threads == 0 {
            // Nobody would come for these: their callers hear of it.
            queue.unfinished -= queue.waiting.len();
            let left = std::mem::take(&mut queue.waiting);
            drop(queue);
            drop(left);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Barrier;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use futures::future::join_all;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn where_jobs_take_long_half_of_them_are_done_at_once() {
        let turns = Turns::default();
        // With fewer threads nobody would get past this.
        let half = Arc::new(Barrier::new(8));
        let jobs = (0..16).map(|number| {
            let half = Arc::clone(&half);
            turns.run(move || {
                half.wait();
                number
            })
        });
        let done = tokio::time::timeout(PATIENCE, join_all(jobs)).await;
        assert_eq!(done.unwrap(), (0..16).map(Some).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn threads_go_when_nothing_waits() {
        let turns = Turns::default();
        let jobs = (0..100).map(|_| turns.run(|| ()));
        assert_eq!(join_all(jobs).await.len(), 100);
        let gone = async {
            while turns.queue().threads > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
        assert_eq!(turns.queue().unfinished, 0);
        assert_eq!(turns.run(|| 7).await, Some(7));
    }

    #[tokio::test]
    async fn one_that_panics_takes_nobody_with_it() {
        let turns = Turns::default();
        let jobs = (0..6).map(|number| {
            turns.run(move || {
                assert_ne!(number, 2, "a job of this test that panics");
                number
            })
        });
        let done = join_all(jobs).await;
        assert_eq!(done, [Some(0), Some(1), None, Some(3), Some(4), Some(5)]);
        assert_eq!(turns.run(|| 7).await, Some(7));
    }

    #[test]
    fn a_runtime_that_has_ended_leaves_no_thread_that_never_comes() {
        let turns = Turns::default();
        let runtime = || tokio::runtime::Runtime::new().unwrap();
        let (ended, other) = (runtime(), runtime());
        let late = ended.handle().clone();
        ended.shutdown_background();
        let mut never = Box::pin(turns.run(|| ()));
        {
            let _within = late.enter();
            let mut context = Context::from_waker(Waker::noop());
            let polled = never.as_mut().poll(&mut context);
            assert!(matches!(polled, Poll::Ready(None)), "{polled:?}");
        }
        assert_eq!(other.block_on(turns.run(|| 7)), Some(7));
    }
}
