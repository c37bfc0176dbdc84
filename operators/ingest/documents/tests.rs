#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path as FsPath;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;
use highwater::ledger::LoggedFile;
use highwater::store::objects::{FolderObjects, KeyRange, Listed, Objects as _};
use highwater::store::pace::{Retries, RetryPolicy};
use highwater::telemetry::objects::ObjectTally;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};
use parquet::arrow::ArrowWriter;

use super::old::OldDocuments;
use super::rows::{About, KnownVectors, State, document_rows, is_waiting, text, without_vector};
use super::*;
use crate::transform::chunk::{Chunk, ChunkOptions, Document, TokenCounter, chunks};
use crate::transform::extract::{Limits, Reason};

struct Words;

impl TokenCounter for Words {
    fn count(&self, text: &str) -> usize {
        text.split_whitespace().count()
    }
}

fn cut(text: &str) -> Vec<Chunk<'_>> {
    let document = Document {
        key: "k",
        text,
        headings: &[],
        page_starts: &[],
    };
    let options = ChunkOptions {
        max_tokens: 16,
        overlap_tokens: 0,
        ..ChunkOptions::default()
    };
    chunks(&document, &Words, &options).unwrap()
}

fn state(object: &Listed, recipe: &str, note: Option<&str>) -> State {
    State {
        object: object.clone(),
        recipe: recipe.to_owned(),
        model: "m".to_owned(),
        note: note.map(str::to_owned),
    }
}

fn rows(object: &Listed, body: &str) -> arrow::array::RecordBatch {
    let about = About {
        title: Some("A title".to_owned()),
        authors: vec!["Ann".to_owned(), "Bo".to_owned()],
        ..About::default()
    };
    let known = KnownVectors::default();
    document_rows(&state(object, "r", None), &about, &cut(body), &known).unwrap()
}

fn listed(key: &str) -> Listed {
    Listed {
        key: key.to_owned(),
        bytes: 1,
        modified_ns: 1_000,
        etag: None,
    }
}

const LONG: &str = "One short sentence stands here. Another one follows it at once. A third one comes \
                    after the two. The fourth is the last of them all. And a fifth for luck, again.";

#[test]
fn a_document_is_rows_and_one_without_text_is_one_row() {
    let with_text = rows(&listed("a"), LONG);
    assert!(with_text.num_rows() > 1);
    assert_eq!(without_vector(&with_text), with_text.num_rows());
    let about = About::default();
    let known = KnownVectors::default();
    let noted = state(&listed("b"), "r", Some("broken"));
    let none = document_rows(&noted, &about, &[], &known).unwrap();
    assert_eq!((none.num_rows(), without_vector(&none)), (1, 0));
    assert_eq!(State::of(&none, 0), noted);
    assert_eq!(text(&none, columns::TEXT, 0), None);
}

#[tokio::test]
async fn documents_of_a_file_come_whole_however_it_is_cut_into_batches() {
    let keys = ["a", "b", "c", "d"];
    let all: Vec<_> = keys.iter().map(|key| rows(&listed(key), LONG)).collect();
    let whole = arrow::compute::concat_batches(&chunks_schema(), &all).unwrap();
    for rows_at_once in 1..whole.num_rows() + 1 {
        let cuts = (0..whole.num_rows()).step_by(rows_at_once);
        let batches = cuts.map(|at| whole.slice(at, rows_at_once.min(whole.num_rows() - at)));
        let batches: Vec<_> = batches.map(Ok).collect();
        // The range leaves the first one out.
        let range = KeyRange {
            after: "a".to_owned(),
            upto: Some("c".to_owned()),
        };
        let mut old = OldDocuments::new(stream::iter(batches).boxed(), range);
        let mut seen = Vec::new();
        while let Some(key) = old.peek().await.unwrap().map(str::to_owned) {
            let document = old.take().unwrap();
            assert_eq!(document.row_count(), all[1].num_rows() as u64);
            seen.push(key);
        }
        assert_eq!(seen, ["b", "c"], "{rows_at_once}");
    }
}

