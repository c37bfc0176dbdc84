#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, Float32Builder, Int32Array, ListBuilder, RecordBatch,
    StringArray, new_null_array,
};
use arrow::datatypes::{Float32Type, SchemaRef};
use highwater::batch::Batch;
use highwater::budget::Permit;
use highwater::cancel::Cancel;
use highwater::flow::{Epoch, Event};
use highwater::ledger::{DataFile, LoggedFile};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};
use parquet::arrow::ArrowWriter;
use sha2::{Digest as _, Sha256};
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::vec::ToStream as _;
use timely::dataflow::operators::{Inspect as _, Probe as _};

use super::rows::{hash_of, vector_rows};
use super::*;
use crate::embed::{EmbedError, Embedded, Embedder, Part};
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
    /// Asked part by part, it refuses this text and fails at that one.
    refuses: &'static str,
    fails_at: &'static str,
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

    fn embed_in_parts(
        &self,
        texts: &[&str],
        _until: &Cancel,
        each: &mut dyn FnMut(Part),
    ) -> Result<(), EmbedError> {
        if self.refuses.is_empty() && self.fails_at.is_empty() {
            each(Part::Made(self.embed(texts)?));
            return Ok(());
        }
        for text in texts {
            if *text == self.fails_at {
                each(Part::Wasted(100));
                return Err(EmbedError::Tokenizer("no more".into()));
            }
            each(match *text == self.refuses {
                true => Part::Refused("not this one".to_owned()),
                false => Part::Made(self.embed(&[*text])?),
            });
        }
        Ok(())
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
    let cache = opened(&folder, &[], 1 << 30, runtime);
    (folder, cache)
}

/// The cache of a table of these files, with room for so many bytes of new vectors.
fn opened(
    folder: &Arc<dyn ObjectStore>,
    files: &[DataFile],
    fresh_bytes: u64,
    runtime: &tokio::runtime::Runtime,
) -> Arc<VectorCache> {
    let limits = CacheLimits {
        index_bytes: 1 << 30,
        fresh_bytes,
        until: Cancel::new(),
    };
    let files = files.iter().map(logged).collect();
    let opened = VectorCache::open(Arc::clone(folder), files, "letters", limits);
    Arc::new(runtime.block_on(opened).unwrap())
}

/// A file as the log has it.
fn logged(file: &DataFile) -> LoggedFile {
    LoggedFile {
        path: file.path.clone(),
        bytes: file.bytes,
        sha256: Some(file.sha256.clone()),
        stats: Some(file.stats.clone()),
        partition: file.partition.clone(),
        order: None,
        deleted_rows: 0,
    }
}

/// A file of the table with these rows.
fn stored(
    folder: &Arc<dyn ObjectStore>,
    path: &str,
    rows: &RecordBatch,
    runtime: &tokio::runtime::Runtime,
) -> DataFile {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), None).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
    let file = DataFile {
        path: path.to_owned(),
        rows: rows.num_rows() as u64,
        bytes: bytes.len() as u64,
        sha256: String::new(),
        partition: std::collections::BTreeMap::new(),
        stats: serde_json::Value::Null,
    };
    let place = Path::from(path);
    let put = folder.put(&place, PutPayload::from(bytes));
    runtime.block_on(put).unwrap();
    file
}

/// The hash and the vector of a text.
fn known(text: &str) -> (Hash, Arc<[f32]>) {
    (hash_of(&hash(text)).unwrap(), Arc::from(letters(text)))
}

