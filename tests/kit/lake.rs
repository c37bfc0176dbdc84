//! A configuration and the binary that runs it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::outcome::Outcome;
use super::place::Place;

/// Longer than anything a test runs: a hanging process fails instead of hanging.
const TIMEOUT: Duration = Duration::from_secs(600);

/// One source, one lake and a configuration that joins them.
pub(crate) struct Lake {
    folder: TempDir,
    source: String,
    place: Place,
    settings: Vec<String>,
}

impl Lake {
    /// A lake in a new local folder.
    pub(crate) fn local(source: impl Into<String>) -> Self {
        let folder = super::scratch();
        let place = Place::Folder(folder.path().join("lake"));
        Self {
            folder,
            source: source.into(),
            place,
            settings: Vec::new(),
        }
    }

    /// A lake in the bucket of a new S3 server.
    pub(crate) fn s3(source: impl Into<String>) -> Self {
        Self::at(source, Place::s3())
    }

    /// A lake somewhere given.
    pub(crate) fn at(source: impl Into<String>, place: Place) -> Self {
        Self {
            folder: super::scratch(),
            source: source.into(),
            place,
            settings: Vec::new(),
        }
    }

    /// The same with one more line of configuration, in dotted form:
    /// `epoch.bytes = "8MiB"`.
    pub(crate) fn with(mut self, setting: impl Into<String>) -> Self {
        self.settings.push(setting.into());
        self
    }

    /// Adds a line of configuration, in dotted form.
    pub(crate) fn set(&mut self, setting: impl Into<String>) {
        self.settings.push(setting.into());
    }

    /// Replaces the URL of the source.
    pub(crate) fn set_source(&mut self, source: impl Into<String>) {
        self.source = source.into();
    }

    /// Where the lake lies.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The URL of the source.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// A folder of this test's own.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the configuration and returns its path.
    pub(crate) fn config(&self) -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mut text = format!(
            "source = {:?}\nlake = {:?}\n",
            self.source,
            self.place.url()
        );
        let settings = self.settings.join("\n");
        if !settings.contains("workers =") {
            text.push_str("workers = 2\n");
        }
        for (name, value) in self.place.options() {
            text.push_str(&format!("store.{name} = {value:?}\n"));
        }
        text.push_str(&settings);
        text.push('\n');
        let path = self.folder.path().join("config.toml");
        // As a whole: another process may be reading it.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let new = path.with_extension(format!("new{number}"));
        std::fs::write(&new, text).expect("the configuration");
        std::fs::rename(&new, &path).expect("the configuration in its place");
        path
    }

    /// Runs to the end.
    #[track_caller]
    pub(crate) fn run(&self) -> Outcome {
        self.start().wait()
    }

    /// Starts a run and does not wait.
    pub(crate) fn start(&self) -> Running {
        self.verb("run")
    }

    /// Starts any verb on the configuration.
    pub(crate) fn verb(&self, verb: &str) -> Running {
        self.verb_with(verb, &[])
    }

    /// Starts any verb on the configuration, with more arguments.
    pub(crate) fn verb_with(&self, verb: &str, more: &[&str]) -> Running {
        let config = self.config();
        let config = config.to_string_lossy();
        let mut arguments = vec![verb, &config, "--log", "normal"];
        arguments.extend(["--progress", "never", "--json"]);
        arguments.extend(more);
        Running::start(&arguments)
    }
}

/// A process that has been started; killed when dropped.
pub(crate) struct Running {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
    since: Instant,
}

impl Running {
    /// Starts `table-backup` with these arguments.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_table-backup"));
        command.args(arguments);
        Self::spawn(&mut command)
    }

    /// Starts a command, its output captured.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Self {
            child,
            stdout,
            stderr,
            since: Instant::now(),
        }
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is still running.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it with SIGKILL, at once.
    pub(crate) fn kill(mut self) -> Outcome {
        let _ = self.child.kill();
        self.wait()
    }

    /// Sends a signal by name: `INT`, `TERM`, `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = Command::new("kill")
            .args(["-s", name, &self.id().to_string()])
            .status();
        assert!(
            kill.is_ok_and(|status| status.success()),
            "kill -s {name} {}",
            self.id()
        );
    }

    /// Waits for its end; fails the test if it does not come.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Outcome {
        let mut hung = false;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the state of the process") {
                break status;
            }
            if self.since.elapsed() > TIMEOUT {
                hung = true;
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let wall = self.since.elapsed();
        let text =
            |reader: Option<JoinHandle<String>>| reader.and_then(|reader| reader.join().ok());
        let outcome = Outcome {
            code: status.code(),
            stdout: text(self.stdout.take()).unwrap_or_default(),
            stderr: text(self.stderr.take()).unwrap_or_default(),
            wall,
        };
        assert!(!hung, "did not end within {TIMEOUT:?}; {outcome}");
        outcome
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
