//! What a PDF says of itself: the information dictionary, and XMP where that says
//! nothing (ISO 32000-2, 14.3).

use std::io::Read;

use encoding_rs::{UTF_8, WINDOWS_1252};
use hayro_interpret::hayro_syntax::Pdf;
use hayro_interpret::hayro_syntax::object::{DateTime, Dict, Stream};
use quick_xml::Reader;
use quick_xml::events::Event;

use super::super::Document;
use super::super::text::{list, one_line};

/// More XMP than any document of text has.
const XMP_BYTES: u64 = 1 << 20;

/// Tells `document` what `pdf` says.
pub(super) fn tell(pdf: &Pdf, document: &mut Document) {
    let info = pdf.metadata();
    let text = |bytes: &Option<Box<[u8]>>| bytes.as_deref().map(text_string).unwrap_or_default();
    document.title = one_line(&text(&info.title));
    document.authors = list(&text(&info.author));
    document.categories = list(&text(&info.keywords));
    document.date = info.creation_date.as_ref().map(iso);
    if let Some(xmp) = xmp(pdf) {
        tell_xmp(&xmp, document);
    }
}

/// A text string of PDF: UTF-16 or UTF-8 with a byte order mark, else PDFDocEncoding,
/// which is Windows-1252 in nearly all that is used of it.
fn text_string(bytes: &[u8]) -> String {
    let encoding = encoding_rs::Encoding::for_bom(bytes).map_or(WINDOWS_1252, |_| UTF_8);
    encoding.decode(bytes).0.into_owned()
}

fn iso(at: &DateTime) -> String {
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{:+03}:{:02}",
        at.year,
        at.month,
        at.day,
        at.hour,
        at.minute,
        at.second,
        at.utc_offset_hour,
        at.utc_offset_minute
    )
}

fn xmp(pdf: &Pdf) -> Option<String> {
    let catalog: Dict<'_> = pdf.xref().get(pdf.xref().root_id())?;
    let packet = catalog.get::<Stream<'_>>("Metadata")?.decoded().ok()?;
    let mut xml = String::new();
    (&*packet).take(XMP_BYTES).read_to_string(&mut xml).ok()?;
    Some(xml)
}

/// Dublin Core elements of XMP, which hold lists of `rdf:li`.
fn tell_xmp(xmp: &str, document: &mut Document) {
    let mut found: [Vec<String>; 4] = Default::default();
    let mut reader = Reader::from_str(xmp);
    let mut within = None;
    let mut value = String::new();
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Eof => break,
            Event::Start(tag) => {
                within = element(tag.name().as_ref()).or(within);
                value.clear();
            }
            Event::Text(text) => value.push_str(&text.decode().unwrap_or_default()),
            Event::GeneralRef(name) => value.push_str(&super::super::docx::entity(&name)),
            Event::End(tag) => {
                if let Some(which) = within {
                    found[which].extend(one_line(&value));
                    value.clear();
                }
                if element(tag.name().as_ref()).is_some() {
                    within = None;
                }
            }
            _ => {}
        }
    }
    let [titles, creators, dates, subjects] = found;
    document.title = document.title.take().or_else(|| titles.into_iter().next());
    document.date = document.date.take().or_else(|| dates.into_iter().next());
    if document.authors.is_empty() {
        document.authors = creators;
    }
    if document.categories.is_empty() {
        document.categories = subjects;
    }
}

fn element(name: &[u8]) -> Option<usize> {
    match name {
        b"dc:title" => Some(0),
        b"dc:creator" => Some(1),
        b"xmp:CreateDate" | b"dc:date" => Some(2),
        b"dc:subject" => Some(3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Format, Limits, text::TextWriter};
    use super::*;

    #[test]
    fn text_strings_of_all_encodings() {
        assert_eq!(text_string(b"\xfe\xff\0h\x01\x42"), "hł");
        assert_eq!(text_string(b"\xef\xbb\xbf\xc3\xa9"), "é");
        assert_eq!(text_string(b"caf\xe9"), "café");
    }

    #[test]
    fn xmp_fills_what_is_missing() {
        let mut document = TextWriter::new(&Limits::default()).finish(Format::Pdf);
        document.authors = vec!["known".to_owned()];
        tell_xmp(
            "<x:xmpmeta><dc:title><rdf:Alt><rdf:li xml:lang='x'>A &amp; B</rdf:li></rdf:Alt></dc:title>\
             <dc:creator><rdf:Seq><rdf:li>other</rdf:li></rdf:Seq></dc:creator>\
             <xmp:CreateDate>2020-01-02</xmp:CreateDate></x:xmpmeta>",
            &mut document,
        );
        assert_eq!(document.title.as_deref(), Some("A & B"));
        assert_eq!(document.authors, ["known"]);
        assert_eq!(document.date.as_deref(), Some("2020-01-02"));
    }
}
