//! `paper-index` with a service that embeds: each text is paid for once, whatever the
//! service does in between, and what it says of one text keeps nothing else back.

use crate::kit;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kit::Random;
use kit::embeddings::{Does, Embeddings, KEY, MODEL};
use kit::objects::noise;
use kit::outcome::Outcome;
use kit::papers::{Papers, document, number, paragraph, start};
use serde_json::json;

/// What a million tokens cost.
const PRICE: f64 = 20.0;

/// A service that is asked so seldom that a second request would wait for a minute.
const SLOWLY: &str = ", requests_per_minute = 1";

/// Texts that go to the service together.
const BATCH: usize = 128;

fn papers_by(service: &Embeddings, key: &str) -> Papers {
    papers_with(service, key, "")
}

fn papers_with(service: &Embeddings, key: &str, more: &str) -> Papers {
    Papers::new().of_papers(&format!(
        "endpoint = {{ url = \"{}\", model = \"{MODEL}\", key = \"{key}\", dimensions = 384, \
         price_per_million_tokens = {PRICE:?}{more} }}",
        service.url()
    ))
}

fn cost(outcome: &Outcome) -> f64 {
    outcome.report()["documents"][0]["cost"].as_f64().unwrap()
}

/// The report says what the service counted of its answers.
#[track_caller]
fn costs_what_was_answered(run: &Outcome, service: &Embeddings) {
    let tokens = service.asked(|asked| asked.tokens);
    assert_eq!(number(run, "tokens"), tokens);
    let price = PRICE * tokens as f64 / 1e6;
    assert!((cost(run) - price).abs() < 1e-9, "{run}");
}

/// The files of the table of vectors.
fn vector_files(papers: &Papers) -> Vec<PathBuf> {
    let folder = papers.home().join("lake/_highwater/vectors");
    let entries = std::fs::read_dir(folder).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|end| end == "parquet"))
        .collect();
    files.sort();
    files
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// How many documents [`put_some`] puts there.
const SOME: u64 = 8;

/// A few documents, whose texts it returns.
fn put_some(papers: &Papers, random: &mut Random) -> Vec<String> {
    let texts: Vec<String> = (0..SOME).map(|_| document(random, 4)).collect();
    for (n, text) in texts.iter().enumerate() {
        papers.docs().put(&format!("n{n:02}.md"), text.as_bytes());
    }
    texts
}

/// A run with other words in place of some of the configuration.
#[track_caller]
fn runs_with(papers: &Papers, old: &str, new: &str) -> Outcome {
    let config = papers.config();
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains(old), "no {old} in {text}");
    std::fs::write(&config, text.replace(old, new)).unwrap();
    start("run", &config, &[]).wait().exits(0)
}

/// Where no answer is lost or of no use; of those that are, all texts are paid for once
/// more, and no other text is.
#[test]
fn a_service_is_paid_once_for_each_text() {
    let mut random = Random::seeded();
    let faults = [
        Does::TooMany,
        Does::Fails,
        Does::HangsUp,
        Does::Loses,
        Does::Lies,
        Does::Well,
        Does::Loses,
        Does::Lies,
        Does::HangsUp,
    ];
    let service = Embeddings::start(&faults);
    let papers = papers_by(&service, KEY);
    let mut texts: Vec<String> = (0..30).map(|_| document(&mut random, 4)).collect();
    for (n, text) in texts.iter().enumerate() {
        papers.docs().put(&format!("n{n:02}.md"), text.as_bytes());
    }
    let first = papers.run().exits(0);
    let (requests, again) = service.asked(|asked| {
        assert_eq!(asked.failed, faults.len() as u64 - 1);
        assert!(asked.in_vain > 0 && asked.lost_tokens > 0);
        assert_eq!(asked.again(), asked.in_vain);
        assert_eq!(number(&first, "embedded"), asked.texts.len() as u64);
        (asked.requests, asked.again())
    });
    // What was answered, of use or not; nobody hears of what was lost.
    costs_what_was_answered(&first, &service);

    // Nothing has changed: nothing is asked.
    assert_eq!(cost(&papers.run().exits(0)), 0.0);
    assert_eq!(service.asked(|asked| asked.requests), requests);

    // One paragraph has: what is new is asked for.
    let old = texts[3].split("\n\n").nth(1).unwrap().to_owned();
    texts[3] = texts[3].replace(&old, &paragraph(&mut random));
    papers.docs().put("n03.md", texts[3].as_bytes());
    let known = service.asked(|asked| asked.texts.len() as u64);
    let changed = papers.run().exits(0);
    service.asked(|asked| {
        assert_eq!(asked.again(), again);
        let new = asked.texts.len() as u64 - known;
        assert_eq!(number(&changed, "embedded"), new);
    });
    // Search asks for the words.
    let hit = start("search", &papers.config(), &["a river", "--top", "1"]);
    hit.wait().exits(0).says(&[".md"]);
    let times = service.asked(|asked| asked.texts.get("a river").copied());
    assert_eq!(times, Some(1));
    papers.holds_as(&json!({"endpoint": service.url(), "key": KEY, "model": MODEL}));
}

