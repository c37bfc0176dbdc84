//! What an exchange between two processes costs, beside raw sockets and beside a
//! bare exchange of timely: `cargo run --release --example exchange_bench`.
//!
//! Every contender runs once per round, so that noise hits all alike; medians are
//! printed as a table. Both processes send to each other at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bare;
mod ours;
mod raw;
mod rows;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One contender's work, as its processes are told it.
#[derive(Debug, Clone)]
struct Task {
    contender: String,
    process: usize,
    processes: usize,
    workers: usize,
    port: u16,
    batches: usize,
    rows: usize,
    window_bytes: u64,
}

impl Task {
    fn from_arguments(arguments: &[String]) -> Self {
        let number = |at: usize| arguments[at].parse::<usize>().unwrap();
        Self {
            contender: arguments[0].clone(),
            process: number(1),
            processes: number(2),
            workers: number(3),
            port: u16::try_from(number(4)).unwrap(),
            batches: number(5),
            rows: number(6),
            window_bytes: number(7) as u64,
        }
    }

    fn arguments(&self) -> Vec<String> {
        [
            "child".to_owned(),
            self.contender.clone(),
            self.process.to_string(),
            self.processes.to_string(),
            self.workers.to_string(),
            self.port.to_string(),
            self.batches.to_string(),
            self.rows.to_string(),
            self.window_bytes.to_string(),
        ]
        .to_vec()
    }

    fn addresses(&self) -> Vec<String> {
        (0..self.processes)
            .map(|process| format!("127.0.0.1:{}", self.port as usize + process))
            .collect()
    }

    /// Seconds from the moment when all processes are joined.
    fn run(&self) -> Duration {
        match self.contender.as_str() {
            "raw" => raw::run(self),
            "bare" => bare::run(self),
            _ => ours::run(self),
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "child") {
        let task = Task::from_arguments(&arguments[1..]);
        let took = task.run();
        println!("{}", took.as_secs_f64());
        return;
    }
    let mut options: BTreeMap<String, String> = BTreeMap::new();
    for pair in arguments.chunks(2) {
        options.insert(pair[0].trim_start_matches('-').to_owned(), pair[1].clone());
    }
    let number = |name: &str, default: u64| {
        options
            .get(name)
            .map_or(default, |value| value.parse().unwrap())
    };
    let rounds = number("rounds", 5);
    let window_bytes = number("window", 16 << 20);
    let only = options.get("only").cloned();
    let large = (number("batches", 3000) as usize, 8192);
    let tiny = (number("tiny", 200_000) as usize, 16);
    for (batches, rows) in [large, tiny] {
        table(rounds, window_bytes, batches, rows, only.as_deref());
    }
}

fn table(rounds: u64, window_bytes: u64, batches: usize, rows: usize, only: Option<&str>) {
    let bytes = rows::column_bytes(rows) * batches as u64;
    let contenders = [
        ("raw", 2, 1),
        ("bare", 2, 1),
        ("ours", 2, 1),
        ("crew", 2, 1),
        ("crew encrypted", 2, 1),
        ("bare", 1, 2),
        ("ours", 1, 2),
    ];
    let contenders: Vec<_> = contenders
        .into_iter()
        .filter(|(name, ..)| only.is_none_or(|only| only.split(',').any(|only| only == *name)))
        .collect();
    let mut seconds: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for (place, (name, processes, workers)) in contenders.iter().enumerate() {
            let took = contend(name, *processes, *workers, batches, rows, window_bytes);
            seconds.entry(place).or_default().push(took);
        }
    }
    println!(
        "\n{batches} batches of {rows} rows from each worker, {} MB of columns each, medians of {rounds}, window {} MiB\n",
        bytes / 1_000_000,
        window_bytes >> 20
    );
    println!(
        "| contender | processes x workers | seconds | range | MB/s each way | batches/s each way |"
    );
    println!("|---|---|---|---|---|---|");
    for (place, (name, processes, workers)) in contenders.iter().enumerate() {
        let mut times = seconds[&place].clone();
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        println!(
            "| {name} | {processes} x {workers} | {median:.3} | {:.3}-{:.3} | {:.0} | {:.0} |",
            times[0],
            times[times.len() - 1],
            bytes as f64 / median / 1e6,
            batches as f64 / median,
        );
    }
}

/// Runs the processes of one contender; seconds of the slowest.
fn contend(
    name: &str,
    processes: usize,
    workers: usize,
    batches: usize,
    rows: usize,
    window_bytes: u64,
) -> f64 {
    let port = free_port(processes);
    let children: Vec<_> = (0..processes)
        .map(|process| {
            let task = Task {
                contender: name.to_owned(),
                process,
                processes,
                workers,
                port,
                batches,
                rows,
                window_bytes,
            };
            Command::new(std::env::current_exe().unwrap())
                .args(task.arguments())
                .stdout(Stdio::piped())
                .stderr(if std::env::var_os("EXCHANGE_BENCH_TELL").is_some() {
                    Stdio::inherit()
                } else {
                    Stdio::null()
                })
                .spawn()
                .unwrap()
        })
        .collect();
    let ends = children.into_iter().map(|child| {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{name}: {:?}", output.status);
        let text = String::from_utf8(output.stdout).unwrap();
        // timely prints a line of its own while it joins.
        let last = text.lines().last().unwrap();
        last.parse::<f64>().unwrap()
    });
    ends.fold(0.0, f64::max)
}

/// The first of so many ports that nobody listens on now.
fn free_port(ports: usize) -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (1..ports as u16).all(|next| port.checked_add(next).is_some_and(free)) {
            return port;
        }
    }
}
