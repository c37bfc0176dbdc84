#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path as FsPath;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use highwater::budget::{MemoryBudget, Permit};
use highwater::dataset::{Table, TableName};
use highwater::ledger::{LoggedFile, hex};
use highwater::run::config::Percent;
use highwater::source::{BadRow, Emit, Readers as _, SourceError, Split, TableRead};
use highwater::store::objects::{
    Buffers, Carry, Describe, FolderObjects, Got, KeyRange, Listed, ObjectError, ObjectErrorKind,
    Objects, Pages, Parts, Written,
};
use highwater::store::pace::{Bounds, Pace, Retries, RetryPolicy};
use highwater::telemetry::objects::ObjectTally;
use http::HeaderMap;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use sha2::{Digest as _, Sha256};

use super::rows::{PackedRow, Rows, attributes_of, attributes_text};
use super::*;
use crate::ingest::objects::{Cursor, KeyFilter};
use crate::lake::KeyedTable;
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
    let table = KeyedTable::open(Arc::clone(folder), files.to_vec(), "key")
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
    let objects = packed(&folder, &[file]).await;
    // However little of it is asked for, and however often.
    for part in [None, Some(1..3), Some(3..4)] {
        let error = objects.get(&object, part).await.unwrap_err();
        assert_eq!(error.kind, ObjectErrorKind::Corrupt);
    }
}

#[tokio::test]
async fn the_parts_of_an_object_make_it_up() {
    let folder: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let large = row("large", &content);
    let file = write(&folder, "a", &[batch(vec![large.clone(), row("z", b"")])]).await;
    let objects = packed(&folder, &[file]).await;
    let buffers = Buffers::of(30_000);
    let mut parts = Vec::new();
    for begin in (0..400_000).step_by(30_000) {
        let part = Some(begin..(begin + 30_000).min(400_000));
        let got = objects.get_within(&large.object, part, &buffers).await;
        let part: Vec<bytes::Bytes> = got.unwrap().body.try_collect().await.unwrap();
        parts.extend(part);
    }
    assert!(parts.concat() == content, "other bytes");
    let beyond = objects.get(&large.object, Some(399_999..500_000)).await;
    assert_eq!(beyond.unwrap().bytes, 1);
}

/// A store of which some reads of one file fail, by their number.
#[derive(Debug)]
struct Flaky {
    inner: Arc<dyn ObjectStore>,
    file: &'static str,
    asked: AtomicUsize,
    fails: Mutex<Range<usize>>,
}

impl Flaky {
    fn new(inner: Arc<dyn ObjectStore>, file: &'static str) -> Arc<Self> {
        Arc::new(Self {
            inner,
            file,
            asked: AtomicUsize::new(0),
            fails: Mutex::new(0..0),
        })
    }

    /// From now on, counted from here.
    fn fail(&self, reads: Range<usize>) {
        self.asked.store(0, Ordering::SeqCst);
        *self.fails.lock().unwrap() = reads;
    }
}

impl std::fmt::Display for Flaky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("flaky store")
    }
}

#[async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        if path.as_ref() == self.file {
            let number = self.asked.fetch_add(1, Ordering::SeqCst);
            if self.fails.lock().unwrap().contains(&number) {
                return Err(object_store::Error::Generic {
                    store: "flaky",
                    source: "Server returned non-2xx status code: 503".into(),
                });
            }
        }
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// The keys that are seen by who asks three times.
async fn listing(objects: &PackedObjects) -> Result<Vec<String>, ObjectError> {
    let pause = Duration::from_millis(1);
    let retries = Retries::new(RetryPolicy {
        attempts: 3,
        first_pause: pause,
        longest_pause: pause,
        ..RetryPolicy::default()
    });
    let mut cursor = Cursor::new(objects.pages(KeyRange::all()), retries);
    let (mut keys, mut refused) = (Vec::new(), Vec::new());
    while cursor.peek(&mut refused).await?.is_some() {
        keys.extend(cursor.take().map(|object| object.key));
    }
    Ok(keys)
}

