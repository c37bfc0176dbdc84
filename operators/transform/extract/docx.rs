//! DOCX: Office Open XML (ECMA-376) as word processors write it. XML is read as a
//! stream, part by part, and what is unpacked is counted.

use std::collections::HashMap;
use std::io::{BufReader, Cursor, Read};

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use zip::ZipArchive;
use zip::result::ZipError;

use super::text::{TextWriter, list, one_line};
use super::{Document, Format, Limits, Reason};

type Archive<'c> = ZipArchive<Cursor<&'c [u8]>>;

pub(super) fn read(contents: &[u8], limits: &Limits) -> Result<Document, Reason> {
    let mut archive = ZipArchive::new(Cursor::new(contents)).map_err(|error| malformed(&error))?;
    if archive.index_for_name("word/document.xml").is_none() {
        return Err(not_docx(&archive));
    }
    let mut left = limits.unpacked_bytes;
    let mut levels = HashMap::new();
    part(
        &mut archive,
        "word/styles.xml",
        &mut left,
        limits,
        |reader| styles(reader, &mut levels),
    )?;
    let mut out = TextWriter::new(limits);
    for name in [
        "word/document.xml",
        "word/footnotes.xml",
        "word/endnotes.xml",
    ] {
        part(&mut archive, name, &mut left, limits, |reader| {
            body(reader, &levels, &mut out)
        })?;
        out.paragraph();
    }
    let mut document = out.finish(Format::Docx);
    part(
        &mut archive,
        "docProps/core.xml",
        &mut left,
        limits,
        |reader| core(reader, &mut document),
    )?;
    Ok(document)
}

fn not_docx(archive: &Archive<'_>) -> Reason {
    let is = |start: &str| {
        archive
            .file_names_raw()
            .any(|name| name.starts_with(start.as_bytes()))
    };
    let what = match () {
        () if is("xl/") => "XLSX",
        () if is("ppt/") => "PPTX",
        () if is("META-INF/container.xml") => "EPUB",
        () if is("content.xml") => "OpenDocument",
        () => "zip archive",
    };
    Reason::Unsupported(what.to_owned())
}

fn malformed(what: &dyn std::fmt::Display) -> Reason {
    Reason::Malformed {
        format: Format::Docx,
        what: what.to_string(),
    }
}

/// What reads a part of the archive.
type Xml<'r> = Reader<BufReader<Counted<'r>>>;

/// Reads up to what is `left`, and remembers that there was more.
struct Counted<'r> {
    inner: &'r mut dyn Read,
    left: &'r mut u64,
    spent: &'r mut bool,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => *self.left = left,
            None => {
                *self.spent = true;
                return Err(std::io::Error::other("unpacks to too much"));
            }
        }
        Ok(count)
    }
}