/// What came out of one flow.
#[derive(Debug, Default)]
struct Seen {
    /// Text and vector, by worker, in order; nothing where there is no text.
    rows: Vec<(usize, String, Vec<f32>)>,
    /// The notes of those.
    notes: Vec<String>,
    new: usize,
    failed: usize,
    tally: Arc<ChunkTally>,
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
        tally: Arc::clone(&seen.lock().unwrap().tally),
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
                let notes = batch.rows.column(columns::NOTE).as_string::<i32>();
                let vectors = batch.rows.column(columns::VECTOR).as_list::<i32>();
                for row in 0..batch.rows.num_rows() {
                    assert_eq!(texts.is_valid(row), vectors.is_valid(row));
                    let vector = vectors.value(row);
                    let vector = vector.as_primitive::<Float32Type>().values().to_vec();
                    let text = texts.value(row).to_owned();
                    let mut rows = rows.lock().unwrap();
                    rows.rows.push((index, text, vector));
                    let note = notes.is_valid(row).then(|| notes.value(row).to_owned());
                    rows.notes.extend(note);
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
    let (alike, vector) = known("three");
    let rows_of = [known("one"), known("two"), (alike ^ 1, vector)];
    let rows_of = vector_rows(&rows_of, "letters").unwrap();
    let file = stored(&folder, "v.parquet", &rows_of, &runtime);
    runtime.block_on(cache.published(&[file])).unwrap();
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

/// Of a file that is missing, damaged, of another model, or whose vectors are none, nothing
/// is taken; what can be read is, and nobody fails.
#[test]
fn what_cannot_be_read_of_the_table_is_embedded_again() {
    let runtime = runtime();
    let folder: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let one = |name: &str, text: &str, model: &str| {
        let rows = vector_rows(&[known(text)], model).unwrap();
        stored(&folder, name, &rows, &runtime)
    };
    let good = one("a.parquet", "good", "letters");
    let missing = one("b.parquet", "missing", "letters");
    let damaged = one("c.parquet", "damaged", "letters");
    let other = one("d.parquet", "other", "another model");
    let vectors: [Arc<[f32]>; 2] = [Arc::from([1.0, 2.0, 3.0]), Arc::from([f32::NAN, 1.0])];
    let [long, nan] = vectors;
    let wrong = [(known("long").0, long), (known("nan").0, nan)];
    let wrong = vector_rows(&wrong, "letters").unwrap();
    let wrong = stored(&folder, "e.parquet", &wrong, &runtime);
    runtime.block_on(async {
        folder.delete(&Path::from("b.parquet")).await.unwrap();
        let noise = vec![7; usize::try_from(damaged.bytes).unwrap()];
        let place = Path::from("c.parquet");
        folder.put(&place, PutPayload::from(noise)).await.unwrap();
    });
    let cache = opened(
        &folder,
        &[good, missing, damaged, other, wrong],
        1 << 30,
        &runtime,
    );
    assert_eq!(cache.unreadable(), 2);
    let embedder = Arc::new(Letters::default());
    let texts = ["good", "missing", "damaged", "other", "long", "nan"];
    let seen = fill(vec![vec![rows(&texts, &[])]], &embedder, &cache, &runtime);
    assert_eq!((seen.rows.len(), seen.failed), (6, 0));
    assert!(
        seen.rows
            .iter()
            .all(|(_, text, vector)| vector[..] == letters(text))
    );
    let asked = embedder.asked.lock().unwrap();
    assert_eq!(asked.len(), 5);
    assert!(!asked.contains_key("good"));
}

/// A file may also turn out to be missing when its vectors are wanted.
#[test]
fn a_file_that_goes_while_it_is_known_is_done_without() {
    let runtime = runtime();
    let (folder, cache) = cache(&runtime);
    let rows_of = vector_rows(&[known("one")], "letters").unwrap();
    let file = stored(&folder, "v.parquet", &rows_of, &runtime);
    runtime.block_on(async {
        cache.published(&[file]).await.unwrap();
        folder.delete(&Path::from("v.parquet")).await.unwrap();
    });
    let embedder = Arc::new(Letters::default());
    let work = vec![vec![rows(&["one"], &[]), rows(&["one"], &[])]];
    let seen = fill(work, &embedder, &cache, &runtime);
    assert_eq!((seen.rows.len(), seen.failed), (2, 0));
    assert_eq!(cache.unreadable(), 1);
    assert_eq!(embedder.asked.lock().unwrap().get("one"), Some(&1));
}

/// The chunks of a document, each with its number.
fn rows_of_document(key: &str, texts: &[&str]) -> RecordBatch {
    let rows = rows(texts, &[]);
    let mut all = rows.columns().to_vec();
    let numbers: Vec<i32> = (0..).take(texts.len()).collect();
    all[columns::DOCUMENT] = Arc::new(StringArray::from(vec![key; texts.len()]));
    all[columns::CHUNK] = Arc::new(Int32Array::from(numbers));
    RecordBatch::try_new(rows.schema(), all).unwrap()
}

/// The document of a text that the model refuses has one row that says so, whichever
/// worker meets the text; all others are whole, and the text is tried once.
#[test]
fn a_document_with_a_text_that_is_refused_is_set_aside() {
    let runtime = runtime();
    let (_, cache) = cache(&runtime);
    let embedder = Arc::new(Letters {
        remote: true,
        refuses: "never",
        ..Letters::default()
    });
    let batch = |documents: &[(&str, &[&str])]| {
        let documents = documents
            .iter()
            .map(|(key, texts)| rows_of_document(key, texts));
        let documents: Vec<_> = documents.collect();
        arrow::compute::concat_batches(&chunks_schema(), &documents).unwrap()
    };
    let work = vec![vec![
        batch(&[
            ("a", &["one", "two"]),
            ("b", &["three", "never", "four"]),
            ("c", &["five"]),
        ]),
        batch(&[("d", &["never"]), ("e", &["two", "six"])]),
    ]];
    let seen = fill(work, &embedder, &cache, &runtime);
    let texts: Vec<&str> = seen.rows.iter().map(|(_, text, _)| text.as_str()).collect();
    assert_eq!(texts, ["one", "two", "", "five", "", "two", "six"]);
    assert_eq!(
        seen.notes,
        [
            "the model refuses chunk 1: not this one",
            "the model refuses chunk 0: not this one"
        ]
    );
    let tally = &seen.tally;
    assert_eq!(tally.quarantined.get(), 2);
    let named: Vec<String> = tally.set_aside().into_iter().map(|one| one.key).collect();
    assert_eq!(named, ["b", "d"]);
    // Six vectors were made, one found, two there never will be.
    assert_eq!((tally.embedded.get(), tally.reused.get()), (6, 1));
    assert_eq!((seen.new, seen.failed), (6, 0));
}

/// What was made before a failure leaves with the new vectors, and is counted.
#[test]
fn what_was_made_before_a_failure_is_kept() {
    let runtime = runtime();
    let (_, cache) = cache(&runtime);
    let embedder = Arc::new(Letters {
        remote: true,
        fails_at: "three3",
        ..Letters::default()
    });
    // The shortest are asked for first.
    let work = vec![vec![rows(&["one", "two2", "three3", "four444"], &[])]];
    let seen = fill(work, &embedder, &cache, &runtime);
    assert_eq!((seen.rows.len(), seen.failed, seen.new), (0, 1, 2));
    let tally = &seen.tally;
    assert_eq!((tally.embedded.get(), tally.tokens.get()), (2, 102));
}

/// New vectors of one flow, as whoever publishes them sees them.
type Left = Arc<Mutex<Vec<(Epoch, RecordBatch)>>>;

/// An epoch would last an hour, and there is room for 40 vectors: it ends sooner, nobody
/// makes more than there is room for, and nobody waits for ever.
#[test]
fn an_epoch_ends_when_there_is_no_room_for_more() {
    let runtime = Arc::new(runtime());
    let folder: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    // Two numbers, twice, and what is beside them.
    let cache = opened(&folder, &[], 40 * 144, &runtime);
    let left = Left::default();
    let (held, most) = (Arc::clone(&cache), Arc::new(Mutex::new(0)));
    let (seen, greatest) = (Arc::clone(&left), Arc::clone(&most));
    let plan = FillVectors {
        embedder: Arc::new(Letters::default()),
        cache: Arc::clone(&cache),
        tally: Arc::new(ChunkTally::default()),
        stages: Arc::default(),
        tick: Duration::from_secs(3600),
        runtime: runtime.handle().clone(),
    };
    let (folder, keeping) = (Arc::clone(&folder), Arc::clone(&runtime));
    let guards = timely::execute(timely::Config::process(2), move |worker| {
        let index = worker.index();
        let texts: Vec<String> = (0..150).map(|n| format!("{index}-{n}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let batches: Vec<Batch> = texts
            .chunks(10)
            .map(|texts| Batch {
                table: 3,
                split: 0,
                source_bytes: 0,
                rows: rows(texts, &[]),
                permit: Permit::free(),
            })
            .collect();
        let (plan, seen, probe) = (plan.clone(), Arc::clone(&seen), ProbeHandle::new());
        worker.dataflow::<Epoch, _, _>(|scope| {
            let filled = fill_vectors(scope, batches.to_stream(scope), plan);
            let vectors = filled.vectors.inspect_time(move |epoch, batch| {
                seen.lock().unwrap().push((*epoch, batch.rows.clone()));
            });
            vectors.probe_with(&probe);
        });
        let (mut published, began) = (0, Instant::now());
        loop {
            let goes_on = worker.step_or_park(Some(Duration::from_millis(1)));
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "it waits for ever"
            );
            let made = held.held();
            let mut most = greatest.lock().unwrap();
            *most = made.max(*most);
            drop(most);
            // What whoever publishes does when an epoch is over.
            let over: Vec<RecordBatch> = match index {
                0 => {
                    let mut left = left.lock().unwrap();
                    let over = left.extract_if(.., |(epoch, _)| !probe.less_equal(epoch));
                    over.map(|(_, rows)| rows).collect()
                }
                _ => Vec::new(),
            };
            for rows in over {
                published += 1;
                let file = stored(&folder, &format!("{published}.parquet"), &rows, &keeping);
                keeping.block_on(held.published(&[file])).unwrap();
            }
            if !goes_on {
                break;
            }
        }
        published
    });
    let published: usize = guards.unwrap().join().into_iter().map(Result::unwrap).sum();
    assert!(published > 5, "{published}");
    assert_eq!((cache.len(), cache.held()), (300, 0));
    // Each worker looks for room before it makes a few more.
    let most = *most.lock().unwrap();
    assert!(most <= 40 + 2 * 10, "{most}");
}

/// Many small files become few, with the same rows; what cannot be read stays.
#[test]
fn small_files_are_joined() {
    let runtime = runtime();
    let folder: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let texts: Vec<String> = (0..120).map(|n| format!("{n}")).collect();
    let files = texts.iter().enumerate().map(|(n, text)| {
        let rows = vector_rows(&[known(text)], "letters").unwrap();
        stored(&folder, &format!("f{n:03}.parquet"), &rows, &runtime)
    });
    let files: Vec<DataFile> = files.collect();
    let all: Vec<LoggedFile> = files.iter().map(logged).collect();
    let join = |files: &[LoggedFile], until: &Cancel| {
        let joined = join_small(&folder, files, until);
        runtime.block_on(joined).unwrap()
    };
    assert!(join(&all[..100], &Cancel::new()).is_none(), "they are few");
    let asked_to_end = Cancel::new();
    asked_to_end.cancel();
    assert!(join(&all, &asked_to_end).is_none());
    let missing = Path::from("f007.parquet");
    runtime.block_on(folder.delete(&missing)).unwrap();
    let joined = join(&all, &Cancel::new()).unwrap();
    assert_eq!((joined.removed.len(), joined.added.len()), (119, 1));
    assert!(!joined.removed.contains(&"f007.parquet".to_owned()));
    let file = &joined.added[0];
    assert_eq!((file.rows, file.sha256.len()), (119, 64));
    let cache = opened(&folder, &joined.added, 1 << 30, &runtime);
    assert_eq!(cache.len(), 119);
    let embedder = Arc::new(Letters::default());
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let seen = fill(vec![vec![rows(&texts, &[])]], &embedder, &cache, &runtime);
    assert!(
        seen.rows
            .iter()
            .all(|(_, text, vector)| vector[..] == letters(text))
    );
    assert_eq!(embedder.asked.lock().unwrap().len(), 1);
}
