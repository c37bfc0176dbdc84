//! What an exchange between two processes costs, beside raw sockets and beside a
//! bare exchange of timely: `cargo run --release --example exchange_bench`.
//!
//! Every contender runs once per round, so that noise hits all alike; medians are
//! printed as a table. Both processes send to each other at once, on loopback or,
//! with `--link`, on two hosts made for it (as root).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bare;
#[path = "../../../tests/kit/network.rs"]
#[allow(dead_code)] // The tests cut links too.
mod network;
mod ours;
mod raw;
mod rows;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use network::Network;
use rows::Contents;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Where the processes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Loopback,
    /// Two hosts, whose line carries so many bytes a second; 0 for all it can.
    Hosts(u64),
}

/// What one table is about.
#[derive(Debug, Clone)]
struct Load {
    batches: usize,
    rows: usize,
    window_bytes: u64,
    contents: Contents,
}

/// One contender's work, as its processes are told it.
#[derive(Debug, Clone)]
struct Task {
    contender: String,
    process: usize,
    processes: usize,
    workers: usize,
    addresses: Vec<String>,
    load: Load,
}

impl Task {
    fn from_arguments(arguments: &[String]) -> Self {
        let number = |at: usize| arguments[at].parse::<usize>().unwrap();
        Self {
            contender: arguments[0].clone(),
            process: number(1),
            processes: number(2),
            workers: number(3),
            addresses: arguments[4].split(',').map(str::to_owned).collect(),
            load: Load {
                batches: number(5),
                rows: number(6),
                window_bytes: number(7) as u64,
                contents: Contents::of(&arguments[8]),
            },
        }
    }

    fn arguments(&self) -> Vec<String> {
        [
            "child".to_owned(),
            self.contender.clone(),
            self.process.to_string(),
            self.processes.to_string(),
            self.workers.to_string(),
            self.addresses.join(","),
            self.load.batches.to_string(),
            self.load.rows.to_string(),
            self.load.window_bytes.to_string(),
            self.load.contents.name().to_owned(),
        ]
        .to_vec()
    }

    /// Bytes of columns that each worker sends.
    fn bytes(&self) -> u64 {
        rows::column_bytes(self.load.rows) * self.load.batches as u64
    }

    fn run(&self) -> Outcome {
        match self.contender.as_str() {
            "raw" => Outcome::of(raw::run(self)),
            "bare" => Outcome::of(bare::run(self)),
            _ => ours::run(self),
        }
    }
}

/// What one process took.
#[derive(Debug, Clone, Copy, Default)]
struct Outcome {
    /// From the moment when all processes are joined.
    seconds: f64,
    /// Of the processor, from the process's start.
    cpu_seconds: f64,
    /// Bytes over the link as they were and as they were sent, where they are
    /// counted, and seconds in LZ4.
    raw: f64,
    sent: f64,
    lz4_seconds: f64,
}

impl Outcome {
    fn of(took: Duration) -> Self {
        Self {
            seconds: took.as_secs_f64(),
            ..Self::default()
        }
    }

    fn from_line(line: &str) -> Self {
        let mut numbers = line.split(' ').map(|number| number.parse().unwrap());
        let mut next = || numbers.next().unwrap();
        Self {
            seconds: next(),
            cpu_seconds: next(),
            raw: next(),
            sent: next(),
            lz4_seconds: next(),
        }
    }

    fn line(&self) -> String {
        let [cpu, raw] = [used_cpu_seconds(), self.raw];
        format!(
            "{} {cpu} {raw} {} {}",
            self.seconds, self.sent, self.lz4_seconds
        )
    }

    /// The slower process's time, and what both used.
    fn and(self, other: Self) -> Self {
        Self {
            seconds: self.seconds.max(other.seconds),
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            raw: self.raw + other.raw,
            sent: self.sent + other.sent,
            lz4_seconds: self.lz4_seconds + other.lz4_seconds,
        }
    }
}

/// As the kernel counts it, in hundredths of a second.
fn used_cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "child") {
        println!("{}", Task::from_arguments(&arguments[1..]).run().line());
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
    let line = match options.get("link") {
        Some(rate) => Line::Hosts(rate.parse().unwrap()),
        None => Line::Loopback,
    };
    let only = options.get("only").map(String::as_str);
    let contents = options.get("contents").map_or("text", String::as_str);
    let large = (number("batches", 3000) as usize, 8192);
    let tiny = (number("tiny", 200_000) as usize, 16);
    for (batches, rows) in [large, tiny] {
        let load = Load {
            batches,
            rows,
            window_bytes: number("window", 16 << 20),
            contents: Contents::of(contents),
        };
        if batches > 0 {
            table(number("rounds", 5), &load, line, only);
        }
    }
}

