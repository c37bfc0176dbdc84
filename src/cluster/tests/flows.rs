//! What a joined crew is for: dataflows, orders, notes, in the right amounts.

use std::time::Duration;

use super::kit::*;
use super::proxy::Proxy;
use crate::cluster::{ClusterError, Crew, LinkCounters, MAX_NOTE_BYTES, Membership};

fn with_workers(mut memberships: Vec<Membership>, workers: usize) -> Vec<Membership> {
    for membership in &mut memberships {
        membership.workers = workers;
    }
    memberships
}

#[test]
fn dataflows_over_processes_give_the_right_sums() {
    for way in WAYS {
        for (processes, workers) in [(2, 1), (2, 2), (3, 1)] {
            let all = with_workers(memberships(processes, way), workers);
            for (sums, name) in [0, 1000, 300_000].map(|rows| {
                let sums = run(&all, |crew| (exchange(&crew, rows), crew.run_id()));
                let total: u64 = sums.iter().map(|s| s.0).sum();
                assert_eq!(total, expected(rows, processes * workers), "{way:?}");
                (sums, rows)
            }) {
                assert!(sums.iter().all(|s| s.1 == sums[0].1), "{name}");
            }
        }
    }
}

#[test]
fn dataflows_follow_orders() {
    for way in WAYS {
        let sums = run(&memberships(3, way), |crew| {
            let mut sums = Vec::new();
            if crew.place().leads() {
                for rows in [10_u64, 5000, 0, 77] {
                    crew.tell(&rows.to_le_bytes()).unwrap();
                    sums.push(exchange(&crew, rows));
                }
                assert_eq!(crew.hear(), None);
            } else {
                while let Some(order) = crew.hear() {
                    let rows = u64::from_le_bytes(order.try_into().unwrap());
                    sums.push(exchange(&crew, rows));
                }
            }
            sums
        });
        for (at, rows) in [10, 5000, 0, 77].into_iter().enumerate() {
            let total: u64 = sums.iter().map(|s| s[at]).sum();
            assert_eq!(total, expected(rows, 3));
        }
    }
}

#[test]
fn orders_of_any_length_arrive_whole() {
    let pattern =
        |length: usize| -> Vec<u8> { (0..length).map(|i| (i * 7 + i / 251 % 256) as u8).collect() };
    let lengths = [0, 1, 256 << 10, (256 << 10) + 1, 10 << 20, 0];
    for way in WAYS {
        run(&memberships(2, way), |crew| {
            for length in lengths {
                if crew.place().leads() {
                    crew.tell(&pattern(length)).unwrap();
                } else {
                    assert!(crew.hear().unwrap() == pattern(length), "{length}");
                }
            }
            if !crew.place().leads() {
                assert_eq!(crew.hear(), None);
            }
        });
    }
}

#[test]
fn notes_reach_the_leader_with_their_sender() {
    run(&memberships(3, Way::Encrypted), |crew| {
        let process = crew.place().process;
        crew.tell_leader(&[process as u8; 100]).unwrap();
        if !crew.place().leads() {
            let long = crew.tell_leader(&vec![0; MAX_NOTE_BYTES + 1]);
            assert!(matches!(long, Err(ClusterError::TooLong { .. })));
            let order = crew.tell(b"order");
            assert!(matches!(order, Err(ClusterError::NotLeading(_))));
            assert_eq!(crew.hear(), None);
            return;
        }
        let mut heard = Vec::new();
        for _ in 0..3 {
            let note = crew.heard_from_followers(Duration::from_secs(15)).unwrap();
            assert_eq!(note.bytes, [note.process as u8; 100]);
            heard.push(note.process);
        }
        heard.sort_unstable();
        assert_eq!(heard, [0, 1, 2]);
        assert_eq!(crew.heard_from_followers(Duration::ZERO), None);
    });
}

#[test]
fn a_crew_of_one_needs_nobody() {
    let alone = Crew::alone(2).unwrap();
    alone.tell(b"order").unwrap();
    assert_eq!(alone.hear(), None);
    assert!(alone.links().is_empty());
    alone.tell_leader(b"to myself").unwrap();
    let note = alone.heard_from_followers(Duration::ZERO).unwrap();
    assert_eq!((note.process, note.bytes), (0, b"to myself".to_vec()));
    let (joined, _) = join(&memberships(1, Way::NoKey)[0]).unwrap();
    assert_eq!(exchange(&joined, 100), expected(100, 1));
}

#[test]
fn links_count_what_crosses() {
    let counters = run(&memberships(2, Way::Plaintext), |crew| {
        exchange(&crew, 300_000);
        crew.links()
    });
    for (process, links) in counters.iter().enumerate() {
        let [link] = links.as_slice() else {
            panic!("{links:?}");
        };
        assert_eq!(link.process, 1 - process);
        assert!(link.raw_bytes > 150_000 * 8 && link.frames > 0, "{link:?}");
        assert!(link.received_raw_bytes > 0 && !link.encrypted, "{link:?}");
        assert_eq!(
            (link.compressed_frames, link.raw_bytes),
            (0, link.sent_bytes)
        );
    }
}

#[test]
fn a_slow_link_is_compressed_and_gives_the_right_sums() {
    for way in [Way::NoKey, Way::Encrypted] {
        let mut all = memberships(2, way);
        let proxy = Proxy::start(all[0].addresses[0].clone());
        proxy.set(|how| how.rate = Some(10_000_000));
        all[1].addresses[0] = proxy.address.clone();
        let rows = 6_000_000;
        let ends = run(&all, |crew| (exchange(&crew, rows), crew.links()));
        assert_eq!(ends[0].0 + ends[1].0, expected(rows, 2), "{way:?}");
        // Where the machine is busy a process may never have its link full: then
        // it sends raw, as it should.
        let links: Vec<_> = ends.iter().map(|(_, links)| &links[0]).collect();
        let packs = |link: &&&LinkCounters| link.compressed_frames > 0;
        let packing = links.iter().find(packs).expect("one of them is compressed");
        assert!(packing.sent_bytes < packing.raw_bytes, "{packing:?}");
        let there = links.iter().find(|link| link.process != packing.process);
        let there = there.unwrap();
        assert!(there.received_bytes < there.received_raw_bytes, "{there:?}");
    }
}