#[test]
fn a_key_that_is_not_taken_is_told_and_not_shown() {
    let service = Embeddings::start(&[]);
    let papers = papers_by(&service, "another-key-than-that");
    papers.docs().put("a.txt", "One short text.");
    papers.docs().put("b.txt", "One short text.");
    let refused = papers.run().exits(1).says(&["check the key", MODEL]);
    assert!(!refused.said().contains("another-key-than-that"));
    service.asked(|asked| {
        assert_eq!(asked.texts.len(), 0);
        assert!(asked.requests <= 2, "one of each worker at most: {asked:?}");
    });
}

/// The document of a text that the service never takes is set aside; all others are
/// embedded, each text once, and nobody tries again while nothing changes.
#[test]
fn a_text_that_is_never_taken_keeps_back_its_document_alone() {
    let mut random = Random::seeded();
    let service = Embeddings::start(&[]);
    service.never_takes("unspeakable");
    let papers = papers_by(&service, KEY);
    for n in 0..30 {
        let text = document(&mut random, 4);
        papers.docs().put(&format!("n{n:02}.md"), text.as_bytes());
    }
    let text = document(&mut random, 6);
    let bad = format!("{text}\nAn unspeakable word.\n");
    papers.docs().put("n07x.md", bad.as_bytes());
    let first = papers.run().exits(3);
    assert_eq!(number(&first, "quarantined"), 1);
    costs_what_was_answered(&first, &service);
    let (requests, refused) = service.asked(|asked| {
        assert_eq!(asked.again(), 0, "{asked:?}");
        assert_eq!(number(&first, "embedded"), asked.texts.len() as u64);
        // A word for each text that was refused: where chunks overlap there may be two.
        assert!((1..=2).contains(&asked.words), "{asked:?}");
        (asked.requests, asked.refused)
    });
    first.says(&["n07x.md", "not acceptable"]);
    let found = papers.holds();
    assert_eq!(found["documents"].as_object().unwrap().len(), 31);
    assert_eq!(found["documents"]["n07x.md"], json!(0));
    let notes = found["notes"].as_object().unwrap();
    let note = notes["n07x.md"].as_str().unwrap();
    assert!(note.contains("not acceptable"), "{note}");
    assert_eq!(notes.len(), 1);

    let again = papers.run().exits(0);
    let counts = ["unchanged", "still_quarantined", "embedded"].map(|name| number(&again, name));
    assert_eq!(counts, [31, 1, 0]);
    assert_eq!(service.asked(|asked| asked.requests), requests);

    // Mended, it is embedded; what was paid for of it is not paid for again.
    papers.docs().put("n07x.md", text.as_bytes());
    papers.run().exits(0);
    service.asked(|asked| assert_eq!((asked.again(), asked.refused), (0, refused)));
    let found = papers.holds();
    assert!(found["documents"]["n07x.md"].as_u64() > Some(0));
    assert!(found["notes"].as_object().unwrap().is_empty());
}

/// One batch is answered, then the key expires. The control arm: `Does::Fails` for it, a
/// fault that passes, ends no run.
#[test]
fn what_was_paid_before_a_failure_is_kept() {
    let mut random = Random::seeded();
    let service = Embeddings::start(&[Does::Well, Does::Refuses]);
    let papers = papers_by(&service, KEY);
    let long = document(&mut random, 400);
    papers.docs().put("long.md", long.as_bytes());
    let failed = papers.run().exits(1).says(&["check the key"]);
    assert_eq!(number(&failed, "embedded"), BATCH as u64);
    costs_what_was_answered(&failed, &service);
    let next = papers.run().exits(0);
    assert!(number(&next, "reused") >= BATCH as u64, "{next}");
    service.asked(|asked| {
        assert!(asked.texts.len() > 2 * BATCH);
        assert_eq!(asked.again(), 0);
    });
    papers.holds();
}

