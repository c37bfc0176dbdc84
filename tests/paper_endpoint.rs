//! `paper-index` with a service that embeds: each text is paid for once, whatever the
//! service does in between, and what it says of one text keeps nothing else back.

use crate::kit;

use std::path::PathBuf;
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

fn name(path: &std::path::Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
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
    hit.wait().exits(0);
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

    let config = papers.config();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace(SLOWLY, "")).unwrap();
    start("run", &config, &[]).wait().exits(0);
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
