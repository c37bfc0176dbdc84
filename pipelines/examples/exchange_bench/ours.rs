//! The exchange of this project, paid for and with credit.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use highwater::batch::Batch;
use highwater::budget::MemoryBudget;
use highwater::cluster::{ClusterKey, Crew, Lost, Membership, Place};
use highwater::flow::{Epoch, Exchange, exchange};
use timely::CommunicationConfig;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::generic::source;
use timely::dataflow::operators::vec::ToStream;
use timely::dataflow::operators::{Exchange as _, Inspect};
use timely::dataflow::{Scope, StreamVec};
use timely::synchronization::Barrier;

use super::rows::{batch, column_bytes};
use super::{Outcome, Task};

/// Batches that a source gives at a time.
pub(super) const AT_ONCE: usize = 16;

/// What may be read and not yet sent.
const BUDGET_BYTES: u64 = 64 << 20;

pub(super) fn plain_sockets(task: &Task) -> CommunicationConfig {
    if task.processes == 1 {
        return CommunicationConfig::Process(task.workers);
    }
    CommunicationConfig::Cluster {
        threads: task.workers,
        process: task.process,
        addresses: task.addresses.clone(),
        report: false,
        zerocopy: false,
    }
}

/// Whom a batch goes to: to the other process, or to all workers in turn where
/// there is only one process.
pub(super) fn target(task: &Task, here: usize, peers: usize, batch: usize) -> usize {
    if task.processes == 1 {
        return batch % peers;
    }
    let process = here / task.workers;
    let other = (process + 1 + batch % (task.processes - 1)) % task.processes;
    other * task.workers + batch % task.workers
}

pub(super) fn run(task: &Task) -> Outcome {
    let place = Place {
        process: task.process,
        processes: task.processes,
        workers: task.workers,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let budget = MemoryBudget::new(BUDGET_BYTES);
    let plan = Exchange::new(
        place,
        task.load.window_bytes,
        budget.clone(),
        runtime.handle().clone(),
    );
    let count = Arc::new(AtomicUsize::new(0));
    let flow = Flow {
        task: task.clone(),
        plan: plan.clone(),
        budget,
        count: Arc::clone(&count),
    };
    let took = match task.contender.as_str() {
        "ours" => Outcome::of(plain(task, flow)),
        _ => crew(task, flow),
    };
    let rows = task.load.batches * task.workers * task.load.rows;
    assert_eq!(count.load(Ordering::Relaxed), rows);
    if std::env::var_os("EXCHANGE_BENCH_TELL").is_some() {
        eprintln!("peak outstanding {}", plan.peak_outstanding_bytes());
    }
    took
}

fn plain(task: &Task, flow: Flow) -> Duration {
    let config = timely::Config {
        communication: plain_sockets(task),
        worker: timely::WorkerConfig::default(),
    };
    let (ends, times) = channel();
    let ends = Mutex::new(ends);
    let guards = timely::execute(config, move |worker| {
        let pool = flow.pool();
        // A barrier is a dataflow too, and lives as long as it does.
        Barrier::new(worker).wait();
        let started = Instant::now();
        worker.dataflow(|scope| flow.build(scope, pool));
        while worker.has_dataflows() {
            worker.step_or_park(None);
        }
        let _ = ends.lock().unwrap().send(started.elapsed());
    })
    .unwrap();
    drop(guards);
    times.iter().max().unwrap()
}

/// Over links of this project.
fn crew(task: &Task, flow: Flow) -> Outcome {
    let mut membership =
        Membership::loopback(task.process, task.processes, 1, task.workers, "bench");
    membership.addresses = task.addresses.clone();
    membership.key = ClusterKey::from_secret(b"a secret of the bench, long enough for a key");
    membership.plaintext = task.contender != "crew encrypted";
    membership.compress = task.contender != "crew without LZ4";
    let lost = |lost: &Lost| {
        eprintln!("{lost}");
        std::process::exit(1);
    };
    let crew = Crew::join(&membership, Arc::new(lost)).unwrap();
    // Nobody begins before all are there.
    crew.run(|scope| {
        let none: [u64; 0] = [];
        none.to_stream(scope)
            .container::<Vec<u64>>()
            .exchange(|_| 0);
    })
    .unwrap();
    let started = Instant::now();
    crew.run(move |scope| {
        let pool = flow.pool();
        flow.build(scope, pool);
    })
    .unwrap();
    let mut outcome = Outcome::of(started.elapsed());
    if std::env::var_os("EXCHANGE_BENCH_TELL").is_some() {
        eprintln!("{:?}", crew.links());
    }
    for link in crew.links() {
        outcome.raw += link.raw_bytes as f64;
        outcome.sent += link.sent_bytes as f64;
        outcome.lz4_seconds += link.compressing_nanos as f64 / 1e9;
    }
    outcome
}

/// The dataflow of one worker.
#[derive(Clone)]
struct Flow {
    task: Task,
    plan: Exchange,
    budget: MemoryBudget,
    count: Arc<AtomicUsize>,
}

impl Flow {
    fn pool(&self) -> Vec<RecordBatch> {
        (0..8)
            .map(|seed| batch(self.task.load.rows, seed, self.task.load.contents))
            .collect()
    }

    fn build(&self, scope: Scope<'_, Epoch>, pool: Vec<RecordBatch>) {
        let count = Arc::clone(&self.count);
        let batches = self.source(scope, pool);
        exchange(batches, self.plan.clone()).inspect(move |batch| {
            count.fetch_add(batch.rows.num_rows(), Ordering::Relaxed);
        });
    }

    /// Pays for each batch as a reader would.
    fn source<'scope>(
        &self,
        scope: Scope<'scope, Epoch>,
        pool: Vec<RecordBatch>,
    ) -> StreamVec<'scope, Epoch, (usize, Batch)> {
        let (here, peers) = (scope.worker().index(), scope.worker().peers());
        let (task, budget) = (self.task.clone(), self.budget.clone());
        let bytes = column_bytes(task.load.rows);
        let mut left = task.load.batches;
        source::<_, CapacityContainerBuilder<Vec<(usize, Batch)>>, _, _>(
            scope,
            "source",
            |capability, info| {
                let activator = scope.activator_for(info.address);
                let mut capability = Some(capability);
                move |output| {
                    let mut paid = true;
                    if let Some(held) = &capability {
                        let mut session = output.session(held);
                        for _ in 0..AT_ONCE.min(left) {
                            let Some(permit) = budget.try_take(bytes) else {
                                paid = false;
                                break;
                            };
                            left -= 1;
                            let batch = Batch {
                                table: 0,
                                split: 0,
                                source_bytes: bytes,
                                rows: pool[left % pool.len()].clone(),
                                permit,
                            };
                            session.give((target(&task, here, peers, left), batch));
                        }
                    }
                    if left == 0 {
                        capability = None;
                    } else if paid {
                        activator.activate();
                    } else {
                        activator.activate_after(Duration::from_micros(200));
                    }
                }
            },
        )
    }
}
