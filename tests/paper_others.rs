//! `paper-index` where another program has laid the rows of its table out anew: it goes on
//! where documents are still in order, and refuses by name where they are not.

use crate::kit;

use std::collections::BTreeMap;

use kit::Random;
use kit::compact;
use kit::oracle::ask;
use kit::outcome::Outcome;
use kit::papers::{Papers, document, number, start};
use kit::place::Place;
use serde_json::json;

const DOCUMENTS: u64 = 40;

/// Documents in several files of the table, each of which holds several.
fn many(random: &mut Random) -> Papers {
    let papers = Papers::new();
    for n in 0..DOCUMENTS {
        put(&papers, n, random);
    }
    papers.run().exits(0);
    papers
}

fn put(papers: &Papers, n: u64, random: &mut Random) {
    let text = document(random, 4);
    papers.docs().put(&format!("n{n:02}.md"), text.as_bytes());
}

#[track_caller]
fn harm(papers: &Papers, harm: &str) {
    let question = json!({"table": papers.table(), "harm": harm});
    assert!(ask("harm_table.py", &question).0, "{harm}");
}

#[track_caller]
fn compacted(papers: &Papers, more: &[&str]) {
    let spill = papers.home().join("spill");
    compact::start(&papers.table(), &spill, "run", more)
        .wait()
        .exits(0);
}

/// All that the lake holds, our own records and the vectors among it, but no reports of
/// runs.
fn lake_of(papers: &Papers) -> BTreeMap<String, Vec<u8>> {
    let place = Place::Folder(papers.home().join("lake"));
    let with_content = |path: String| {
        let content = place.read(&path).unwrap();
        (path, content)
    };
    let files = place.list("").into_iter();
    let files = files.filter(|path| !path.contains("_highwater/runs"));
    files.map(with_content).collect()
}

/// Neither a plan nor a run goes on: one error says why and what to do, and nothing is
/// written.
#[track_caller]
fn refused(papers: &Papers, why: &str) {
    let before = lake_of(papers);
    for verb in ["plan", "run"] {
        let outcome = start(verb, &papers.config(), &[]).wait().exits(1);
        let errors = outcome.said().matches("exit_error").count();
        assert_eq!(errors, 1, "{verb}: {outcome}");
        outcome.says(&[why, "`lake-compact --sort-by document` puts"]);
    }
    assert!(lake_of(papers) == before, "something was written");
}

/// One document was read, and all others are as they were.
#[track_caller]
fn one_has_changed(run: &Outcome) {
    let counts = ["new", "changed", "deleted", "unchanged"].map(|name| number(run, name));
    assert_eq!(counts, [0, 1, 0, DOCUMENTS - 1], "{run}");
}

/// It is what a run from nothing makes of the same documents.
#[track_caller]
fn is_as_if_made_anew(papers: &Papers) {
    start("run", &papers.config_into("fresh"), &[])
        .wait()
        .exits(0);
    papers.holds_as(&json!({"other": papers.home().join("fresh/docs")}));
}

/// The guards, in this order: `look` and `KeyedTable::open` (files that overlap, also by
/// half a document) of `operators/lake/keyed.rs`, `OldDocuments::check_order` of
/// `operators/ingest/documents/old.rs`. What the error advises is what helps.
#[test]
fn a_table_in_another_order_is_refused_until_it_is_in_order() {
    let mut random = Random::seeded();
    let papers = many(&mut random);
    let harms = [
        ("reverse", "its rows are not in the order of document;"),
        ("overlap", "its keys reach into those of part-"),
        ("middle", "chunks are not in the order of documents ("),
    ];
    for (n, (how, why)) in (5..).zip(harms) {
        harm(&papers, how);
        // There is something to do: a run that went on would write.
        put(&papers, n, &mut random);
        refused(&papers, why);
        compacted(&papers, &["--sort-by", "document"]);
        one_has_changed(&papers.run().exits(0));
        papers.holds();
    }
    // The same by our own program, which leaves a record of it.
    compacted(&papers, &["--sort-by", "id"]);
    put(&papers, 20, &mut random);
    refused(&papers, "not in the order of document");
    compacted(&papers, &["--sort-by", "document"]);
    one_has_changed(&papers.run().exits(0));
    is_as_if_made_anew(&papers);
}

/// Only documents must be in order: that of the chunks of each is its own, and so is where
/// files end. This is the control arm of the test above: that another program was there is
/// not what is refused.
#[test]
fn a_table_whose_documents_are_in_order_is_gone_on_with() {
    let mut random = Random::seeded();
    let papers = many(&mut random);
    for (n, how) in [(7, "chunks"), (8, "cut")] {
        harm(&papers, how);
        let unchanged = papers.run().exits(0);
        assert_eq!(number(&unchanged, "unchanged"), DOCUMENTS);
        put(&papers, n, &mut random);
        one_has_changed(&papers.run().exits(0));
    }
    is_as_if_made_anew(&papers);
}

/// `lake-compact` ends a file at its size, also within a document.
#[test]
fn what_lake_compact_has_sorted_is_gone_on_with() {
    let mut random = Random::seeded();
    let papers = Papers::new();
    for (n, paragraphs) in (0..).zip([4, 4, 400, 4, 4]) {
        let text = document(&mut random, paragraphs);
        papers.docs().put(&format!("n{n}.md"), text.as_bytes());
    }
    papers.run().exits(0);
    compacted(&papers, &["--sort-by", "document", "--target", "64KiB"]);
    let next = papers.run().exits(0);
    assert_eq!(number(&next, "unchanged"), 5);
    papers.holds();
}
