//! What two sockets can carry: 1 MiB at a time, both directions at once.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::Task;

pub(super) fn run(task: &Task) -> Duration {
    let address = task.addresses[0].clone();
    let mut socket = if task.process == 0 {
        TcpListener::bind(address).unwrap().accept().unwrap().0
    } else {
        loop {
            match TcpStream::connect(&address) {
                Ok(socket) => break socket,
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    };
    socket.set_nodelay(true).unwrap();
    let bytes = task.bytes();
    let mut other = socket.try_clone().unwrap();
    let started = Instant::now();
    let reads = std::thread::spawn(move || {
        let mut buffer = vec![0_u8; 1 << 20];
        let mut left = bytes;
        while left > 0 {
            let read = other.read(&mut buffer).unwrap();
            assert!(read > 0);
            left -= read as u64;
        }
    });
    let block = vec![7_u8; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let next = left.min(block.len() as u64) as usize;
        socket.write_all(&block[..next]).unwrap();
        left -= next as u64;
    }
    reads.join().unwrap();
    started.elapsed()
}
