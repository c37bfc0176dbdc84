//! What a restore wrote.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{Columns, Side, wrap};
use super::{Exit, TableError};
use crate::telemetry::units;

/// What a restore wrote.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreReport {
    /// URL of the lake, without secrets.
    pub lake: String,
    /// Where to, without secrets.
    pub to: String,
    /// Every table that was asked for, in name order.
    pub tables: Vec<TableRestored>,
}

/// One restored table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TableRestored {
    /// The table's name in the lake.
    pub name: String,
    /// Its name in the target.
    pub restored_as: String,
    /// The version that was restored.
    pub version: Option<u64>,
    /// Rows, in the lake and read back from the target.
    pub rows: u64,
    /// Bytes read from the lake.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// The sum of the hashes of its rows, equal on both sides; hexadecimal.
    pub digest: String,
    /// What the target could not be given as the source had it.
    pub inexact: Vec<String>,
    /// Why it was not restored; the target is as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TableError>,
}

impl RestoreReport {
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
            ("restored as", Side::Left),
            ("version", Side::Right),
            ("rows", Side::Right),
            ("read", Side::Right),
            ("time", Side::Right),
            ("state", Side::Left),
        ]);
        for table in &self.tables {
            columns.row(cells(table));
        }
        let mut text = columns.render(width) + "\n";
        for table in &self.tables {
            for note in &table.inexact {
                text += &(wrap(&format!("{}: {note}", table.name), width, 2) + "\n");
            }
        }
        text
    }
}

fn cells(table: &TableRestored) -> [String; 7] {
    let state = match (&table.error, table.inexact.len() as u64) {
        (Some(_), _) => "NOT RESTORED".to_owned(),
        (None, 0) => "equal".to_owned(),
        (None, notes) => format!("equal, {}", units::counted(notes, "note")),
    };
    let seconds = Duration::try_from_secs_f64(table.seconds).unwrap_or_default();
    [
        table.name.clone(),
        table.restored_as.clone(),
        table.version.map_or("-".to_owned(), units::count),
        units::count(table.rows),
        units::bytes(table.bytes),
        units::duration(seconds),
        state,
    ]
}
