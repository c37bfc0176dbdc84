#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray as _, Float32Builder, Int32Array, ListBuilder, RecordBatch, StringArray,
    new_null_array,
};
use arrow::datatypes::{Float32Type, SchemaRef};
use highwater::batch::Batch;
use highwater::budget::Permit;
use highwater::flow::{Epoch, Event};
use highwater::ledger::DataFile;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};
use parquet::arrow::ArrowWriter;
use sha2::{Digest as _, Sha256};
use timely::dataflow::operators::Inspect as _;
use timely::dataflow::operators::vec::ToStream as _;

use super::rows::{hash_of, vector_rows};
use super::*;
use crate::embed::{EmbedError, Embedded, Embedder};
use crate::ingest::documents::{ChunkTally, chunks_schema, columns};

/// Makes a vector of the length and the first letter of a text, and counts how often it
/// was asked for each.
#[derive(Debug, Default)]
struct Letters {
    asked: Mutex<HashMap<String, usize>>,
    remote: bool,
    fails: bool,
    /// Fails slowly, this once.
    fails_once: AtomicBool,
}

fn letters(text: &str) -> [f32; 2] {
    let first = text.bytes().next().unwrap_or(0);
    [f32::from(first), text.len() as f32]
}

impl Embedder for Letters {
    fn model(&self) -> &str {
        "letters"
    }

    fn dimensions(&self) -> usize {
        2
    }

    fn scratch_bytes(&self) -> usize {
        0
    }

    fn is_remote(&self) -> bool {
        self.remote
    }

    fn embed(&self, texts: &[&str]) -> Result<Embedded, EmbedError> {
        if self.fails {
            return Err(EmbedError::Tokenizer("it does not want to".into()));
        }
        if self.fails_once.swap(false, Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(300));
            return Err(EmbedError::Tokenizer("not now".into()));
        }
        let mut embedded = Embedded::default();
        for text in texts {
            // Long enough for two workers to want the same text at once.
            std::thread::sleep(Duration::from_micros(200));
            *self
                .asked
                .lock()
                .unwrap()
                .entry((*text).to_owned())
                .or_default() += 1;
            embedded.vectors.extend(letters(text));
            embedded.tokens += 1;
        }
        Ok(embedded)
    }
}

fn hash(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Rows of chunks; those of `known` have vectors already.
fn rows(texts: &[&str], known: &[&str]) -> RecordBatch {
    let schema: SchemaRef = chunks_schema();
    let mut all: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| new_null_array(field.data_type(), texts.len()))
        .collect();
    let hashes: Vec<String> = texts.iter().map(|text| hash(text)).collect();
    all[columns::TEXT] = Arc::new(StringArray::from(texts.to_vec()));
    all[columns::HASH] = Arc::new(StringArray::from(hashes));
    let tokens: Vec<i32> = texts
        .iter()
        .map(|text| i32::try_from(text.len()).unwrap())
        .collect();
    all[columns::TOKENS] = Arc::new(Int32Array::from(tokens));
    let mut lists = ListBuilder::new(Float32Builder::new()).with_field(super::rows::element());
    for text in texts {
        let is_known = known.contains(text);
        if is_known {
            lists.values().append_slice(&letters(text));
        }
        lists.append(is_known);
    }
    all[columns::VECTOR] = Arc::new(lists.finish());
    RecordBatch::try_new(schema, all).unwrap()
}

fn cache(runtime: &tokio::runtime::Runtime) -> (Arc<dyn ObjectStore>, Arc<VectorCache>) {
    let folder: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let opened = VectorCache::open(Arc::clone(&folder), Vec::new(), "letters", 1 << 30);
    (folder, Arc::new(runtime.block_on(opened).unwrap()))
}

/// What came out of one flow.
#[derive(Debug, Default)]
struct Seen {
    /// Text and vector, by worker, in order.
    rows: Vec<(usize, String, Vec<f32>)>,
    new: usize,
    failed: usize,
}

/// Lets each worker fill its batches.
fn fill(
    work: Vec<Vec<RecordBatch>>,
    embedder: &Arc<Letters>,
    cache: &Arc<VectorCache>,
    runtime: &tokio::runtime::Runtime,
) -> Seen {
    let caches = vec![Arc::clone(cache); work.len()];
    fill_from(work, embedder, caches, runtime)
}

