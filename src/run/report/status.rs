//! What the lake holds, table by table.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{Columns, Side, wrap};
use super::{TableError, mode_word};
use crate::run::schedule::ScheduleStatus;
use crate::telemetry::units;
use crate::watermark::{Method, Mode, Reconciled, Watermark};

/// What the lake holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusReport {
    /// URL of the lake, without secrets.
    pub lake: String,
    /// Every table of the lake, in name order.
    pub tables: Vec<TableStatus>,
    /// What the table means; of `object-sync` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<ObjectsStatus>,
    /// The last and the next run, where the configuration has a schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleStatus>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What a target of objects holds beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectsStatus {
    /// The record of what was copied: a row for each copy.
    Recorded,
    /// The objects themselves, packed.
    Packed,
}

/// What the lake holds of one table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TableStatus {
    /// The table's name.
    pub name: String,
    /// How it is kept.
    pub mode: Option<Mode>,
    /// How far it got.
    #[schemars(with = "Option<serde_json::Value>")]
    pub watermark: Option<Watermark>,
    /// The version of the Delta table; `None` while nothing was committed.
    pub version: Option<u64>,
    /// Rows of that version.
    pub rows: u64,
    /// Files of that version.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// When it was last committed, RFC 3339 in UTC.
    pub last_run: Option<String>,
    /// Rows that changed during a continued load may be missing until the next
    /// run.
    pub catching_up: bool,
    /// Rows may be lost by a naive cursor, as the configuration accepts (T6).
    pub at_risk: bool,
    /// Whether deletes in the source reach the lake in each run.
    pub sees_deletes: bool,
    /// Whether rows that commit late reach the lake, and what that relies on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub late_commits: String,
    /// A load that is not complete: splits done, and splits in all.
    pub loading: Option<(u64, u64)>,
    /// Why nothing can be said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TableError>,
}

impl TableStatus {
    /// The state in a word or two.
    #[must_use]
    pub fn state(&self) -> String {
        let mut states = Vec::new();
        if self.error.is_some() {
            states.push("ERROR".to_owned());
        }
        if let Some((done, all)) = self.loading {
            states.push(format!("load {done}/{all}"));
        }
        if self.catching_up {
            states.push("catching up".to_owned());
        }
        if self.at_risk {
            states.push("at risk".to_owned());
        }
        match (states.is_empty(), self.version) {
            (true, None) => "empty".to_owned(),
            (true, Some(_)) => "ok".to_owned(),
            (false, _) => states.join(", "),
        }
    }

    /// The watermark in one line.
    fn position(&self) -> Option<String> {
        let watermark = self.watermark.as_ref()?;
        Some(match &watermark.cursor {
            Some(cursor) => {
                let value = cursor.value.as_deref().unwrap_or("(none yet)");
                format!("has {} up to {value}", cursor.column)
            }
            None => format!("the source as of {}", watermark.bound.at),
        })
    }
}

/// When a table was last compared as a whole, and what came of it.
fn comparison(reconciled: &Reconciled) -> String {
    let Reconciled {
        at,
        inserted,
        updated,
        deleted,
    } = reconciled;
    let differences = inserted + updated + deleted;
    match differences {
        0 => short_time(at),
        some => format!(
            "{}, {} differed",
            short_time(at),
            units::counted(some, "row")
        ),
    }
}

/// `2026-11-21T07:33:09.123Z` to the minute, as people write it.
fn short_time(time: &str) -> String {
    match time.get(..16) {
        Some(minute) if time.as_bytes().get(10) == Some(&b'T') => minute.replace('T', " "),
        _ => time.to_owned(),
    }
}

impl StatusReport {
    /// The status for people, at most `width` columns wide.
    #[must_use]
    pub fn render(&self, width: usize) -> String {
        if let Some(objects) = self.objects {
            let lines = self.about_objects(objects).into_iter();
            let lines = lines.map(|line| wrap(&line, width, 2) + "\n");
            return lines.collect::<String>() + &self.schedule_line(width);
        }
        if self.tables.is_empty() {
            let none = format!("{}: no tables yet; `run` writes the first\n", self.lake);
            return none + &self.schedule_line(width);
        }
        let mut columns = Columns::new(&[
            ("table", Side::Left),
            ("mode", Side::Left),
            ("state", Side::Left),
            ("version", Side::Right),
            ("rows", Side::Right),
            ("files", Side::Right),
            ("size", Side::Right),
            ("last run (UTC)", Side::Left),
        ]);
        for table in &self.tables {
            columns.row(cells(table));
        }
        let mut text = columns.render(width) + "\n" + &self.watermarks(width);
        for note in self.notes() {
            text += &(wrap(&note, width, 2) + "\n");
        }
        text + &wrap(&self.summary(), width, 2) + "\n" + &self.schedule_line(width)
    }

