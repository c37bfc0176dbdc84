//! Logs, in three tiers, on standard error; bars of the progress are not torn.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use super::Progress;

/// How much a run tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Errors only.
    Silent,
    /// What a person wants to know.
    #[default]
    Normal,
    /// What a developer wants to know: timings per split, file and commit.
    Verbose,
}

/// Where log lines go: to standard error, above the bars.
#[derive(Debug, Clone)]
struct AboveBars(Progress);

impl Write for AboveBars {
    // The formatter hands over one whole event per call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_above(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for AboveBars {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The time of day; with milliseconds where details count.
struct Clock {
    milliseconds: bool,
}

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let format = if self.milliseconds { "%H:%M:%S%.3f" } else { "%H:%M:%S" };
        write!(writer, "{}", chrono::Local::now().format(format))
    }
}

/// What is let through: our own crates by level, all others when they warn.
fn filter(level: LogLevel, binary: &str) -> Targets {
    let (ours, others) = match level {
        LogLevel::Silent => (LevelFilter::ERROR, LevelFilter::ERROR),
        LogLevel::Normal => (LevelFilter::INFO, LevelFilter::WARN),
        LogLevel::Verbose => (LevelFilter::DEBUG, LevelFilter::WARN),
    };
    Targets::new()
        .with_default(others)
        .with_target("highwater", ours)
        .with_target("highwater_operators", ours)
        .with_target(binary.replace('-', "_"), ours)
}

/// Starts logging for this process. A second call changes nothing.
pub fn start(level: LogLevel, json: bool, binary: &str, progress: &Progress) {
    let out = AboveBars(progress.clone());
    let verbose = level == LogLevel::Verbose;
    let lines = tracing_subscriber::fmt::layer().with_writer(out);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = if json {
        Box::new(lines.json().flatten_event(true).with_filter(filter(level, binary)))
    } else {
        let lines = lines
            .compact()
            .with_target(verbose)
            .with_ansi(io::stderr().is_terminal())
            .with_timer(Clock { milliseconds: verbose });
        Box::new(lines.with_filter(filter(level, binary)))
    };
    // Already started (tests, several runs in one process): the first one stays.
    let _ = tracing_subscriber::registry().with(layer).try_init();
}

/// Whether events of `level` of our own crates are shown, for work that is done
/// only to be logged.
#[must_use]
pub fn shows(level: LogLevel, event: Level) -> bool {
    filter(level, "").would_enable("highwater", &event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_let_through_what_they_promise() {
        let passes = |level, target: &str, event| {
            filter(level, "table-backup").would_enable(target, &event)
        };
        assert!(!passes(LogLevel::Silent, "highwater::run", Level::WARN));
        assert!(passes(LogLevel::Silent, "highwater::run", Level::ERROR));
        assert!(passes(LogLevel::Normal, "table_backup", Level::INFO));
        assert!(!passes(LogLevel::Normal, "highwater::run", Level::DEBUG));
        assert!(!passes(LogLevel::Normal, "delta_kernel", Level::INFO));
        assert!(passes(LogLevel::Verbose, "highwater_operators::ingest", Level::DEBUG));
        assert!(!passes(LogLevel::Verbose, "highwater", Level::TRACE));
        assert!(shows(LogLevel::Verbose, Level::DEBUG));
    }
}
