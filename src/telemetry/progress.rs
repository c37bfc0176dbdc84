//! How far a run is: counters that cost nothing to bump, and a thread of its own
//! that shows them.
//!
//! The dataflow calls [`TableProgress::read`] and [`TableProgress::wrote`] per
//! batch and per file: relaxed atomics, no lock. A background thread looks at
//! most ten times a second and draws bars on a terminal, else prints a line
//! every few seconds, or a JSON line for programs.

mod bars;
mod estimate;
mod lines;

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::MultiProgress;

use bars::Bars;
use estimate::Estimate;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressStyle {
    /// Bars on a terminal, on standard error.
    Bars,
    /// One line every few seconds, on standard error.
    Lines,
    /// One JSON object every few seconds, on standard output.
    Json,
    /// Not at all.
    Nothing,
}

impl ProgressStyle {
    fn interval(self) -> Option<Duration> {
        match self {
            Self::Bars => Some(Duration::from_millis(100)),
            Self::Lines => Some(Duration::from_secs(5)),
            Self::Json => Some(Duration::from_secs(2)),
            Self::Nothing => None,
        }
    }
}

/// The progress of a run. Cloning shares it.
#[derive(Clone)]
pub struct Progress {
    shared: Arc<Shared>,
}

/// What a run says of itself in place of rows and tables.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// For people.
    pub text: String,
    /// For programs: an object whose fields are added to the line.
    pub json: serde_json::Value,
}

/// Says how far a run is; it is told for how long the run has been going.
type Tell = Arc<dyn Fn(Duration) -> Told + Send + Sync>;

struct Shared {
    tell: Mutex<Option<Tell>>,
    started: Instant,
    planned: AtomicBool,
    tables: Mutex<Vec<Arc<Counters>>>,
    screen: MultiProgress,
    ticker: Mutex<Option<Ticker>>,
}

struct Ticker {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Counters {
    name: String,
    estimated_rows: u64,
    estimated_bytes: u64,
    rows: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
    resumed_bytes: AtomicU64,
    done: AtomicBool,
    state: Mutex<String>,
}

/// The progress of one table. Cloning shares it.
#[derive(Clone)]
pub struct TableProgress {
    counters: Arc<Counters>,
}

/// What a drawing is made of.
#[derive(Debug, Clone, Default)]
struct Snapshot {
    told: Option<Told>,
    elapsed: Duration,
    planned: bool,
    tables: Vec<TableView>,
}

#[derive(Debug, Clone, Default)]
struct TableView {
    name: String,
    state: String,
    rows: u64,
    read: u64,
    written: u64,
    /// Of `read`, what an earlier run had read.
    resumed_bytes: u64,
    estimated_bytes: u64,
    done: bool,
}

impl Progress {
    /// Starts to show progress in `style`.
    #[must_use]
    pub fn start(style: ProgressStyle) -> Self {
        let screen = match style {
            ProgressStyle::Bars => {
                MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::stderr_with_hz(10))
            }
            _ => MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden()),
        };
        let shared = Arc::new(Shared {
            tell: Mutex::default(),
            started: Instant::now(),
            planned: AtomicBool::new(false),
            tables: Mutex::default(),
            screen,
            ticker: Mutex::default(),
        });
        if let Some(interval) = style.interval() {
            *lock(&shared.ticker) = start_ticker(&shared, style, interval);
        }
        Self { shared }
    }

    /// Progress that nobody sees.
    #[must_use]
    pub fn hidden() -> Self {
        Self::start(ProgressStyle::Nothing)
    }

    /// Announces a table and what is expected of it; zero means unknown.
    #[must_use]
    pub fn table(&self, name: &str, estimated_rows: u64, estimated_bytes: u64) -> TableProgress {
        let counters = Arc::new(Counters {
            name: name.to_owned(),
            estimated_rows,
            estimated_bytes,
            ..Counters::default()
        });
        lock(&self.shared.tables).push(Arc::clone(&counters));
        TableProgress { counters }
    }

    /// Lets the run say itself how far it is.
    pub fn tell(&self, tell: impl Fn(Duration) -> Told + Send + Sync + 'static) {
        *lock(&self.shared.tell) = Some(Arc::new(tell));
    }

    /// Says that all tables are announced. Until then no share of the whole and
    /// no time left are shown: they would be wrong.
    pub fn planned(&self) {
        self.shared.planned.store(true, Ordering::Relaxed);
    }

    /// Ends the drawing and clears the bars. Nothing is shown after it.
    pub fn finish(&self) {
        let Some(ticker) = lock(&self.shared.ticker).take() else {
            return;
        };
        *lock(&ticker.stop.0) = true;
        ticker.stop.1.notify_all();
        // The thread only draws; if it died, there is nothing left to clear up.
        let _ = ticker.thread.join();
        let _ = self.shared.screen.clear();
    }

    /// Writes text to standard error without tearing the bars.
    pub fn write_above(&self, text: &[u8]) {
        self.shared.screen.suspend(|| {
            // Nobody can be told that standard error is closed.
            let _ = std::io::stderr().lock().write_all(text);
        });
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

impl TableProgress {
    /// Rows and source bytes were read.
    pub fn read(&self, rows: u64, bytes: u64) {
        self.counters.rows.fetch_add(rows, Ordering::Relaxed);
        self.counters.read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes were written to the lake.
    pub fn wrote(&self, bytes: u64) {
        self.counters.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Rows and source bytes need not be read: an earlier run did. They count as
    /// done, but not for the speed.
    pub fn resumed(&self, rows: u64, bytes: u64) {
        self.counters
            .resumed_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        self.read(rows, bytes);
    }

    /// Says in a word or two what is being done: `reading`, `committing`.
    pub fn state(&self, state: &str) {
        state.clone_into(&mut lock(&self.counters.state));
    }

    /// The table is finished, well or not.
    pub fn done(&self) {
        self.counters.done.store(true, Ordering::Relaxed);
    }

    /// The rows that were expected; zero when unknown.
    #[must_use]
    pub fn estimated_rows(&self) -> u64 {
        self.counters.estimated_rows
    }
}

impl fmt::Debug for TableProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TableProgress")
            .field(&self.counters.name)
            .finish()
    }
}

impl Shared {
    fn snapshot(&self) -> Snapshot {
        let elapsed = self.started.elapsed();
        let tell = lock(&self.tell).clone();
        Snapshot {
            told: tell.map(|tell| tell(elapsed)),
            elapsed,
            planned: self.planned.load(Ordering::Relaxed),
            tables: lock(&self.tables)
                .iter()
                .map(|counters| counters.view())
                .collect(),
        }
    }
}

impl Counters {
    fn view(&self) -> TableView {
        TableView {
            name: self.name.clone(),
            state: lock(&self.state).clone(),
            rows: self.rows.load(Ordering::Relaxed),
            read: self.read.load(Ordering::Relaxed),
            written: self.written.load(Ordering::Relaxed),
            resumed_bytes: self.resumed_bytes.load(Ordering::Relaxed),
            estimated_bytes: self.estimated_bytes,
            done: self.done.load(Ordering::Relaxed),
        }
    }
}

impl Snapshot {
    fn sum(&self, field: impl Fn(&TableView) -> u64) -> u64 {
        self.tables.iter().map(field).fold(0, u64::saturating_add)
    }

    fn done(&self) -> usize {
        self.tables.iter().filter(|table| table.done).count()
    }
}

/// A poisoned lock only means that a drawing thread died in the middle; the
/// counters behind it are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start_ticker(shared: &Arc<Shared>, style: ProgressStyle, interval: Duration) -> Option<Ticker> {
    let stop = Arc::new((Mutex::new(false), Condvar::new()));
    // Weak: progress that was forgotten must not draw for ever.
    let (weak, told) = (Arc::downgrade(shared), Arc::clone(&stop));
    let mut drawing = Drawing::new(style, &shared.screen);
    let thread = std::thread::Builder::new()
        .name("progress".to_owned())
        .spawn(move || {
            loop {
                let (stopped, _) = told
                    .1
                    .wait_timeout_while(lock(&told.0), interval, |stopped| !*stopped)
                    .unwrap_or_else(PoisonError::into_inner);
                let over = *stopped;
                drop(stopped);
                let Some(shared) = weak.upgrade() else { break };
                if over {
                    break;
                }
                drawing.draw(&shared.snapshot());
            }
            drawing.clear();
        });
    // Without a thread there is no progress, but the run can do without.
    thread.ok().map(|thread| Ticker { stop, thread })
}

