//! What a run did, as one JSON document and as a few lines for people.
//!
//! The same document goes to `--json`, to `--report FILE` and into the lake
//! under `_highwater/runs/`. What a run *would* do is a [`PlanReport`]; what the
//! lake holds is a [`StatusReport`].

mod columns;
mod documents;
mod objects;
mod objects_text;
mod plan;
mod prune;
mod restore;
mod run_text;
mod status;
mod verify;

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use documents::{ChromaReport, DocumentsReport};
pub use objects::{
    Difference, DifferingObject, FailedObject, MOST_NAMED, ObjectsReport, SlowObject,
};
pub use plan::{ColumnPlan, LayoutPlan, MemoryPlan, PlanReport, TablePlan, lake_type_name};
pub use prune::{PruneReport, TablePruned};
pub use restore::{RestoreReport, TableRestored};
pub use status::{ObjectsStatus, StatusReport, TableStatus};
pub use verify::{AgainstSource, TableVerified, VerifyReport};

use super::config::Config;
use super::failure::{Exit, Failure};
use crate::run::mirror::ColumnChange;
use crate::telemetry::memory;
use crate::watermark::{Method, Mode};

/// How one run ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// Everything was done.
    #[default]
    Done,
    /// Everything was done, but rows were set aside.
    Quarantined,
    /// Something failed.
    Failed,
    /// Something failed for a reason that passes.
    Retry,
    /// A change of schema was refused.
    SchemaRefused,
    /// Another run got ahead.
    Overtaken,
    /// The user stopped it.
    Interrupted,
}

impl RunOutcome {
    fn of(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::Done,
            Exit::Quarantined => Self::Quarantined,
            Exit::Retry => Self::Retry,
            Exit::SchemaRefused => Self::SchemaRefused,
            Exit::Overtaken => Self::Overtaken,
            Exit::Interrupted => Self::Interrupted,
            Exit::Failed | Exit::Usage | Exit::Damaged => Self::Failed,
        }
    }
}

/// How one table ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableOutcome {
    /// A new version was committed.
    Committed,
    /// There was nothing new.
    Unchanged,
    /// It failed; the lake is as it was.
    #[default]
    Failed,
    /// Another run committed first; the lake is as that run left it.
    Overtaken,
    /// The run was stopped before this table was committed.
    Interrupted,
}

impl TableOutcome {
    /// The word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Unchanged => "unchanged",
            Self::Failed => "FAILED",
            Self::Overtaken => "OVERTAKEN",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Why a table was not committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TableError {
    /// The exit code that this failure alone would give.
    pub exit: Exit,
    /// What happened.
    pub message: String,
    /// Why, nearest cause first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to do.
    #[serde(rename = "do", default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl From<Failure> for TableError {
    fn from(failure: Failure) -> Self {
        let Failure {
            exit,
            message,
            causes,
            hint,
        } = failure;
        Self {
            exit,
            message,
            causes,
            hint,
        }
    }
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        Self {
            exit: error.exit,
            message: error.message,
            causes: error.causes,
            hint: error.hint,
        }
    }
}

impl TableError {
    /// Passes every text through `change`.
    pub fn map_texts(&mut self, change: impl Fn(&str) -> String) {
        self.message = change(&self.message);
        self.causes = self.causes.iter().map(|cause| change(cause)).collect();
        self.hint = self.hint.as_deref().map(change);
    }
}

/// What happened to one table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TableReport {
    /// The table's name.
    pub name: String,
    /// How it is kept.
    pub mode: Option<Mode>,
    /// How it ended.
    pub outcome: TableOutcome,
    /// The version of the Delta table after the run.
    pub version: Option<u64>,
    /// Rows written by this run, and by the runs that it continued.
    pub rows: u64,
    /// Bytes read from the source by this run.
    pub source_bytes: u64,
    /// Files committed.
    pub files: u64,
    /// Bytes of these files.
    pub lake_bytes: u64,
    /// Files that these took the place of; of compactions only.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replaced_files: u64,
    /// Splits that the table was cut into.
    pub splits: u64,
    /// Of these, splits that an earlier run had done.
    pub splits_resumed: u64,
    /// Of these, splits that each process of the run has read, by its number;
    /// empty where there was one process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splits_by_process: Vec<u64>,
    /// Whether this run continued a load that an earlier one began.
    pub continued: bool,
    /// Rows changed during a continued load may be missing until the next run.
    pub catching_up: bool,
    /// Rows set aside.
    pub quarantined: u64,
    /// Rows may be lost by a naive cursor, as the configuration accepts (T6).
    pub at_risk: bool,
    /// In mirror mode: how changes were found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// Rows that were new to the lake; known for merges only, as are the next two.
    pub inserted: u64,
    /// Rows that had changed.
    pub updated: u64,
    /// Rows that were gone from the source.
    pub deleted: u64,
    /// Why the table was compared or written as a whole, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// How its columns have changed since the last commit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ColumnChange>,
    /// What holds the cursor's bound back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// The watermark that was committed.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub watermark: serde_json::Value,
    /// Why it was not committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TableError>,
    /// Seconds spent on it, by stage.
    pub seconds: BTreeMap<String, f64>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl TableReport {
    /// A table that failed.
    pub fn failed(name: impl Into<String>, failure: Failure) -> Self {
        let outcome = match failure.exit {
            Exit::Overtaken => TableOutcome::Overtaken,
            Exit::Interrupted => TableOutcome::Interrupted,
            _ => TableOutcome::Failed,
        };
        Self {
            name: name.into(),
            outcome,
            error: Some(failure.into()),
            ..Self::default()
        }
    }

    /// The exit code that this table alone would give.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match (self.outcome, &self.error) {
            (_, Some(error)) => error.exit,
            (TableOutcome::Failed, None) => Exit::Failed,
            (TableOutcome::Overtaken, None) => Exit::Overtaken,
            (TableOutcome::Interrupted, None) => Exit::Interrupted,
            _ if self.quarantined > 0 => Exit::Quarantined,
            _ => Exit::Done,
        }
    }
}

