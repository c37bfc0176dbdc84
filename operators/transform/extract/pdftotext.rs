//! PDF by the program `pdftotext` of Poppler, for who trusts it more: it is started
//! within the child and so has the child's limits, one process for each document.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use super::text::TextWriter;
use super::{Document, Format, Limits, Reason};

/// What is started.
pub(super) const PROGRAM: &str = "pdftotext";

/// Why `pdftotext` cannot be used; nothing if it can.
pub(super) fn missing() -> Option<String> {
    let found = Command::new(PROGRAM)
        .arg("-v")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let error = found.err()?;
    Some(format!(
        "pdf = \"pdftotext\" needs the program pdftotext in PATH ({error}): install poppler-utils, \
         or leave `pdf` out to read PDF without it"
    ))
}

pub(super) fn read(contents: &[u8], limits: &Limits) -> Result<Document, Reason> {
    let failed = |error: std::io::Error| Reason::Crashed(format!("pdftotext: {error}"));
    let mut child = Command::new(PROGRAM)
        .args(["-enc", "UTF-8", "-", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let longest = 4 * (limits.text_characters as u64).saturating_add(1);
    let (text, complaint) = std::thread::scope(|scope| {
        // It may end before it has read all: what it says then is the reason.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(contents)));
        let complaint = scope.spawn(move || read_up_to(stderr, 4096));
        let text = read_up_to(stdout, longest);
        (text, complaint.join().unwrap_or_default())
    });
    let status = child.wait().map_err(failed)?;
    let text = String::from_utf8_lossy(&text);
    if !status.success() && text.trim().is_empty() {
        return Err(refused(&String::from_utf8_lossy(&complaint)));
    }
    document(&text, limits)
}

fn read_up_to(from: Option<impl Read>, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What was read before an error counts.
        let _ = from.take(limit).read_to_end(&mut bytes);
    }
    bytes
}

fn refused(complaint: &str) -> Reason {
    if complaint.contains("Incorrect password") {
        return Reason::Encrypted;
    }
    let what = complaint
        .lines()
        .next()
        .unwrap_or("pdftotext says nothing")
        .to_owned();
    Reason::Malformed {
        format: Format::Pdf,
        what,
    }
}

/// Its output: paragraphs between empty lines, a form feed after each page.
fn document(text: &str, limits: &Limits) -> Result<Document, Reason> {
    let mut out = TextWriter::new(limits);
    let pages: Vec<&str> = text
        .strip_suffix('\u{c}')
        .unwrap_or(text)
        .split('\u{c}')
        .collect();
    for page in &pages {
        out.page();
        out.lines(page);
        out.paragraph();
    }
    let document = out.finish(Format::Pdf);
    if document.text.is_empty() {
        return Err(Reason::NoText { pages: pages.len() });
    }
    Ok(document)
}
