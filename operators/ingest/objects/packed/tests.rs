#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path as FsPath;
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::TryStreamExt as _;
use highwater::budget::{MemoryBudget, Permit};
use highwater::dataset::{Table, TableName};
use highwater::ledger::{LoggedFile, hex};
use highwater::source::{BadRow, Emit, Readers as _, SourceError, Split, TableRead};
use highwater::store::objects::{
    Buffers, Carry, FolderObjects, KeyRange, ObjectErrorKind, Objects,
};
use highwater::store::pace::{Bounds, Pace, Retries, RetryPolicy};
use highwater::telemetry::objects::ObjectTally;
use http::HeaderMap;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use sha2::{Digest as _, Sha256};

use super::rows::{PackedRow, Rows, attributes_of, attributes_text};
use super::*;
use crate::ingest::objects::KeyFilter;
use crate::sink::objects::BodyReader;

fn row(key: &str, content: &[u8]) -> PackedRow {
    PackedRow {
        object: highwater::store::objects::Listed {
            key: key.to_owned(),
            bytes: content.len() as u64,
            modified_ns: 1_700_000_000_123_456_000,
            etag: Some("tag".to_owned()),
        },
        attributes: None,
        sha256: hex(&Sha256::digest(content)),
        content: bytes::Bytes::copy_from_slice(content),
    }
}

fn batch(rows: Vec<PackedRow>) -> RecordBatch {
    let mut batch = Rows::default();
    for row in rows {
        batch.push(row);
    }
    batch.batch().unwrap()
}

/// Writes batches as one file of small row groups.
async fn write(folder: &Arc<dyn ObjectStore>, name: &str, batches: &[RecordBatch]) -> LoggedFile {
    let mut bytes = Vec::new();
    let small = WriterProperties::builder()
        .set_max_row_group_row_count(Some(7))
        .build();
    let mut writer = ArrowWriter::try_new(&mut bytes, packed_schema(), Some(small)).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.close().unwrap();
    let file = LoggedFile {
        path: name.to_owned(),
        bytes: bytes.len() as u64,
        sha256: None,
        stats: None,
        partition: BTreeMap::new(),
        order: None,
        deleted_rows: 0,
    };
    folder
        .put(&Path::from(name), PutPayload::from(bytes))
        .await
        .unwrap();
    file
}

async fn packed(folder: &Arc<dyn ObjectStore>, files: &[LoggedFile]) -> PackedObjects {
    let table = PackedTable::open(Arc::clone(folder), files.to_vec())
        .await
        .unwrap();
    PackedObjects::new("pack:test".to_owned(), Arc::new(table), 1 << 10)
}

async fn contents(objects: &dyn Objects) -> BTreeMap<String, Vec<u8>> {
    let pages: Vec<_> = objects.pages(KeyRange::all()).try_collect().await.unwrap();
    let mut found = BTreeMap::new();
    for object in pages.into_iter().flat_map(|page| page.objects) {
        let got = objects.get(&object, None).await.unwrap();
        let body: Vec<bytes::Bytes> = got.body.try_collect().await.unwrap();
        assert!(found.insert(object.key, body.concat()).is_none());
    }
    found
}

#[test]
fn attributes_come_back() {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "text/plain".parse().unwrap());
    headers.insert("x-amz-meta-owner", "me \"and\" you".parse().unwrap());
    let text = attributes_text(&headers);
    assert_eq!(attributes_of(text.as_deref()), headers);
    assert_eq!(attributes_text(&HeaderMap::new()), None);
    assert!(attributes_of(Some("no JSON")).is_empty());
}

