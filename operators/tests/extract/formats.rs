//! What each format gives.

use highwater_operators::transform::extract::{
    ExtractOptions, Extractors, Format, PdfBackend, Reason,
};

use super::kit;

#[tokio::test]
async fn pdf_has_paragraphs_headings_pages_and_names() {
    for compressed in [false, true] {
        let document = kit::read("a.bin", &kit::paper(compressed)).await.unwrap();
        assert_eq!(document.format, Format::Pdf);
        assert_eq!(
            document.text,
            "On Reading\n\n1 Introduction\n\nThe first paragraph has words in it, and (brackets).\n\n\
             The second is indented and goes on over the page. Café.\n\nThe last."
        );
        assert_eq!(
            kit::headings(&document),
            [("On Reading", 1), ("1 Introduction", 2)]
        );
        assert_eq!(document.pages.len(), 3);
        assert!(document.text[document.pages[1]..].starts_with("on over the page"));
        assert_eq!(document.pages[2], document.text.len());
        assert_eq!(document.title.as_deref(), Some("A title"));
        assert_eq!(document.authors, ["A. One", "B. Two"]);
        assert_eq!(document.date.as_deref(), Some("2020-01-02T03:04:05+00:00"));
    }
}

/// The glyphs have no names that say anything, and the codes are TeX's. `pdfTeX` sets them
/// in their size; `dvips` counts in pixels.
#[tokio::test]
async fn bitmap_fonts_of_tex_are_read() {
    for (size, unit, place) in [(10, 0.01, "1 0 0 1"), (1, 1.0, "0.12 0 0 0.12")] {
        let pdf = kit::bitmap_pdf("pdfTeX-1.40", size, unit, place);
        let document = kit::read("a.pdf", &pdf).await.unwrap();
        assert_eq!(document.text, "“Of fine words” – und Straße");
        assert!(document.headings.is_empty(), "{:?}", document.headings);
    }
    // By somebody else the codes may mean anything.
    let pdf = kit::bitmap_pdf("Scanner 1.0", 10, 0.01, "1 0 0 1");
    let reason = kit::read("a.pdf", &pdf).await.unwrap_err();
    assert!(matches!(reason, Reason::NoText { pages: 1 }), "{reason}");
}

#[tokio::test]
async fn pdf_by_pdftotext() {
    if std::process::Command::new("pdftotext")
        .arg("-v")
        .output()
        .is_err()
    {
        eprintln!("NOT TESTED: pdftotext is not installed");
        return;
    }
    let options = ExtractOptions {
        pdf: PdfBackend::Pdftotext,
        limits: kit::limits(),
        children: 1,
    };
    let extractors = Extractors::new(kit::program(), options);
    let document = extractors
        .extract("a.pdf", &kit::paper(true))
        .await
        .unwrap()
        .unwrap();
    assert!(
        document.text.contains("The second is indented"),
        "{}",
        document.text
    );
    assert_eq!(document.pages.len(), 3);
    let reason = extractors
        .extract("a.pdf", b"%PDF-1.4 nothing")
        .await
        .unwrap()
        .unwrap_err();
    assert!(matches!(reason, Reason::Malformed { .. }), "{reason}");
    // Other formats do not need it, and it does not need the child to be new.
    let document = extractors
        .extract("a.md", b"# x\n\ny")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(document.text, "x\n\ny");
}

#[tokio::test]
async fn docx_has_paragraphs_headings_and_names() {
    let file = kit::docx(
        "<w:p><w:pPr><w:pStyle w:val='Heading1'/></w:pPr><w:r><w:t>One</w:t></w:r></w:p>\
         <w:p><w:r><w:t xml:space='preserve'>Some </w:t></w:r><w:r><w:t>text &lt;&#233;&gt;</w:t><w:br/>\
         <w:t>line</w:t></w:r></w:p><w:p><w:pPr><w:pStyle w:val='berschrift2'/></w:pPr><w:r><w:t>Zwei</w:t></w:r></w:p>\
         <w:p><w:r><w:instrText>HYPERLINK</w:instrText><w:delText>gone</w:delText><w:t># kept</w:t></w:r></w:p>",
    );
    let document = kit::read("a", &file).await.unwrap();
    assert_eq!(document.format, Format::Docx);
    assert_eq!(
        document.text,
        "One\n\nSome text <é>\nline\n\nZwei\n\n# kept"
    );
    assert_eq!(kit::headings(&document), [("One", 1), ("Zwei", 2)]);
    assert_eq!(document.title.as_deref(), Some("On & off"));
    assert_eq!(document.authors, ["A. One", "B. Two"]);
    assert_eq!(document.date.as_deref(), Some("2020-01-02T03:04:05Z"));
}

