//! Run reports and quarantined rows, kept in the lake itself.

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};
use serde::Deserialize;
use uuid::Uuid;

use super::entries;

use crate::source::BadRow;
use crate::store::{Store, StoreError, StoreErrorKind};

/// Writes the report of one run to `_highwater/runs/<time>-<run>.json` of the
/// lake at `store`, and returns where it is. `at` is when the run began, RFC 3339
/// in UTC.
///
/// # Errors
/// The store cannot be written.
pub async fn put_report(
    store: &Store,
    at: &str,
    run: Uuid,
    report: &serde_json::Value,
) -> Result<String, StoreError> {
    // Colons are not allowed in file names everywhere.
    let time: String = at.chars().filter(char::is_ascii_alphanumeric).collect();
    let path = Path::from(format!("_highwater/runs/{time}-{run}.json"));
    put(store, path, format!("{report:#}\n")).await
}

/// Writes rows that were set aside to
/// `_highwater/quarantine/<run>-<table>-<number>.jsonl` of the lake at `store`,
/// one JSON object a line, and returns where it is.
///
/// # Errors
/// The store cannot be written.
pub async fn put_quarantine(
    store: &Store,
    run: Uuid,
    table: &str,
    number: u32,
    rows: &[BadRow],
) -> Result<String, StoreError> {
    let mut lines = String::new();
    for row in rows {
        let line = serde_json::to_string(row).map_err(|error| {
            StoreError::new(
                StoreErrorKind::Failed,
                format!("a quarantined row: {error}"),
            )
        })?;
        lines.push_str(&line);
        lines.push('\n');
    }
    let name = format!("{run}-{table}-{number}.jsonl");
    // As one segment: a table's name may hold a slash.
    let path = Path::from_iter(["_highwater", "quarantine", name.as_str()]);
    put(store, path, lines).await
}

/// What an earlier run's report says, as far as it matters to later ones.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct PastRun {
    /// Where the report is, below the lake.
    #[serde(skip)]
    pub path: String,
    /// The run.
    pub run: Uuid,
    /// How long it took.
    #[serde(default)]
    pub elapsed_seconds: f64,
    /// What became of its tables.
    #[serde(default)]
    pub tables: Vec<PastRunTable>,
}

/// What became of one table in an earlier run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct PastRunTable {
    /// The table.
    pub name: String,
    /// `committed`, `unchanged`, ...
    pub outcome: String,
    /// Its version after the run.
    pub version: Option<u64>,
}

/// How many reports are read at once.
const REPORTS_AT_ONCE: usize = 16;

/// Reads the reports of earlier runs of the lake at `store`, the oldest first. A
/// report that cannot be understood is left out: it is a help, not the truth.
///
/// # Errors
/// The store cannot be read.
pub async fn read_reports(store: &Store) -> Result<Vec<PastRun>, StoreError> {
    let home = Path::from("_highwater/runs");
    let doing = format!("list {}", store.url_of(&home));
    let listing = store.objects().list(Some(&home));
    let paths: Vec<Path> = listing
        .map_ok(|object| object.location)
        .try_collect()
        .await
        .map_err(|error| StoreError::from_object_store(&error, &doing))?;
    let reports: Vec<Option<PastRun>> = futures::stream::iter(paths)
        .map(|path| async move {
            let bytes = entries::read(store, &path).await?.unwrap_or_default();
            let report: Option<PastRun> = serde_json::from_slice(&bytes).ok();
            Ok::<_, StoreError>(report.map(|report| PastRun {
                path: path.to_string(),
                ..report
            }))
        })
        .buffered(REPORTS_AT_ONCE)
        .try_collect()
        .await?;
    Ok(reports.into_iter().flatten().collect())
}

async fn put(store: &Store, path: Path, content: String) -> Result<String, StoreError> {
    let place = store.url_of(&path);
    match store.objects().put(&path, PutPayload::from(content)).await {
        Ok(_) => Ok(place),
        Err(error) => Err(StoreError::from_object_store(
            &error,
            &format!("write {place}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[tokio::test]
    async fn reports_and_bad_rows_are_found_where_they_are_said_to_be() {
        let home = tempfile::tempdir().unwrap();
        let url = format!("file:{}", home.path().display());
        let store = Store::open(&url, &Default::default()).unwrap();
        let run = Uuid::nil();
        let report = serde_json::json!({"rows": 3});
        let at = "2026-01-01T00:00:00.000Z";
        let place = put_report(&store, at, run, &report).await.unwrap();
        assert!(
            place.contains("_highwater/runs/20260101T000000000Z-0000"),
            "{place}"
        );
        let row = BadRow {
            key: [("id".to_owned(), Some("7".to_owned()))].into(),
            column: "n".to_owned(),
            value: "NaN".to_owned(),
            reason: "no such number".to_owned(),
        };
        put_quarantine(&store, run, "a/b", 0, &[row.clone(), row.clone()])
            .await
            .unwrap();
        let folder = home.path().join("_highwater/quarantine");
        let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        let first: BadRow = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!((first, text.lines().count()), (row, 2));
    }
}
