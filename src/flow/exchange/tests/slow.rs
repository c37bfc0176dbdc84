//! A slow receiver: what is on its way never exceeds the windows. It is counted
//! twice: by the credit that is outstanding, and by the bytes in timely's own
//! queues. Without credit the same run exceeds both.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use timely::communication::allocator::zero_copy::bytes_exchange::QueueEntry;
use timely::communication::allocator::zero_copy::spill::{SpillPolicy, SpillPolicyFn};

use super::*;

const WINDOW_BYTES: u64 = 256 << 10;
const BATCHES: u32 = 100;
/// Of a batch, which is about 41 KiB.
const ROWS: i64 = 1000;

/// The most bytes that timely's queues held at a time, over all queues.
#[derive(Default)]
struct Queued {
    now: AtomicI64,
    peak: AtomicI64,
}

/// Sees a queue after each addition, or before each removal of all of it.
struct Watch {
    queued: Arc<Queued>,
    last: Arc<AtomicI64>,
    drains: bool,
}

impl SpillPolicy for Watch {
    fn apply(&mut self, queue: &mut VecDeque<QueueEntry>) {
        let bytes = queue.iter().map(|entry| match entry {
            QueueEntry::Bytes(bytes) => bytes.len() as i64,
            QueueEntry::Paged(_) => 0,
        });
        let bytes: i64 = if self.drains { 0 } else { bytes.sum() };
        let change = bytes - self.last.swap(bytes, Ordering::SeqCst);
        let now = self.queued.now.fetch_add(change, Ordering::SeqCst) + change;
        self.queued.peak.fetch_max(now, Ordering::SeqCst);
    }
}

fn watched(queued: &Arc<Queued>) -> Hooks {
    let queued = Arc::clone(queued);
    let watch: SpillPolicyFn = Arc::new(move || {
        let last = Arc::new(AtomicI64::new(0));
        let watch = |drains| Watch {
            queued: Arc::clone(&queued),
            last: Arc::clone(&last),
            drains,
        };
        (Box::new(watch(false)), Box::new(watch(true)))
    });
    Hooks {
        spill: Some(watch),
        ..Hooks::default()
    }
}

/// Peak bytes outstanding by credit and in timely's queues, when process 0 sends
/// everything at once to process 1, which needs 2 ms for each batch.
fn peaks(window_bytes: u64) -> (u64, u64) {
    let runtime = runtime();
    let queued = Arc::new(Queued::default());
    let seen = Arc::new(AtomicU64::new(0));
    let budget = MemoryBudget::new(1 << 30);
    let plans: Vec<Exchange> = (0..2)
        .map(|process| {
            let place = Place {
                process,
                processes: 2,
                workers: 1,
            };
            Exchange::new(
                place,
                window_bytes,
                budget.clone(),
                runtime.handle().clone(),
            )
        })
        .collect();
    let (plans_there, seen_there) = (plans.clone(), Arc::clone(&seen));
    two_processes(
        1,
        |_| watched(&queued),
        move |worker, place| {
            let plan = plans_there[place.process].clone();
            let seen = Arc::clone(&seen_there);
            worker.dataflow(|scope| {
                let batches = if place.process == 0 { BATCHES } else { 0 };
                let batches = (0..batches).map(|split| (1, batch(split, ROWS)));
                exchange(feed(scope, batches.collect()), plan).inspect(move |_| {
                    std::thread::sleep(Duration::from_millis(2));
                    seen.fetch_add(1, Ordering::SeqCst);
                });
            });
        },
    );
    assert_eq!(seen.load(Ordering::SeqCst), u64::from(BATCHES));
    let in_queues = queued.peak.load(Ordering::SeqCst);
    (
        plans[0].peak_outstanding_bytes(),
        u64::try_from(in_queues).unwrap(),
    )
}

#[test]
fn a_slow_receiver_never_has_more_on_its_way_than_the_window() {
    let (outstanding, in_queues) = peaks(WINDOW_BYTES);
    assert!(outstanding <= WINDOW_BYTES, "{outstanding}");
    assert!(outstanding > WINDOW_BYTES / 2, "{outstanding}");
    // Messages about progress and about time come on top.
    let extra = 64 << 10;
    assert!(in_queues <= WINDOW_BYTES + extra, "{in_queues}");

    // The control: without credit the same run exceeds both.
    let (outstanding, in_queues) = peaks(u64::MAX);
    assert!(outstanding > 2 * WINDOW_BYTES, "{outstanding}");
    assert!(in_queues > WINDOW_BYTES + extra, "{in_queues}");
}
