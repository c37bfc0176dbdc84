//! What a verification looked at, and what it found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{Columns, Side, wrap};
use super::{Exit, Failure, ObjectsReport, TableError};
use crate::ledger::verify::{Checked, Finding};
use crate::telemetry::units;
use crate::watermark::Bound;

/// What a verification looked at, and what it found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyReport {
    /// URL of the lake, without secrets.
    pub lake: String,
    /// The share of files whose content was hashed: `1/7`, `all`, `none`.
    pub share: String,
    /// Which share that was; consecutive ones cover everything.
    pub seed: u64,
    /// Whether every file was decoded.
    pub full: bool,
    /// Every table that was asked for, in name order.
    pub tables: Vec<TableVerified>,
    /// How both places compare; of `object-sync` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<Box<ObjectsReport>>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// One table of a verification.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TableVerified {
    /// The table's name.
    pub name: String,
    /// What was looked at, and what was found.
    #[serde(flatten)]
    pub checked: Checked,
    /// What came of comparing it with the source, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against_source: Option<AgainstSource>,
    /// Why it could not be verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TableError>,
}

/// What came of comparing all rows of a table with its source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgainstSource {
    /// What the source's snapshot held.
    pub bound: Bound,
    /// Rows of the lake that were compared.
    pub lake_rows: u64,
    /// Rows that differ, beside those that were written since.
    pub differing: u64,
    /// Rows that differ and that the source says were written since the last
    /// commit.
    pub written_since: u64,
    /// What this means.
    #[serde(skip)]
    pub findings: Vec<Finding>,
}

impl TableVerified {
    /// Adds what came of comparing it with the source.
    pub fn compared(&mut self, outcome: Result<AgainstSource, Failure>) {
        match outcome {
            Ok(mut compared) => {
                self.checked.findings.append(&mut compared.findings);
                self.against_source = Some(compared);
            }
            Err(failure) => self.error = Some(failure.into()),
        }
    }

    /// The result in a word or two.
    #[must_use]
    pub fn state(&self) -> String {
        match (&self.error, self.checked.damage().count() as u64) {
            (Some(_), _) => "ERROR".to_owned(),
            (None, 0) if self.checked.version.is_none() => "empty".to_owned(),
            (None, 0) => "ok".to_owned(),
            (None, damage) => format!("DAMAGED: {}", units::count(damage)),
        }
    }
}

/// More findings than that of one table are told in JSON only.
const MOST_TOLD: usize = 20;

impl VerifyReport {
    /// Damage before anything else; then why tables could not be verified.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let mut damage = self.tables.iter().flat_map(|table| table.checked.damage());
        if damage.next().is_some() {
            return Exit::Damaged;
        }
        let errors = self.tables.iter().filter_map(|table| table.error.as_ref());
        let objects = self
            .objects
            .as_ref()
            .map(|objects| objects.exit_of_verify());
        Exit::of_parts(errors.map(|error| error.exit).chain(objects))
    }

    /// The report for people, at most `width` columns wide.
    #[must_use]
    pub fn render(&self, width: usize) -> String {
        if let Some(objects) = &self.objects {
            return objects.render_verify(width);
        }
        if self.tables.is_empty() {
            return format!("{}: no tables yet; `run` writes the first\n", self.lake);
        }
        let mut columns = Columns::new(&[
            ("table", Side::Left),
            ("result", Side::Left),
            ("version", Side::Right),
            ("entries", Side::Right),
            ("files", Side::Right),
            ("size", Side::Right),
            ("hashed", Side::Right),
            ("decoded rows", Side::Right),
        ]);
        for table in &self.tables {
            columns.row(self.cells(table));
        }
        let mut text = columns.render(width) + "\n";
        for note in self.notes() {
            text += &(wrap(&note, width, 2) + "\n");
        }
        text + &wrap(&self.summary(), width, 2) + "\n"
    }

    fn cells(&self, table: &TableVerified) -> [String; 8] {
        let checked = &table.checked;
        let known = checked.version.is_some();
        let number = |text: String| if known { text } else { "-".to_owned() };
        [
            table.name.clone(),
            table.state(),
            checked.version.map_or("-".to_owned(), units::count),
            number(units::count(checked.entries)),
            number(units::count(checked.files)),
            number(units::bytes(checked.bytes)),
            number(units::bytes(checked.hashed_bytes)),
            if self.full {
                number(units::count(checked.decoded_rows))
            } else {
                String::new()
            },
        ]
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for table in &self.tables {
            let name = &table.name;
            let findings = &table.checked.findings;
            notes.extend(
                findings
                    .iter()
                    .take(MOST_TOLD)
                    .map(|found| told(name, found)),
            );
            let more = findings.len().saturating_sub(MOST_TOLD) as u64;
            if more > 0 {
                let more = units::counted(more, "more finding");
                notes.push(format!("{name}: {more}; --json tells all"));
            }
            notes.extend(
                table
                    .against_source
                    .as_ref()
                    .map(|compared| compared.told(name)),
            );
            if let Some(error) = &table.error {
                notes.push(format!("{name}: {}", error.message));
            }
        }
        let warnings = self.warnings.iter();
        notes.extend(warnings.map(|warning| format!("warning: {warning}")));
        notes
    }

    fn summary(&self) -> String {
        let sum = |field: fn(&Checked) -> u64| {
            let tables = self.tables.iter();
            tables.map(|table| field(&table.checked)).sum::<u64>()
        };
        let damage: usize = self.tables.iter().map(|t| t.checked.damage().count()).sum();
        let found = match damage as u64 {
            0 => "no damage".to_owned(),
            some => units::counted(some, "finding") + " of damage",
        };
        format!(
            "{}, {} in {}, hashed {} of {} (share {}, seed {}): {found}",
            units::counted(self.tables.len() as u64, "table"),
            units::bytes(sum(|checked| checked.bytes)),
            units::counted(sum(|checked| checked.files), "file"),
            units::bytes(sum(|checked| checked.hashed_bytes)),
            units::bytes(sum(|checked| checked.bytes)),
            self.share,
            self.seed,
        )
    }
}

impl AgainstSource {
    fn told(&self, table: &str) -> String {
        let since = match self.written_since {
            0 => String::new(),
            some => format!("; {} written since", units::counted(some, "row")),
        };
        let differing = match self.differing {
            0 => "all equal to the source".to_owned(),
            some => units::counted(some, "row") + " differing from the source",
        };
        format!(
            "{table}: compared {} with the source as of {}: {differing}{since}",
            units::counted(self.lake_rows, "row"),
            self.bound.at,
        )
    }
}

fn told(table: &str, found: &Finding) -> String {
    let advice = found
        .advice
        .as_deref()
        .map(|advice| format!("; do: {advice}"));
    format!(
        "{table}: {}: {}: {}{}",
        found.kind.words(),
        found.path,
        found.what,
        advice.unwrap_or_default(),
    )
}