/// Reads one part, if it is there.
fn part(
    archive: &mut Archive<'_>,
    name: &str,
    left: &mut u64,
    limits: &Limits,
    read: impl FnOnce(Xml<'_>) -> Result<(), quick_xml::Error>,
) -> Result<(), Reason> {
    let mut file = match archive.by_name(name) {
        Ok(file) => file,
        Err(ZipError::FileNotFound) => return Ok(()),
        Err(error) => return Err(malformed(&error)),
    };
    let mut spent = false;
    let counted = Counted {
        inner: &mut file,
        left,
        spent: &mut spent,
    };
    let done = read(Reader::from_reader(BufReader::new(counted)));
    if spent {
        return Err(Reason::Unpacks {
            limit: limits.unpacked_bytes,
        });
    }
    done.map_err(|error| malformed(&format!("{name}: {error}")))
}

/// The value of `w:val` or of another attribute.
fn attribute(tag: &BytesStart<'_>, name: &[u8]) -> Option<String> {
    let attribute = tag
        .attributes()
        .flatten()
        .find(|a| a.key.as_ref() == name)?;
    attribute
        .normalized_value(XmlVersion::Implicit1_0)
        .ok()
        .map(|value| value.into_owned())
}

/// Which styles are headings, and of which level.
fn styles(mut xml: Xml<'_>, levels: &mut HashMap<String, u8>) -> Result<(), quick_xml::Error> {
    let mut buffer = Vec::new();
    let mut style = None;
    loop {
        match xml.read_event_into(&mut buffer)? {
            Event::Eof => return Ok(()),
            Event::Start(tag) | Event::Empty(tag) => match tag.name().as_ref() {
                b"w:style" => style = attribute(&tag, b"w:styleId"),
                b"w:name" => {
                    let level = attribute(&tag, b"w:val").and_then(|name| level_of(&name));
                    if let (Some(style), Some(level)) = (&style, level) {
                        levels.insert(style.clone(), level);
                    }
                }
                b"w:outlineLvl" => {
                    let level =
                        attribute(&tag, b"w:val").and_then(|level| level.parse::<u8>().ok());
                    if let (Some(style), Some(level)) = (&style, level.filter(|level| *level < 6)) {
                        levels.entry(style.clone()).or_insert(level + 1);
                    }
                }
                _ => {}
            },
            _ => {}
        }
        buffer.clear();
    }
}

/// `heading 2` and `Heading2` -> 2.
fn level_of(name: &str) -> Option<u8> {
    let name = name.to_ascii_lowercase();
    if name == "title" {
        return Some(1);
    }
    name.strip_prefix("heading")?
        .trim()
        .parse()
        .ok()
        .filter(|level| (1..=9).contains(level))
}

fn body(
    mut xml: Xml<'_>,
    levels: &HashMap<String, u8>,
    out: &mut TextWriter,
) -> Result<(), quick_xml::Error> {
    let mut buffer = Vec::new();
    let mut in_text = false;
    while !out.is_full() {
        match xml.read_event_into(&mut buffer)? {
            Event::Eof => return Ok(()),
            Event::Start(tag) => match tag.name().as_ref() {
                b"w:t" => in_text = true,
                name => mark(name, &tag, levels, out),
            },
            Event::Empty(tag) => mark(tag.name().as_ref(), &tag, levels, out),
            Event::End(tag) => match tag.name().as_ref() {
                b"w:t" => in_text = false,
                b"w:p" => {
                    out.end_heading();
                    out.paragraph();
                }
                b"w:tc" => out.blank(),
                _ => {}
            },
            Event::Text(text) if in_text => out.flow(&text.decode()?),
            Event::CData(text) if in_text => out.flow(&text.decode()?),
            Event::GeneralRef(name) if in_text => out.flow(&entity(&name)),
            _ => {}
        }
        buffer.clear();
    }
    Ok(())
}

/// The five entities of XML, and characters by their numbers. Others that a
/// document defines are not expanded: that is how a small file becomes a large one.
pub(super) fn entity(name: &quick_xml::events::BytesRef<'_>) -> String {
    if let Ok(Some(character)) = name.resolve_char_ref() {
        return character.to_string();
    }
    let name = name.decode().unwrap_or_default();
    quick_xml::escape::resolve_xml_entity(&name)
        .unwrap_or_default()
        .to_owned()
}

fn mark(name: &[u8], tag: &BytesStart<'_>, levels: &HashMap<String, u8>, out: &mut TextWriter) {
    match name {
        b"w:pStyle" => {
            let style = attribute(tag, b"w:val").unwrap_or_default();
            if let Some(level) = levels.get(&style).copied().or_else(|| level_of(&style)) {
                out.begin_heading(level);
            }
        }
        b"w:tab" => out.blank(),
        b"w:br" | b"w:cr" => out.line(),
        b"w:noBreakHyphen" => out.flow("-"),
        _ => {}
    }
}

/// Dublin Core properties (ECMA-376 part 2, 10).
fn core(mut xml: Xml<'_>, document: &mut Document) -> Result<(), quick_xml::Error> {
    let mut buffer = Vec::new();
    let mut element = Vec::new();
    let mut value = String::new();
    loop {
        match xml.read_event_into(&mut buffer)? {
            Event::Eof => return Ok(()),
            Event::Start(tag) => {
                element = tag.name().as_ref().to_vec();
                value.clear();
            }
            Event::Text(text) => value.push_str(&text.decode()?),
            Event::GeneralRef(name) => value.push_str(&entity(&name)),
            Event::End(_) => tell(document, &std::mem::take(&mut element), &value),
            _ => {}
        }
        buffer.clear();
    }
}

fn tell(document: &mut Document, element: &[u8], value: &str) {
    match element {
        b"dc:title" => document.title = one_line(value),
        b"dc:creator" => document.authors = list(value),
        b"dcterms:created" => document.date = one_line(value),
        b"dc:subject" | b"cp:keywords" | b"cp:category" => document.categories.extend(list(value)),
        _ => {}
    }
}
