//! Processes on hosts of their own: slow links, long ones, and links that are cut
//! without a word. After each the rows are right.

use crate::kit;

use std::process::Command;
use std::time::Duration;

use kit::lake::{Lake, Running};
use kit::network::Network;
use kit::oracle::rows;
use kit::outcome::Outcome;
use kit::postgres::Database;
use kit::proxy::slow_line;
use kit::team::{Team, hosts_file, key_file};
use kit::{load_log, shop};

/// How long processes may go on after a link is cut.
const NOTICED: Duration = Duration::from_secs(15);

/// One process on each host.
fn start(lake: &Lake, network: &Network, hosts: usize) -> Team {
    let file = lake.folder().join("hosts.txt");
    std::fs::write(&file, network.hosts_file(2101)).unwrap();
    let key = key_file(lake.folder(), "key");
    let config = lake.config();
    let member = |host: usize| {
        let mut command: Command = network.command(host, env!("CARGO_BIN_EXE_table-backup"));
        command.arg("run").arg(&config);
        command.args(["--json", "--progress", "never", "--join-timeout", "30s"]);
        command
            .args(["--process", &host.to_string()])
            .arg("--hosts")
            .arg(&file);
        command.arg("--cluster-key-file").arg(&key);
        Running::spawn(&mut command)
    };
    Team::of((0..hosts).map(member).collect())
}

fn all_done(team: Team) -> Vec<Outcome> {
    team.wait()
        .into_iter()
        .map(|outcome| outcome.exits(0))
        .collect()
}

fn lake(database: &Database) -> Lake {
    // The server is reached by its socket, which has no address.
    Lake::local(database.socket_url())
        .with(r#"epoch.bytes = "2MiB""#)
        .with(r#"files.target = "1MiB""#)
        .with(r#"memory = "256MiB""#)
        .with(r#"method = "diff""#)
        .with("workers = 1")
}

fn change(database: &Database) {
    database.sql(
        "update orders set note = 'changed' where id % 500 = 1;
         delete from orders where id % 700 = 3;",
    );
}

/// Three hosts load, compare and merge over links of 10 MB/s.
#[test]
fn three_hosts_and_a_slow_switch() {
    let database = Database::create();
    shop::orders(&database, 100_000);
    let lake = lake(&database);
    let network = Network::new(3);
    network.slow(10_000_000);
    all_done(start(&lake, &network, 3));
    rows(&lake, "public.orders");
    change(&database);
    all_done(start(&lake, &network, 3));
    rows(&lake, "public.orders");
}

/// Starts a load on three hosts and stops when it has begun.
fn begun(lake: &Lake, network: &Network) -> Team {
    let team = start(lake, network, 3);
    load_log::wait_for_splits(lake.place(), "public/orders", 1);
    team
}

#[test]
fn a_silent_cut() {
    let database = Database::create();
    shop::orders(&database, 400_000);
    let lake = lake(&database);
    let network = Network::new(3);
    let team = begun(&lake, &network);
    network.cut(2);
    for outcome in team.wait_within(NOTICED) {
        let outcome = outcome.exits(4);
        assert!(outcome.stderr.contains("is lost"), "{outcome}");
    }
    network.mend(2);
    all_done(start(&lake, &network, 3));
    load_log::assert_no_split_repeated(lake.place(), "public/orders");
    rows(&lake, "public.orders");
}

#[test]
fn a_cut_of_one_direction() {
    let database = Database::create();
    shop::orders(&database, 400_000);
    let lake = lake(&database);
    let network = Network::new(3);
    let team = begun(&lake, &network);
    network.cut_one_way(1, 0);
    for outcome in team.wait_within(NOTICED) {
        let outcome = outcome.exits(4);
        assert!(outcome.stderr.contains("is lost"), "{outcome}");
    }
    network.mend_one_way(1, 0);
    all_done(start(&lake, &network, 3));
    rows(&lake, "public.orders");
}

/// Each process reaches the others over lines that take 1 ms and 50 ms.
#[test]
fn long_lines() {
    let database = Database::create();
    shop::orders(&database, 20_000);
    for delay in [1, 50].map(Duration::from_millis) {
        let lake = lake(&database);
        for _ in 0..2 {
            let own = hosts_file(lake.folder(), 3);
            let own = std::fs::read_to_string(own).unwrap();
            let own: Vec<&str> = own.lines().collect();
            let key = key_file(lake.folder(), "key");
            let member = |process: usize| {
                let line = |(number, address): (usize, &&str)| {
                    if number == process {
                        format!("{address}\n")
                    } else {
                        slow_line((*address).to_owned(), delay) + "\n"
                    }
                };
                let hosts: String = own.iter().enumerate().map(line).collect();
                let file = lake.folder().join(format!("hosts-{process}.txt"));
                std::fs::write(&file, hosts).unwrap();
                Team::member(&lake, "run", process, &file, &key, &[])
            };
            all_done(Team::of((0..3).map(member).collect()));
            rows(&lake, "public.orders");
            change(&database);
        }
    }
}