#[tokio::test]
async fn a_packed_table_is_a_place_of_objects() {
    let folder: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let all: Vec<PackedRow> = (0..100)
        .map(|number| {
            row(
                &format!("f/{number:03}"),
                format!("{number}").repeat(number).as_bytes(),
            )
        })
        .collect();
    let (first, second) = all.split_at(60);
    let files = [
        write(&folder, "b", &[batch(second.to_vec())]).await,
        write(&folder, "a", &[batch(first.to_vec())]).await,
    ];
    let objects = packed(&folder, &files).await;
    let expected: BTreeMap<String, Vec<u8>> = all
        .iter()
        .map(|row| (row.object.key.clone(), row.content.to_vec()))
        .collect();
    assert_eq!(contents(&objects).await, expected);

    let range = KeyRange {
        after: "f/010".to_owned(),
        upto: Some("f/070".to_owned()),
    };
    let pages: Vec<_> = objects.pages(range).try_collect().await.unwrap();
    let found = pages.into_iter().flat_map(|page| page.objects).count();
    assert_eq!(found, 60);

    let one = &all[42].object;
    let got = objects.get(one, Some(1..5)).await.unwrap();
    let body: Vec<bytes::Bytes> = got.body.try_collect().await.unwrap();
    assert_eq!(body.concat(), all[42].content[1..5]);
    for missing in ["f/0421", "a", "g"] {
        let error = objects.head(missing).await.unwrap_err();
        assert_eq!(error.kind, ObjectErrorKind::Vanished, "{missing}");
    }
    let mut other = one.clone();
    other.etag = Some("another".to_owned());
    let error = objects.get(&other, None).await.unwrap_err();
    assert_eq!(error.kind, ObjectErrorKind::Changed);
}

#[tokio::test]
async fn a_content_that_is_not_what_was_packed_is_refused() {
    let folder: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut bad = row("k", b"content");
    bad.content = bytes::Bytes::from_static(b"Content");
    let object = bad.object.clone();
    let file = write(&folder, "a", &[batch(vec![bad])]).await;
    let error = packed(&folder, &[file])
        .await
        .get(&object, None)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ObjectErrorKind::Corrupt);
}

#[tokio::test]
async fn files_that_overlap_are_refused() {
    let folder: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let files = vec![
        write(&folder, "a", &[batch(vec![row("a", b""), row("c", b"")])]).await,
        write(&folder, "b", &[batch(vec![row("b", b""), row("d", b"")])]).await,
    ];
    let refused = PackedTable::open(folder, files).await.unwrap_err();
    assert!(
        refused.to_string().contains("lake-compact --sort-by key"),
        "{refused}"
    );
}

/// What readers emit.
struct Emitted {
    budget: MemoryBudget,
    batches: Vec<RecordBatch>,
}

#[async_trait]
impl Emit for Emitted {
    async fn permit(&mut self, bytes: u64) -> Permit {
        self.budget.take(bytes).await
    }

    fn batch_bytes(&self) -> u64 {
        2000
    }

    async fn batch(&mut self, rows: RecordBatch, _: Permit, _: u64) -> Result<(), SourceError> {
        self.batches.push(rows);
        Ok(())
    }

    async fn quarantine(&mut self, _: BadRow) -> Result<(), SourceError> {
        panic!("nothing is quarantined")
    }
}

struct Packing {
    folder: Arc<dyn ObjectStore>,
    files: Vec<LoggedFile>,
    written: usize,
    delete: bool,
    filter: KeyFilter,
}

impl Packing {
    /// Makes the table equal to a folder; how many files were written.
    async fn run(&mut self, source: &FsPath, tally: &Arc<ObjectTally>) -> usize {
        let source: Arc<dyn Objects> = Arc::new(FolderObjects::new(source));
        let table = PackedTable::open(Arc::clone(&self.folder), self.files.clone())
            .await
            .unwrap();
        let table = Arc::new(table);
        let retries = Retries::new(RetryPolicy::default());
        let bounds = Bounds {
            start: 4,
            least: 1,
            most: 8,
        };
        let plan = Arc::new(PackPlan {
            source: Arc::clone(&source),
            packed: Arc::clone(&table),
            ranges: table.ranges(),
            filter: self.filter.clone(),
            delete: self.delete,
            carry: Carry {
                metadata: true,
                tags: true,
            },
            compare_only: false,
            largest_bytes: 100_000,
            ahead_bytes: 200_000,
            reader: Arc::new(BodyReader {
                source,
                pace: Pace::new(bounds),
                retries: retries.clone(),
                hedges: None,
                buffers: Buffers::used_once(),
            }),
            retries,
            tally: Arc::clone(tally),
            rewritten: Mutex::new(BTreeSet::new()),
        });
        let read = TableRead::all(
            Table {
                name: TableName {
                    schema: None,
                    name: "objects".to_owned(),
                },
                columns: Vec::new(),
                key: Vec::new(),
                estimated_rows: None,
                estimated_bytes: 0,
            },
            None,
        );
        let mut added = Vec::new();
        for ordinal in 0..plan.ranges.len() {
            let split = Split {
                ordinal: u32::try_from(ordinal).unwrap(),
                start: None,
                end: None,
                estimated_bytes: 1,
            };
            let mut out = Emitted {
                budget: MemoryBudget::new(1 << 20),
                batches: Vec::new(),
            };
            let mut reader = PackRanges(Arc::clone(&plan)).reader().await.unwrap();
            reader.read(&read, &split, &mut out).await.unwrap();
            // Several files, as the sink would make them.
            for batches in out.batches.chunks(3) {
                self.written += 1;
                added.push(write(&self.folder, &format!("file-{}", self.written), batches).await);
            }
        }
        let rewritten = plan.rewritten.lock().unwrap().clone();
        let gone: Vec<&str> = rewritten
            .iter()
            .filter_map(|range| table.path(*range as usize))
            .collect();
        self.files
            .retain(|file| !gone.contains(&file.path.as_str()));
        let count = added.len();
        self.files.extend(added);
        count
    }
}

