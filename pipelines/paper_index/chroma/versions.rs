//! The files that differ between two versions of a table, in ranges of documents.

use std::collections::BTreeSet;

use highwater::app::Failure;
use highwater::ledger::{At, Ledger, LoggedFile};
use highwater::store::Store;
use highwater_operators::ingest::documents::{ID, KEY};
use highwater_operators::lake::KeyedTable;

use super::super::instance::Instance;
use super::apply::Range;
use super::target::State;

/// What lies between two versions.
pub(super) struct Versions {
    /// Files that only the newer one has.
    pub(super) added: Vec<LoggedFile>,
    /// Files that only the older one has.
    pub(super) removed: Vec<LoggedFile>,
    /// All files of the newer one.
    pub(super) all: Vec<LoggedFile>,
    /// How many chunks the newer one has.
    pub(super) points: u64,
}

impl Versions {
    /// What the collection lacks of the table `lake` at `version`, which has these files; `None`
    /// where it lacks nothing. Beside it, why the collection has to be compared as a
    /// whole, where it has.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) async fn since(
        instance: &Instance,
        lake: &str,
        version: u64,
        files: Vec<LoggedFile>,
        state: &State,
    ) -> Result<(Option<Self>, Option<String>), Failure> {
        let points = points(&files);
        let (then, because) = match state.known(lake) {
            Ok(None) => (Vec::new(), None),
            Ok(Some(known)) if known == version && state.is_whole() => return Ok((None, None)),
            Ok(Some(known)) if known <= version => match past(instance, known, &files).await {
                Some(then) => (then, None),
                None => (
                    Vec::new(),
                    Some(format!("version {known} is no longer there")),
                ),
            },
            Ok(Some(known)) => {
                let why = format!("it equals version {known}, which is newer than the lake");
                (Vec::new(), Some(why))
            }
            Err(why) => (Vec::new(), Some(why)),
        };
        let versions = Self {
            added: only_in(&files, &then),
            removed: only_in(&then, &files),
            all: files,
            points,
        };
        Ok((Some(versions), because))
    }
}

impl Versions {
    /// The files that differ, in ranges whose documents do not overlap.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) async fn ranges(&self, store: &Store) -> Result<Vec<Range>, Failure> {
        let mut spans = spans(store, &self.added, true).await?;
        spans.extend(self::spans(store, &self.removed, false).await?);
        Ok(ranges(spans))
    }
}

/// The files of an earlier version; `None` where what changed since is not known any
/// more, because it was pruned.
async fn past(instance: &Instance, version: u64, now: &[LoggedFile]) -> Option<Vec<LoggedFile>> {
    let past = Ledger::open_at(instance.store.clone(), At::Version(version)).await;
    let then = past.ok()?.files().await.ok()?;
    // Its log entry may have outlived its files.
    let gone = spans(&instance.store, &only_in(&then, now), false).await;
    gone.is_ok().then_some(then)
}

/// Those of `these` that `those` have not.
fn only_in(these: &[LoggedFile], those: &[LoggedFile]) -> Vec<LoggedFile> {
    let known: BTreeSet<&str> = those.iter().map(|file| file.path.as_str()).collect();
    let these = these.iter();
    these
        .filter(|file| !known.contains(file.path.as_str()))
        .cloned()
        .collect()
}

/// A file and its first and last document.
struct Span {
    file: LoggedFile,
    first: String,
    last: String,
    added: bool,
}

async fn spans(store: &Store, files: &[LoggedFile], added: bool) -> Result<Vec<Span>, Failure> {
    let table = KeyedTable::open(store.objects(), files.to_vec(), KEY).await;
    let table = table.map_err(|error| Failure::failed(error.to_string()))?;
    let spans = table.spans().map(|(file, first, last)| Span {
        file: file.clone(),
        first: first.to_owned(),
        last: last.to_owned(),
        added,
    });
    Ok(spans.collect())
}

fn ranges(mut spans: Vec<Span>) -> Vec<Range> {
    spans.sort_by(|a, b| a.first.cmp(&b.first));
    let mut ranges: Vec<Range> = Vec::new();
    let mut end = String::new();
    for span in spans {
        if ranges.is_empty() || span.first > end {
            ranges.push(Range::default());
        }
        end = end.max(span.last);
        if let Some(range) = ranges.last_mut() {
            match span.added {
                true => range.added.push(span.file),
                false => range.removed.push(span.file),
            }
        }
    }
    ranges
}

/// How many chunks files hold, by the statistics of the log: a document without text has
/// a row without an id.
fn points(files: &[LoggedFile]) -> u64 {
    let of = |file: &LoggedFile| {
        let nulls = file.stats.as_ref().and_then(|stats| stats.get("nullCount"));
        let nulls = nulls.and_then(|nulls| nulls.get(ID)?.as_u64());
        file.rows().saturating_sub(nulls.unwrap_or(0))
    };
    files.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> LoggedFile {
        LoggedFile {
            path: path.to_owned(),
            bytes: 1,
            sha256: None,
            stats: Some(serde_json::json!({"numRecords": 10, "nullCount": {ID: 3}})),
            partition: std::collections::BTreeMap::new(),
            order: None,
            deleted_rows: 0,
        }
    }

    #[test]
    fn files_that_overlap_are_one_range() {
        let span = |path: &str, first: &str, last: &str, added| Span {
            file: file(path),
            first: first.to_owned(),
            last: last.to_owned(),
            added,
        };
        let ranges = ranges(vec![
            span("a", "a", "c", true),
            span("d", "d", "e", true),
            span("x", "x", "z", true),
            span("b", "b", "d", false),
        ]);
        let paths = |files: &[LoggedFile]| -> String {
            files.iter().map(|file| file.path.as_str()).collect()
        };
        let ranges = ranges
            .iter()
            .map(|range| (paths(&range.added), paths(&range.removed)));
        let ranges: Vec<_> = ranges.collect();
        let expected = [("ad", "b"), ("x", "")];
        assert_eq!(ranges, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn documents_without_text_are_no_points() {
        assert_eq!(points(&[file("a"), file("b")]), 14);
    }
}