    fn about_objects(&self, objects: ObjectsStatus) -> Vec<String> {
        let (done, name) = match objects {
            ObjectsStatus::Recorded => ("copied", "the record of copies"),
            ObjectsStatus::Packed => ("packed", "the table"),
        };
        let Some(table) = self.tables.first() else {
            return vec![format!("{}: nothing {done} yet", self.lake)];
        };
        let what = match objects {
            ObjectsStatus::Recorded => units::counted(table.rows, "recorded change"),
            ObjectsStatus::Packed => units::counted(table.rows, "packed object"),
        };
        let last = table.last_run.as_deref().map_or("?".to_owned(), short_time);
        vec![
            format!("{}: {what}, the last at {last} (UTC)", self.lake),
            format!(
                "{name}: version {}, {} in {}; `verify` compares both places",
                units::count(table.version.unwrap_or_default()),
                units::bytes(table.bytes),
                units::counted(table.files, "file"),
            ),
        ]
    }

    fn schedule_line(&self, width: usize) -> String {
        self.schedule.as_ref().map_or(String::new(), |schedule| {
            wrap(&schedule.render(chrono::Utc::now()), width, 2) + "\n"
        })
    }

    /// Tables and their watermarks, which are too wide for a column.
    fn watermarks(&self, width: usize) -> String {
        let mut columns = Columns::new(&[
            ("table", Side::Left),
            ("method", Side::Left),
            ("watermark", Side::Left),
            ("compared (UTC)", Side::Left),
        ]);
        let mut any = false;
        for table in &self.tables {
            if let Some(position) = table.position() {
                let watermark = table.watermark.as_ref();
                let method = watermark.and_then(|watermark| watermark.method);
                let compared = watermark.and_then(|watermark| watermark.reconciled.as_ref());
                columns.row([
                    table.name.clone(),
                    method.map_or("-", Method::word).to_owned(),
                    position,
                    compared.map_or("-".to_owned(), comparison),
                ]);
                any = true;
            }
        }
        if any {
            columns.render(width) + "\n"
        } else {
            String::new()
        }
    }

    /// What each method relies on, once (T8).
    fn about_methods(&self) -> impl Iterator<Item = String> {
        [Method::Xid, Method::Cursor, Method::Diff]
            .into_iter()
            .filter(|method| {
                let uses = |table: &TableStatus| {
                    let watermark = table.watermark.as_ref();
                    watermark.and_then(|watermark| watermark.method) == Some(*method)
                };
                self.tables.iter().any(uses)
            })
            .map(|method| format!("{}: {}", method.word(), method.relies_on()))
    }

    fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.about_methods().collect();
        for table in &self.tables {
            let watermark = table.watermark.as_ref();
            if let Some(by) = watermark.and_then(|watermark| watermark.held_by.as_ref()) {
                notes.push(format!("{}: the cursor is held back: {by}", table.name));
            }
            if let Some(error) = &table.error {
                notes.push(format!("{}: {}", table.name, error.message));
            }
            if let Some((done, all)) = table.loading {
                notes.push(format!(
                    "{}: a load is not complete ({done} of {all} splits); the next run continues it",
                    table.name
                ));
            }
            if table.catching_up {
                notes.push(format!(
                    "{}: catching up: rows that changed during the load may be missing until the next run",
                    table.name
                ));
            }
            if table.at_risk {
                notes.push(format!(
                    "{}: at risk: rows that commit late with a lower cursor value are lost",
                    table.name
                ));
            }
        }
        let blind: Vec<&str> = self
            .tables
            .iter()
            .filter(|table| table.version.is_some() && !table.sees_deletes)
            .map(|table| table.name.as_str())
            .collect();
        if !blind.is_empty() {
            notes.push(format!(
                "deletes are not seen by each run in: {}",
                blind.join(", ")
            ));
        }
        notes.extend(
            self.warnings
                .iter()
                .map(|warning| format!("warning: {warning}")),
        );
        notes
    }

    fn summary(&self) -> String {
        let sum = |field: fn(&TableStatus) -> u64| self.tables.iter().map(field).sum();
        format!(
            "{}, {}, {} in {} at {}",
            units::counted(self.tables.len() as u64, "table"),
            units::counted(sum(|table| table.rows), "row"),
            units::bytes(sum(|table| table.bytes)),
            units::counted(sum(|table| table.files), "file"),
            self.lake,
        )
    }
}

fn cells(table: &TableStatus) -> [String; 8] {
    let known = table.version.is_some();
    let number = |text: String| if known { text } else { "-".to_owned() };
    [
        table.name.clone(),
        mode_word(table.mode).to_owned(),
        table.state(),
        table.version.map_or("-".to_owned(), units::count),
        number(units::count(table.rows)),
        number(units::count(table.files)),
        number(units::bytes(table.bytes)),
        table.last_run.as_deref().map_or("-".to_owned(), short_time),
    ]
}
