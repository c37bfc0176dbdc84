//! How runs end: well, many times; and otherwise, with one line that names the
//! process.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::kit::*;
use super::proxy::Proxy;
use crate::cluster::membership::Safety;
use crate::cluster::{Crew, Lost, Membership};

#[test]
fn a_clean_end_is_never_a_loss() {
    for round in 0..50 {
        let processes = 2 + round % 2;
        let all = memberships(processes, WAYS[round % 3]);
        run(&all, |crew| {
            let rows = if crew.place().leads() {
                let rows: u64 = [0, 10, 3000][round % 3];
                crew.tell(&rows.to_le_bytes()).unwrap();
                rows
            } else {
                u64::from_le_bytes(crew.hear().unwrap().try_into().unwrap())
            };
            exchange(&crew, rows);
            // Some leave at once, some wait for the leader's goodbye, some linger.
            match (crew.place().process + round) % 3 {
                0 => {}
                1 => drop(crew.hear()),
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        });
    }
}

#[test]
fn a_run_that_idles_is_alive() {
    let mut all = memberships(2, Way::Encrypted);
    for membership in &mut all {
        membership.silence = Duration::from_millis(400);
    }
    run(&all, |crew| {
        std::thread::sleep(Duration::from_millis(1600));
        exchange(&crew, 1000)
    });
}

/// The control arm: nothing but the heartbeats keeps such a run alive.
#[test]
fn without_heartbeats_a_run_that_idles_is_lost() {
    let mut all = memberships(2, Way::Encrypted);
    for membership in &mut all {
        membership.silence = Duration::from_millis(400);
        membership.left_out = Some(Safety::Heartbeats);
    }
    let crews = all_join(&all);
    let told = crews[0].1.recv_timeout(Duration::from_secs(5)).unwrap();
    let line = told.to_string();
    let silent = line.contains("nothing has been heard of it for 0.4 s");
    assert!(silent || line.contains(COUNTED), "{line}");
    std::mem::forget(crews);
}

type Process = (Arc<Crew>, Receiver<Lost>);

const SILENCE: Duration = Duration::from_millis(800);

/// Two processes, of which the second reaches the first by a proxy.
fn proxied(way: Way) -> (Proxy, Vec<Process>) {
    proxied_without(way, None)
}

/// The same for a control arm.
fn proxied_without(way: Way, left_out: Option<Safety>) -> (Proxy, Vec<Process>) {
    let mut all = memberships(2, way);
    let proxy = Proxy::start(all[0].addresses[0].clone());
    all[1].addresses[0] = proxy.address.clone();
    for membership in &mut all {
        membership.silence = SILENCE;
        membership.left_out = left_out;
    }
    let crews = all_join(&all);
    (proxy, crews)
}

fn all_join(all: &[Membership]) -> Vec<Process> {
    let joining = |membership| {
        let (crew, lost) = join(membership).unwrap();
        (Arc::new(crew), lost)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = all
            .iter()
            .map(|m| scope.spawn(move || joining(m)))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

/// Both processes learn that the other one is lost, in time and once.
fn both_lose(crews: Vec<Process>, why: &[&str]) {
    let started = Instant::now();
    for (process, (crew, lost)) in crews.into_iter().enumerate() {
        let deadline = SILENCE + Duration::from_secs(2);
        let left = deadline.saturating_sub(started.elapsed());
        let told = lost.recv_timeout(left).expect("in time");
        let line = told.to_string();
        assert_eq!(told.process, 1 - process, "{line}");
        assert!(
            !line.contains('\n') && why.iter().any(|why| line.contains(why)),
            "{line}"
        );
        assert!(lost.recv_timeout(Duration::from_millis(50)).is_err());
        // Its threads wait for the end of the process, which is the test's.
        std::mem::forget(crew);
    }
}

/// The control arm of [`both_lose`]: nobody learns of it in the same time.
fn nobody_loses(crews: Vec<Process>) {
    std::thread::sleep(SILENCE + Duration::from_secs(2));
    for (_, lost) in &crews {
        assert_eq!(lost.try_recv().ok(), None);
    }
    std::mem::forget(crews);
}

const CLOSED: &str = "closed the connection without a goodbye";
const SILENT: &str = "nothing has been heard of it for 0.8 s";
const COUNTED: &str = "it counts this process as lost";

#[test]
fn a_connection_that_closes_is_a_loss() {
    for way in WAYS {
        let (proxy, crews) = proxied(way);
        proxy.cut();
        both_lose(crews, &[CLOSED, COUNTED]);
    }
}

#[test]
fn a_silent_cut_is_a_loss() {
    let (proxy, crews) = proxied(Way::Encrypted);
    proxy.set(|stopped| (stopped.to, stopped.from) = (true, true));
    both_lose(crews, &[SILENT, CLOSED]);
}

#[test]
fn without_patience_a_silent_cut_goes_unnoticed() {
    let (proxy, crews) = proxied_without(Way::Encrypted, Some(Safety::Patience));
    proxy.set(|stopped| (stopped.to, stopped.from) = (true, true));
    nobody_loses(crews);
}

/// As a process that is stopped (SIGSTOP): its system still takes what fits into
/// its buffers, and it says nothing.
#[test]
fn a_peer_that_is_frozen_is_a_loss() {
    let (proxy, crews) = proxied(Way::Plaintext);
    proxy.set(|stopped| stopped.frozen = true);
    both_lose(crews, &[SILENT, COUNTED]);
}

#[test]
fn without_patience_a_frozen_peer_goes_unnoticed() {
    let (proxy, crews) = proxied_without(Way::Plaintext, Some(Safety::Patience));
    proxy.set(|stopped| stopped.frozen = true);
    nobody_loses(crews);
}

#[test]
fn a_one_way_cut_ends_both() {
    for forth in [true, false] {
        let (proxy, crews) = proxied(Way::Plaintext);
        proxy.set(|stopped| {
            if forth {
                stopped.to = true
            } else {
                stopped.from = true
            }
        });
        both_lose(crews, &[SILENT, COUNTED]);
    }
}

/// Both send as much as the link takes, and then something happens to it.
fn amid_a_flood(way: Way, happens: impl FnOnce(&Proxy)) {
    let (proxy, crews) = proxied(way);
    for (crew, _) in &crews {
        let crew = Arc::clone(crew);
        std::thread::spawn(move || exchange(&crew, 1 << 40));
    }
    std::thread::sleep(Duration::from_millis(300));
    happens(&proxy);
    both_lose(crews, &[SILENT, CLOSED, COUNTED]);
}

#[test]
fn a_cut_amid_a_flood_is_a_loss() {
    amid_a_flood(Way::Encrypted, |proxy| {
        proxy.set(|stopped| (stopped.to, stopped.from) = (true, true));
    });
    amid_a_flood(Way::NoKey, Proxy::cut);
}

#[test]
fn a_peer_that_takes_nothing_any_more_is_a_loss() {
    for way in [Way::Encrypted, Way::Plaintext] {
        amid_a_flood(way, |proxy| proxy.set(|stopped| stopped.frozen = true));
    }
}

#[test]
fn changed_bytes_are_not_believed() {
    for way in WAYS {
        let (proxy, crews) = proxied(way);
        proxy.set(|stopped| stopped.garble = true);
        both_lose(crews, &["cannot be believed", COUNTED, CLOSED]);
    }
}

/// Two processes, of which the first has sent the second a long order of zeros;
/// one bit of it was changed on its way.
fn flipped(way: Way, left_out: Option<Safety>) -> Vec<Process> {
    let (proxy, crews) = proxied_without(way, left_out);
    proxy.set(|stopped| stopped.flip = true);
    let leader = Arc::clone(&crews[0].0);
    std::thread::spawn(move || leader.tell(&vec![0; 4 << 20]));
    crews
}

#[test]
fn a_flipped_bit_of_an_order_is_not_believed() {
    for way in WAYS {
        both_lose(flipped(way, None), &["cannot be believed", COUNTED, CLOSED]);
    }
}

/// The control arm: without checksums the order comes, and is wrong. Encrypted
/// it would not come: there each record has a checksum of its own.
#[test]
fn without_checksums_a_flipped_bit_of_an_order_is_believed() {
    for way in [Way::NoKey, Way::Plaintext] {
        let crews = flipped(way, Some(Safety::Checksums));
        let order = crews[1].0.hear().unwrap();
        let ones: u32 = order.iter().map(|byte| byte.count_ones()).sum();
        assert_eq!((order.len(), ones), (4 << 20, 1), "{way:?}");
        std::mem::forget(crews);
    }
}

#[test]
fn who_has_not_seen_a_loss_is_told_of_it() {
    let mut all = memberships(3, Way::Encrypted);
    let proxy = Proxy::start(all[1].addresses[1].clone());
    all[2].addresses[1] = proxy.address.clone();
    let crews = all_join(&all);
    proxy.cut();
    let told = crews[0].1.recv_timeout(Duration::from_secs(15)).unwrap();
    let line = told.to_string();
    let found = format!("(found by process {})", 3 - told.process);
    assert!(told.process > 0 && line.ends_with(&found), "{line}");
    assert!(crews[0].1.recv_timeout(Duration::from_millis(50)).is_err());
    // As above.
    std::mem::forget(crews);
}
