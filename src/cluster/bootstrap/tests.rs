//! Who comes in and who does not, in any order, with strays at the door.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::{ScopedJoinHandle, scope, sleep};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::cluster::tests::kit::{Way, memberships};

/// Starts all processes in an order, disturbs them when the first one is at its
/// door and the last one has not come, and checks that all come together.
fn forms(all: &[Membership], order: &[usize], disturb: impl FnOnce(&str)) {
    let formed: Vec<Formed> = scope(|scope| {
        let start = |process: &usize| {
            let membership = &all[*process];
            scope.spawn(move || form(membership).unwrap())
        };
        let (last, first) = order.split_last().unwrap();
        let mut threads: Vec<ScopedJoinHandle<'_, Formed>> = first.iter().map(start).collect();
        sleep(Duration::from_millis(100));
        disturb(&all[order[0]].addresses[order[0]]);
        threads.push(start(last));
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    for (one, process) in formed.iter().zip(order) {
        assert_eq!(one.run, formed[0].run);
        let peers: Vec<usize> = one.sessions.iter().map(|s| s.peer).collect();
        let expected: Vec<usize> = (0..all.len()).filter(|p| p != process).collect();
        assert_eq!(peers, expected);
    }
}

#[test]
fn processes_start_in_any_order() {
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for (at, order) in orders.into_iter().enumerate() {
        let way = [Way::NoKey, Way::Plaintext, Way::Encrypted][at % 3];
        forms(&memberships(3, way), &order, |_| ());
    }
}

/// A change to the membership of one who does not belong.
type Change = fn(&mut Membership);

#[test]
fn who_does_not_belong_ends_at_once_and_the_right_one_still_comes_in() {
    let changes: [(Change, &str); 6] = [
        (
            |m| m.key = ClusterKey::from_secret(&[8; 32]),
            "does not have the same key",
        ),
        (|m| m.key = None, "does not have the same key"),
        (
            |m| m.job = "another".into(),
            "the job is another there and a test here",
        ),
        (|m| m.workers = 3, "number of workers is 3 there and 1 here"),
        (
            |m| m.plaintext = !m.plaintext,
            "the link is plaintext there and encrypted here",
        ),
        (
            |m| m.addresses.push("127.0.0.1:1".into()),
            "number of processes is 3 there and 2 here",
        ),
    ];
    for (change, why) in changes {
        let all = memberships(2, Way::Encrypted);
        forms(&all, &[0, 1], |address| {
            let mut wrong = all[1].clone();
            change(&mut wrong);
            let error = form(&wrong).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(address), "{error}");
        });
    }
}

#[test]
fn a_number_that_is_taken_is_refused() {
    let all = memberships(3, Way::Encrypted);
    scope(|scope| {
        let spawn = |membership: Membership| scope.spawn(move || form(&membership).map(|f| f.run));
        let mut first: Vec<_> = all[..2].iter().cloned().map(spawn).collect();
        sleep(Duration::from_millis(300));
        let mut twin = all[1].clone();
        twin.addresses[1] = crate::cluster::tests::kit::addresses(1).remove(0);
        let error = form(&twin).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("process 1 is here already"), "{error}");
        // One with its own number where another one is expected.
        let mut mirror = all[1].clone();
        mirror.addresses.swap(0, 1);
        mirror.addresses[1] = twin.addresses[1].clone();
        let error = form(&mirror).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("this is process 1, not 0"), "{error}");
        first.push(spawn(all[2].clone()));
        let runs: Vec<_> = first.into_iter().map(|t| t.join().unwrap()).collect();
        assert!(runs.iter().all(Result::is_ok), "{runs:?}");
    });
}

