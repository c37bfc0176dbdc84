//! `paper-index`: the lake has the chunks of the documents that are there, each with its
//! vector, and only what has changed is embedded.

use crate::kit;

use std::collections::BTreeSet;

use kit::papers::{Papers, document, number, paragraph, start};
use kit::{Random, size};
use serde_json::{Value, json};

fn hashes(found: &Value) -> BTreeSet<String> {
    let chunks = found["chunks"].as_object().unwrap().values();
    chunks
        .map(|hash| hash.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn documents_become_chunks_and_only_changes_are_embedded() {
    let mut random = Random::seeded();
    let papers = Papers::new();
    let documents = size("HIGHWATER_DOCUMENTS", 60);
    let mut texts = Vec::new();
    for n in 0..documents {
        let text = document(&mut random, 4);
        papers
            .docs()
            .put(&format!("d{}/n{n:04}.md", n % 5), text.as_bytes());
        texts.push(text);
    }
    let plan = start("plan", &papers.config(), &[]).wait().exits(0);
    plan.says(&[&format!("\"new\":{documents}")]);
    let first = papers.run().exits(0);
    let found = papers.holds();
    assert_eq!(
        found["documents"].as_object().unwrap().len() as u64,
        documents
    );
    assert_eq!(number(&first, "new"), documents);
    assert_eq!(number(&first, "embedded"), hashes(&found).len() as u64);
    // Nothing has changed: no version, no vector.
    let again = papers.run().exits(0);
    assert_eq!(
        (number(&again, "unchanged"), number(&again, "embedded")),
        (documents, 0)
    );
    assert_eq!(papers.holds()["version"], found["version"]);
    // One paragraph in a hundred is another one, one document goes, one comes twice.
    let before = hashes(&found);
    for (n, text) in texts.iter_mut().enumerate().skip(1).step_by(25) {
        let old = text.split("\n\n").nth(2).unwrap().to_owned();
        *text = text.replace(&old, &paragraph(&mut random));
        papers
            .docs()
            .put(&format!("d{}/n{n:04}.md", n % 5), text.as_bytes());
    }
    papers.docs().remove("d0/n0000.md");
    papers.docs().put("z/copy.md", texts[1].as_bytes());
    let changed = papers.run().exits(0);
    let now = papers.holds();
    let new: Vec<_> = hashes(&now).difference(&before).cloned().collect();
    assert_eq!(
        number(&changed, "embedded"),
        new.len() as u64,
        "exactly the new texts"
    );
    assert_eq!(number(&changed, "deleted"), 1);
    assert!(now["documents"]["d0/n0000.md"].is_null());
    // It is what a run from nothing makes of the same documents.
    start("run", &papers.config_into("fresh"), &[])
        .wait()
        .exits(0);
    papers.holds_as(&json!({"other": papers.home().join("fresh/docs")}));
    // What was removed and comes back is not embedded again.
    papers.docs().put("d0/n0000.md", texts[0].as_bytes());
    let back = papers.run().exits(0);
    assert_eq!((number(&back, "new"), number(&back, "embedded")), (1, 0));
    papers.holds();
}

#[test]
fn every_format_is_read_and_what_cannot_be_is_set_aside() {
    let papers = Papers::new();
    let docs = papers.docs();
    docs.put("plain.txt", "Water flows under the old bridge in winter.");
    docs.put(
        "page.html",
        "<html><head><title>On bridges</title><meta name=author content='Ann Bright'></head>\
         <body><h1>Bridges</h1><p>A bridge carries the road.</p><script>no()</script></body></html>",
    );
    docs.put(
        "paper.tex",
        "\\documentclass{article}\\title{On rivers}\\author{Bo Dark}\\begin{document}\\maketitle\
         \\section{Rivers}A river follows the valley. % secret\n\\end{document}",
    );
    docs.put(
        "notes.md",
        "# Notes\n\nThe garden is *quiet* in the morning.\n",
    );
    docs.put("broken.pdf", "%PDF-1.7\nthis is no PDF at all");
    docs.put("empty.txt", "");
    docs.put("noise.bin", kit::objects::noise(7, 5000));
    let first = papers.run().exits(3);
    assert_eq!(number(&first, "quarantined"), 2, "{first}");
    first.says(&["broken.pdf", "noise.bin"]);
    let found = papers.holds();
    for name in ["plain.txt", "page.html", "paper.tex", "notes.md"] {
        assert!(found["documents"][name].as_u64() > Some(0), "{name}");
    }
    assert_eq!(found["documents"]["empty.txt"], json!(0));
    assert_eq!(found["titles"]["page.html"], "On bridges");
    assert_eq!(found["titles"]["paper.tex"], "On rivers");
    assert_eq!(found["notes"].as_object().unwrap().len(), 2);
    // Set aside once: nothing is tried again while nothing changes.
    let again = papers.run().exits(0);
    assert_eq!(
        (
            number(&again, "still_quarantined"),
            number(&again, "quarantined")
        ),
        (2, 0)
    );
    let hit = start(
        "search",
        &papers.config(),
        &["a road over water", "--top", "2"],
    );
    hit.wait().exits(0).says(&["page.html", "bridge carries"]);
}

#[test]
fn instances_share_vectors_and_have_tables_of_their_own() {
    let mut random = Random::seeded();
    let papers = Papers::new();
    let other = papers.home().join("more");
    std::fs::create_dir_all(&other).unwrap();
    for n in 0..10 {
        let text = document(&mut random, 3);
        papers.docs().put(&format!("n{n}.md"), text.as_bytes());
        std::fs::write(other.join(format!("m{n}.md")), text).unwrap();
    }
    let papers = papers.of_instance(&format!(
        "[instances.more]\nsource = \"file:{}\"\nexclude = [\"m9*\"]",
        other.display()
    ));
    let report = papers.run().exits(0).report();
    let (docs, more) = (&report["documents"][0], &report["documents"][1]);
    assert_eq!(
        (docs["instance"].as_str(), more["instance"].as_str()),
        (Some("docs"), Some("more"))
    );
    assert_eq!(
        (docs["new"].as_u64(), more["new"].as_u64()),
        (Some(10), Some(9))
    );
    assert!(docs["embedded"].as_u64() > Some(0));
    assert_eq!(more["embedded"].as_u64(), Some(0), "all texts were known");
    papers.holds();
}

/// An instance that cannot be read is its own misfortune: the others are indexed, and the
/// report tells of both.
#[test]
fn an_instance_that_fails_does_not_stop_the_others() {
    let papers = Papers::new();
    papers.docs().put("n.md", "A river flows to the sea.");
    let gone = papers.home().join("gone");
    let papers = papers.of_instance(&format!(
        "[instances.a-gone]\nsource = \"file:{}\"",
        gone.display()
    ));
    let run = papers.run().exits(2);
    assert!(
        run.said().contains("is not a folder that is there"),
        "{run}"
    );
    let report = run.report();
    let tables = report["tables"].as_array().unwrap();
    let told = tables.iter().map(|table| {
        let name = table["name"].as_str().unwrap();
        (name, table["outcome"].as_str().unwrap())
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told, [("a-gone", "failed"), ("docs", "committed")]);
    papers.holds();
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_done() {
    let papers = Papers::new();
    let config = papers.config();
    std::fs::remove_dir_all(papers.home().join("docs")).unwrap();
    start("run", &config, &[])
        .wait()
        .exits(2)
        .says(&["is not a folder that is there"]);
    assert!(!papers.home().join("lake/docs").exists());
    let nested = papers.home().join("nested.toml");
    let home = papers.home().display();
    std::fs::write(
        &nested,
        format!("lake = \"file:{home}/a/lake\"\n[instances.x]\nsource = \"file:{home}/a\"\n"),
    )
    .unwrap();
    start("run", &nested, &[])
        .wait()
        .exits(2)
        .says(&["inside of the other"]);
    let wrong = papers.home().join("wrong.toml");
    std::fs::write(
        &wrong,
        format!("lake = \"file:{home}/l\"\n[instances.\"../x\"]\nsource = \"file:{home}\"\n"),
    )
    .unwrap();
    start("run", &wrong, &[])
        .wait()
        .exits(2)
        .says(&["is no name for an instance"]);
}
