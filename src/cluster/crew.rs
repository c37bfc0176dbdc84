//! Worker threads that stay for the whole run and build one dataflow after the
//! other. All workers of all processes must build the same dataflows in the same
//! order: that is how timely knows which channel is which.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use timely::WorkerConfig;
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::{AllocatorBuilder, Hooks, WorkerGuards};
use timely::dataflow::Scope;
use timely::worker::Worker;
use uuid::Uuid;

use super::bootstrap::{self, Formed};
use super::link::{
    Hub, Link, LinkCounters, LinkStream, MAX_NOTE_BYTES, MAX_ORDER_BYTES, Note, Pulse,
};
use super::membership::Safety;
use super::slabs::Slabs;
use super::{ClusterError, Lost, Membership};
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

/// Empty buffers of 1 MiB that a link or worker keeps for itself, and that all of
/// a process keep together.
const OWN_SPARE_BUFFERS: usize = 1;
const SPARE_BUFFERS: usize = 16;

type Job = Arc<dyn Fn(&mut Worker) + Send + Sync>;

/// The worker threads of this process, and its links to the other ones.
pub struct Crew {
    place: Place,
    run: Uuid,
    workers: Mutex<Vec<Thread>>,
    /// Joined first: their end is the end of the connections.
    guards: Mutex<Option<WorkerGuards<()>>>,
    links: Vec<Arc<Link>>,
    pulse: Option<Pulse>,
    orders: Mutex<Option<Receiver<Vec<u8>>>>,
    note: Sender<Note>,
    notes: Mutex<Option<Receiver<Note>>>,
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
        Self::start(place, Uuid::now_v7(), builders, others)
    }

    /// Joins the other processes: connects, believes them and is believed, and
    /// starts the workers. Returns when all processes are linked with each other.
    ///
    /// `lost` is called once, from a thread of a link, when a peer dies, freezes,
    /// is cut off or sends what cannot be believed. It should end the process
    /// and not return: the threads that need the peer wait for that for ever,
    /// also in [`Crew::run`], [`Crew::hear`] and when the crew is dropped.
    ///
    /// # Errors
    /// The membership cannot be right; the address cannot be listened on;
    /// somebody did not come in time, has another key, or refuses this process.
    pub fn join(
        membership: &Membership,
        lost: Arc<dyn Fn(&Lost) + Send + Sync>,
    ) -> Result<Self, ClusterError> {
        membership.check()?;
        if membership.processes() == 1 {
            return Ok(Self::alone(membership.workers)?);
        }
        let place = Place {
            process: membership.process,
            processes: membership.processes(),
            workers: membership.workers,
        };
        let Formed { run, sessions } = bootstrap::form(membership)?;
        let ((order, orders), (note, notes)) = (channel(), channel());
        let addresses = membership.addresses.clone();
        let hub = Arc::new(Hub::new(
            place.process,
            addresses,
            lost,
            order,
            note.clone(),
        ));
        let mut links = Vec::new();
        for session in sessions {
            let link = Link::new(session, membership, Arc::clone(&hub))?;
            links.push(Arc::new(link));
        }
        hub.know(&links);
        let pulse = match membership.keeps(Safety::Heartbeats) {
            true => Some(Pulse::start(&links, membership.silence)?),
            false => None,
        };
        let (builders, others) = network(place, &links)?;
        let mut crew = Self::start(place, run, builders, others)?;
        crew.links = links;
        crew.pulse = pulse;
        crew.orders = Mutex::new(Some(orders));
        (crew.note, crew.notes) = (note, Mutex::new(Some(notes)));
        Ok(crew)
    }

    fn start(
        place: Place,
        run: Uuid,
        builders: Vec<AllocatorBuilder>,
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
        let (note, notes) = channel();
        Ok(Self {
            place,
            run,
            workers: Mutex::new(threads),
            guards: Mutex::new(Some(guards)),
            links: Vec::new(),
            pulse: None,
            orders: Mutex::default(),
            note,
            notes: Mutex::new(Some(notes)),
        })
    }

    /// Which process this is.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// The run's name, which process 0 chose; the same in all processes.
    #[must_use]
    pub fn run_id(&self) -> Uuid {
        self.run
    }

    /// What has crossed the links so far, one entry for each other process.
    #[must_use]
    pub fn links(&self) -> Vec<LinkCounters> {
        self.links.iter().map(|link| link.counters()).collect()
    }

    /// Sends an order to every other process; returns when it is on its way. A
    /// crew without other processes has nobody to tell.
    ///
    /// # Errors
    /// This process does not lead; the order is longer than
    /// [`MAX_ORDER_BYTES`]; a process cannot be written to (its link will call
    /// `lost`).
    pub fn tell(&self, order: &[u8]) -> Result<(), ClusterError> {
        if !self.place.leads() {
            return Err(ClusterError::NotLeading(self.place.process));
        }
        fits(order, MAX_ORDER_BYTES)?;
        self.links.iter().try_for_each(|link| link.order(order))
    }

    /// The orders of process 0, once; `None` where this process leads or they were
    /// taken. They end when process 0 has said goodbye.
    #[must_use]
    pub fn take_orders(&self) -> Option<Receiver<Vec<u8>>> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.take().filter(|_| !self.place.leads())
    }

    /// The next order, for tests.
    #[cfg(test)]
    pub(super) fn hear(&self) -> Option<Vec<u8>> {
        if self.place.leads() {
            return None;
        }
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.as_ref()?.recv().ok()
    }

    /// The next note, for tests.
    #[cfg(test)]
    pub(super) fn heard_from_followers(&self, wait: std::time::Duration) -> Option<Note> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.as_ref()?.recv_timeout(wait).ok()
    }

    /// Sends a message to process 0, also from process 0 itself.
    ///
    /// # Errors
    /// It is longer than [`MAX_NOTE_BYTES`]; process 0 cannot be written to (its
    /// link will call `lost`).
    pub fn tell_leader(&self, note: &[u8]) -> Result<(), ClusterError> {
        fits(note, MAX_NOTE_BYTES)?;
        if self.place.leads() {
            // It has its own receiver, and cannot fail.
            let _ = self.note.send(Note {
                process: self.place.process,
                bytes: note.to_vec(),
            });
            return Ok(());
        }
        let leader = self.links.iter().find(|link| link.peer() == 0);
        leader.map_or(Ok(()), |link| link.note(note))
    }

    /// What is told to process 0, once; `None` where this process does not lead or
    /// it was taken. It ends with the crew.
    #[must_use]
    pub fn take_notes(&self) -> Option<Receiver<Note>> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.take().filter(|_| self.place.leads())
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
        let guards = self.guards.get_mut();
        if let Some(guards) = guards.unwrap_or_else(PoisonError::into_inner).take() {
            for ended in guards.join() {
                // A panic has been told of by `run`.
                drop(ended);
            }
        }
        // Only now: as long as others are at work, this process lives.
        drop(self.pulse.take());
    }
}

