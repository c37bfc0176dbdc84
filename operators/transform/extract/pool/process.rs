//! One child: its start, one document, its end and what that means.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::child::{ARGUMENT, Answer, Hello};
use super::super::{ExtractOptions, Limits, Reason};
use super::ExtractError;

/// How long a child may take until it is ready.
const START: Duration = Duration::from_secs(60);
/// How long a child whose pipes are closed may take to end.
const END: Duration = Duration::from_secs(10);
/// What is kept of its complaints.
const COMPLAINT_BYTES: u64 = 4096;
/// Longer than any greeting.
const HELLO_BYTES: u64 = 64 << 10;

/// What became of a document.
pub(super) enum Outcome {
    /// The child has answered and waits for the next.
    Answered(Answer),
    /// The child is no more.
    Lost(Reason),
}

/// A child that waits.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    complaint: Option<JoinHandle<String>>,
}

impl Process {
    pub(super) async fn spawn(
        program: &Path,
        options: &ExtractOptions,
    ) -> Result<Self, ExtractError> {
        let failed = |source| ExtractError::Spawn {
            program: program.to_owned(),
            source,
        };
        let encoded = serde_json::to_string(options).map_err(|error| failed(error.into()))?;
        let mut child = Command::new(program)
            .args([ARGUMENT, &encoded])
            // It needs no secrets of ours.
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            // The allocator of our binaries else takes a gigabyte of writable memory at
            // its start, before there is a cap, and a document could use all of it.
            .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
            // Its own group: Ctrl-C ends the run in its own order, and no document is
            // taken for one that kills.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(stderr)) = pipes else {
            return Err(failed(std::io::ErrorKind::BrokenPipe.into()));
        };
        let complaint = Some(tokio::spawn(complaint(stderr)));
        let mut process = Self {
            child,
            input,
            output,
            complaint,
        };
        process.greet().await?;
        Ok(process)
    }

    async fn greet(&mut self) -> Result<(), ExtractError> {
        let hello = timeout(START, self.message(HELLO_BYTES)).await;
        let what = match hello {
            Ok(Ok(message)) => match serde_json::from_slice::<Hello>(&message) {
                Ok(Hello {
                    error: None,
                    warning,
                }) => {
                    warn_once(warning);
                    return Ok(());
                }
                Ok(Hello {
                    error: Some(error), ..
                }) => error,
                Err(error) => format!("it greets with something else: {error}"),
            },
            Ok(Err(_)) => self.end().await.1,
            Err(_) => format!("it was not ready within {} s", START.as_secs()),
        };
        Err(ExtractError::Start { what })
    }

    /// The process, if it still runs.
    pub(super) fn alive(mut self) -> Option<Self> {
        matches!(self.child.try_wait(), Ok(None)).then_some(self)
    }

    /// Has it read one document.
    pub(super) async fn read(&mut self, key: &str, contents: &[u8], limits: &Limits) -> Outcome {
        match timeout(limits.time, self.ask(key, contents, limits)).await {
            Ok(Ok(answer)) => Outcome::Answered(answer),
            Ok(Err(_)) => {
                let (status, complaint) = self.end().await;
                Outcome::Lost(reason(status, &complaint, limits))
            }
            Err(_) => {
                self.kill();
                self.end().await;
                Outcome::Lost(Reason::TooSlow { limit: limits.time })
            }
        }
    }

    async fn ask(
        &mut self,
        key: &str,
        contents: &[u8],
        limits: &Limits,
    ) -> std::io::Result<Answer> {
        for part in [key.as_bytes(), contents] {
            self.input
                .write_all(&(part.len() as u64).to_le_bytes())
                .await?;
            self.input.write_all(part).await?;
        }
        self.input.flush().await?;
        Ok(serde_json::from_slice(
            &self.message(limits.answer_bytes()).await?,
        )?)
    }

    async fn message(&mut self, limit: u64) -> std::io::Result<Vec<u8>> {
        let length = self.output.read_u64_le().await?;
        if length > limit {
            return Err(std::io::Error::other("an answer that is too long"));
        }
        let mut message = vec![0; usize::try_from(length).unwrap_or(0)];
        self.output.read_exact(&mut message).await?;
        Ok(message)
    }

    /// How it ended, and what it complained of. What does not end is killed.
    async fn end(&mut self) -> (Option<ExitStatus>, String) {
        let mut status = timeout(END, self.child.wait())
            .await
            .ok()
            .and_then(Result::ok);
        if status.is_none() {
            self.kill();
            status = self.child.wait().await.ok();
        }
        let complaint = match self.complaint.take() {
            Some(complaint) => timeout(END, complaint).await.ok().and_then(Result::ok),
            None => None,
        };
        (status, complaint.unwrap_or_default())
    }

    /// Kills it and what it has started.
    fn kill(&self) {
        let id = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        if let Some(id) = id {
            // It may just have ended.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The first of what the child complains of; it is read to its end, so that no
/// child waits for us to listen.
async fn complaint(mut stderr: ChildStderr) -> String {
    let mut first = Vec::new();
    let _ = (&mut stderr)
        .take(COMPLAINT_BYTES)
        .read_to_end(&mut first)
        .await;
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&first).into_owned()
}

fn warn_once(warning: Option<String>) {
    static WARNED: std::sync::Once = std::sync::Once::new();
    if let Some(warning) = warning {
        WARNED.call_once(|| tracing::warn!("{warning}"));
    }
}

/// What the end of a child says of the document it was reading.
fn reason(status: Option<ExitStatus>, complaint: &str, limits: &Limits) -> Reason {
    const XCPU: i32 = Signal::XCPU.as_raw();
    // How Rust's standard library says that it got no memory, before it aborts.
    if complaint.contains("memory allocation of") {
        return Reason::TooMuchMemory {
            limit: limits.memory_bytes,
        };
    }
    if complaint.contains("has overflowed its stack") {
        return Reason::Crashed("stack overflow".to_owned());
    }
    let Some(status) = status else {
        return Reason::Crashed("it cannot be waited for".to_owned());
    };
    match (status.signal(), status.code()) {
        (Some(XCPU), _) => Reason::TooSlow { limit: limits.time },
        (Some(signal), _) => Reason::Crashed(format!("signal {signal}")),
        (None, code) => {
            let what = complaint.lines().next().unwrap_or("without a word");
            Reason::Crashed(format!("exit status {}: {what}", code.unwrap_or_default()))
        }
    }
}
