//! What blocks, done in turns by few threads.
//!
//! To wake a thread for each file costs more than to write a small one, and threads that
//! make files in one folder wait for each other. So a thread that is done takes what comes
//! next, and another one is woken only when there is more than two jobs for each: one or two
//! where the system's cache takes everything, half of what is asked for at once where a disk
//! is slow, and one more for whoever waits for a tenth of a second.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// Who has waited for so long does not wait behind what hangs.
const LONG: Duration = Duration::from_millis(100);

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
        let (told, mut done) = oneshot::channel();
        let job = Box::new(move || {
            // What nobody waits for any more must not be done: a disk that hung may come
            // back when others have gone on.
            if !told.is_closed() {
                let _ = told.send(work());
            }
        });
        if self.queue().push(job) {
            self.wake_one();
        }
        match tokio::time::timeout(LONG, &mut done).await {
            Ok(done) => done.ok(),
            Err(_) => {
                if self.queue().is_held_up() {
                    self.wake_one();
                }
                done.await.ok()
            }
        }
    }

    /// A thread that is already counted.
    fn wake_one(&self) {
        let thread = Thread(Some(self.clone()));
        tokio::task::spawn_blocking(move || thread.work());
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

    /// Whether one more thread is to come because those that are there are stuck.
    fn is_held_up(&mut self) -> bool {
        let more = !self.waiting.is_empty();
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
    use futures::future::join_all;
    use std::sync::Condvar;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll, Waker};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Opens when so many have come to it, and stays open; whether they have in time.
    #[derive(Default)]
    struct Latch(Mutex<usize>, Condvar);

    impl Latch {
        fn wait_for(&self, many: usize) -> bool {
            let mut come = self.0.lock().unwrap();
            *come += 1;
            self.1.notify_all();
            let left = self
                .1
                .wait_timeout_while(come, PATIENCE, |come| *come < many);
            !left.unwrap().1.timed_out()
        }
    }

    #[tokio::test]
    async fn where_jobs_take_long_half_of_them_are_done_at_once() {
        let (turns, latch) = (Turns::default(), Arc::new(Latch::default()));
        // Nobody gets past this before they are counted.
        let jobs = (0..16).map(|_| {
            let latch = Arc::clone(&latch);
            turns.run(move || latch.wait_for(9))
        });
        let mut jobs = join_all(jobs);
        assert!(futures::poll!(&mut jobs).is_pending());
        assert_eq!(turns.queue().threads, 8);
        assert!(latch.wait_for(9));
        assert_eq!(jobs.await, [Some(true); 16]);
    }

    #[tokio::test]
    async fn one_that_hangs_holds_nobody_up() {
        let (turns, latch) = (Turns::default(), Arc::new(Latch::default()));
        let hanging = Arc::clone(&latch);
        // The second would be its only thread's next.
        let hangs = turns.run(move || hanging.wait_for(2));
        let comes = turns.run(move || latch.wait_for(2));
        assert_eq!(futures::join!(hangs, comes), (Some(true), Some(true)));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_done() {
        let (turns, latch) = (Turns::default(), Arc::new(Latch::default()));
        let (first, done) = (Arc::clone(&latch), Arc::new(AtomicBool::new(false)));
        let mut first = Box::pin(turns.run(move || first.wait_for(2)));
        let seen = Arc::clone(&done);
        let mut given_up = Box::pin(turns.run(move || seen.store(true, Ordering::Release)));
        assert!(futures::poll!(&mut first).is_pending());
        assert!(futures::poll!(&mut given_up).is_pending());
        drop(given_up);
        latch.wait_for(2);
        assert_eq!(first.await, Some(true));
        assert_eq!(turns.run(|| 7).await, Some(7));
        assert!(!done.load(Ordering::Acquire));
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
