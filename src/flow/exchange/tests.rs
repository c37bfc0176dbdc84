#![allow(clippy::unwrap_used, clippy::panic)]

mod kit;
mod slow;

use std::sync::Mutex;

use timely::communication::Hooks;
use timely::dataflow::operators::Inspect;

use self::kit::{batch, feed, ids, runtime, two_processes};
use super::*;
use crate::cluster::Crew;

#[test]
fn within_a_process_objects_move_with_their_permits() {
    let crew = Crew::alone(2).unwrap();
    let runtime = runtime();
    let budget = MemoryBudget::new(1 << 20);
    let plan = Exchange::new(
        crew.place(),
        1 << 20,
        budget.clone(),
        runtime.handle().clone(),
    );
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (seen_there, paid) = (Arc::clone(&seen), budget.clone());
    crew.run(move |scope| {
        let here = scope.worker().index();
        let batches = (0..10).map(|split| {
            let mut batch = batch(split, 100);
            batch.permit = paid.try_take(4096).unwrap();
            (split as usize, batch)
        });
        let batches = feed(scope, batches.collect());
        let seen = Arc::clone(&seen_there);
        exchange(batches, plan.clone()).inspect(move |batch| {
            assert_eq!(batch.split as usize % 2, here);
            assert_eq!(batch.permit.bytes(), 4096);
            seen.lock().unwrap().extend(ids(&batch.rows));
        });
    })
    .unwrap();
    assert_eq!(seen.lock().unwrap().len(), 2 * 10 * 100);
    assert_eq!(budget.available_bytes(), budget.total_bytes());
}

/// Every worker sends batches of very different sizes to every worker, through
/// windows that are smaller than the largest (which still goes whole); all rows arrive, in order for each
/// pair of workers, and all memory comes back.
#[test]
fn between_processes_all_rows_arrive_in_order_and_memory_comes_back() {
    const BATCHES: u32 = 200;
    for workers in [1, 2] {
        let runtime = runtime();
        let budget = MemoryBudget::new(256 << 10);
        let plans: Vec<Exchange> = (0..2)
            .map(|process| {
                let place = Place {
                    process,
                    processes: 2,
                    workers,
                };
                Exchange::new(place, 64 << 10, budget.clone(), runtime.handle().clone())
            })
            .collect();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (seen_there, plans_there) = (Arc::clone(&seen), plans.clone());
        two_processes(
            workers,
            |_| Hooks::default(),
            move |worker, place| {
                let (here, peers) = (worker.index(), place.peers());
                let plan = plans_there[place.process].clone();
                let seen = Arc::clone(&seen_there);
                worker.dataflow(|scope| {
                    let batches = (0..BATCHES).map(|split| {
                        let rows = [1, 10, 100, 5_000][split as usize % 4];
                        let mut batch = batch(split, rows);
                        batch.table = here;
                        (split as usize % peers, batch)
                    });
                    let batches = feed(scope, batches.collect());
                    exchange(batches, plan).inspect(move |batch| {
                        assert_eq!(batch.split as usize % peers, here);
                        assert_eq!(batch.source_bytes, 77);
                        let count = batch.rows.num_rows() as i64;
                        assert_eq!(batch.rows, kit::rows(batch.split, count));
                        seen.lock().unwrap().push((batch.table, here, batch.split));
                    });
                });
            },
        );
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 2 * workers * BATCHES as usize);
        for from in 0..2 * workers {
            for to in 0..2 * workers {
                let splits = seen.iter().filter(|(f, t, _)| (*f, *t) == (from, to));
                assert!(splits.is_sorted_by_key(|(_, _, split)| split));
            }
        }
        assert_eq!(budget.available_bytes(), budget.total_bytes());
        for plan in &plans {
            assert_eq!(plan.outstanding_bytes(), 0);
            assert!(plan.peak_outstanding_bytes() > 0);
        }
    }
}