/// What the ticker keeps between two looks.
struct Drawing {
    style: ProgressStyle,
    estimate: Estimate,
    bars: Option<Bars>,
}

impl Drawing {
    fn new(style: ProgressStyle, screen: &MultiProgress) -> Self {
        let bars = (style == ProgressStyle::Bars).then(|| Bars::new(screen.clone()));
        Self {
            style,
            estimate: Estimate::default(),
            bars,
        }
    }

    fn draw(&mut self, now: &Snapshot) {
        self.estimate.observe(now);
        match self.style {
            ProgressStyle::Bars => {
                if let Some(bars) = &mut self.bars {
                    bars.draw(now, &self.estimate);
                }
            }
            ProgressStyle::Lines => {
                let _ = writeln!(
                    std::io::stderr().lock(),
                    "{}",
                    lines::plain(now, &self.estimate)
                );
            }
            ProgressStyle::Json => {
                let _ = writeln!(
                    std::io::stdout().lock(),
                    "{}",
                    lines::json(now, &self.estimate)
                );
            }
            ProgressStyle::Nothing => {}
        }
    }

    fn clear(&mut self) {
        if let Some(bars) = &mut self.bars {
            bars.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up_across_clones() {
        let progress = Progress::hidden();
        let orders = progress.table("orders", 10, 100);
        orders.clone().read(3, 30);
        orders.resumed(2, 20);
        orders.wrote(7);
        orders.state("reading");
        progress.table("items", 0, 0).done();
        let now = progress.shared.snapshot();
        assert_eq!(
            (
                now.sum(|t| t.rows),
                now.sum(|t| t.read),
                now.sum(|t| t.written)
            ),
            (5, 50, 7)
        );
        assert_eq!(now.done(), 1);
        assert_eq!(
            now.tables.first().map(|t| t.state.as_str()),
            Some("reading")
        );
    }

    #[test]
    fn finishing_stops_the_thread_at_once() {
        let progress = Progress::start(ProgressStyle::Lines);
        let before = Instant::now();
        progress.finish();
        progress.finish();
        assert!(before.elapsed() < Duration::from_secs(3));
    }
}
