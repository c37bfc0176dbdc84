//! Progress as lines: for people who log to a file, and for programs.

use super::Snapshot;
use super::estimate::Estimate;
use crate::telemetry::units;

/// One line for people.
pub(super) fn plain(now: &Snapshot, estimate: &Estimate) -> String {
    if let Some(told) = &now.told {
        return told.text.clone();
    }
    let mut parts = vec![
        format!(
            "{} of {}",
            now.done(),
            units::counted(now.tables.len() as u64, "table")
        ),
        units::counted(now.sum(|table| table.rows), "row"),
        format!("{} read", units::bytes(now.sum(|table| table.read))),
        format!("{} written", units::bytes(now.sum(|table| table.written))),
    ];
    if let Some(share) = estimate.share() {
        parts.insert(0, percent(share));
    }
    parts.extend(pace(estimate));
    parts.join(", ")
}

/// Speed and time left, where they are known.
pub(super) fn pace(estimate: &Estimate) -> Vec<String> {
    let speed = estimate.bytes_per_second().map(units::rate);
    let left = estimate
        .left()
        .map(|left| format!("about {} left", units::duration(left)));
    speed.into_iter().chain(left).collect()
}

/// A share of the whole, never 100% before the end.
fn percent(share: f64) -> String {
    format!("{}%", units::whole(share * 100.0).min(99))
}

/// One JSON object for programs, after the convention of restic.
pub(super) fn json(now: &Snapshot, estimate: &Estimate) -> serde_json::Value {
    if let Some(told) = &now.told {
        let mut line = serde_json::json!({
            "event": "status",
            "seconds_elapsed": now.elapsed.as_secs(),
        });
        if let (Some(line), Some(told)) = (line.as_object_mut(), told.json.as_object()) {
            line.extend(told.clone());
        }
        return line;
    }
    serde_json::json!({
        "event": "status",
        "seconds_elapsed": now.elapsed.as_secs(),
        "seconds_left": estimate.left().map(|left| left.as_secs()),
        "share_done": estimate.share(),
        "tables_done": now.done(),
        "tables": now.tables.len(),
        "rows": now.sum(|table| table.rows),
        "bytes_read": now.sum(|table| table.read),
        "bytes_written": now.sum(|table| table.written),
        "bytes_per_second": estimate.bytes_per_second().map(units::whole),
        "active": now
            .tables
            .iter()
            .filter(|table| !table.done && (table.rows > 0 || !table.state.is_empty()))
            .map(|table| &table.name)
            .collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::TableView;
    use super::*;

    fn half_way() -> (Snapshot, Estimate) {
        let orders = TableView {
            name: "orders".to_owned(),
            state: "reading".to_owned(),
            rows: 2_345_678,
            estimated_bytes: 1 << 30,
            ..Default::default()
        };
        let items = TableView {
            name: "items".to_owned(),
            done: true,
            ..Default::default()
        };
        let mut now = Snapshot {
            told: None,
            elapsed: Duration::ZERO,
            planned: true,
            tables: vec![orders, items],
        };
        let mut estimate = Estimate::default();
        estimate.observe(&now);
        now.elapsed = Duration::from_secs(8);
        for table in now.tables.iter_mut().take(1) {
            table.read = 1 << 29;
            table.written = 120 << 20;
        }
        estimate.observe(&now);
        (now, estimate)
    }

    #[test]
    fn a_line_for_people() {
        let (now, estimate) = half_way();
        assert_eq!(
            plain(&now, &estimate),
            "50%, 1 of 2 tables, 2,345,678 rows, 512 MiB read, 120 MiB written, 64 MiB/s, \
             about 8.0 s left"
        );
    }

    #[test]
    fn a_line_for_programs() {
        let (now, estimate) = half_way();
        let line = json(&now, &estimate);
        assert_eq!(line["event"], "status");
        assert_eq!(line["seconds_left"], 8);
        assert_eq!(line["active"], serde_json::json!(["orders"]));
        assert!(json(&Snapshot::default(), &Estimate::default())["seconds_left"].is_null());
    }
}
