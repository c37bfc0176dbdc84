//! Two daemons and one lease: on a store that compares, on one that does not,
//! and on one whose answers are lost.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::store::faults::{Fault, FaultyStore};

const SHORT: Duration = Duration::from_millis(300);

fn turn(due: &str) -> Turn {
    let due: DateTime<Utc> = format!("2026-06-15T{due}Z").parse().unwrap();
    Turn {
        due,
        believable: due + chrono::TimeDelta::hours(1),
        told: false,
    }
}

fn last() -> LastRun {
    LastRun {
        run: Uuid::nil(),
        due: String::new(),
        started: String::new(),
        seconds: 1.0,
        exit: 0,
    }
}

fn folder() -> (tempfile::TempDir, Store) {
    let home = tempfile::tempdir().unwrap();
    let url = format!("file:{}", home.path().display());
    let store = Store::open(&url, &Default::default()).unwrap();
    (home, store)
}

async fn take(lease: &Lease, due: &str) -> Taking {
    lease.take(Some(&turn(due)), Uuid::now_v7()).await.unwrap()
}

async fn taken(lease: &Lease, due: &str) -> Held {
    match take(lease, due).await {
        Taking::Taken(held) => *held,
        other => panic!("{other:?}"),
    }
}

async fn is_one_at_a_time(store: Store) {
    let (one, other) = (
        Lease::living(store.clone(), LIFE),
        Lease::living(store, LIFE),
    );
    let mut held = taken(&one, "10:00:00").await;
    assert!(matches!(take(&other, "10:00:00").await, Taking::Held(_)));
    assert!(held.renew().await.unwrap());
    held.release(Some(turn("10:00:00").due), last())
        .await
        .unwrap();
    // Whoever comes later finds the turn done, and may have the next one.
    assert!(matches!(take(&other, "10:00:00").await, Taking::Done(_)));
    let held = taken(&other, "10:15:00").await;
    held.release(None, last()).await.unwrap();
    // Given back without being done: it is still to be done.
    taken(&one, "10:15:00").await;
}

#[tokio::test]
async fn one_at_a_time_where_the_store_compares() {
    is_one_at_a_time(FaultyStore::new("never", vec![], None).store()).await;
}

#[tokio::test]
async fn one_at_a_time_in_a_folder() {
    let (_home, store) = folder();
    is_one_at_a_time(store).await;
}

async fn expires_and_is_lost(store: Store) {
    let (frozen, other) = (
        Lease::living(store.clone(), SHORT),
        Lease::living(store, SHORT),
    );
    let mut held = taken(&frozen, "10:00:00").await;
    tokio::time::sleep(SHORT * 2).await;
    let successor = taken(&other, "10:00:00").await;
    assert!(
        !held.renew().await.unwrap(),
        "it must notice that it was taken for dead"
    );
    held.release(Some(turn("10:00:00").due), last())
        .await
        .unwrap();
    let note = other.note().await.unwrap();
    assert_eq!(
        note.holder, successor.note.holder,
        "it must not give back another's lease"
    );
    assert_eq!(note.done, None);
}

#[tokio::test]
async fn an_expired_lease_is_taken_over_and_its_holder_notices() {
    expires_and_is_lost(FaultyStore::new("never", vec![], None).store()).await;
    let (_home, store) = folder();
    expires_and_is_lost(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_gets_it() {
    let (_home, folder) = folder();
    for store in [FaultyStore::new("never", vec![], None).store(), folder] {
        for due in ["10:00:00", "10:15:00", "10:30:00"] {
            let tries = (0..8).map(|_| {
                let lease = Lease::new(store.clone());
                tokio::spawn(async move { take(&lease, due).await })
            });
            let mut held = Vec::new();
            for attempt in futures::future::join_all(tries).await {
                if let Taking::Taken(ours) = attempt.unwrap() {
                    held.push(ours);
                }
            }
            assert_eq!(held.len(), 1, "{due} at {}", store.url());
            let held = held.remove(0);
            held.release(Some(turn(due).due), last()).await.unwrap();
        }
    }
}

/// C1: an answer that was lost is no refusal.
#[tokio::test]
async fn a_lost_answer_is_found_out() {
    let faulty = FaultyStore::new("lease.json", vec![Fault::ConflictBefore], None);
    let lease = Lease::new(faulty.store());
    taken(&lease, "10:00:00").await;
    let faulty = FaultyStore::new("lease.json", vec![Fault::LostAfter], None);
    let lease = Lease::new(faulty.store());
    // Unknown: an error that passes, and then our own lease, which expires.
    let error = lease.take(Some(&turn("10:00:00")), Uuid::now_v7()).await;
    assert!(error.is_err());
    assert!(matches!(take(&lease, "10:00:00").await, Taking::Held(_)));
}

#[tokio::test]
async fn what_cannot_be_understood_is_replaced() {
    let (home, store) = folder();
    let lease = Lease::new(store);
    taken(&lease, "10:00:00").await;
    std::fs::write(home.path().join("_highwater/lease.json"), "{").unwrap();
    taken(&lease, "10:00:00").await;
}

/// A process that died between putting the guard and taking it away.
#[tokio::test]
async fn a_guard_that_was_left_behind_is_swept_away() {
    let (home, store) = folder();
    let lease = Lease::living(store, SHORT);
    let held = taken(&lease, "10:00:00").await;
    held.release(None, last()).await.unwrap();
    std::fs::write(home.path().join("_highwater/lease.guard"), "").unwrap();
    taken(&lease, "10:15:00").await;
}
