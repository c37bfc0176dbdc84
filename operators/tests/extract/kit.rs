//! Documents made here, and children to read them.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use highwater_operators::transform::extract::{
    Document, ExtractOptions, Extractors, Limits, Reason,
};
use zip::write::{SimpleFileOptions, ZipWriter};

/// Limits that a test can wait for. Builds for tests are slow.
pub(crate) fn limits() -> Limits {
    Limits {
        time: Duration::from_secs(60),
        memory_bytes: 256 << 20,
        ..Limits::default()
    }
}

/// The child of the tests: an example, which `cargo test` builds beside them.
pub(crate) fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples")
        .join("extract_faults");
    assert!(
        program.exists(),
        "first: cargo build -p highwater-operators --example extract_faults"
    );
    program
}

pub(crate) fn extractors(limits: Limits) -> Extractors {
    Extractors::new(
        program(),
        ExtractOptions {
            limits,
            ..ExtractOptions::default()
        },
    )
}

/// Reads one document in a child of its own.
pub(crate) async fn read(key: &str, contents: &[u8]) -> Result<Document, Reason> {
    extractors(limits()).extract(key, contents).await.unwrap()
}

/// The headings of a document, as text.
pub(crate) fn headings(document: &Document) -> Vec<(&str, u8)> {
    let text = |start, end| &document.text[start..end];
    document
        .headings
        .iter()
        .map(|h| (text(h.start_byte, h.end_byte), h.level))
        .collect()
}

pub(crate) fn deflated(contents: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(contents).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn gzipped(contents: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(contents).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, contents) in files {
        archive
            .start_file(*name, SimpleFileOptions::default())
            .unwrap();
        archive.write_all(contents).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

pub(crate) fn tarred(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, contents) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, contents.as_bytes())
            .unwrap();
    }
    archive.into_inner().unwrap()
}

/// A DOCX file of this body.
pub(crate) fn docx(body: &str) -> Vec<u8> {
    let document = format!("<w:document xmlns:w='w'><w:body>{body}</w:body></w:document>");
    zipped(&[
        ("[Content_Types].xml", b"<Types/>"),
        ("word/document.xml", document.as_bytes()),
        (
            "word/styles.xml",
            b"<w:styles><w:style w:styleId='berschrift2'><w:name w:val='heading 2'/></w:style></w:styles>",
        ),
        (
            "docProps/core.xml",
            b"<cp:coreProperties><dc:title>On &amp; off</dc:title><dc:creator>A. One; B. Two</dc:creator>\
              <dcterms:created>2020-01-02T03:04:05Z</dcterms:created></cp:coreProperties>",
        ),
    ])
}

/// A PDF file, object by object.
pub(crate) struct Pdf {
    objects: Vec<Vec<u8>>,
}

impl Pdf {
    /// Objects are numbered from 1; the first is the catalog, the last the information.
    pub(crate) fn new() -> Self {
        Self {
            objects: Vec::new(),
        }
    }

    pub(crate) fn object(&mut self, contents: impl AsRef<[u8]>) -> usize {
        self.objects.push(contents.as_ref().to_vec());
        self.objects.len()
    }

    pub(crate) fn stream(&mut self, dictionary: &str, contents: &[u8]) -> usize {
        let mut object =
            format!("<< {dictionary} /Length {} >>\nstream\n", contents.len()).into_bytes();
        object.extend_from_slice(contents);
        object.extend_from_slice(b"\nendstream");
        self.object(object)
    }

    pub(crate) fn finish(self, more: &str) -> Vec<u8> {
        let mut file = b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n".to_vec();
        let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", self.objects.len() + 1);
        for (number, object) in self.objects.iter().enumerate() {
            table += &format!("{:010} 00000 n \n", file.len());
            file.extend_from_slice(format!("{} 0 obj\n", number + 1).as_bytes());
            file.extend_from_slice(object);
            file.extend_from_slice(b"\nendobj\n");
        }
        let start = file.len();
        let size = self.objects.len() + 1;
        table +=
            &format!("trailer\n<< /Size {size} /Root 1 0 R {more} >>\nstartxref\n{start}\n%%EOF\n");
        file.extend_from_slice(table.as_bytes());
        file
    }
}