/// A folder of documents and a table that holds what is given.
struct Sides {
    home: tempfile::TempDir,
    folder: Arc<dyn ObjectStore>,
    files: Vec<LoggedFile>,
}

impl Sides {
    fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            folder: Arc::new(InMemory::new()),
            files: Vec::new(),
        }
    }

    fn put(&self, key: &str, text: &str) {
        let path = self.home.path().join(key);
        std::fs::create_dir_all(path.parent().unwrap_or(FsPath::new("."))).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A file of the table with the documents as they are now.
    async fn index(&mut self, name: &str, keys: &[&str], recipe: &str) {
        let source = FolderObjects::new(self.home.path());
        let mut states = Vec::new();
        for key in keys {
            states.push(state(&source.head(key).await.unwrap(), recipe, None));
        }
        self.write(name, &states).await;
    }

    /// A file of the table with documents in these states; those with a note have no text.
    async fn write(&mut self, name: &str, states: &[State]) {
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, chunks_schema(), None).unwrap();
        for state in states {
            let body = std::fs::read_to_string(self.home.path().join(&state.object.key)).unwrap();
            let about = About::default();
            let known = KnownVectors::default();
            let chunks = match state.note {
                None => cut(&body),
                Some(_) => Vec::new(),
            };
            writer
                .write(&document_rows(state, &about, &chunks, &known).unwrap())
                .unwrap();
        }
        writer.close().unwrap();
        let size = bytes.len() as u64;
        self.folder
            .put(&Path::from(name), PutPayload::from(bytes))
            .await
            .unwrap();
        self.files.push(LoggedFile {
            path: name.to_owned(),
            bytes: size,
            sha256: None,
            stats: None,
            partition: std::collections::BTreeMap::new(),
            order: None,
            deleted_rows: 0,
        });
    }

    async fn find(&self, wanted: usize) -> (Found, Arc<ObjectTally>) {
        let sides = self.sides("1").await;
        let found = find_changes(&sides, &ChunkTally::default(), wanted).await;
        (found.unwrap(), sides.tally)
    }

    /// Both sides, where this version makes text of documents.
    async fn sides(&self, version: &str) -> DocumentSides {
        let table =
            KeyedTable::open_sharing(Arc::clone(&self.folder), self.files.clone(), KEY).await;
        DocumentSides {
            source: Arc::new(FolderObjects::new(self.home.path())),
            chunks: Arc::new(table.unwrap()),
            filter: KeyFilter::new(&[], &["*.skip".to_owned()]).unwrap(),
            recipe: "r".into(),
            model: "m".into(),
            extraction: version.into(),
            limits: Limits::default(),
            retries: Retries::new(RetryPolicy::default()),
            tally: Arc::new(ObjectTally::new(None)),
        }
    }
}

fn counts(tally: &ObjectTally) -> [u64; 4] {
    [
        &tally.missing,
        &tally.to_copy,
        &tally.extra,
        &tally.unchanged,
    ]
    .map(|count| count.get())
}

#[tokio::test]
async fn only_ranges_with_a_change_are_found() {
    let mut sides = Sides::new();
    for key in ["a", "b", "c", "d", "e.skip"] {
        sides.put(key, LONG);
    }
    sides.index("one.parquet", &["a", "b"], "r").await;
    sides.index("two.parquet", &["c", "d"], "r").await;
    let (found, tally) = sides.find(4).await;
    assert_eq!((found.groups.len(), counts(&tally)), (0, [0, 0, 0, 4]));
    // One changes, one comes, one goes.
    sides.put("b", "Another text, of another length.");
    sides.put("bb", "A new one.");
    std::fs::remove_file(sides.home.path().join("a")).unwrap();
    let (found, tally) = sides.find(4).await;
    assert_eq!(counts(&tally), [1, 2, 1, 2]);
    // `bb` comes after the last document of the first file: it belongs to the next one.
    let replaced: Vec<_> = found
        .groups
        .iter()
        .flat_map(|group| &group.replaces)
        .collect();
    assert_eq!(replaced, ["one.parquet", "two.parquet"]);
    assert_eq!(found.documents, 2);
}

