//! An S3 server in memory, for benches and for trying things out:
//!
//! ```sh
//! cargo build --workspace --locked --example s3_server
//! target/debug/examples/s3_server --port 9000 --bucket lake
//! ```
//!
//! That is the build of the tests, whose dependencies are optimised; `--release` would
//! compile every dependency once more for the sake of those that only tests have.
//!
//! It prints its address and keys as one line of JSON and serves until its standard
//! input ends or it is killed. Nothing is written to disk. Each line of its standard
//! input is a question, answered by one line of JSON:
//!
//! | question | answer |
//! |---|---|
//! | `list PREFIX` | objects as `[key, bytes, since when]` |
//! | `md5 KEY` | the MD5 of a content, also of one that was put in parts |
//! | `forget PREFIX` | the number of objects that are no more |
//! | `load` | what was seen since the last time, in steps of a quarter of a second: `[when, requests at once, answered, refused]` |
//!
//! `--delay 50` makes every request take so many milliseconds longer. `--best-at 24`:
//! with more requests at once it gets in its own way, twice as many have half of the
//! throughput. `--refuse-above 40` answers more at once with 503. `--admit 64` lets more
//! wait for their turn: whatever a client does, it is as if it asked for 64 at once.
//! `--checksums no`: tells no checksums of contents, as S3 did not before 2025 and many
//! other stores do not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(dead_code)] // The tests use the rest of the kit.

#[path = "../../tests/kit/s3/mod.rs"]
mod s3;

use std::io::BufRead;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

/// Between two looks at the load.
const LOOK: Duration = Duration::from_millis(250);
/// Looks that are kept while nobody asks: those of an hour.
const MOST_LOOKS: usize = 4 * 3600;

fn main() {
    let mut port = 0;
    let mut bucket = "lake".to_owned();
    let mut bearing = s3::Bearing::default();
    let mut checksums = true;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let number = || value.parse::<u32>().expect("a number");
        match argument.as_str() {
            "--port" => port = value.parse().expect("--port wants a number"),
            "--bucket" => bucket = value,
            "--delay" => bearing.delay = Duration::from_millis(number().into()),
            "--best-at" => bearing.best_at = Some(number()),
            "--refuse-above" => bearing.refuses_above = Some(number()),
            "--admit" => bearing.admits = Some(number()),
            "--checksums" => checksums = value != "no",
            _ => panic!(
                "usage: s3_server [--port N] [--bucket NAME] [--delay MILLISECONDS] \
                 [--best-at N] [--refuse-above N] [--admit N] [--checksums no]"
            ),
        }
    }
    let server = s3::S3Server::start_on(&bucket, port, bearing);
    if !checksums {
        server.keep_no_checksums();
    }
    println!(
        "{}",
        json!({
            "endpoint": server.endpoint(),
            "bucket": bucket,
            "access_key_id": s3::ACCESS_KEY,
            "secret_access_key": s3::SECRET_KEY,
        })
    );
    let looks = watch(server.load().clone());
    // Ends with whoever started it: a closed standard input is the signal.
    for question in std::io::stdin().lock().lines().map_while(Result::ok) {
        println!("{}", answer(&server, &bucket, &looks, &question));
    }
}

type Looks = Arc<Mutex<Vec<Value>>>;

fn answer(server: &s3::S3Server, bucket: &str, looks: &Looks, question: &str) -> Value {
    let words: Vec<&str> = question.split(' ').collect();
    match words.as_slice() {
        ["list", prefix] => list(server, bucket, prefix),
        ["md5", key] => json!(server.md5(bucket, key)),
        ["forget", prefix] => {
            let keys = server.keys(bucket, prefix);
            keys.iter().for_each(|key| server.remove(bucket, key));
            json!(keys.len())
        }
        ["load"] => std::mem::take(&mut *looks.lock().unwrap()).into(),
        _ => json!({ "error": "list PREFIX, md5 KEY, forget PREFIX, or load" }),
    }
}

fn list(server: &s3::S3Server, bucket: &str, prefix: &str) -> Value {
    let keys = server.keys(bucket, prefix).into_iter();
    let objects = keys.filter_map(|key| {
        let (bytes, since) = server.extent(bucket, &key)?;
        Some(json!([key, bytes, seconds(since)]))
    });
    objects.collect()
}

/// Looks at the load from now on.
fn watch(load: s3::Load) -> Looks {
    let looks = Looks::default();
    let kept = Arc::clone(&looks);
    std::thread::spawn(move || {
        let (mut last, mut at) = (load.seen(), SystemTime::now());
        loop {
            std::thread::sleep(LOOK);
            let (now, moment) = (load.seen(), SystemTime::now());
            let passed = seconds(moment) - seconds(at);
            let mut kept = kept.lock().unwrap();
            if kept.len() < MOST_LOOKS {
                kept.push(json!([
                    seconds(moment),
                    (now.busy_seconds - last.busy_seconds) / passed,
                    now.answered - last.answered,
                    now.refused - last.refused,
                ]));
            }
            (last, at) = (now, moment);
        }
    });
    looks
}

/// Seconds since 1970.
fn seconds(moment: SystemTime) -> f64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH);
    since.expect("after 1970").as_secs_f64()
}
