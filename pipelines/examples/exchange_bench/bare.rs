//! An exchange of timely and nothing else: a container that is one batch, an Arrow
//! IPC stream with its schema on the wire, no flow control, no permits.

use std::cell::OnceCell;
use std::io::{Cursor, Write};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use timely::Accountable;
use timely::bytes::arc::Bytes;
use timely::communication::Push;
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::DistributorPact;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{ContainerBytes, Message};
use timely::dataflow::operators::generic::{Operator, source};
use timely::synchronization::Barrier;

use super::Task;
use super::rows::batch;

#[derive(Default)]
struct One {
    target: usize,
    rows: Option<RecordBatch>,
    wire: OnceCell<Vec<u8>>,
}

impl One {
    fn wire(&self) -> &Vec<u8> {
        self.wire.get_or_init(|| {
            let rows = self.rows.as_ref().unwrap();
            let mut wire = Vec::with_capacity(rows.get_array_memory_size() + 1024);
            let mut writer = StreamWriter::try_new(&mut wire, rows.schema_ref()).unwrap();
            writer.write(rows).unwrap();
            writer.finish().unwrap();
            drop(writer);
            wire.resize(wire.len().next_multiple_of(8), 0);
            wire
        })
    }
}

impl Accountable for One {
    fn record_count(&self) -> i64 {
        i64::from(self.rows.is_some())
    }
}

struct Slab(Bytes);

impl AsRef<[u8]> for Slab {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl ContainerBytes for One {
    fn from_bytes(bytes: Bytes) -> Self {
        let mut buffer = bytes::Bytes::from_owner(Slab(bytes)).into();
        let rows = StreamDecoder::new().decode(&mut buffer).unwrap();
        Self {
            rows,
            ..Self::default()
        }
    }

    fn length_in_bytes(&self) -> usize {
        self.wire().len()
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        std::io::copy(&mut Cursor::new(self.wire()), writer).unwrap();
    }
}

struct ToTarget;

impl Distributor<One> for ToTarget {
    fn partition<T: Clone, P: Push<Message<T, One>>>(
        &mut self,
        one: &mut One,
        time: &T,
        pushers: &mut [P],
    ) {
        Message::push_at(one, time.clone(), &mut pushers[one.target]);
        *one = One::default();
    }

    fn flush<T: Clone, P: Push<Message<T, One>>>(&mut self, _: &T, _: &mut [P]) {}
}

pub(super) fn run(task: &Task) -> Duration {
    let task = task.clone();
    let config = timely::Config {
        communication: super::ours::plain_sockets(&task),
        worker: timely::WorkerConfig::default(),
    };
    let (ends, times) = channel();
    let ends = Mutex::new(ends);
    let expected = task.load.batches * task.workers;
    let guards = timely::execute(config, move |worker| {
        let pool: Vec<RecordBatch> = (0..8)
            .map(|seed| batch(task.load.rows, seed, task.load.contents))
            .collect();
        let peers = worker.peers();
        let here = worker.index();
        let count = Arc::new(Mutex::new(0));
        // A barrier is a dataflow too, and lives as long as it does.
        Barrier::new(worker).wait();
        let started = Instant::now();
        worker.dataflow::<u64, _, _>(|scope| {
            let mut left = task.load.batches;
            let count = Arc::clone(&count);
            let task = task.clone();
            source::<_, NoopBuilder<One>, _, _>(scope, "source", |first, info| {
                let mut capability = Some(first);
                let activator = scope.activator_for(info.address);
                move |output| {
                    if let Some(held) = &capability {
                        let mut session = output.session_with_builder(held);
                        for _ in 0..super::ours::AT_ONCE.min(left) {
                            left -= 1;
                            session.give_container(&mut One {
                                target: super::ours::target(&task, here, peers, left),
                                rows: Some(pool[left % pool.len()].clone()),
                                wire: OnceCell::new(),
                            });
                        }
                    }
                    if left == 0 {
                        capability = None;
                    } else {
                        activator.activate();
                    }
                }
            })
            .unary::<NoopBuilder<One>, _, _, _>(
                DistributorPact(|_| ToTarget),
                "sink",
                |_, _| {
                    move |input,
                          _: &mut timely::dataflow::operators::generic::OutputBuilderSession<
                        '_,
                        u64,
                        NoopBuilder<One>,
                    >| {
                        input.for_each(|_, one| {
                            assert!(one.rows.take().is_some());
                            *count.lock().unwrap() += 1;
                        });
                    }
                },
            );
        });
        while worker.has_dataflows() {
            worker.step_or_park(None);
        }
        let _ = ends
            .lock()
            .unwrap()
            .send((started.elapsed(), *count.lock().unwrap()));
    })
    .unwrap();
    drop(guards);
    let ends: Vec<(Duration, usize)> = times.iter().collect();
    assert_eq!(ends.iter().map(|(_, count)| count).sum::<usize>(), expected);
    ends.into_iter().map(|(took, _)| took).max().unwrap()
}
