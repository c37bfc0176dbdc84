//! An S3 server in memory, for benches and for trying things out:
//! `cargo run --release --example s3_server -- --port 9000 --bucket lake`.
//!
//! It prints its address and keys as one line of JSON and serves until its
//! standard input ends or it is killed. Nothing is written to disk.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(dead_code)] // The tests use the rest of the kit.

#[path = "../../tests/kit/s3/mod.rs"]
mod s3;

use std::io::Read;

fn main() {
    let mut port = 0;
    let mut bucket = "lake".to_owned();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--port", Some(value)) => port = value.parse().expect("--port wants a number"),
            ("--bucket", Some(value)) => bucket = value,
            _ => panic!("usage: s3_server [--port N] [--bucket NAME]"),
        }
    }
    let server = s3::S3Server::start_on(&bucket, port);
    println!(
        "{{\"endpoint\":\"{}\",\"bucket\":\"{bucket}\",\"access_key_id\":\"{}\",\"secret_access_key\":\"{}\"}}",
        server.endpoint(),
        s3::ACCESS_KEY,
        s3::SECRET_KEY,
    );
    // Ends with whoever started it: a closed standard input is the signal.
    let mut rest = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut rest);
}