fn table(rounds: u64, load: &Load, line: Line, only: Option<&str>) {
    let bytes = rows::column_bytes(load.rows) * load.batches as u64;
    let mut contenders = vec![
        ("raw", 2, 1),
        ("bare", 2, 1),
        ("ours", 2, 1),
        ("crew", 2, 1),
        ("crew without LZ4", 2, 1),
        ("crew encrypted", 2, 1),
    ];
    if line == Line::Loopback {
        contenders.extend([("bare", 1, 2), ("ours", 1, 2)]);
    }
    contenders.retain(|(name, ..)| only.is_none_or(|only| only.split(',').any(|o| o == *name)));
    let mut outcomes: BTreeMap<usize, Vec<Outcome>> = BTreeMap::new();
    for _ in 0..rounds {
        for (place, contender) in contenders.iter().enumerate() {
            outcomes
                .entry(place)
                .or_default()
                .push(contend(*contender, load, line));
        }
    }
    println!(
        "\n{} batches of {} rows ({}) from each worker, {} MB of columns each, medians of {rounds}, window {} MiB, {}\n",
        load.batches,
        load.rows,
        load.contents.name(),
        bytes / 1_000_000,
        load.window_bytes >> 20,
        match line {
            Line::Loopback => "loopback".to_owned(),
            Line::Hosts(0) => "two hosts".to_owned(),
            Line::Hosts(rate) => format!("two hosts, {} MB/s", rate as f64 / 1e6),
        }
    );
    println!(
        "| contender | processes x workers | seconds | range | CPU | MB/s each way | batches/s each way | sent | in LZ4 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (place, (name, processes, workers)) in contenders.iter().enumerate() {
        let median = |what: fn(&Outcome) -> f64| {
            let mut values: Vec<f64> = outcomes[&place].iter().map(what).collect();
            values.sort_by(f64::total_cmp);
            (
                values[0],
                values[values.len() / 2],
                values[values.len() - 1],
            )
        };
        let (least, seconds, most) = median(|o| o.seconds);
        let cpu = median(|o| o.cpu_seconds).1;
        let (sent, lz4) = match median(|o| o.raw).1 {
            0.0 => (String::new(), String::new()),
            _ => (
                format!("{:.1}%", 100.0 * median(|o| o.sent / o.raw).1),
                // Of the sending threads' time: there are as many as processes.
                format!("{:.1}%", 50.0 * median(|o| o.lz4_seconds / o.seconds).1),
            ),
        };
        println!(
            "| {name} | {processes} x {workers} | {seconds:.3} | {least:.3}-{most:.3} | {cpu:.2} s | {:.1} | {:.0} | {sent} | {lz4} |",
            bytes as f64 / seconds / 1e6,
            load.batches as f64 / seconds,
        );
    }
}

/// Runs the processes of one contender.
fn contend((name, processes, workers): (&str, usize, usize), load: &Load, line: Line) -> Outcome {
    let network = match line {
        Line::Loopback => None,
        Line::Hosts(rate) => {
            let network = Network::new(processes);
            if rate > 0 {
                network.slow(rate);
            }
            Some(network)
        }
    };
    let addresses: Vec<String> = match &network {
        Some(_) => (0..processes)
            .map(|host| format!("{}:2101", network::address(host)))
            .collect(),
        None => {
            let port = usize::from(free_port(processes));
            (0..processes)
                .map(|process| format!("127.0.0.1:{}", port + process))
                .collect()
        }
    };
    let program = std::env::current_exe().unwrap();
    let program = program.to_str().unwrap();
    let children: Vec<_> = (0..processes)
        .map(|process| {
            let task = Task {
                contender: name.to_owned(),
                process,
                processes,
                workers,
                addresses: addresses.clone(),
                load: load.clone(),
            };
            let mut command = match &network {
                Some(network) => network.command(process, program),
                None => Command::new(program),
            };
            command
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
        Outcome::from_line(text.lines().last().unwrap())
    });
    ends.reduce(Outcome::and).unwrap()
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