/// A random history of a folder: after each run the packed table equals it.
#[tokio::test]
async fn a_packed_table_follows_its_source() {
    let home = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(11);
    let mut packing = Packing {
        folder: Arc::new(InMemory::new()),
        files: Vec::new(),
        written: 0,
        delete: true,
        filter: KeyFilter::new(&[], &[]).unwrap(),
    };
    for round in 0..12 {
        let changes = if round == 0 { 200 } else { 10 };
        for _ in 0..changes {
            let path = home
                .path()
                .join(format!("d{}/k{:03}", random.u8(0..5), random.u16(0..300)));
            if random.u8(0..4) == 0 {
                let _ = std::fs::remove_file(&path);
            } else {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                let size = random.usize(0..400);
                std::fs::write(&path, vec![random.u8(..); size]).unwrap();
            }
        }
        let tally = Arc::new(ObjectTally::new(None));
        let written = packing.run(home.path(), &tally).await;
        let objects = packed(&packing.folder, &packing.files).await;
        let expected = contents(&FolderObjects::new(home.path())).await;
        assert_eq!(contents(&objects).await, expected, "round {round}");
        assert_eq!(tally.source_objects.get(), expected.len() as u64);
        assert!(
            round == 0 || written < packing.files.len(),
            "everything was written anew"
        );
        // And nothing is to be done.
        assert_eq!(packing.run(home.path(), &tally).await, 0);
    }
}

#[tokio::test]
async fn what_is_not_wanted_or_too_large_stays_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    for (name, size) in [("a", 10), ("b", 20), ("large", 100_001), ("z.tmp", 5)] {
        std::fs::write(home.path().join(name), vec![1; size]).unwrap();
    }
    let mut packing = Packing {
        folder: Arc::new(InMemory::new()),
        files: Vec::new(),
        written: 0,
        delete: false,
        filter: KeyFilter::new(&[], &["*.tmp".to_owned()]).unwrap(),
    };
    let tally = Arc::new(ObjectTally::new(None));
    packing.run(home.path(), &tally).await;
    assert_eq!(
        (tally.copied.get(), tally.failed.get(), tally.refused.get()),
        (2, 1, 1)
    );
    std::fs::remove_file(home.path().join("a")).unwrap();
    std::fs::write(home.path().join("b"), "new").unwrap();
    packing.run(home.path(), &tally).await;
    let found = contents(&packed(&packing.folder, &packing.files).await).await;
    let keys: Vec<_> = found.keys().map(String::as_str).collect();
    assert_eq!(keys, ["a", "b"]);
    assert_eq!(found["b"], b"new");
    assert_eq!(tally.extra.get(), 1);
    packing.delete = true;
    packing.run(home.path(), &tally).await;
    let found = contents(&packed(&packing.folder, &packing.files).await).await;
    assert_eq!(found.len(), 1);
    // What is packed and no longer looked at is not extra, and stays.
    packing.filter = KeyFilter::new(&[], &["b".to_owned(), "*.tmp".to_owned()]).unwrap();
    let tally = Arc::new(ObjectTally::new(None));
    packing.run(home.path(), &tally).await;
    assert_eq!((tally.extra.get(), tally.deleted.get()), (0, 0));
    let found = contents(&packed(&packing.folder, &packing.files).await).await;
    assert_eq!(found.len(), 1);
}
