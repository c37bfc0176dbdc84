//! `paper-index` with a service that embeds: each text is paid for once, whatever the
//! service does in between.

use crate::kit;

use kit::Random;
use kit::embeddings::{Embeddings, KEY, MODEL};
use kit::outcome::Outcome;
use kit::papers::{Papers, document, number, paragraph, start};
use serde_json::json;

/// What a million tokens cost.
const PRICE: f64 = 20.0;

fn papers_by(service: &Embeddings, key: &str) -> Papers {
    Papers::new().of_papers(&format!(
        "endpoint = {{ url = \"{}\", model = \"{MODEL}\", key = \"{key}\", dimensions = 384, \
         price_per_million_tokens = {PRICE:?} }}",
        service.url()
    ))
}

fn cost(outcome: &Outcome) -> f64 {
    outcome.report()["documents"][0]["cost"].as_f64().unwrap()
}

#[test]
fn a_service_is_paid_once_for_each_text() {
    let mut random = Random::seeded();
    let service = Embeddings::start(3);
    let papers = papers_by(&service, KEY);
    let mut texts: Vec<String> = (0..30).map(|_| document(&mut random, 4)).collect();
    for (n, text) in texts.iter().enumerate() {
        papers.docs().put(&format!("n{n:02}.md"), text.as_bytes());
    }
    let first = papers.run().exits(0);
    let (requests, tokens, failed) = {
        let asked = service.asked();
        assert!(asked.texts.values().all(|times| *times == 1));
        assert_eq!(number(&first, "embedded"), asked.texts.len() as u64);
        (asked.requests, asked.tokens, asked.failed)
    };
    assert!(failed > 0, "{requests} requests, none of which failed");
    assert_eq!(number(&first, "tokens"), tokens);
    let price = PRICE * tokens as f64 / 1e6;
    assert!((cost(&first) - price).abs() < 1e-9, "{first}");

    // Nothing has changed: nothing is asked.
    assert_eq!(cost(&papers.run().exits(0)), 0.0);
    assert_eq!(service.asked().requests, requests);

    // One paragraph has: what is new is asked for.
    let old = texts[3].split("\n\n").nth(1).unwrap().to_owned();
    texts[3] = texts[3].replace(&old, &paragraph(&mut random));
    papers.docs().put("n03.md", texts[3].as_bytes());
    let known = service.asked().texts.len() as u64;
    let changed = papers.run().exits(0);
    {
        let asked = service.asked();
        assert!(asked.texts.values().all(|times| *times == 1));
        assert_eq!(
            number(&changed, "embedded"),
            asked.texts.len() as u64 - known
        );
    }
    // Search asks for the words.
    let hit = start("search", &papers.config(), &["a river", "--top", "1"]);
    hit.wait().exits(0);
    assert_eq!(service.asked().texts.get("a river"), Some(&1));
    service.is_well();
    papers.holds_as(&json!({"endpoint": service.url(), "key": KEY, "model": MODEL}));
}

#[test]
fn a_key_that_is_not_taken_is_told_and_not_shown() {
    let service = Embeddings::start(0);
    let papers = papers_by(&service, "another-key-than-that");
    papers.docs().put("a.txt", "One short text.");
    papers.docs().put("b.txt", "One short text.");
    let refused = papers.run().exits(1).says(&["check the key", MODEL]);
    assert!(!refused.said().contains("another-key-than-that"));
    assert_eq!(service.asked().texts.len(), 0);
}
