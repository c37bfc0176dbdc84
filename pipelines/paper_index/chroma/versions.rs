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

/// What the collection lacks of the newest version.
pub(super) struct Versions {
    /// The versions of which a chunk of the collection may be; none where all is written.
    pub(super) from: Vec<u64>,
    /// What lies between each of these and the newest one: a chunk that is the same in all
    /// of them is right, whichever of them it is of.
    pub(super) steps: Vec<Step>,
    /// All files of the newest one.
    pub(super) all: Vec<LoggedFile>,
    /// How many chunks the newest one has.
    pub(super) points: u64,
}

/// What lies between two versions.
pub(super) struct Step {
    /// Files that only the newer one has.
    added: Vec<LoggedFile>,
    /// Files that only the older one has.
    removed: Vec<LoggedFile>,
}

impl Versions {
    /// What the collection lacks of the table `lake` at `version`, which has these files; `None`
    /// where it lacks nothing. Beside it, why the collection has to be compared as a
    /// whole, where it has.
    pub(super) async fn since(
        instance: &Instance,
        lake: &str,
        version: u64,
        files: Vec<LoggedFile>,
        state: &State,
    ) -> (Option<Self>, Option<String>) {
        if state.is_equal_to(lake, version) {
            return (None, None);
        }
        let known = state.known(lake);
        let steps = match &known {
            Ok(from) => steps(instance, from, version, &files).await,
            Err(why) => Err(why.clone()),
        };
        let (steps, because) = match steps {
            Ok(steps) => (steps, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let from = known.ok().filter(|_| because.is_none());
        let versions = Self {
            from: from.unwrap_or_default(),
            steps,
            points: points(&files),
            all: files,
        };
        (Some(versions), because)
    }
}

/// What lies between each version of `from` and `version`, which has these files. An error
/// says why that is not known.
async fn steps(
    instance: &Instance,
    from: &[u64],
    version: u64,
    files: &[LoggedFile],
) -> Result<Vec<Step>, String> {
    if let Some(newer) = from.iter().find(|known| **known > version) {
        let why = format!("it has chunks of version {newer}, which is newer than the lake");
        return Err(why);
    }
    if from.is_empty() {
        return Ok(vec![Step::between(&[], files)]);
    }
    let mut steps = Vec::new();
    for known in from.iter().filter(|known| **known != version) {
        let then = past(instance, *known, files).await;
        let then = then.ok_or_else(|| format!("version {known} is no longer there"))?;
        steps.push(Step::between(&then, files));
    }
    Ok(steps)
}

impl Step {
    fn between(older: &[LoggedFile], newer: &[LoggedFile]) -> Self {
        Self {
            added: only_in(newer, older),
            removed: only_in(older, newer),
        }
    }

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
    let table = KeyedTable::open_sharing(store.objects(), files.to_vec(), KEY).await;
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
