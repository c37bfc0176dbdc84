//! Both halves of a link over a real connection: what is written is read, however
//! little room the reader has, and what was changed on its way is not.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use proptest::prelude::*;
use timely::communication::networking::MessageHeader;

use super::counters::Tally;
use super::frame::{FrameError, HEADER_BYTES, Kind};
use super::gate::Gate;
use super::inbox::{Arrived, Ending, Inbox, Source};
use super::outbox::Outbox;
use crate::cluster::compress::Choice;

const SEED: u64 = 77;
/// Of timely's own header.
const MESSAGE_HEAD_BYTES: usize = 48;

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

/// A message of a worker of process 1 to one of process 0, as timely writes it.
fn message(length: usize) -> Vec<u8> {
    let header = MessageHeader {
        channel: 3,
        source: 1,
        target_lower: 0,
        target_upper: 1,
        length,
        seqno: 7,
    };
    let mut bytes = Vec::new();
    header.write_to(&mut bytes).unwrap();
    bytes.extend((0..length).map(|at| (at * 7 + at / 251) as u8));
    bytes
}

/// The frames of `bytes`, each of so many bytes.
fn frames(bytes: &[u8], frame_bytes: usize) -> Vec<u8> {
    let (near, mut far) = pair();
    let reads = std::thread::spawn(move || {
        let mut frames = Vec::new();
        far.read_to_end(&mut frames).unwrap();
        frames
    });
    let mut outbox = Outbox::new(near, None, SEED, Choice::never());
    for contents in bytes.chunks(frame_bytes) {
        let tally = Tally::default();
        outbox.send(Kind::Dataflow, true, contents, &tally).unwrap();
    }
    outbox.socket().shutdown(Shutdown::Write).unwrap();
    reads.join().unwrap()
}

/// What a reader with so much room at a time makes of these frames, up to so many
/// bytes.
fn read(frames: Vec<u8>, room: usize, bytes: usize, checks: bool) -> Result<Vec<u8>, Ending> {
    let (mut near, far) = pair();
    let writes = std::thread::spawn(move || near.write_all(&frames));
    let source = Source::plain(far, Duration::from_secs(10)).unwrap();
    let mut inbox = Inbox::new(source, SEED, Gate::new(0, 1, 1), checks);
    let mut whole = Vec::new();
    let mut out = vec![0; room];
    while whole.len() < bytes {
        match inbox.next(&mut out, &Tally::default())? {
            Arrived::Dataflow(taken) => whole.extend_from_slice(&out[..taken]),
            _ => unreachable!("nothing else was sent"),
        }
    }
    writes.join().unwrap().unwrap();
    Ok(whole)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_written_is_read_however_little_room_there_is(
        lengths in prop::collection::vec(1..100_000usize, 1..6),
        room in 1_000..150_000usize, frame_bytes in 500..200_000usize,
    ) {
        let bytes: Vec<u8> = lengths.into_iter().flat_map(message).collect();
        let frames = frames(&bytes, frame_bytes);
        prop_assert!(read(frames, room, bytes.len(), true).unwrap() == bytes);
    }
}

/// One bit of a frame's contents is changed; what a reader makes of it.
fn flipped(at: usize, room: usize, checks: bool) -> Result<usize, Ending> {
    let bytes = message(100_000);
    let mut frames = frames(&bytes, bytes.len());
    frames[HEADER_BYTES + at] ^= 0x10;
    let read = read(frames, room, bytes.len(), checks)?;
    Ok(read.iter().zip(&bytes).filter(|(a, b)| a != b).count())
}

/// Places in a frame, and rooms for it: all of it, or a first part only.
fn flips() -> impl Iterator<Item = (usize, usize)> {
    let places = [MESSAGE_HEAD_BYTES, 50_000, MESSAGE_HEAD_BYTES + 99_999];
    let rooms = [200_000, 60_000, 1_000];
    places
        .into_iter()
        .flat_map(move |at| rooms.map(|room| (at, room)))
}

#[test]
fn a_flipped_bit_is_never_handed_on() {
    for (at, room) in flips() {
        let ending = flipped(at, room, true);
        assert!(
            matches!(ending, Err(Ending::Frame(FrameError::Contents))),
            "{at}, {room}: {ending:?}"
        );
    }
}

/// The control arm: without the check the same bits do pass.
#[test]
fn without_the_check_a_flipped_bit_passes() {
    for (at, room) in flips() {
        assert_eq!(flipped(at, room, false).unwrap(), 1, "{at}, {room}");
    }
}
