//! What a document is: by what it begins with, then by the extension of its key.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Reason;

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// PDF, 1.0 to 2.0.
    Pdf,
    /// HTML and XHTML.
    Html,
    /// LaTeX source: one file, or an archive of them.
    Latex,
    /// CommonMark, with front matter.
    Markdown,
    /// Office Open XML of word processors.
    Docx,
    /// Text without any markup that we know.
    Plain,
}

impl fmt::Display for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Pdf => "PDF",
            Self::Html => "HTML",
            Self::Latex => "LaTeX",
            Self::Markdown => "Markdown",
            Self::Docx => "DOCX",
            Self::Plain => "text",
        })
    }
}

/// A format, or what formats are packed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Read as it is.
    Of(Format),
    /// One file, compressed.
    Gzip,
    /// Many files: LaTeX sources.
    Tar,
}

/// How far into a document its kind is looked for.
const LOOK_BYTES: usize = 64 << 10;
/// PDF may have this much of something else before it (ISO 32000-2, annex J).
const PDF_HEADER_BYTES: usize = 1024;
/// Files that no text is read from, by their first bytes.
const BINARY: [(&[u8], &str); 16] = [
    (b"\xd0\xcf\x11\xe0", "Microsoft Office before 2007"),
    (b"%!PS", "PostScript"),
    (b"\x89PNG", "PNG image"),
    (b"\xff\xd8\xff", "JPEG image"),
    (b"GIF8", "GIF image"),
    (b"II*\0", "TIFF image"),
    (b"MM\0*", "TIFF image"),
    (b"AT&TFORM", "DjVu"),
    (b"\x7fELF", "ELF program"),
    (b"BZh", "bzip2 archive"),
    (b"\xfd7zXZ", "xz archive"),
    (b"(\xb5/\xfd", "Zstandard archive"),
    (b"7z\xbc\xaf", "7-Zip archive"),
    (b"PAR1", "Parquet"),
    (b"SQLite format 3", "SQLite database"),
    (b"{\\rtf", "RTF"),
];

/// What `contents`, which is called `key`, is.
pub(super) fn detect(key: &str, contents: &[u8]) -> Result<Kind, Reason> {
    let start = &contents[..contents.len().min(LOOK_BYTES)];
    if let Some((_, name)) = BINARY.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Err(Reason::Unsupported((*name).to_owned()));
    }
    if start.starts_with(b"\x1f\x8b") {
        return Ok(Kind::Gzip);
    }
    if start.starts_with(b"PK\x03\x04") {
        // Which kind of zip file it is, the reader of DOCX finds out.
        return Ok(Kind::Of(Format::Docx));
    }
    if start.get(257..262) == Some(b"ustar") {
        return Ok(Kind::Tar);
    }
    if has(&start[..start.len().min(PDF_HEADER_BYTES)], b"%PDF-") {
        return Ok(Kind::Of(Format::Pdf));
    }
    let wide = start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff");
    if !wide && start.contains(&0) {
        return Err(Reason::Unsupported(format!("binary file{}", called(key))));
    }
    Ok(Kind::Of(of_text(key, start)))
}

fn of_text(key: &str, start: &[u8]) -> Format {
    if looks_like_html(start) {
        return Format::Html;
    }
    match extension(key).as_deref() {
        Some("html" | "htm" | "xhtml") => Format::Html,
        Some("md" | "markdown" | "mdown" | "mkd") => Format::Markdown,
        Some("tex" | "ltx" | "latex") => Format::Latex,
        Some("txt" | "text" | "rst" | "log" | "csv" | "json") => Format::Plain,
        _ if begins_latex(start) => Format::Latex,
        _ => Format::Plain,
    }
}

fn looks_like_html(start: &[u8]) -> bool {
    let start = start
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(start)
        .trim_ascii_start();
    let begins = |word: &[u8]| {
        start
            .get(..word.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(word))
    };
    begins(b"<!doctype html")
        || begins(b"<html")
        || (begins(b"<?xml") && has(&start[..start.len().min(1024)], b"<html"))
}

/// A line that begins with what only the main file of LaTeX sources has.
pub(super) fn begins_latex(start: &[u8]) -> bool {
    start
        .split(|byte| *byte == b'\n' || *byte == b'\r')
        .any(|line| {
            let line = line.trim_ascii_start();
            line.starts_with(b"\\documentclass") || line.starts_with(b"\\documentstyle")
        })
}

fn extension(key: &str) -> Option<String> {
    let name = key.rsplit('/').next()?;
    Some(name.rsplit_once('.')?.1.to_ascii_lowercase())
}

fn called(key: &str) -> String {
    extension(key).map_or_else(String::new, |extension| format!(" (.{extension})"))
}

fn has(within: &[u8], what: &[u8]) -> bool {
    within.windows(what.len()).any(|window| window == what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn content_is_believed_before_the_name() {
        let cases: [(&str, &[u8], Kind); 11] = [
            ("a.txt", b"%PDF-1.4\n", Kind::Of(Format::Pdf)),
            ("a.pdf", b"junk before\n%PDF-1.4\n", Kind::Of(Format::Pdf)),
            ("a.pdf", b"only text", Kind::Of(Format::Plain)),
            ("a.txt", b"\n <!DOCTYPE html><p>x", Kind::Of(Format::Html)),
            ("a.HTM", b"<p>x", Kind::Of(Format::Html)),
            (
                "a",
                b"% c\n\\documentclass{article}",
                Kind::Of(Format::Latex),
            ),
            (
                "a.txt",
                b"we write\n\\documentclass{article}",
                Kind::Of(Format::Plain),
            ),
            ("a.md", b"# x", Kind::Of(Format::Markdown)),
            ("a.gz", b"\x1f\x8b\x08", Kind::Gzip),
            ("a.txt", b"\xff\xfea\0", Kind::Of(Format::Plain)),
            ("dir.md/README", b"", Kind::Of(Format::Plain)),
        ];
        for (key, contents, kind) in cases {
            assert_eq!(detect(key, contents).unwrap(), kind, "{key}");
        }
    }

    #[test]
    fn what_is_no_document_is_named() {
        let reason = detect("a.doc", b"\xd0\xcf\x11\xe0\xa1").unwrap_err();
        assert_eq!(
            reason.to_string(),
            "unsupported type: Microsoft Office before 2007"
        );
        let reason = detect("a.bin", b"a\0b").unwrap_err();
        assert_eq!(reason.to_string(), "unsupported type: binary file (.bin)");
    }
}
