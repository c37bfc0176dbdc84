//! `paper-index` and a real ChromaDB server: the collection is what the lake is, whatever
//! happened in between, and nothing is embedded for it.

use crate::kit;

use kit::Random;
use kit::chroma::ChromaServer;
use kit::oracle::ask;
use kit::papers::{Papers, document, number, paragraph};
use kit::place::Place;
use kit::s3::{Action, Rule};
use serde_json::{Value, json};

fn papers_of(server: &ChromaServer) -> Papers {
    let url = server.url();
    Papers::new().of_instance(&format!("chroma = \"{url}\"\ncollection = \"papers\""))
}

fn http(server: &ChromaServer) -> String {
    format!("http://{}", server.address())
}

/// The collection equals the table, as others read both.
#[track_caller]
fn equal(papers: &Papers, server: &ChromaServer) -> Value {
    papers.holds_as(&json!({"chroma": http(server), "collection": "papers"}))
}

fn sent(outcome: &kit::outcome::Outcome) -> (u64, u64) {
    let report = outcome.report();
    let chroma = &report["documents"][0]["chroma"];
    let count = |name: &str| {
        chroma[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{report:#}"))
    };
    (count("upserted"), count("deleted"))
}

#[test]
fn the_collection_follows_the_lake_and_is_mended() {
    let mut random = Random::seeded();
    let mut server = ChromaServer::start();
    let papers = papers_of(&server);
    let mut texts: Vec<String> = (0..20).map(|_| document(&mut random, 4)).collect();
    for (n, text) in texts.iter().enumerate() {
        papers.docs().put(&format!("n{n:02}.md"), text.as_bytes());
    }
    let first = papers.run().exits(0);
    let chunks = equal(&papers, &server)["chunks"].as_object().unwrap().len() as u64;
    assert_eq!(sent(&first), (chunks, 0));
    assert_eq!(sent(&papers.run().exits(0)), (0, 0), "nothing has changed");

    // A paragraph changes, a document goes: what differs is sent, and no more.
    let old = texts[3].split("\n\n").nth(1).unwrap().to_owned();
    texts[3] = texts[3].replace(&old, &paragraph(&mut random));
    papers.docs().put("n03.md", texts[3].as_bytes());
    papers.docs().remove("n07.md");
    let changed = papers.run().exits(0);
    equal(&papers, &server);
    let (upserted, deleted) = sent(&changed);
    assert!(upserted > 0 && deleted > 0, "{changed}");
    assert!(
        upserted + deleted < chunks / 2,
        "{upserted} + {deleted} of {chunks}"
    );

    // The server is away: the lake goes on, the collection follows later.
    server.kill();
    papers
        .docs()
        .put("n08.md", document(&mut random, 2).as_bytes());
    papers.run().exits(4).says(&["behind the lake"]);
    papers.holds();
    server.restart();
    let late = papers.run().exits(0);
    assert_eq!(number(&late, "embedded"), 0);
    equal(&papers, &server);

    // The collection is emptied, filled by others, removed: mended from the lake.
    for harm in ["some", "empty", "add", "remove"] {
        let question = json!({"chroma": http(&server), "collection": "papers", "harm": harm});
        assert!(ask("harm_chroma.py", &question).0);
        let mended = papers.run().exits(0);
        assert_eq!(number(&mended, "embedded"), 0, "{harm}");
        equal(&papers, &server);
    }
}

/// The lake comes first: while it cannot be written, the collection stays as it is.
#[test]
fn the_collection_never_has_what_the_lake_has_not() {
    let mut random = Random::seeded();
    let server = ChromaServer::start();
    let place = Place::s3();
    let papers = papers_of(&server).into_lake(place.clone());
    let put = |n: usize, random: &mut Random| {
        let text = document(random, 4);
        papers.docs().put(&format!("n{n:02}.md"), text.as_bytes());
    };
    (0..5).for_each(|n| put(n, &mut random));
    papers.run().exits(0);
    let before = server.points("papers").unwrap();
    assert!(before > 0);
    put(5, &mut random);
    let log = "lake/*/docs/_delta_log/*";
    let faults = place.server().faults();
    faults.add(Rule::new("PUT", log, Action::Forbid403));
    let failed = papers.run().cleanly();
    assert_ne!(failed.code, Some(0));
    assert!(number(&failed, "embedded") > 0, "it was about to: {failed}");
    assert_eq!(server.points("papers"), Some(before));
    // The control arm: nothing else kept it from the collection.
    faults.clear();
    papers.run().exits(0);
    assert!(server.points("papers") > Some(before));
}

#[test]
fn a_collection_is_right_after_kills_on_both_sides() {
    let mut random = Random::seeded();
    let mut server = ChromaServer::start();
    let papers = papers_of(&server);
    for n in 0..30 {
        papers
            .docs()
            .put(&format!("n{n:02}.md"), document(&mut random, 5).as_bytes());
    }
    let kills = kit::size("HIGHWATER_KILLS", 25).min(25);
    for kill in 0..kills {
        let mut run = papers.start();
        std::thread::sleep(std::time::Duration::from_millis(200 + random.below(3_000)));
        if kill % 3 == 0 {
            server.kill();
            run.wait().cleanly();
            server.restart();
        } else if run.is_running() {
            run.kill().cleanly();
        } else {
            run.wait().cleanly();
        }
        let n = random.below(30);
        papers
            .docs()
            .put(&format!("n{n:02}.md"), document(&mut random, 5).as_bytes());
    }
    papers.run().exits(0);
    equal(&papers, &server);
}

#[test]
fn a_server_that_is_none_leaves_the_lake_whole() {
    let papers = Papers::new().of_instance("chroma = \"http://127.0.0.1:9\"");
    papers.docs().put("a.txt", "One short text.");
    papers.run().exits(4).says(&["127.0.0.1:9"]);
    papers.holds();
}