#[tokio::test]
async fn what_was_made_in_another_way_is_made_anew() {
    let mut sides = Sides::new();
    sides.put("a", LONG);
    sides.put("b", LONG);
    sides.index("one.parquet", &["a"], "r").await;
    sides.index("two.parquet", &["b"], "an older recipe").await;
    let (found, tally) = sides.find(1).await;
    assert_eq!(counts(&tally), [0, 1, 0, 1]);
    assert_eq!(found.groups.first().unwrap().replaces, ["two.parquet"]);
}

/// Guards `recipe_of` in `Merge::is_current`, and in `DocumentSides::set_aside` that the
/// version is recorded at all.
#[tokio::test]
async fn where_one_version_failed_another_one_tries_again() {
    let notes = [
        Reason::Encrypted,
        Reason::Crashed("signal 11".to_owned()),
        Reason::Panicked("index out of bounds".to_owned()),
    ]
    .map(|reason| reason.to_string());
    let mut sides = Sides::new();
    let source = FolderObjects::new(sides.home.path());
    let first = sides.sides("1").await;
    let mut states = Vec::new();
    for (key, note) in ["a", "b", "c"].iter().zip(&notes) {
        sides.put(key, LONG);
        let mut state = state(&source.head(key).await.unwrap(), "r", None);
        first.set_aside(&mut state, note.clone());
        states.push(state);
    }
    sides.write("set_aside.parquet", &states).await;
    // What was tried once is not tried again and again.
    for (version, counted, waiting) in [("1", [0, 0, 0, 3], 2), ("2", [0, 2, 0, 1], 0)] {
        let (sides, chunks) = (sides.sides(version).await, ChunkTally::default());
        find_changes(&sides, &chunks, 1).await.unwrap();
        assert_eq!(counts(&sides.tally), counted, "{version}");
        assert_eq!(chunks.waiting.get(), waiting, "{version}");
    }
    // Tables of before did not say which version had failed.
    let mut before = Sides {
        home: sides.home,
        folder: Arc::new(InMemory::new()),
        files: Vec::new(),
    };
    for state in &mut states {
        "r".clone_into(&mut state.recipe);
    }
    before.write("set_aside.parquet", &states).await;
    let (_, tally) = before.find(1).await;
    assert_eq!(counts(&tally), [0, 2, 0, 1]);
}

/// What is told of documents by whoever reads them is what `is_waiting` looks for.
#[test]
fn a_note_says_whether_another_run_may_do_better() {
    let limits = Limits::default();
    let waiting = [
        Reason::TooLarge {
            bytes: 20,
            limit: 10,
        },
        Reason::TooSlow { limit: limits.time },
        Reason::TooMuchMemory {
            limit: limits.memory_bytes,
        },
        Reason::Crashed("signal 11".to_owned()),
        Reason::Panicked("index out of bounds".to_owned()),
    ];
    for reason in waiting {
        assert!(is_waiting(&reason.to_string()), "{reason}");
    }
    let others = [
        Reason::Unpacks { limit: 10 },
        Reason::Encrypted,
        Reason::NoText { pages: 3 },
        Reason::Unsupported("PNG image".to_owned()),
    ];
    for reason in others {
        assert!(!is_waiting(&reason.to_string()), "{reason}");
    }
    assert!(!is_waiting("only the first 10 bytes of its text"));
}

#[tokio::test]
async fn a_first_load_is_divided_and_each_piece_stands_alone() {
    let sides = Sides::new();
    for n in 0..80 {
        sides.put(&format!("d{n:02}"), LONG);
    }
    let (found, _) = sides.find(8).await;
    assert_eq!((found.groups.len(), found.documents), (8, 80));
    assert!(
        found
            .groups
            .iter()
            .all(|group| group.replaces.is_empty() && group.pieces.len() == 1)
    );
}