/// Sums over all tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// Tables.
    pub tables: u64,
    /// Tables that were not committed.
    pub tables_failed: u64,
    /// Rows written.
    pub rows: u64,
    /// Bytes read from the source.
    pub source_bytes: u64,
    /// Files committed.
    pub files: u64,
    /// Bytes of these files.
    pub lake_bytes: u64,
    /// Splits.
    pub splits: u64,
    /// Splits that earlier runs had done.
    pub splits_resumed: u64,
    /// Rows set aside.
    pub quarantined: u64,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunReport {
    /// The run's id (a UUID of version 7).
    #[schemars(with = "String")]
    pub run: Uuid,
    /// The pipeline's name.
    pub pipeline: String,
    /// The version of the software.
    pub software: String,
    /// When it started, RFC 3339 in UTC.
    pub started: String,
    /// When it finished, RFC 3339 in UTC.
    pub finished: String,
    /// Seconds from start to finish.
    pub elapsed_seconds: f64,
    /// How it ended.
    pub outcome: RunOutcome,
    /// The exit code.
    pub exit: Exit,
    /// URL of the lake, without secrets.
    pub lake: String,
    /// Every table that was selected, in name order.
    pub tables: Vec<TableReport>,
    /// What became of objects; of `object-sync` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<Box<ObjectsReport>>,
    /// What became of documents, by instance; of `paper-index` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<DocumentsReport>,
    /// Sums over all tables.
    pub totals: Totals,
    /// Seconds per stage: `plan`, `read`, `encode`, `upload`, `commit`; summed
    /// over threads, so that they may exceed the elapsed time.
    pub seconds: BTreeMap<String, f64>,
    /// The greatest resident size of the process.
    pub peak_rss_bytes: Option<u64>,
    /// The limit it was given.
    pub memory_limit_bytes: u64,
    /// How often something waited for memory.
    pub memory_waits: u64,
    /// Requests that were repeated.
    pub retries: u64,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl RunReport {
    /// The report of a run that starts, to be filled and then concluded.
    pub fn new(
        run: Uuid,
        pipeline: impl Into<String>,
        lake: impl Into<String>,
        started: DateTime<Utc>,
        memory_limit_bytes: u64,
    ) -> Self {
        Self {
            run,
            pipeline: pipeline.into(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
            started: rfc3339(started),
            finished: rfc3339(started),
            elapsed_seconds: 0.0,
            outcome: RunOutcome::Done,
            exit: Exit::Done,
            lake: lake.into(),
            tables: Vec::new(),
            objects: None,
            documents: Vec::new(),
            totals: Totals::default(),
            seconds: BTreeMap::new(),
            peak_rss_bytes: None,
            memory_limit_bytes,
            memory_waits: 0,
            retries: 0,
            warnings: Vec::new(),
        }
    }

    /// Adds seconds to a stage.
    pub fn spend(&mut self, stage: &str, seconds: f64) {
        *self.seconds.entry(stage.to_owned()).or_default() += seconds;
    }

    /// Fills in what follows from the tables and the process: sums, outcome,
    /// peak memory, time.
    pub fn conclude(&mut self, started: DateTime<Utc>, finished: DateTime<Utc>) {
        self.tables.sort_by(|a, b| a.name.cmp(&b.name));
        self.totals = self.sums();
        let objects = self.objects.as_deref().map(ObjectsReport::exit);
        let tables = self.tables.iter().map(TableReport::exit);
        let documents = self.documents.iter().map(DocumentsReport::exit);
        self.exit = Exit::of_parts(tables.chain(objects).chain(documents));
        self.outcome = RunOutcome::of(self.exit);
        self.finished = rfc3339(finished);
        self.elapsed_seconds = (finished - started).num_milliseconds().max(0) as f64 / 1e3;
        self.peak_rss_bytes = memory::peak_rss_bytes();
    }

    fn sums(&self) -> Totals {
        let sum = |field: fn(&TableReport) -> u64| self.tables.iter().map(field).sum();
        Totals {
            tables: self.tables.len() as u64,
            tables_failed: self.failed().count() as u64,
            rows: sum(|table| table.rows),
            source_bytes: sum(|table| table.source_bytes),
            files: sum(|table| table.files),
            lake_bytes: sum(|table| table.lake_bytes),
            splits: sum(|table| table.splits),
            splits_resumed: sum(|table| table.splits_resumed),
            quarantined: sum(|table| table.quarantined),
        }
    }

    /// Tables that were not committed.
    pub fn failed(&self) -> impl Iterator<Item = &TableReport> {
        self.tables
            .iter()
            .filter(|table| !matches!(table.exit(), Exit::Done | Exit::Quarantined))
    }

    /// The failure to print at the very end, if tables failed: which, and why.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        let objects = self.objects.as_ref().and_then(|all| all.error.as_ref());
        if let Some(error) = objects {
            return Some(self.with_rest(error.clone().into()));
        }
        let failed: Vec<&TableReport> = self.failed().collect();
        let Some(first) = failed.first() else {
            return self.chroma_failure();
        };
        let hint = first.error.as_ref().and_then(|error| error.hint.clone());
        if let ([table], Some(error)) = (failed.as_slice(), &first.error) {
            let mut failure = Failure::new(
                self.exit,
                format!("table {}: {}", table.name, error.message),
            );
            failure.causes.clone_from(&error.causes);
            failure.hint = hint;
            return Some(self.with_rest(failure));
        }
        let message = format!(
            "{} of {} tables were not committed",
            failed.len(),
            self.tables.len()
        );
        let mut failure = Failure::new(self.exit, message);
        for table in &failed {
            let why = table
                .error
                .as_ref()
                .map_or(table.outcome.word().to_lowercase(), |error| {
                    [&error.message]
                        .into_iter()
                        .chain(&error.causes)
                        .cloned()
                        .collect::<Vec<_>>()
                        .join(": ")
                });
            failure = failure.because(format!("{}: {why}", table.name));
        }
        // One remedy is only right for all if all need the same one.
        let agree = |table: &&TableReport| {
            table.error.as_ref().and_then(|error| error.hint.as_ref()) == hint.as_ref()
        };
        if failed.iter().all(agree) {
            failure.hint = hint;
        }
        Some(self.with_rest(failure))
    }

    /// The first vector store that is behind the lake.
    fn chroma_failure(&self) -> Option<Failure> {
        let stores = self.documents.iter().filter_map(|one| one.chroma.as_ref());
        let error = stores.filter_map(|chroma| chroma.error.as_ref()).next()?;
        Some(self.with_rest(error.clone().into()))
    }

    /// Adds what to do where nothing better is known.
    fn with_rest(&self, mut failure: Failure) -> Failure {
        failure.hint = failure.hint.or_else(|| {
            Some(match self.exit {
                Exit::Interrupted => "run again: it continues where it stopped".to_owned(),
                Exit::Overtaken => "wait for the other run to end, then run again".to_owned(),
                Exit::Retry => "run again in a while: what is done is not repeated".to_owned(),
                _ => "correct the cause and run again: what is done is not repeated".to_owned(),
            })
        });
        failure
    }

    /// Takes the secrets of `config` out of every message: do so before the
    /// report leaves the process.
    pub fn scrub(&mut self, config: &Config) {
        self.lake = config.scrub(&self.lake);
        for error in self
            .tables
            .iter_mut()
            .filter_map(|table| table.error.as_mut())
        {
            error.map_texts(|text| config.scrub(text));
        }
        if let Some(objects) = &mut self.objects {
            objects.map_texts(|text| config.scrub(text));
        }
        for documents in &mut self.documents {
            documents.map_texts(|text| config.scrub(text));
        }
        for warning in &mut self.warnings {
            *warning = config.scrub(warning);
        }
    }

    /// The report for people, at most `width` columns wide.
    #[must_use]
    pub fn render(&self, width: usize, verbose: bool) -> String {
        run_text::render(self, width, verbose)
    }
}

/// A time as the report spells it.
#[must_use]
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The word for a mode.
fn mode_word(mode: Option<Mode>) -> &'static str {
    match mode {
        Some(Mode::Mirror) => "mirror",
        Some(Mode::Full) => "full",
        Some(Mode::Append) => "append",
        None => "-",
    }
}

#[cfg(test)]
mod tests;