/// The same, where each worker knows what its own cache knows.
fn fill_from(
    work: Vec<Vec<RecordBatch>>,
    embedder: &Arc<Letters>,
    caches: Vec<Arc<VectorCache>>,
    runtime: &tokio::runtime::Runtime,
) -> Seen {
    let workers = work.len();
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let (out, work) = (Arc::clone(&seen), Arc::new(work));
    let plan = FillVectors {
        embedder: Arc::clone(embedder) as Arc<dyn Embedder>,
        cache: Arc::clone(&caches[0]),
        tally: Arc::new(ChunkTally::default()),
        stages: Arc::default(),
        tick: Duration::from_millis(5),
        runtime: runtime.handle().clone(),
    };
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let index = worker.index();
        let batches: Vec<Batch> = work[index]
            .iter()
            .map(|rows| Batch {
                table: 3,
                split: 0,
                source_bytes: 0,
                rows: rows.clone(),
                permit: Permit::free(),
            })
            .collect();
        let (out, mut plan) = (Arc::clone(&out), plan.clone());
        plan.cache = Arc::clone(&caches[index]);
        worker.dataflow::<Epoch, _, _>(move |scope| {
            let filled = fill_vectors(scope, batches.to_stream(scope), plan);
            let (rows, new, failed) = (Arc::clone(&out), Arc::clone(&out), out);
            filled.batches.inspect(move |batch| {
                assert_eq!(batch.table, 3);
                let texts = batch.rows.column(columns::TEXT).as_string::<i32>();
                let vectors = batch.rows.column(columns::VECTOR).as_list::<i32>();
                for row in 0..batch.rows.num_rows() {
                    let vector = vectors.value(row);
                    let vector = vector.as_primitive::<Float32Type>().values().to_vec();
                    let text = texts.value(row).to_owned();
                    rows.lock().unwrap().rows.push((index, text, vector));
                }
            });
            filled.vectors.inspect(move |batch| {
                new.lock().unwrap().new += batch.rows.num_rows();
            });
            filled.events.inspect(move |event| {
                let is_failure = matches!(event.0, Event::Failed { table: 3, .. });
                failed.lock().unwrap().failed += usize::from(is_failure);
            });
        });
    });
    drop(guards.unwrap());
    Arc::try_unwrap(seen).unwrap().into_inner().unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn each_text_is_embedded_once_and_rows_stay_in_order() {
    for remote in [false, true] {
        let runtime = runtime();
        let (_, cache) = cache(&runtime);
        let embedder = Arc::new(Letters {
            remote,
            ..Letters::default()
        });
        let texts: Vec<String> = (0..200).map(|n| format!("{}-{n}", n % 40)).collect();
        let shared: Vec<&str> = texts.iter().map(String::as_str).collect();
        let halves = [&shared[..150], &shared[50..]];
        let work = halves.map(|half| half.chunks(30).map(|texts| rows(texts, &["1-1"])).collect());
        let seen = fill(work.to_vec(), &embedder, &cache, &runtime);
        for (worker, half) in halves.iter().enumerate() {
            let of_worker = seen.rows.iter().filter(|(index, ..)| *index == worker);
            let order: Vec<&str> = of_worker.map(|(_, text, _)| text.as_str()).collect();
            assert_eq!(&order, half);
        }
        assert!(
            seen.rows
                .iter()
                .all(|(_, text, vector)| vector[..] == letters(text))
        );
        let asked = embedder.asked.lock().unwrap();
        assert!(asked.values().all(|times| *times == 1), "{asked:?}");
        assert_eq!(
            (asked.len(), seen.new),
            (199, 199),
            "all but the one that was known"
        );
    }
}

/// The control arm: two workers that do not know of each other embed a text twice.
#[test]
fn workers_that_do_not_share_what_they_know_embed_twice() {
    let runtime = runtime();
    let caches = vec![cache(&runtime).1, cache(&runtime).1];
    let embedder = Arc::new(Letters::default());
    let work = vec![vec![rows(&["one"], &[])], vec![rows(&["one"], &[])]];
    let seen = fill_from(work, &embedder, caches, &runtime);
    assert_eq!(seen.rows.len(), 2);
    assert_eq!(embedder.asked.lock().unwrap().get("one"), Some(&2));
}

/// Who waits for a vector that another worker fails to make makes it himself.
#[test]
fn nobody_waits_for_who_has_failed() {
    for remote in [false, true] {
        let runtime = runtime();
        let (_, cache) = cache(&runtime);
        let embedder = Arc::new(Letters {
            remote,
            fails_once: AtomicBool::new(true),
            ..Letters::default()
        });
        let work = vec![vec![rows(&["one"], &[])], vec![rows(&["one"], &[])]];
        let seen = fill(work, &embedder, &cache, &runtime);
        assert_eq!((seen.rows.len(), seen.failed), (1, 1));
    }
}

#[test]
fn what_the_table_holds_is_read_and_what_only_looks_alike_is_not() {
    let runtime = runtime();
    let (folder, cache) = cache(&runtime);
    let embedder = Arc::new(Letters::default());
    // A file with the vectors of two texts, and of one that agrees in half of its hash.
    let here = |text: &str| (hash_of(&hash(text)).unwrap(), Arc::from(letters(text)));
    let (alike, vector) = here("three");
    let stored = [here("one"), here("two"), (alike ^ 1, vector)];
    let stored = vector_rows(&stored, "letters").unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, stored.schema(), None).unwrap();
    writer.write(&stored).unwrap();
    writer.close().unwrap();
    let file = DataFile {
        path: "v.parquet".to_owned(),
        rows: 3,
        bytes: bytes.len() as u64,
        sha256: String::new(),
        partition: std::collections::BTreeMap::new(),
        stats: serde_json::Value::Null,
    };
    runtime.block_on(async {
        let place = Path::from("v.parquet");
        folder.put(&place, PutPayload::from(bytes)).await.unwrap();
        cache.published(&[file]).await.unwrap();
    });
    let work = vec![vec![rows(&["one", "two", "three", "four"], &[])]];
    let seen = fill(work, &embedder, &cache, &runtime);
    assert!(
        seen.rows
            .iter()
            .all(|(_, text, vector)| vector[..] == letters(text))
    );
    let asked = embedder.asked.lock().unwrap();
    let mut asked: Vec<&str> = asked.keys().map(String::as_str).collect();
    asked.sort_unstable();
    assert_eq!(asked, ["four", "three"]);
}

#[test]
fn a_model_that_fails_fails_each_batch_and_ends() {
    let runtime = runtime();
    let (_, cache) = cache(&runtime);
    let embedder = Arc::new(Letters {
        fails: true,
        ..Letters::default()
    });
    let work = vec![vec![rows(&["a"], &[]), rows(&["b"], &[])]];
    let seen = fill(work, &embedder, &cache, &runtime);
    assert_eq!((seen.rows.len(), seen.failed), (0, 2));
}