/// A run that is asked to end waits neither for a rate nor for more texts, and keeps what
/// was answered.
#[test]
fn who_is_asked_to_end_pays_for_nothing_more() {
    let mut random = Random::seeded();
    let service = Embeddings::start(&[]);
    let papers = papers_with(&service, KEY, SLOWLY);
    let long = document(&mut random, 400);
    papers.docs().put("long.md", long.as_bytes());
    let mut run = papers.start();
    while run.is_running() && service.asked(|asked| asked.texts.is_empty()) {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(run.is_running(), "it was over before it was asked to end");
    run.signal("TERM");
    let asked_to_end = Instant::now();
    run.wait().exits(130);
    let took = asked_to_end.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(service.asked(|asked| asked.texts.len()), BATCH);

    runs_with(&papers, SLOWLY, "");
    assert_eq!(service.asked(|asked| asked.again()), 0);
    papers.holds();
}

/// The table of vectors is a cache: without a file of it, or with none that can be read, a
/// run makes the same lake.
#[test]
fn vectors_that_cannot_be_read_are_made_again() {
    let mut random = Random::seeded();
    let service = Embeddings::start(&[]);
    let papers = papers_by(&service, KEY);
    let texts: Vec<String> = (0..12).map(|_| document(&mut random, 4)).collect();
    for (n, text) in texts.iter().enumerate() {
        papers.docs().put(&format!("n{n:02}.md"), text.as_bytes());
    }
    papers.run().exits(0);
    let lost = vector_files(&papers).remove(0);
    std::fs::remove_file(&lost).unwrap();
    papers.docs().put("z/copy.md", texts[0].as_bytes());
    let without = papers.run().exits(0).says(&["cannot read", &name(&lost)]);
    let known = number(&without, "embedded") + number(&without, "reused");
    assert_eq!(known, number(&without, "chunks"));
    papers.holds();

    // None of the others is what it was.
    let files = vector_files(&papers);
    for (seed, file) in (1..).zip(&files) {
        let bytes = std::fs::metadata(file).unwrap().len();
        std::fs::write(file, noise(seed, bytes as usize)).unwrap();
    }
    papers.docs().put("z/again.md", texts[1].as_bytes());
    let damaged = papers.run().exits(0);
    assert!(number(&damaged, "embedded") > 0, "{damaged}");
    for file in &files {
        assert!(damaged.said().contains(&name(file)), "{damaged}");
    }
    papers.holds_as(&json!({"endpoint": service.url(), "key": KEY, "model": MODEL}));
}

/// What a run was to do and has not done is not told as done: guards the counts of
/// `Shared::report_of_run` (`pipelines/paper_index/index.rs`), by groups that are published
/// and others of the same run that are not.
#[test]
fn the_report_of_a_run_that_fails_tells_what_the_lake_has() {
    let mut random = Random::seeded();
    let service = Embeddings::start(&[Does::Well, Does::Well, Does::Refuses]);
    let papers = papers_by(&service, KEY);
    let mut texts: Vec<String> = (0..60).map(|_| document(&mut random, 4)).collect();
    let put = |n: usize, text: &str| papers.docs().put(&format!("n{n:02}.md"), text.as_bytes());
    for (n, text) in texts.iter().enumerate() {
        put(n, text);
        if n % 6 == 0 {
            let broken = format!("n{n:02}x.pdf");
            papers
                .docs()
                .put(&broken, "%PDF-1.7\nthis is no PDF at all");
        }
    }
    let all = 70;
    let failed = papers.run().exits(1).says(&["check the key"]);
    let found = papers.holds();
    let count = |what: &str| found[what].as_object().unwrap().len() as u64;
    let (held, broken) = (count("documents"), count("notes"));
    assert!(0 < held && held < all, "{held} of {all}");
    let names = ["new", "changed", "deleted", "quarantined"];
    assert_eq!(
        names.map(|name| number(&failed, name)),
        [held, 0, 0, broken]
    );
    let report = failed.report();
    assert_eq!(report["tables"][0]["inserted"], json!(held));
    let named = report["documents"][0]["set_aside"].as_array();
    assert_eq!(named.map_or(0, Vec::len) as u64, broken);
    // What it did not do the next one does.
    let rest = papers.run().cleanly();
    assert_eq!(number(&rest, "new"), all - held);
    assert_eq!(number(&rest, "quarantined"), 10 - broken);

    // Some change, some go, and it fails again.
    service.does(&[Does::Well, Does::Well, Does::Refuses]);
    for (n, text) in texts.iter_mut().enumerate() {
        match n % 5 {
            0 => papers.docs().remove(&format!("n{n:02}.md")),
            1 => {
                *text += &paragraph(&mut random);
                put(n, text);
            }
            _ => {}
        }
    }
    let failed = papers.run().exits(1);
    let found = papers.holds();
    let is_gone = |n: &usize| found["documents"][format!("n{n:02}.md")].is_null();
    let gone = (0..60).filter(is_gone).count() as u64;
    let changed = number(&failed, "changed");
    assert!(gone > 0 && changed > 0 && changed < 12, "{gone}, {changed}");
    assert_eq!(number(&failed, "deleted"), gone);
    assert_eq!(number(&failed, "new"), 0);
    let rest = papers.run().exits(0);
    assert_eq!(number(&rest, "deleted"), 12 - gone);
    assert_eq!(number(&rest, "changed"), 12 - changed);
    papers.holds();
}

/// Two services may have one name for two models: neither in a document's rows nor in the
/// table of vectors are those of one taken for those of the other, nor by a search. Guards
/// `Endpoint::name_of` in `name_of` (`pipelines/paper_index/model.rs`).
#[test]
fn a_service_does_not_take_over_what_another_one_has_made() {
    let mut random = Random::seeded();
    let (one, other) = (Embeddings::start(&[]), Embeddings::start(&[]));
    let papers = papers_by(&one, KEY);
    put_some(&papers, &mut random);
    papers.run().exits(0);
    let (texts, requests) = one.asked(|asked| (asked.texts.clone(), asked.requests));
    let moved = runs_with(&papers, one.url(), other.url());
    assert_eq!(number(&moved, "changed"), SOME);
    other.asked(|asked| assert_eq!(asked.texts, texts));
    assert_eq!(one.asked(|asked| asked.requests), requests);
    let search = start("search", &papers.config(), &["a river"]).wait();
    search.exits(0).says(&["\"chunks_scanned\":0"]);
    papers.holds();
}

/// The control arm of the test above: a model with a name is that model wherever it is. One
/// that had none is named after what the lake calls it.
#[test]
fn a_model_that_has_a_name_moves_with_its_vectors() {
    let mut random = Random::seeded();
    for is_named_at_first in [true, false] {
        let (one, other) = (Embeddings::start(&[]), Embeddings::start(&[]));
        let place = one.url().trim_start_matches("http://");
        let name = format!(", name = \"{MODEL} at {place}\"");
        let (at_first, later) = match is_named_at_first {
            true => (name.clone(), String::new()),
            false => (String::new(), name),
        };
        let papers = papers_with(&one, KEY, &at_first);
        let texts = put_some(&papers, &mut random);
        papers.run().exits(0);
        let requests = one.asked(|asked| asked.requests);
        papers.docs().put("new.md", "One new text.");
        papers.docs().put("z/copy.md", texts[0].as_bytes());
        let url = format!("url = \"{}\"", one.url());
        let elsewhere = format!("url = \"{}\"{later}", other.url());
        let moved = runs_with(&papers, &url, &elsewhere);
        let counts = ["new", "changed", "embedded"].map(|name| number(&moved, name));
        assert_eq!(counts, [2, 0, 1], "{is_named_at_first}");
        assert_eq!(other.asked(|asked| asked.texts.len()), 1);
        assert_eq!(one.asked(|asked| asked.requests), requests);
        papers.holds();
    }
}

/// This is how vectors of models go that nobody uses any more, as docs/papers.md says: what
/// the lake has of documents is not embedded again for it.
#[test]
fn the_table_of_vectors_may_be_removed() {
    let mut random = Random::seeded();
    let service = Embeddings::start(&[]);
    let papers = papers_by(&service, KEY);
    let mut texts = put_some(&papers, &mut random);
    papers.run().exits(0);
    let vectors = papers.home().join("lake/_highwater/vectors");
    std::fs::remove_dir_all(&vectors).unwrap();
    let unchanged = papers.run().exits(0);
    assert_eq!(number(&unchanged, "unchanged"), SOME);
    texts[3] += &paragraph(&mut random);
    papers.docs().put("n03.md", texts[3].as_bytes());
    papers.docs().put("new.md", "One new text.");
    let next = papers.run().exits(0);
    assert_eq!((number(&next, "new"), number(&next, "changed")), (1, 1));
    service.asked(|asked| assert_eq!(asked.again(), 0));
    assert!(!vector_files(&papers).is_empty());
    papers.holds();
}
