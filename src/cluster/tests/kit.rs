//! Processes as threads of a test, and peers that misbehave.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use timely::dataflow::operators::vec::ToStream;
use timely::dataflow::operators::{Exchange, Inspect};

use crate::cluster::{ClusterError, ClusterKey, Crew, Lost, Membership};

/// How a test's processes are linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cluster) enum Way {
    NoKey,
    Plaintext,
    Encrypted,
}

pub(in crate::cluster) const WAYS: [Way; 3] = [Way::NoKey, Way::Plaintext, Way::Encrypted];

/// Addresses that nobody else will take: below the ports that the system gives
/// to those who do not ask for one, and apart for each process that runs tests.
pub(in crate::cluster) fn addresses(processes: usize) -> Vec<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut free = Vec::new();
    while free.len() < processes {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (std::process::id() * 97 + next) % 22_000;
        let address = format!("127.0.0.1:{port}");
        if TcpListener::bind(&address).is_ok() {
            free.push(address);
        }
    }
    free
}

/// The memberships of all processes of a run.
pub(in crate::cluster) fn memberships(processes: usize, way: Way) -> Vec<Membership> {
    let addresses = addresses(processes);
    (0..processes)
        .map(|process| Membership {
            addresses: addresses.clone(),
            key: (way != Way::NoKey).then(|| ClusterKey::from_secret(&[7; 32]).unwrap()),
            plaintext: way == Way::Plaintext,
            join_timeout: Duration::from_secs(15),
            ..Membership::loopback(process, processes, 1, 1, "a test")
        })
        .collect()
}

/// Joins, and hands on what is lost.
pub(in crate::cluster) fn join(
    membership: &Membership,
) -> Result<(Crew, Receiver<Lost>), ClusterError> {
    let (tell, lost) = channel();
    let tell = Mutex::new(tell);
    let told = move |lost: &Lost| {
        let _ = tell.lock().unwrap().send(lost.clone());
    };
    Ok((Crew::join(membership, Arc::new(told))?, lost))
}

/// Runs each process in a thread of its own; nobody may be lost.
pub(in crate::cluster) fn run<T: Send>(
    memberships: &[Membership],
    process: impl Fn(Crew) -> T + Sync,
) -> Vec<T> {
    std::thread::scope(|scope| {
        let process = &process;
        let threads: Vec<_> = memberships
            .iter()
            .map(|membership| {
                scope.spawn(move || {
                    let (crew, lost) = join(membership).unwrap();
                    let done = process(crew);
                    assert_eq!(lost.try_recv().ok(), None);
                    done
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

/// A dataflow over all processes: each worker exchanges the numbers below
/// `rows`; the sum of those that arrive in this process.
pub(in crate::cluster) fn exchange(crew: &Crew, rows: u64) -> u64 {
    let sum = Arc::new(AtomicU64::new(0));
    let adding = Arc::clone(&sum);
    crew.run(move |scope| {
        let adding = Arc::clone(&adding);
        (0..rows)
            .to_stream(scope)
            .container::<Vec<u64>>()
            .exchange(|row| *row)
            .inspect(move |row| {
                adding.fetch_add(*row, Ordering::Relaxed);
            });
    })
    .unwrap();
    sum.load(Ordering::Relaxed)
}

/// What all processes together must have seen of [`exchange`].
pub(in crate::cluster) fn expected(rows: u64, workers: usize) -> u64 {
    rows * rows.saturating_sub(1) / 2 * workers as u64
}
