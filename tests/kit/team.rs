//! Several processes of one run.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::lake::{Lake, Running};
use super::outcome::Outcome;

/// The processes of a run, by number.
pub(crate) struct Team {
    running: Vec<Running>,
}

/// Addresses of this host that nobody listens on now, as a hosts file.
pub(crate) fn hosts_file(folder: &Path, processes: usize) -> PathBuf {
    let listeners: Vec<TcpListener> = (0..processes)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
        .collect();
    let lines = listeners
        .iter()
        .map(|listener| format!("{}\n", listener.local_addr().expect("an address")));
    let file = folder.join("hosts.txt");
    std::fs::write(&file, lines.collect::<String>()).expect("the hosts file");
    file
}

/// A file that holds a key only its owner can read.
pub(crate) fn key_file(folder: &Path, name: &str) -> PathBuf {
    let file = folder.join(name);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let secret = format!("{name:-<48}");
    let mut opened = options.open(&file).expect("the key file");
    opened.write_all(secret.as_bytes()).expect("the key");
    file
}

impl Team {
    /// Starts `verb` in so many processes; each is also given `more`.
    pub(crate) fn start(lake: &Lake, verb: &str, processes: usize, more: &[&str]) -> Self {
        let hosts = hosts_file(lake.folder(), processes);
        let key = key_file(lake.folder(), "key");
        let member = |process: usize| Self::member(lake, verb, process, &hosts, &key, more);
        Self {
            running: (0..processes).map(member).collect(),
        }
    }

    /// Starts one process of a run.
    pub(crate) fn member(
        lake: &Lake,
        verb: &str,
        process: usize,
        hosts: &Path,
        key: &Path,
        more: &[&str],
    ) -> Running {
        let (process, hosts, key) = (
            process.to_string(),
            hosts.to_string_lossy(),
            key.to_string_lossy(),
        );
        let mut arguments = vec!["--process", &process, "--hosts", &hosts];
        arguments.extend(["--cluster-key-file", &key]);
        if !more.contains(&"--join-timeout") {
            arguments.extend(["--join-timeout", "30s"]);
        }
        arguments.extend(more);
        lake.verb_with(verb, &arguments)
    }

    /// Processes that run already.
    pub(crate) fn of(running: Vec<Running>) -> Self {
        Self { running }
    }

    /// One of the processes.
    pub(crate) fn process(&mut self, number: usize) -> &mut Running {
        &mut self.running[number]
    }

    /// Waits for all of them. The first is the leader's.
    #[track_caller]
    pub(crate) fn wait(self) -> Vec<Outcome> {
        self.running.into_iter().map(Running::wait).collect()
    }

    /// Waits for all that end within a span; the others fail the test.
    #[track_caller]
    pub(crate) fn wait_within(mut self, span: Duration) -> Vec<Outcome> {
        let deadline = Instant::now() + span;
        while self.running.iter_mut().any(Running::is_running) {
            let left = self.running.iter_mut().enumerate();
            let left = left.filter_map(|(number, process)| process.is_running().then_some(number));
            assert!(
                Instant::now() < deadline,
                "processes {:?} are still running after {span:?}",
                left.collect::<Vec<_>>()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        self.wait()
    }

    /// Takes one process out of the team.
    pub(crate) fn take(&mut self, number: usize) -> Running {
        self.running.remove(number)
    }
}

/// Ids of the processes that a process has started.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let list = std::process::Command::new("ps")
        .args(["-o", "pid=", "--ppid", &parent.to_string()])
        .output()
        .expect("ps");
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    list.split_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect()
}

/// Kills a process with SIGKILL.
pub(crate) fn kill(process: u32) {
    let status = std::process::Command::new("kill")
        .args(["-s", "KILL", &process.to_string()])
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "kill {process}"
    );
}