/// Both processes have spent their budgets on batches for the other: the reserve
/// lets arrivals in, so that budget and credit come back.
#[test]
fn two_processes_that_are_full_of_batches_for_each_other_go_on() {
    let runtime = runtime();
    let budgets = [MemoryBudget::new(256 << 10), MemoryBudget::new(256 << 10)];
    let seen = Arc::new(Mutex::new(0));
    let seen_there = Arc::clone(&seen);
    let handle = runtime.handle().clone();
    two_processes(
        1,
        |_| Hooks::default(),
        move |worker, place| {
            let budget = budgets[place.process].clone();
            let plan = Exchange::new(place, 32 << 10, budget.clone(), handle.clone());
            let seen = Arc::clone(&seen_there);
            worker.dataflow(|scope| {
                let mut batches = Vec::new();
                // All of the budget, as 4 KiB each.
                while let Some(permit) = budget.try_take(4096) {
                    let mut batch = batch(batches.len() as u32, 100);
                    batch.permit = permit;
                    batches.push((1 - place.process, batch));
                }
                assert_eq!(budget.available_bytes(), 0);
                exchange(feed(scope, batches), plan).inspect(move |_| *seen.lock().unwrap() += 1);
            });
        },
    );
    assert_eq!(*seen.lock().unwrap(), 2 * 64);
}

/// A batch that is larger than budget and window arrives, in parts.
#[test]
fn a_batch_larger_than_budget_and_window_arrives() {
    const ROWS: i64 = 100_000;
    let runtime = runtime();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let seen_there = Arc::clone(&seen);
    let handle = runtime.handle().clone();
    two_processes(
        1,
        |_| Hooks::default(),
        move |worker, place| {
            let budget = MemoryBudget::new(8 << 10);
            let plan = Exchange::new(place, 4 << 10, budget.clone(), handle.clone());
            let seen = Arc::clone(&seen_there);
            worker.dataflow(|scope| {
                let mut batches = Vec::new();
                if place.process == 0 {
                    let mut batch = batch(0, ROWS);
                    batch.permit = budget.try_take(1 << 30).unwrap();
                    batches.push((1, batch));
                }
                exchange(feed(scope, batches), plan).inspect(move |batch| {
                    assert!(batch.rows.num_rows() < 20_000);
                    seen.lock().unwrap().extend(ids(&batch.rows));
                });
            });
        },
    );
    assert!(seen.lock().unwrap().iter().copied().eq(0..ROWS));
}

/// What is not believed ends the run: rows would be lost.
#[test]
fn parcels_that_lie_are_an_error_of_the_operator() {
    use super::collect::{Collect, Purse};
    use super::parcels::Load;
    use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

    let runtime = runtime();
    timely::execute_directly(move |worker| {
        worker.dataflow::<Epoch, _, _>(|scope| {
            let mut builder = OperatorBuilder::new("test".to_owned(), scope);
            let (_one, _) = builder.new_output::<Vec<()>>();
            let (_other, _) = builder.new_output::<Vec<()>>();
            let activator = scope
                .worker()
                .sync_activator_for(builder.operator_info().address.to_vec());
            builder.build(|mut capabilities| {
                let budget = MemoryBudget::new(1 << 20);
                let purse = Purse {
                    budget: budget.clone(),
                    reserve: budget,
                };
                let mail = mailbox(activator, 1);
                let mut state = Collect::new(0, purse, runtime.handle().clone(), mail);
                let mut parcels = Parcels {
                    target: 0,
                    load: Load::Arrived {
                        frames: 3,
                        bytes: arrow::buffer::Buffer::from(&[7_u8; 200][..]),
                    },
                };
                let acks = capabilities.pop().unwrap();
                let batches = capabilities.pop().unwrap();
                let refused = state.accept(&mut parcels, batches, acks, |_| {});
                assert!(refused.unwrap_err().to_string().contains("does not begin"));
                |_| {}
            });
        });
    });
}
