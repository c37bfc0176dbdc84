//! What became of documents.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::wrap;
use super::{Exit, FailedObject, ObjectsReport, TableError};
use crate::telemetry::units;

/// Documents that are named to people.
const MOST_TOLD: usize = 10;

/// What a run of `paper-index` did for one instance, or would do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DocumentsReport {
    /// The instance's name.
    pub instance: String,
    /// URL of the documents, without secrets.
    pub source: String,
    /// Whether nothing was done but comparing.
    pub dry_run: bool,
    /// Documents that are new.
    pub new: u64,
    /// Documents that have changed.
    pub changed: u64,
    /// Documents that are gone.
    pub deleted: u64,
    /// Documents that have not changed.
    pub unchanged: u64,
    /// Bytes of documents that were read.
    pub read_bytes: u64,
    /// Documents that were set aside by this run: the lake has a row of each that says
    /// why, and no text.
    pub quarantined: u64,
    /// Documents that an earlier run had set aside, and that have not changed.
    pub still_quarantined: u64,
    /// Documents of which only the beginning was taken.
    pub truncated: u64,
    /// Documents that could not be read; what the lake had of them stays.
    pub failed: u64,
    /// Documents that were gone when their turn came.
    pub vanished: u64,
    /// Chunks of documents that were new or had changed.
    pub chunks: u64,
    /// Of these, chunks that the document had before.
    pub kept: u64,
    /// Of these, chunks whose vector was known from another document or an earlier run.
    pub reused: u64,
    /// Of these, chunks that the model made a vector of.
    pub embedded: u64,
    /// Tokens that went through the model.
    pub tokens: u64,
    /// Of these, tokens that only fill up.
    pub padding: u64,
    /// Tokens a second, over the whole run.
    pub tokens_per_second: f64,
    /// What the tokens cost, where a service made the vectors and its price is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// What became of the vector store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chroma: Option<ChromaReport>,
    /// The first documents that were set aside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set_aside: Vec<FailedObject>,
    /// The first documents that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailedObject>,
}

/// What was sent to a vector store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChromaReport {
    /// The collection.
    pub collection: String,
    /// The version of the lake's table that the collection equals now.
    pub version: u64,
    /// Chunks that were written.
    pub upserted: u64,
    /// Chunks that were removed.
    pub deleted: u64,
    /// Why the collection was compared as a whole, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Why the collection is not what the lake is; the next run goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TableError>,
}

impl DocumentsReport {
    /// Takes over what was counted of documents.
    pub fn take(&mut self, objects: ObjectsReport) {
        self.source = objects.source;
        self.dry_run = objects.dry_run;
        self.new = objects.missing;
        self.changed = objects.copied.saturating_sub(objects.missing);
        self.deleted = objects.extra;
        self.unchanged = objects.unchanged;
        self.read_bytes = objects.copied_bytes;
        self.failed = objects.failed;
        self.vanished = objects.vanished;
        self.failures = objects.failures;
    }

    /// The exit code that this instance alone would give.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let chroma = self
            .chroma
            .as_ref()
            .and_then(|chroma| chroma.error.as_ref());
        match chroma {
            Some(error) => error.exit,
            None if self.quarantined + self.failed > 0 => Exit::Quarantined,
            None => Exit::Done,
        }
    }

    /// Passes every text that may hold a secret through `change`.
    pub fn map_texts(&mut self, change: impl Fn(&str) -> String) {
        self.source = change(&self.source);
        for named in self.failures.iter_mut().chain(&mut self.set_aside) {
            named.reason = change(&named.reason);
        }
        if let Some(error) = self
            .chroma
            .as_mut()
            .and_then(|chroma| chroma.error.as_mut())
        {
            error.map_texts(change);
        }
    }

    /// For people, at most `width` columns wide.
    #[must_use]
    pub fn render(&self, width: usize) -> String {
        let mut lines = vec![self.headline()];
        if self.chunks > 0 {
            lines.push(self.about_chunks());
        }
        lines.extend(self.about_chroma());
        if self.still_quarantined > 0 {
            lines.push(format!(
                "{} set aside earlier, unchanged since",
                units::counted(self.still_quarantined, "document")
            ));
        }
        if self.truncated > 0 {
            lines.push(format!(
                "of {} only the beginning was taken",
                units::counted(self.truncated, "document")
            ));
        }
        lines.extend(named("set aside", &self.set_aside, self.quarantined));
        lines.extend(named("failed", &self.failures, self.failed));
        let lines = lines
            .iter()
            .map(|line| wrap(&format!("{}: {line}", self.instance), width, 2));
        lines.map(|line| line + "\n").collect()
    }

    fn headline(&self) -> String {
        let would = if self.dry_run {
            " (nothing was done)"
        } else {
            ""
        };
        format!(
            "documents: {} new, {} changed, {} deleted, {} unchanged{would}",
            units::count(self.new),
            units::count(self.changed),
            units::count(self.deleted),
            units::count(self.unchanged),
        )
    }

    fn about_chunks(&self) -> String {
        let cost = self
            .cost
            .map_or(String::new(), |cost| format!(", cost {cost:.4}"));
        format!(
            "chunks: {} embedded, {} reused ({} of the same document, {} of others); {} tokens, \
             {} tokens/s{cost}",
            units::count(self.embedded),
            units::count(self.kept + self.reused),
            units::count(self.kept),
            units::count(self.reused),
            units::count(self.tokens),
            units::count(units::whole(self.tokens_per_second)),
        )
    }

    fn about_chroma(&self) -> Option<String> {
        let chroma = self.chroma.as_ref()?;
        if chroma.error.is_some() {
            return Some(format!(
                "collection {} is behind the lake",
                chroma.collection
            ));
        }
        let because = chroma.because.as_ref();
        let because = because.map_or(String::new(), |why| {
            format!(" (compared as a whole: {why})")
        });
        Some(format!(
            "collection {} equals version {}: {} written, {} removed{because}",
            chroma.collection,
            chroma.version,
            units::count(chroma.upserted),
            units::count(chroma.deleted),
        ))
    }
}

fn named(what: &str, documents: &[FailedObject], all: u64) -> Vec<String> {
    let told = documents.iter().take(MOST_TOLD);
    let mut lines: Vec<String> = told
        .map(|one| format!("{what}: {:?}: {}", one.key, one.reason))
        .collect();
    let more = all.saturating_sub(lines.len() as u64);
    if more > 0 {
        lines.push(format!(
            "{what}: {more} more; see the column `note` and --json"
        ));
    }
    lines
}
