//! The report of a run, for people.

use std::time::Duration;

use super::columns::{Columns, Side, wrap};
use super::{ObjectsReport, RunOutcome, RunReport, TableOutcome, TableReport, mode_word};
use crate::telemetry::units;

pub(super) fn render(report: &RunReport, width: usize, verbose: bool) -> String {
    let mut text = String::new();
    if !report.tables.is_empty() {
        text += &table(report, width);
        text.push('\n');
    }
    if let Some(objects) = &report.objects {
        text += &objects.render(width, verbose);
    }
    for documents in &report.documents {
        text += &documents.render(width);
    }
    for note in notes(report) {
        text += &format!("{}\n", wrap(&note, width, 2));
    }
    if verbose && !report.seconds.is_empty() {
        text += &format!("{}\n", wrap(&stages(report), width, 2));
    }
    text + &wrap(&summary(report), width, 2) + "\n"
}

fn table(report: &RunReport, width: usize) -> String {
    let mut columns = Columns::new(&[
        ("table", Side::Left),
        ("mode", Side::Left),
        ("outcome", Side::Left),
        ("rows", Side::Right),
        ("read", Side::Right),
        ("written", Side::Right),
        ("files", Side::Right),
        ("version", Side::Right),
    ]);
    for table in &report.tables {
        columns.row(cells(table));
    }
    columns.render(width)
}

fn cells(table: &TableReport) -> [String; 8] {
    let committed = table.outcome == TableOutcome::Committed;
    let number = |text: String| if committed { text } else { "-".to_owned() };
    [
        table.name.clone(),
        mode_word(table.mode).to_owned(),
        table.outcome.word().to_owned(),
        number(units::count(table.rows)),
        number(units::bytes(table.source_bytes)),
        number(units::bytes(table.lake_bytes)),
        number(units::count(table.files)),
        table.version.map_or("-".to_owned(), units::count),
    ]
}

/// What the numbers do not tell. Failures are not among them: they are told
/// once, on standard error.
fn notes(report: &RunReport) -> Vec<String> {
    let mut notes = Vec::new();
    for table in &report.tables {
        let name = &table.name;
        if table.continued {
            notes.push(format!(
                "{name}: continued an earlier load: {} of {} were already there",
                units::count(table.splits_resumed),
                units::counted(table.splits, "split"),
            ));
        }
        if table.catching_up {
            notes.push(format!(
                "{name}: catching up: rows that changed during the load may be missing until the next run"
            ));
        }
        if table.quarantined > 0 {
            notes.push(format!(
                "{name}: {} cannot be represented in the lake; see {}/_highwater/quarantine/",
                units::counted(table.quarantined, "row"),
                report.lake.trim_end_matches('/'),
            ));
        }
        if table.replaced_files > 0 {
            notes.push(format!(
                "{name}: {} became {}",
                units::counted(table.replaced_files, "file"),
                units::counted(table.files, "file"),
            ));
        }
        notes.extend(about_mirror(table).map(|note| format!("{name}: {note}")));
        if table.at_risk {
            notes.push(format!(
                "{name}: at risk: rows that commit late with a lower cursor value are lost, as are deletes"
            ));
        }
    }
    notes.extend(
        report
            .warnings
            .iter()
            .map(|warning| format!("warning: {warning}")),
    );
    notes
}

/// What a mirrored table's numbers do not tell.
fn about_mirror(table: &TableReport) -> impl Iterator<Item = String> {
    let changed = table.inserted + table.updated + table.deleted;
    let counts = (changed > 0).then(|| {
        format!(
            "{} new, {} changed, {} deleted{}",
            units::count(table.inserted),
            units::count(table.updated),
            units::count(table.deleted),
            table
                .method
                .map_or(String::new(), |method| format!(" (by {})", method.word())),
        )
    });
    let because = table.because.as_ref();
    let because = because.map(|because| {
        if changed > 0 || table.outcome == TableOutcome::Unchanged {
            format!("all rows were compared: {because}")
        } else {
            format!("written as a whole: {because}")
        }
    });
    let columns: Vec<String> = table.columns.iter().map(ToString::to_string).collect();
    let columns = (!columns.is_empty()).then(|| format!("columns: {}", columns.join(", ")));
    let held = table.held_by.as_ref();
    let held = held.map(|by| format!("the cursor is held back: {by}"));
    counts.into_iter().chain(because).chain(columns).chain(held)
}

fn stages(report: &RunReport) -> String {
    let mut stages: Vec<_> = report.seconds.iter().collect();
    stages.sort_by(|a, b| b.1.total_cmp(a.1));
    let stages: Vec<String> = stages
        .into_iter()
        .map(|(stage, seconds)| format!("{stage} {}", seconds_text(*seconds)))
        .collect();
    format!(
        "time by stage (all threads): {}; waited for memory {}, repeated {}",
        stages.join(", "),
        units::counted(report.memory_waits, "time"),
        units::counted(report.retries, "request"),
    )
}

fn seconds_text(seconds: f64) -> String {
    units::duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// How it ended, how long it took, and in how much memory.
fn ended(report: &RunReport, objects: &ObjectsReport) -> String {
    let peak = report.peak_rss_bytes.map_or("?".to_owned(), units::bytes);
    let how = match report.outcome {
        RunOutcome::Done if objects.dry_run => "dry run, nothing was changed",
        RunOutcome::Done => "done",
        RunOutcome::Quarantined => "done but for what failed",
        RunOutcome::Interrupted => "interrupted",
        _ => "ended early",
    };
    format!(
        "{how}: {} (memory {peak} of {})",
        seconds_text(report.elapsed_seconds),
        units::bytes(report.memory_limit_bytes)
    )
}

fn summary(report: &RunReport) -> String {
    let totals = &report.totals;
    if let Some(objects) = &report.objects {
        return ended(report, objects);
    }
    let memory = match report.peak_rss_bytes {
        Some(peak) => format!("memory {} of ", units::bytes(peak)),
        None => "memory limit ".to_owned(),
    };
    let failed = match totals.tables_failed {
        0 => String::new(),
        failed => format!(" ({} not committed)", units::count(failed)),
    };
    format!(
        "{}{failed}, {}, {} read -> {} written in {} ({memory}{})",
        units::counted(totals.tables, "table"),
        units::counted(totals.rows, "row"),
        units::bytes(totals.source_bytes),
        units::bytes(totals.lake_bytes),
        seconds_text(report.elapsed_seconds),
        units::bytes(report.memory_limit_bytes),
    )
}
