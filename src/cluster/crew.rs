//! Worker threads that stay for the whole run and build one dataflow after the
//! other. All workers of all processes must build the same dataflows in the same
//! order: that is how timely knows which channel is which.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use timely::WorkerConfig;
use timely::communication::WorkerGuards;
use timely::dataflow::Scope;
use timely::worker::Worker;

use crate::flow::Epoch;

/// Which process this is, and how many workers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of this process, from 0. Process 0 leads.
    pub process: usize,
    /// How many processes there are.
    pub processes: usize,
    /// Worker threads of each process.
    pub workers: usize,
}

impl Place {
    /// The workers of all processes.
    #[must_use]
    pub fn peers(self) -> usize {
        self.processes * self.workers
    }

    /// Whether this process says what is done.
    #[must_use]
    pub fn leads(self) -> bool {
        self.process == 0
    }

    /// The process of a worker, by its number among all peers.
    #[must_use]
    pub fn process_of(self, worker: usize) -> usize {
        worker / self.workers.max(1)
    }
}

/// Why a dataflow did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum CrewError {
    /// The threads could not be started.
    #[error("cannot start the workers: {0}")]
    Start(String),
    /// A worker panicked; its message has been logged.
    #[error("worker {worker} died")]
    Died {
        /// The worker's number within its process.
        worker: usize,
    },
}

type Job = Arc<dyn Fn(&mut Worker) + Send + Sync>;

/// The worker threads of this process.
pub struct Crew {
    place: Place,
    workers: Mutex<Vec<Thread>>,
    /// Joined last: their end is the end of the connections.
    guards: Option<WorkerGuards<()>>,
}

/// How a worker thread is reached.
struct Thread {
    jobs: Sender<Job>,
    done: Receiver<()>,
}

impl std::fmt::Debug for Crew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crew")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Crew {
    /// The only process of its run, with so many worker threads.
    ///
    /// # Errors
    /// The system refuses threads.
    pub fn alone(workers: usize) -> Result<Self, CrewError> {
        let place = Place {
            process: 0,
            processes: 1,
            workers: workers.max(1),
        };
        let config = timely::CommunicationConfig::Process(place.workers);
        let (builders, others) = config.try_build().map_err(CrewError::Start)?;
        Self::start(place, builders, others)
    }

    fn start(
        place: Place,
        builders: Vec<timely::communication::AllocatorBuilder>,
        others: Box<dyn std::any::Any + Send>,
    ) -> Result<Self, CrewError> {
        let (mut threads, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..place.workers {
            let (jobs, todo) = channel();
            let (finished, done) = channel();
            threads.push(Thread { jobs, done });
            ends.push(Some((todo, finished)));
        }
        let ends = Mutex::new(ends);
        let workers = place.workers;
        let work = move |worker: &mut Worker| {
            let mut ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
            let end = ends
                .get_mut(worker.index() % workers)
                .and_then(Option::take);
            drop(ends);
            if let Some((todo, finished)) = end {
                work(worker, &todo, &finished);
            }
        };
        let config = WorkerConfig::default();
        let guards = timely::execute::execute_from(builders, others, config, work)
            .map_err(CrewError::Start)?;
        Ok(Self {
            place,
            workers: Mutex::new(threads),
            guards: Some(guards),
        })
    }

    /// Which process this is.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// Builds a dataflow on every worker of this process and runs it to its end.
    /// The other processes must do the same.
    ///
    /// # Errors
    /// A worker panicked.
    pub fn run(
        &self,
        build: impl Fn(Scope<'_, Epoch>) + Send + Sync + 'static,
    ) -> Result<(), CrewError> {
        let job: Job = Arc::new(move |worker| worker.dataflow(&build));
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in workers.iter() {
            // A thread that is gone is found out below.
            let _ = thread.jobs.send(Arc::clone(&job));
        }
        drop(job);
        for (worker, thread) in workers.iter().enumerate() {
            thread.done.recv().map_err(|_| CrewError::Died { worker })?;
        }
        Ok(())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // Without senders the threads come to their end.
        self.workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        if let Some(guards) = self.guards.take() {
            for ended in guards.join() {
                // A panic has been told of by `run`.
                drop(ended);
            }
        }
    }
}

/// The life of a worker thread.
fn work(worker: &mut Worker, todo: &Receiver<Job>, finished: &Sender<()>) {
    while let Ok(job) = todo.recv() {
        job(worker);
        // What the dataflow was given goes with it, not with the next one.
        drop(job);
        while worker.has_dataflows() {
            worker.step_or_park(None);
        }
        if finished.send(()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use timely::dataflow::operators::vec::ToStream;
    use timely::dataflow::operators::{Exchange, Inspect};

    use super::*;

    #[test]
    fn dataflows_follow_each_other_on_the_same_workers() {
        let crew = Crew::alone(2).unwrap();
        for rows in [10, 1000, 0] {
            let seen = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&seen);
            crew.run(move |scope| {
                let count = Arc::clone(&count);
                (0..rows)
                    .to_stream(scope)
                    .container::<Vec<u64>>()
                    .exchange(|row| *row)
                    .inspect(move |_| {
                        count.fetch_add(1, Ordering::Relaxed);
                    });
            })
            .unwrap();
            assert_eq!(seen.load(Ordering::Relaxed) as u64, rows * 2);
        }
    }

    #[test]
    fn a_worker_that_dies_ends_the_run() {
        let crew = Crew::alone(1).unwrap();
        let died = crew.run(|_| panic!("as the test wants"));
        assert!(
            matches!(died, Err(CrewError::Died { worker: 0 })),
            "{died:?}"
        );
    }
}
