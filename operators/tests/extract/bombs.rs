//! Small files that become large: each ends at a limit, none ends the run.

use highwater_operators::transform::extract::{Limits, Reason};

use super::kit;

fn tight() -> Limits {
    Limits {
        unpacked_bytes: 20_000_000,
        memory_bytes: 128 << 20,
        ..kit::limits()
    }
}

/// Reads a bomb and then something harmless with the same children.
async fn explode(key: &str, bomb: &[u8]) -> Option<Reason> {
    let extractors = kit::extractors(tight());
    let reason = extractors.extract(key, bomb).await.unwrap().err();
    let document = extractors
        .extract("a.txt", b"still here")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(document.text, "still here");
    reason
}

#[tokio::test]
async fn gzip() {
    let bomb = kit::gzipped(&vec![b'a'; 30_000_000]);
    assert!(bomb.len() < 300_000);
    assert_eq!(
        explode("a.txt.gz", &bomb).await,
        Some(Reason::Unpacks { limit: 20_000_000 })
    );
    // Control: what unpacks to less is read.
    assert_eq!(
        explode("a.txt.gz", &kit::gzipped(&vec![b'a'; 19_000_000])).await,
        None
    );
}

#[tokio::test]
async fn zip() {
    let text = "a ".repeat(2000);
    let body = format!("<w:p><w:r><w:t>{text}</w:t></w:r></w:p>").repeat(10);
    assert_eq!(explode("a.docx", &kit::docx(&body)).await, None);
    // Nothing of this is text, so that the cap of text does not end it.
    let body = format!("<w:p><w:r><w:x>{text}</w:x></w:r></w:p>").repeat(7_000);
    let reason = explode("a.docx", &kit::docx(&body)).await;
    assert_eq!(reason, Some(Reason::Unpacks { limit: 20_000_000 }));
}

#[tokio::test]
async fn flate_in_pdf() {
    let page = |content: &[u8], filters: &str| {
        let mut pdf = kit::Pdf::new();
        pdf.object("<< /Type /Catalog /Pages 2 0 R >>");
        pdf.object("<< /Type /Pages /Count 1 /Kids [3 0 R] >>");
        pdf.object("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R >>");
        pdf.stream(filters, content);
        pdf.finish("")
    };
    // Once compressed, and compressed twice.
    let large = vec![b' '; 200_000_000];
    let once = kit::deflated(&large);
    let twice = kit::deflated(&once);
    let memory = Some(Reason::TooMuchMemory { limit: 128 << 20 });
    assert_eq!(
        explode("a.pdf", &page(&once, "/Filter /FlateDecode")).await,
        memory
    );
    let filters = "/Filter [/FlateDecode /FlateDecode]";
    assert!(twice.len() < 100_000);
    assert_eq!(explode("a.pdf", &page(&twice, filters)).await, memory);
    // Control: what fits into the memory is read, and has no text.
    let small = kit::deflated(&large[..1_000_000]);
    let reason = explode("a.pdf", &page(&small, "/Filter /FlateDecode")).await;
    assert_eq!(reason, Some(Reason::NoText { pages: 1 }));
}

#[tokio::test]
async fn entities_within_entities() {
    let mut entities = String::from("<!DOCTYPE x [<!ENTITY a 'lol'>");
    for (name, of) in ('b'..='j').zip('a'..='i') {
        entities += &format!("<!ENTITY {name} '{}'>", format!("&{of};").repeat(10));
    }
    let xml = format!("{entities}]><w:p><w:t>x&j;y</w:t></w:p>");
    let bomb = kit::zipped(&[("word/document.xml", xml.as_bytes())]);
    let document = kit::read("a.docx", &bomb).await.unwrap();
    assert_eq!(document.text, "xy");
}

#[tokio::test]
async fn depth() {
    let deep = |open: &str| open.repeat(1_000_000);
    for (key, bomb) in [
        ("a.html", deep("<div>").into_bytes()),
        ("a.html", deep("<b><table>").into_bytes()),
        ("a.tex", deep("{").into_bytes()),
        ("a.md", deep("> ").into_bytes()),
        ("a.md", deep("[").into_bytes()),
        ("a.md", deep("*a_").into_bytes()),
        (
            "a.docx",
            kit::zipped(&[("word/document.xml", deep("<a>").as_bytes())]),
        ),
    ] {
        // Read or set aside: the run goes on.
        let reason = explode(key, &bomb).await;
        assert!(
            !matches!(reason, Some(Reason::Panicked(_))),
            "{key}: {reason:?}"
        );
    }
}

#[tokio::test]
async fn pages_and_arrays_within_themselves() {
    let mut pdf = kit::Pdf::new();
    pdf.object("<< /Type /Catalog /Pages 2 0 R >>");
    pdf.object("<< /Type /Pages /Count 9 /Kids [2 0 R 2 0 R 3 0 R] /Parent 2 0 R >>");
    pdf.object(
        "<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /XObject << /X 4 0 R >> >> >>",
    );
    pdf.stream(
        "/Type /XObject /Subtype /Form /Resources << /XObject << /X 4 0 R >> >>",
        b"/X Do /X Do",
    );
    assert!(explode("a.pdf", &pdf.finish("")).await.is_some());
    let nested = "[".repeat(500_000) + &"]".repeat(500_000);
    let mut pdf = kit::Pdf::new();
    pdf.object(format!("<< /Type /Catalog /Pages 2 0 R /X {nested} >>"));
    pdf.object("<< /Type /Pages /Count 0 /Kids [] >>");
    explode("a.pdf", &pdf.finish("")).await;
}