#[tokio::test]
async fn no_file_is_passed_over_that_fails_for_a_while() {
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    // Too large for a file to be read by one request.
    let all: Vec<PackedRow> = (0..75_u8)
        .map(|number| row(&format!("k{number:03}"), &vec![number; 60_000]))
        .collect();
    let mut files = Vec::new();
    for (name, rows) in ["a", "b", "c"].into_iter().zip(all.chunks(25)) {
        files.push(write(&inner, name, &[batch(rows.to_vec())]).await);
    }
    let flaky = Flaky::new(inner, "b");
    let folder: Arc<dyn ObjectStore> = Arc::<Flaky>::clone(&flaky);
    let objects = packed(&folder, &files).await;
    let expected: Vec<String> = all.iter().map(|row| row.object.key.clone()).collect();
    flaky.fail(0..0);
    assert_eq!(listing(&objects).await.unwrap(), expected);
    let reads = flaky.asked.load(Ordering::SeqCst);
    assert!(reads > 3, "{reads}");
    for first in 0..reads {
        flaky.fail(first..first + 2);
        let found = listing(&objects).await.unwrap();
        assert_eq!(found, expected, "reads {first} and the next failed");
        // Once more often than it is asked, and for ever.
        for end in [first + 3, usize::MAX] {
            flaky.fail(first..end);
            let error = listing(&objects).await.unwrap_err();
            assert!(error.passes(), "{error}");
        }
    }
}

#[tokio::test]
async fn files_that_overlap_are_refused() {
    let folder: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let files = vec![
        write(&folder, "a", &[batch(vec![row("a", b""), row("c", b"")])]).await,
        write(&folder, "b", &[batch(vec![row("b", b""), row("d", b"")])]).await,
    ];
    let refused = KeyedTable::open(folder, files, "key").await.unwrap_err();
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
    most_deleted: Option<(Percent, u64)>,
    filter: KeyFilter,
}

impl Packing {
    fn new() -> Self {
        Self {
            folder: Arc::new(InMemory::new()),
            files: Vec::new(),
            written: 0,
            delete: false,
            most_deleted: None,
            filter: KeyFilter::new(&[], &[]).unwrap(),
        }
    }

    /// The keys that are packed.
    async fn keys(&self) -> Vec<String> {
        let objects = packed(&self.folder, &self.files).await;
        contents(&objects).await.into_keys().collect()
    }

    /// Makes the table equal to a folder; how many files were written.
    async fn run(&mut self, source: &FsPath, tally: &Arc<ObjectTally>) -> usize {
        let source = Arc::new(FolderObjects::new(source));
        self.run_from(source, tally).await.unwrap()
    }

    /// The same from any place. Where it fails nothing is published.
    async fn run_from(
        &mut self,
        source: Arc<dyn Objects>,
        tally: &Arc<ObjectTally>,
    ) -> Result<usize, SourceError> {
        let table = KeyedTable::open(Arc::clone(&self.folder), self.files.clone(), "key")
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
            most_deleted: self.most_deleted,
            gone: AtomicU64::new(0),
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
            reader.read(&read, &split, &mut out).await?;
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
        Ok(count)
    }
}

