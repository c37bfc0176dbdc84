//! Batches, and two processes in one test: two instances of timely with a pair of
//! sockets between them.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use arrow::array::{AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use timely::WorkerConfig;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::communication::{Hooks, WorkerGuards};
use timely::dataflow::operators::vec::ToStream;
use timely::dataflow::{Scope, StreamVec};
use timely::worker::Worker;

use crate::batch::Batch;
use crate::budget::Permit;
use crate::cluster::Place;
use crate::flow::Epoch;

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap()
}

/// So many rows; their ids say where they come from.
pub(super) fn rows(split: u32, rows: i64) -> RecordBatch {
    let ids: Vec<i64> = (0..rows).map(|row| i64::from(split) * rows + row).collect();
    let halves = ids.iter().map(|id| *id as f64 / 2.0);
    let texts = ids.iter().map(|id| format!("row number {id:012}"));
    RecordBatch::try_from_iter([
        (
            "half",
            Arc::new(Float64Array::from_iter_values(halves)) as _,
        ),
        ("text", Arc::new(StringArray::from_iter_values(texts)) as _),
        ("id", Arc::new(Int64Array::from(ids.clone())) as _),
    ])
    .unwrap()
}

pub(super) fn batch(split: u32, count: i64) -> Batch {
    Batch {
        table: 3,
        split,
        source_bytes: 77,
        rows: rows(split, count),
        permit: Permit::free(),
    }
}

pub(super) fn ids(rows: &RecordBatch) -> Vec<i64> {
    let ids = rows.column_by_name("id").unwrap();
    ids.as_primitive::<Int64Type>().values().to_vec()
}

/// A stream of these batches, all at once.
pub(super) fn feed<'scope>(
    scope: Scope<'scope, Epoch>,
    batches: Vec<(usize, Batch)>,
) -> StreamVec<'scope, Epoch, (usize, Batch)> {
    batches.to_stream(scope)
}

/// Two processes with so many workers each run `build` to its end.
pub(super) fn two_processes(
    workers: usize,
    hooks: impl Fn(usize) -> Hooks,
    build: impl Fn(&mut Worker, Place) + Send + Sync + 'static,
) {
    let (one, other) = UnixStream::pair().unwrap();
    let build = Arc::new(build);
    let mut running: Vec<WorkerGuards<()>> = Vec::new();
    for (process, sockets) in [vec![None, Some(one)], vec![Some(other), None]]
        .into_iter()
        .enumerate()
    {
        let hooks = hooks(process);
        let inner = ProcessBuilder::new_typed_vector(workers, hooks.refill.clone(), None);
        let (builders, guard) =
            initialize_networking_from_sockets(inner, sockets, process, workers, hooks).unwrap();
        let builders = builders.into_iter().map(AllocatorBuilder::Tcp).collect();
        let build = Arc::clone(&build);
        let place = Place {
            process,
            processes: 2,
            workers,
        };
        let work = move |worker: &mut Worker| build(worker, place);
        let config = WorkerConfig::default();
        running
            .push(timely::execute::execute_from(builders, Box::new(guard), config, work).unwrap());
    }
    for guards in running {
        for ended in guards.join() {
            ended.unwrap();
        }
    }
}
