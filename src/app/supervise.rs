//! The verb `cluster`: starts the processes of a run on this host, watches them,
//! and starts them again when one was lost. Elsewhere systemd or Kubernetes does
//! this (`deploy/`).

use std::ffi::OsString;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::cli::{OutputArgs, SuperviseArgs, Supervised};
use super::{Exit, Failure, signals};
use crate::budget::{MemoryLimit, default_workers};
use crate::cancel::Cancel;
use crate::telemetry::Progress;
use crate::telemetry::logs::LogLevel;

/// How long processes may take to end when one of them is gone. Each of them
/// notices a loss by itself within 10 s.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// The pause before the first new start; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Keeps the processes alive until the run is over.
pub(super) fn supervise(args: &SuperviseArgs, output: OutputArgs) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("cannot start").caused_by(&error))?;
    let stop = Cancel::new();
    let outcome = runtime.block_on(async {
        tokio::spawn(signals::watch_signals(stop.clone(), Progress::hidden()));
        keep_alive(args, output, &stop).await
    });
    runtime.shutdown_background();
    outcome
}

async fn keep_alive(
    args: &SuperviseArgs,
    output: OutputArgs,
    stop: &Cancel,
) -> Result<Exit, Failure> {
    let mut pause = FIRST_PAUSE;
    let mut restarts = 0;
    loop {
        let ended = Team::start(args, output)?.watch(stop).await;
        let exit = match ended {
            Ended::Over(exit) => return Ok(exit),
            Ended::Lost(exit) if restarts == args.restarts || stop.is_cancelled() => {
                return Ok(exit);
            }
            Ended::Lost(exit) => exit,
        };
        restarts += 1;
        if output.log != LogLevel::Silent && !output.json {
            let text = format!(
                "a process was lost (exit {}); starting all again, {restarts} of at most {} times\n",
                exit.code(),
                args.restarts
            );
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return Ok(Exit::Interrupted),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// How the processes came to their end.
enum Ended {
    /// The run is over; another one would end in the same way.
    Over(Exit),
    /// At least one was lost: worth another start.
    Lost(Exit),
}

/// The processes of one run.
struct Team {
    /// By number.
    processes: Vec<(usize, Child)>,
    /// Addresses and key; gone when the run is.
    _secrets: tempfile::TempDir,
}

impl Team {
    fn start(args: &SuperviseArgs, output: OutputArgs) -> Result<Self, Failure> {
        let cannot =
            |error: std::io::Error| Failure::failed("cannot start the processes").caused_by(&error);
        let program = std::env::current_exe().map_err(cannot)?;
        let secrets = tempfile::tempdir().map_err(cannot)?;
        let hosts = secrets.path().join("hosts.txt");
        std::fs::write(&hosts, free_addresses(args.processes).map_err(cannot)?).map_err(cannot)?;
        let key = secrets.path().join("key");
        write_key(&key).map_err(cannot)?;
        let mut processes = Vec::new();
        for process in 0..args.processes {
            let mut command = Command::new(&program);
            command
                .args(flags_of(args, output))
                .arg("--hosts")
                .arg(&hosts)
                .arg("--cluster-key-file")
                .arg(&key)
                .args(["--process", &process.to_string()])
                .stdin(Stdio::null())
                .kill_on_drop(true);
            if process > 0 {
                command.stdout(Stdio::null()).stderr(Stdio::piped());
            }
            let mut child = command.spawn().map_err(cannot)?;
            if let Some(said) = child.stderr.take() {
                tokio::spawn(pass_on(process, said, output.json));
            }
            processes.push((process, child));
        }
        Ok(Self {
            processes,
            _secrets: secrets,
        })
    }

    /// Waits until all processes have ended. When one is lost the others are
    /// waited for: they notice it too, and say what they know.
    async fn watch(mut self, stop: &Cancel) -> Ended {
        let mut statuses = Vec::new();
        let mut deadline = None;
        let mut asked = false;
        while !self.processes.is_empty() {
            let over = tokio::select! {
                over = next_end(&mut self.processes) => Some(over),
                () = stop.cancelled(), if !asked => None,
                () = sleep_until(deadline) => {
                    for (_, process) in &mut self.processes {
                        // It may have ended meanwhile.
                        let _ = process.start_kill();
                    }
                    deadline = None;
                    continue;
                }
            };
            match over {
                Some((number, status)) => {
                    statuses.push((number, status));
                    deadline = Some(tokio::time::Instant::now() + LAST_WORDS);
                }
                None => {
                    asked = true;
                    self.processes
                        .iter()
                        .for_each(|(_, child)| ask_to_end(child));
                }
            }
        }
        verdict(&statuses)
    }
}

/// The exit of the run: the first process's, unless any was lost.
fn verdict(statuses: &[(usize, ExitStatus)]) -> Ended {
    let lost = |status: &ExitStatus| match status.code() {
        None => true,
        Some(code) => code == i32::from(Exit::Retry.code()),
    };
    let exit = |status: ExitStatus| {
        let code = status.code().unwrap_or(i32::from(Exit::Retry.code()));
        let known = Exit::ALL.into_iter();
        let mut known = known.filter(|exit| i32::from(exit.code()) == code);
        known.next().unwrap_or(Exit::Failed)
    };
    let leader = statuses.iter().find(|(number, _)| *number == 0);
    let leader = leader.map_or(Exit::Failed, |(_, status)| exit(*status));
    // What another process ended with is why the first one is at a loss.
    let permanent = statuses.iter().map(|(_, status)| exit(*status));
    let mut permanent = permanent.filter(|exit| !matches!(exit, Exit::Done | Exit::Retry));
    if statuses.iter().any(|(_, status)| lost(status)) {
        return match permanent.next() {
            Some(exit) => Ended::Over(exit),
            None => Ended::Lost(Exit::Retry),
        };
    }
    Ended::Over(leader)
}

/// Waits for the next process to end and takes it out of the list.
async fn next_end(processes: &mut Vec<(usize, Child)>) -> (usize, ExitStatus) {
    let ends = processes
        .iter_mut()
        .map(|(_, child)| Box::pin(child.wait()));
    let (status, at, _) = futures::future::select_all(ends).await;
    let (number, _) = processes.remove(at);
    // Waiting fails only for a child that was waited for already.
    (number, status.unwrap_or_default())
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn ask_to_end(child: &Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
        // It may have ended meanwhile.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// Ports of this host that nobody listens on now.
fn free_addresses(processes: usize) -> std::io::Result<String> {
    let listeners = (0..processes).map(|_| TcpListener::bind("127.0.0.1:0"));
    let listeners: Vec<TcpListener> = listeners.collect::<Result<_, _>>()?;
    let addresses = listeners.iter().map(TcpListener::local_addr);
    let addresses: Vec<_> = addresses.collect::<Result<_, _>>()?;
    Ok(addresses
        .iter()
        .map(|address| format!("{address}\n"))
        .collect())
}

/// A key that only this user can read.
fn write_key(file: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Of each of them at least 62 bits are random.
    let secret: String = (0..4)
        .map(|_| uuid::Uuid::now_v7().simple().to_string())
        .collect();
    options.open(file)?.write_all(secret.as_bytes())
}

/// What every process is called with. Unless told otherwise they share the cores
/// and the memory of this host evenly.
fn flags_of(args: &SuperviseArgs, output: OutputArgs) -> Vec<OsString> {
    let verb = match args.verb {
        Supervised::Run => "run",
        Supervised::Schedule => "schedule",
        Supervised::Verify => "verify",
    };
    let mut flags: Vec<OsString> = vec![verb.into()];
    flags.extend(args.config.clone().map(OsString::from));
    let given = |name: &str| {
        let with_value = format!("{name}=");
        args.flags
            .iter()
            .any(|flag| flag == name || flag.starts_with(&with_value))
    };
    let limit = MemoryLimit::find(None);
    let share = limit.bytes.as_u64() / args.processes as u64;
    if !given("--memory") {
        flags.extend(["--memory".into(), format!("{}KiB", share >> 10).into()]);
    }
    if !given("--workers") {
        let workers = default_workers(bytesize::ByteSize(share)) / args.processes;
        flags.extend(["--workers".into(), workers.max(1).to_string().into()]);
    }
    if args.verb == Supervised::Verify && !given("--against-source") {
        flags.push("--against-source".into());
    }
    let level = match output.log {
        LogLevel::Silent => "silent",
        LogLevel::Normal => "normal",
        LogLevel::Verbose => "verbose",
    };
    flags.extend(["--log".into(), level.into()]);
    if output.json {
        flags.push("--json".into());
    }
    flags.extend(args.flags.iter().map(OsString::from));
    flags
}

/// Passes on what a process says, with its number before each line.
async fn pass_on(process: usize, said: tokio::process::ChildStderr, json: bool) {
    let mut lines = BufReader::new(said).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let line = if json {
            format!("{line}\n")
        } else {
            format!("process {process}: {line}\n")
        };
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}
