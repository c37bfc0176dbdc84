//! What a prune removed, or would remove.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{Columns, Side, wrap};
use super::{Exit, TableError};
use crate::ledger::prune::{Amount, PruneOutcome};
use crate::telemetry::units;

/// What a prune removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PruneReport {
    /// URL of the lake, without secrets.
    pub lake: String,
    /// Whether nothing was removed.
    pub dry_run: bool,
    /// Versions that are younger stay.
    pub keep_age_seconds: u64,
    /// So many of the newest versions stay.
    pub keep_versions: u64,
    /// Files that are younger stay, whatever references them (C4).
    pub min_file_age_seconds: u64,
    /// Every table that was asked for, in name order.
    pub tables: Vec<TablePruned>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// One table of a prune.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TablePruned {
    /// The table's name.
    pub name: String,
    /// What went, or would go.
    #[serde(flatten)]
    pub outcome: PruneOutcome,
    /// Why nothing more was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TableError>,
}

impl PruneReport {
    /// What the tables agree on.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let errors = self.tables.iter().filter_map(|table| table.error.as_ref());
        Exit::of_parts(errors.map(|error| error.exit))
    }

    /// The report for people, at most `width` columns wide.
    #[must_use]
    pub fn render(&self, width: usize) -> String {
        if self.tables.is_empty() {
            return format!("{}: no tables yet; `run` writes the first\n", self.lake);
        }
        let mut columns = Columns::new(&[
            ("table", Side::Left),
            ("version", Side::Right),
            ("oldest kept", Side::Right),
            ("versions gone", Side::Right),
            ("data files", Side::Right),
            ("size", Side::Right),
            ("log files", Side::Right),
            ("other", Side::Right),
        ]);
        for table in &self.tables {
            columns.row(cells(table));
        }
        let mut text = columns.render(width) + "\n";
        for note in self.notes() {
            text += &(wrap(&note, width, 2) + "\n");
        }
        text + &wrap(&self.summary(), width, 2) + "\n"
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for table in &self.tables {
            let (name, outcome) = (&table.name, &table.outcome);
            if let Some(error) = &table.error {
                notes.push(format!("{name}: {}", error.message));
            }
            if outcome.young.files > 0 {
                notes.push(format!(
                    "{name}: {} that nothing references are too young to be removed",
                    amount(outcome.young)
                ));
            }
            if outcome.foreign.files > 0 {
                notes.push(format!(
                    "{name}: {} not ours stay, for instance {}",
                    amount(outcome.foreign),
                    outcome.foreign_names.join(", ")
                ));
            }
        }
        let warnings = self.warnings.iter();
        notes.extend(warnings.map(|warning| format!("warning: {warning}")));
        notes
    }

    fn summary(&self) -> String {
        let mut gone = Amount::default();
        for outcome in self.tables.iter().map(|table| &table.outcome) {
            for part in [outcome.data, outcome.log, outcome.loads, outcome.staged] {
                gone.files += part.files;
                gone.bytes += part.bytes;
            }
        }
        let did = if self.dry_run {
            "would remove"
        } else {
            "removed"
        };
        format!(
            "{did} {} from {}; kept versions younger than {} and the newest {}, and files younger \
             than {}",
            amount(gone),
            self.lake,
            span(self.keep_age_seconds),
            units::count(self.keep_versions),
            span(self.min_file_age_seconds),
        )
    }
}

/// Whole days as such.
fn span(seconds: u64) -> String {
    const DAY: u64 = 86_400;
    if seconds >= DAY && seconds.is_multiple_of(DAY) {
        return units::counted(seconds / DAY, "day");
    }
    units::duration(Duration::from_secs(seconds))
}

fn amount(amount: Amount) -> String {
    let files = units::counted(amount.files, "file");
    format!("{files} ({})", units::bytes(amount.bytes))
}

fn cells(table: &TablePruned) -> [String; 8] {
    let outcome = &table.outcome;
    let version = |version: Option<u64>| version.map_or("-".to_owned(), units::count);
    [
        table.name.clone(),
        version(outcome.version),
        version(outcome.oldest_retained),
        units::count(outcome.versions),
        units::count(outcome.data.files),
        units::bytes(outcome.data.bytes),
        units::count(outcome.log.files),
        units::count(outcome.loads.files + outcome.staged.files),
    ]
}