/// A PDF file with these pages, each of them lines `(left, from the top, size, text)`.
pub(crate) fn pdf(pages: &[&[(u32, u32, u32, &str)]], compressed: bool) -> Vec<u8> {
    let mut pdf = Pdf::new();
    let kids: Vec<String> = (0..pages.len())
        .map(|page| format!("{} 0 R", 4 + 2 * page))
        .collect();
    pdf.object("<< /Type /Catalog /Pages 2 0 R >>");
    pdf.object(format!(
        "<< /Type /Pages /Count {} /Kids [{}] >>",
        pages.len(),
        kids.join(" ")
    ));
    pdf.object("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>");
    for (number, lines) in pages.iter().enumerate() {
        pdf.object(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {} 0 R \
             /Resources << /Font << /F1 3 0 R >> >> >>",
            5 + 2 * number
        ));
        let mut content = String::from("BT\n");
        for (left, top, size, text) in *lines {
            content += &format!(
                "/F1 {size} Tf 1 0 0 1 {left} {} Tm ({text}) Tj\n",
                800 - top
            );
        }
        content += "ET\n";
        if compressed {
            pdf.stream("/Filter /FlateDecode", &deflated(content.as_bytes()));
        } else {
            pdf.stream("", content.as_bytes());
        }
    }
    let info = pdf.object(
        "<< /Title (A title) /Author (A. One, B. Two) /CreationDate (D:20200102030405Z) >>",
    );
    pdf.finish(&format!("/Info {info} 0 R"))
}

/// A PDF file of one line in a font of bitmaps, as TeX makes them: glyphs are called by
/// their numbers, and a unit of them is `unit` of `size`.
pub(crate) fn bitmap_pdf(producer: &str, size: u32, unit: f64, place: &str) -> Vec<u8> {
    let wide = if size > 1 { 50.0 } else { 41.0 };
    let names: String = (16..=255).map(|code| format!(" /a{code}")).collect();
    let glyphs: String = (16..=255).map(|code| format!(" /a{code} 6 0 R")).collect();
    let widths: String = (16..=255).map(|_| format!(" {wide}")).collect();
    let blank = -(0.4 * wide * unit * 1000.0) as i64;
    let mut pdf = Pdf::new();
    pdf.object("<< /Type /Catalog /Pages 2 0 R >>");
    pdf.object("<< /Type /Pages /Count 1 /Kids [4 0 R] >>");
    pdf.object(format!(
        "<< /Type /Font /Subtype /Type3 /FontBBox [0 0 {wide} {wide}] \
         /FontMatrix [{unit} 0 0 {unit} 0 0] /FirstChar 16 /LastChar 255 /Widths [{widths}] \
         /Encoding << /Type /Encoding /Differences [16{names}] >> /CharProcs << {glyphs} >> >>"
    ));
    pdf.object(
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 5 0 R \
         /Resources << /Font << /F1 3 0 R >> >> >>",
    );
    let content = format!(
        "BT /F1 {size} Tf {place} 50 700 Tm [(\\020Of) {blank} (\\034ne) {blank} (words\\021) {blank} \
         (\\025) {blank} (und) {blank} (Stra\\377e)] TJ ET"
    );
    pdf.stream("", content.as_bytes());
    pdf.stream(
        "",
        format!("{wide} 0 0 0 {wide} {wide} d1 0 0 {wide} {wide} re f").as_bytes(),
    );
    let info = pdf.object(format!("<< /Producer ({producer}) >>"));
    pdf.finish(&format!("/Info {info} 0 R"))
}

/// A PDF file of a paper's kind.
pub(crate) fn paper(compressed: bool) -> Vec<u8> {
    pdf(
        &[
            &[
                (50, 60, 20, "On Reading"),
                (50, 100, 14, "1 Introduction"),
                (50, 130, 10, "The first para-"),
                (50, 142, 10, "graph has words in it, and \\(brackets\\)."),
                (65, 154, 10, "The second is indented and goes"),
            ],
            &[
                (50, 60, 10, "on over the page. Caf\\351."),
                (50, 90, 10, "The last."),
            ],
            &[],
        ],
        compressed,
    )
}