fn fits(message: &[u8], limit: usize) -> Result<(), ClusterError> {
    if message.len() > limit {
        return Err(ClusterError::TooLong {
            bytes: message.len(),
            limit,
        });
    }
    Ok(())
}

/// Hands the links to timely: inside the process objects, between them bytes.
fn network(
    place: Place,
    links: &[Arc<Link>],
) -> std::io::Result<(Vec<AllocatorBuilder>, Box<dyn std::any::Any + Send>)> {
    let mut hooks = Hooks::default();
    // Buffers that a burst has needed are not kept for ever.
    hooks.refill.limit = Some(OWN_SPARE_BUFFERS);
    let slabs = Slabs::new(SPARE_BUFFERS);
    hooks.refill.logic = Arc::new(move |bytes| Box::new(slabs.take(bytes)));
    let (refill, spill) = (hooks.refill.clone(), hooks.spill.clone());
    let within = ProcessBuilder::new_typed_vector(place.workers, refill, spill);
    let mut streams: Vec<Option<LinkStream>> = (0..place.processes).map(|_| None).collect();
    for link in links {
        if let Some(stream) = streams.get_mut(link.peer()) {
            *stream = Some(LinkStream(Arc::clone(link)));
        }
    }
    let (process, workers) = (place.process, place.workers);
    let (builders, guard) =
        initialize_networking_from_sockets(within, streams, process, workers, hooks)?;
    let builders = builders.into_iter().map(AllocatorBuilder::Tcp).collect();
    Ok((builders, Box::new(guard)))
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
    #![allow(clippy::unwrap_used, clippy::panic)]

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