#[tokio::test]
async fn latex_sources_in_an_archive() {
    let archive = kit::tarred(&[
        (
            "./ms.tex",
            "\\documentclass{article}\n\\begin{document}\n\\section{One}\nA \\input{two}\n\\end{document}",
        ),
        ("two.tex", "second file"),
        ("figure.eps", "%!PS"),
    ]);
    for (key, file) in [
        ("a.tar", archive.clone()),
        ("2101.00001", kit::gzipped(&archive)),
    ] {
        let document = kit::read(key, &file).await.unwrap();
        assert_eq!(
            (document.format, document.text.as_str()),
            (Format::Latex, "One\n\nA second file")
        );
        assert_eq!(kit::headings(&document), [("One", 2)]);
    }
    let one = kit::gzipped(b"\\documentclass{article}\n\\begin{document}Hello\\end{document}");
    assert_eq!(kit::read("2101.00002", &one).await.unwrap().text, "Hello");
    let none = kit::tarred(&[("a.tex", "no main file")]);
    let reason = kit::read("a.tar", &none).await.unwrap_err();
    assert_eq!(
        reason.to_string(),
        "malformed LaTeX: no file of the archive has \\documentclass"
    );
}

#[tokio::test]
async fn text_markdown_and_html_by_one_child() {
    let extractors = kit::extractors(kit::limits());
    for (key, contents, format, text) in [
        (
            "a.txt",
            b"# one\ntwo".as_slice(),
            Format::Plain,
            "# one\ntwo",
        ),
        (
            "a.txt.gz",
            &kit::gzipped(b"packed"),
            Format::Plain,
            "packed",
        ),
        ("a.md", b"# one\ntwo", Format::Markdown, "one\n\ntwo"),
        (
            "a.html",
            b"<h2>one</h2>two&eacute;",
            Format::Html,
            "one\n\ntwoé",
        ),
        ("empty", b"", Format::Plain, ""),
    ] {
        let document = extractors.extract(key, contents).await.unwrap().unwrap();
        assert_eq!(
            (document.format, document.text.as_str()),
            (format, text),
            "{key}"
        );
    }
}

#[tokio::test]
async fn what_is_not_read_says_why() {
    let limits = highwater_operators::transform::extract::Limits {
        file_bytes: 1000,
        ..kit::limits()
    };
    let extractors = kit::extractors(limits);
    let mut blank = kit::Pdf::new();
    blank.object("<< /Type /Catalog /Pages 2 0 R >>");
    blank.object("<< /Type /Pages /Count 1 /Kids [3 0 R] >>");
    blank.object("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>");
    for (contents, reason) in [
        (
            b"%PDF-1.7\nnothing of it".to_vec(),
            "malformed PDF: no pages are found in it",
        ),
        (b"\x89PNG\r\n".to_vec(), "unsupported type: PNG image"),
        (
            kit::zipped(&[("xl/workbook.xml", b"")]),
            "unsupported type: XLSX",
        ),
        (vec![b'a'; 1001], "too large: 1001 bytes of 1000 bytes"),
        (blank.finish(""), "no text on any of its 1 pages: scanned?"),
    ] {
        let said = extractors
            .extract("a", &contents)
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(said.to_string(), reason);
    }
    let torn = &kit::docx("<w:p/>")[..300];
    let said = extractors
        .extract("a.docx", torn)
        .await
        .unwrap()
        .unwrap_err();
    assert!(said.to_string().starts_with("malformed DOCX: "), "{said}");
}