/// A random history of a folder: after each run the packed table equals it.
#[tokio::test]
async fn a_packed_table_follows_its_source() {
    let home = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(11);
    let mut packing = Packing::new();
    packing.delete = true;
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
    let mut packing = Packing::new();
    packing.filter = KeyFilter::new(&[], &["*.tmp".to_owned()]).unwrap();
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

/// A folder of which one object is gone when it is read.
#[derive(Debug)]
struct Vanishing {
    inner: FolderObjects,
    key: &'static str,
}

#[async_trait]
impl Objects for Vanishing {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn pages(&self, range: KeyRange) -> Pages {
        self.inner.pages(range)
    }

    async fn names_below(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        self.inner.names_below(prefix).await
    }

    async fn get(&self, object: &Listed, range: Option<Range<u64>>) -> Result<Got, ObjectError> {
        if object.key == self.key {
            let kind = ObjectErrorKind::Vanished;
            return Err(ObjectError::new(kind, self.key, "it is gone"));
        }
        self.inner.get(object, range).await
    }

    async fn head(&self, key: &str) -> Result<Listed, ObjectError> {
        self.inner.head(key).await
    }

    async fn put(
        &self,
        key: &str,
        body: bytes::Bytes,
        told: &Describe,
    ) -> Result<Written, ObjectError> {
        self.inner.put(key, body, told).await
    }

    async fn begin(
        &self,
        key: &str,
        bytes: u64,
        told: &Describe,
    ) -> Result<Box<dyn Parts>, ObjectError> {
        self.inner.begin(key, bytes, told).await
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<(String, ObjectError)>, ObjectError> {
        self.inner.delete(keys).await
    }
}

fn percent(text: &str) -> Percent {
    text.to_owned().try_into().unwrap()
}

#[tokio::test]
async fn a_row_goes_with_its_object_only_where_rows_go() {
    let home = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        std::fs::write(home.path().join(name), name).unwrap();
    }
    let mut packing = Packing::new();
    packing
        .run(home.path(), &Arc::new(ObjectTally::new(None)))
        .await;
    std::fs::write(home.path().join("b"), "changed").unwrap();
    let source = || {
        Arc::new(Vanishing {
            inner: FolderObjects::new(home.path()),
            key: "b",
        })
    };

    let tally = Arc::new(ObjectTally::new(None));
    packing.run_from(source(), &tally).await.unwrap();
    let found = contents(&packed(&packing.folder, &packing.files).await).await;
    assert_eq!((found.len(), found["b"].as_slice()), (3, b"b".as_slice()));
    let counted = (tally.vanished.get(), tally.deleted.get(), tally.extra.get());
    assert_eq!(counted, (1, 0, 1));

    // It is one of those that may go, or may not.
    packing.delete = true;
    packing.most_deleted = Some((percent("10%"), 3));
    let tally = Arc::new(ObjectTally::new(None));
    // Whether the range was over when the run ended is a matter of time.
    let _ = packing.run_from(source(), &tally).await;
    assert!(tally.ended_by().is_some());
    assert_eq!(tally.deleted.get(), 0);
    assert_eq!(packing.keys().await, ["a", "b", "c"]);

    packing.most_deleted = Some((percent("34%"), 3));
    let tally = Arc::new(ObjectTally::new(None));
    packing.run_from(source(), &tally).await.unwrap();
    assert_eq!((tally.vanished.get(), tally.deleted.get()), (1, 1));
    assert_eq!(packing.keys().await, ["a", "c"]);
}

#[tokio::test]
async fn no_more_rows_go_than_may() {
    let home = tempfile::tempdir().unwrap();
    let path = |number: u32| home.path().join(format!("k{number:02}"));
    for number in 0..20 {
        std::fs::write(path(number), "x").unwrap();
    }
    let mut packing = Packing::new();
    packing
        .run(home.path(), &Arc::new(ObjectTally::new(None)))
        .await;
    for number in 17..20 {
        std::fs::remove_file(path(number)).unwrap();
    }
    packing.delete = true;
    packing.most_deleted = Some((percent("10%"), 20));
    let tally = Arc::new(ObjectTally::new(None));
    let source = Arc::new(FolderObjects::new(home.path()));
    assert!(packing.run_from(source, &tally).await.is_err());
    let why = tally.ended_by().unwrap().message;
    assert!(why.contains("max-delete 10% of 20"), "{why}");
    assert_eq!(packing.keys().await.len(), 20);

    packing.most_deleted = Some((percent("15%"), 20));
    let tally = Arc::new(ObjectTally::new(None));
    packing.run(home.path(), &tally).await;
    assert_eq!(tally.deleted.get(), 3);
    assert_eq!(packing.keys().await.len(), 17);
}

#[tokio::test]
async fn what_the_source_refuses_is_not_gone() {
    let home = tempfile::tempdir().unwrap();
    let (source, elsewhere) = (home.path().join("source"), home.path().join("elsewhere"));
    std::fs::create_dir_all(source.join("way")).unwrap();
    for number in 0..200_u8 {
        let path = source.join(format!("way/k{number:03}"));
        std::fs::write(path, [number; 100]).unwrap();
    }
    std::fs::write(source.join("way-out"), "x").unwrap();
    std::fs::write(source.join("zz"), "x").unwrap();
    let mut packing = Packing::new();
    let tally = Arc::new(ObjectTally::new(None));
    packing.run(&source, &tally).await;
    // Most ranges begin below the folder's name.
    assert!(packing.files.len() > 5, "{}", packing.files.len());
    let before = packing.keys().await;

    std::fs::rename(source.join("way"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, source.join("way")).unwrap();
    std::fs::remove_file(source.join("zz")).unwrap();
    packing.delete = true;
    let tally = Arc::new(ObjectTally::new(None));
    packing.run(&source, &tally).await;
    let after = packing.keys().await;
    assert_eq!(after, before[..before.len() - 1]);
    let counted = (tally.refused.get(), tally.extra.get(), tally.deleted.get());
    assert_eq!(counted, (1, 1, 1));
    assert_eq!(tally.target_objects.get(), 202);
}