#[test]
fn a_process_that_leaves_may_come_again() {
    let all = memberships(3, Way::Encrypted);
    scope(|scope| {
        let leader = scope.spawn(|| form(&all[0]).map(|f| f.run));
        let mut hasty = all[1].clone();
        hasty.join_timeout = Duration::from_millis(600);
        let error = form(&hasty).map(|_| ()).unwrap_err().to_string();
        let missing = format!("process 2 at {} did not join", all[0].addresses[2]);
        assert!(
            error.contains(&missing) && !error.contains("process 0"),
            "{error}"
        );
        let rest: Vec<_> = all[1..]
            .iter()
            .map(|m| scope.spawn(|| form(m).unwrap().run))
            .collect();
        let run = leader.join().unwrap().unwrap();
        for thread in rest {
            assert_eq!(thread.join().unwrap(), run);
        }
    });
}

#[test]
fn who_is_missing_is_named() {
    let mut all = memberships(3, Way::Plaintext);
    all[2].join_timeout = Duration::from_millis(300);
    let error = form(&all[2]).map(|_| ()).unwrap_err().to_string();
    for peer in [0, 1] {
        let address = &all[2].addresses[peer];
        assert!(
            error.contains(&format!("process {peer} at {address} did not join")),
            "{error}"
        );
    }
    assert!(error.contains("refused"), "{error}");
}

#[test]
fn an_address_in_use_is_named() {
    let all = memberships(2, Way::NoKey);
    let _taken = std::net::TcpListener::bind(&all[0].addresses[0]).unwrap();
    let error = form(&all[0]).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains(&format!("cannot listen on {}", all[0].addresses[0])),
        "{error}"
    );
}

/// Connects and says something that belongs elsewhere.
fn stray(address: &str, bytes: &[u8]) -> TcpStream {
    let mut stray = TcpStream::connect(address).unwrap();
    // It may be thrown out meanwhile.
    let _ = stray.write_all(bytes);
    stray
}

#[test]
fn strays_delay_nobody() {
    let all = memberships(2, Way::Encrypted);
    let mut silent = Vec::new();
    forms(&all, &[0, 1], |address| {
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HIGHWATR\x00\x02\x00\x00",
            b"HIGHWATR\x00\x01\xff\xff",
            b"HIGHWATR\x00\x01\x00\x00",
            &[0; 4096],
        ] {
            let mut stray = stray(address, bytes);
            let _ = stray.shutdown(Shutdown::Write);
            let mut answer = Vec::new();
            // Closed or reset, with a word at most.
            let _ = stray.read_to_end(&mut answer);
            assert!(answer.len() <= 11, "{answer:?}");
        }
        for _ in 0..20 {
            silent.push(stray(address, b""));
            silent.push(stray(address, b"HIGH"));
        }
    });
}

#[test]
fn a_hello_that_is_played_again_gets_nowhere() {
    let all = memberships(2, Way::Encrypted);
    let recorder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut dupe = all[1].clone();
    dupe.addresses[0] = recorder.local_addr().unwrap().to_string();
    dupe.join_timeout = Duration::from_millis(500);
    let mut recorded = vec![0; 4096];
    scope(|scope| {
        scope.spawn(|| form(&dupe).map(|_| ()).unwrap_err());
        let (mut socket, _) = recorder.accept().unwrap();
        let length = socket.read(&mut recorded).unwrap();
        recorded.truncate(length);
    });
    let mut players = Vec::new();
    forms(&all, &[0, 1], |address| {
        let mut player = stray(address, &recorded);
        let mut answer = [0; 11];
        player.read_exact(&mut answer).unwrap();
        assert_eq!(answer[10], 0, "it looks right so far");
        players.push(player);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("HIGHWATER_FUZZ_CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(12) / 4,
    ))]

    #[test]
    fn noise_at_the_door_harms_nobody(
        noises in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 8),
        starts in prop::collection::vec(0..14usize, 8),
        way in prop_oneof![Just(Way::NoKey), Just(Way::Encrypted)],
    ) {
        let right = b"HIGHWATR\x00\x01\x00\x90\x00";
        forms(&memberships(2, way), &[0, 1], |address| {
            for (noise, start) in noises.iter().zip(&starts) {
                let start = right.get(..*start).unwrap_or(right);
                stray(address, &[start, noise].concat());
            }
        });
    }
}
