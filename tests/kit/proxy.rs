//! A line that takes its time: connections to it arrive somewhere else, each byte
//! later by the same span.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Listens on a port of its own and passes everything on to `target`, in both
/// directions, `delay` later. Returns its address.
pub(crate) fn slow_line(target: String, delay: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            // Whoever listens there may not have started yet.
            let Ok(far) = TcpStream::connect(&target) else {
                continue;
            };
            for socket in [&near, &far] {
                let _ = socket.set_nodelay(true);
            }
            let (near_too, far_too) = (near.try_clone(), far.try_clone());
            pass_on(near, far, delay);
            if let (Ok(near), Ok(far)) = (near_too, far_too) {
                pass_on(far, near, delay);
            }
        }
    });
    address
}

fn pass_on(mut from: TcpStream, to: TcpStream, delay: Duration) {
    let (sender, arrivals) = channel();
    std::thread::spawn(move || deliver(&arrivals, to));
    std::thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        while let Ok(read) = from.read(&mut buffer) {
            let due = Instant::now() + delay;
            if sender.send((due, buffer[..read].to_vec())).is_err() || read == 0 {
                return;
            }
        }
    });
}

fn deliver(arrivals: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    while let Ok((due, bytes)) = arrivals.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if bytes.is_empty() || to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
