//! `paper-index` at its limits: what is too much is set aside or cut, once, and costs
//! nobody else anything.

use crate::kit;

use std::io::Write as _;

use kit::papers::{Papers, number};

/// A file of zeros that becomes more than a document may.
fn bomb() -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![b'0'; 1 << 20];
    for _ in 0..220 {
        packed.write_all(&zeros).unwrap();
    }
    packed.finish().unwrap()
}

/// What is too large only when it is unpacked is not let in by a limit for what is packed.
#[test]
fn what_unpacks_to_too_much_is_set_aside_once() {
    // Enough for what it would become: that is not why it is set aside.
    let papers = Papers::new()
        .with("memory = \"3GiB\"")
        .of_papers("extractor_memory = \"1GiB\"");
    papers.docs().put("good.md", "A river flows to the sea.");
    papers.docs().put("bomb.txt.gz", bomb());
    let first = papers.run().exits(3);
    assert_eq!(number(&first, "quarantined"), 1);
    first.says(&["too large when unpacked"]);
    let version = papers.holds()["version"].clone();
    let again = papers.run().exits(0);
    assert_eq!(number(&again, "still_quarantined"), 1);
    assert_eq!(papers.holds()["version"], version);
}

#[test]
fn a_wider_limit_lets_documents_in() {
    let papers = Papers::new();
    papers
        .docs()
        .put("long.md", "A river flows to the sea. ".repeat(400));
    let config = papers.config();
    let tight = std::fs::read_to_string(&config).unwrap();
    let tight = tight.replace("[papers]\n", "[papers]\nlargest = \"4KiB\"\n");
    std::fs::write(&config, tight).unwrap();
    let first = kit::papers::start("run", &config, &[]).wait().exits(3);
    first.says(&["too large: 10400 bytes, 4096 at most"]);
    let wide = papers.run().exits(0);
    assert_eq!(
        (number(&wide, "changed"), number(&wide, "quarantined")),
        (1, 0)
    );
    papers.holds();
}

/// Each chunk says who wrote the document: a thousand authors would be told a thousand
/// times.
#[test]
fn what_a_document_says_of_itself_is_cut() {
    let papers = Papers::new().with("memory = \"512MiB\"");
    let authors: Vec<String> = (0..100_000).map(|n| format!("Author {n}")).collect();
    let text = "A river flows to the sea, and nobody knows why. ".repeat(10_000);
    papers.docs().put(
        "authors.md",
        format!("---\nauthors: [{}]\n---\n{text}", authors.join(", ")),
    );
    papers.docs().put(
        "title.md",
        format!("# {}\n\nA body.", "word ".repeat(150_000)),
    );
    papers.docs().put("good.md", "A river flows to the sea.");
    let report = papers.run().exits(0);
    assert_eq!(number(&report, "new"), 3);
    let found = papers.holds();
    let title = found["titles"]["title.md"].as_str().unwrap();
    assert!(title.len() <= 1_000, "{}", title.len());
    let peak = report.report()["peak_rss_bytes"].as_u64().unwrap();
    assert!(peak < 512 << 20, "{peak}");
}
