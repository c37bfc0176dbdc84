//! Documents to text. Whoever downloads papers has PDF, HTML, LaTeX sources,
//! Markdown, DOCX and plain text, written by strangers: each is read in a child
//! process that has capped its own memory, time and output and cannot reach the
//! network, so that a bomb or a crash costs one document and never the run.
//! Nothing enters this room that knows of chunks, models, lakes or sources: it
//! has the bytes of a document and its key, and gives text back.
//!
//! - `format` chooses by content, then by the key's extension
//! - one file for each format; all write through `text`, which keeps the
//!   convention of [`Document::text`] and its cap
//! - `child` is what runs inside of the child process, `pool` is the parent's side

mod archive;
mod child;
mod docx;
mod encoding;
mod format;
mod front;
mod html;
mod latex;
mod markdown;
mod pdf;
mod pdftotext;
mod plain;
mod pool;
mod text;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use child::{ARGUMENT, Confined, confine, serve, serve_with};
pub use format::Format;
pub use pool::{ExtractError, Extractors};

/// The longest title and date, in bytes.
const LINE_BYTES: usize = 1_000;

/// The longest lists of authors and of categories together, in bytes.
const LISTS_BYTES: usize = 4_000;

/// The text of a document, and what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// What it was read as.
    pub format: Format,
    /// The text. Paragraphs (and headings, items of lists, rows of tables where
    /// they stand alone) are separated by one blank line, lines within them by
    /// one `\n`; no line begins or ends with a blank and no two blanks follow one
    /// another; no control characters. Headings are plain text here:
    /// [`Document::headings`] says where they are.
    pub text: String,
    /// Headings in the order of the text, which never overlap.
    pub headings: Vec<Heading>,
    /// The byte of `text` at which each page begins, ascending; a page without
    /// text begins where the next does. Empty for formats without pages.
    pub pages: Vec<usize>,
    /// The title, if the document names one.
    pub title: Option<String>,
    /// The authors, in the document's order.
    pub authors: Vec<String>,
    /// The date as the document writes it; `YYYY-MM-DD` or longer where the format
    /// has dates of its own.
    pub date: Option<String>,
    /// Subjects, keywords, tags.
    pub categories: Vec<String>,
    /// Whether the text was longer than [`Limits::text_characters`] and was cut.
    pub truncated: bool,
}

impl Document {
    /// Cuts what it says of itself: each of its chunks says it again.
    pub(crate) fn keep_it_short(&mut self) {
        for line in [&mut self.title, &mut self.date].into_iter().flatten() {
            line.truncate(line.floor_char_boundary(LINE_BYTES));
        }
        let mut left = LISTS_BYTES;
        for list in [&mut self.authors, &mut self.categories] {
            let fitting = list.iter().take_while(|item| {
                left = left.saturating_sub(item.len() + 1);
                left > 0
            });
            list.truncate(fitting.count());
        }
    }
}

/// Where a heading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heading {
    /// Its first byte in [`Document::text`].
    pub start_byte: usize,
    /// The byte after its last.
    pub end_byte: usize,
    /// 1 is the title of the document or a part of it, 6 the deepest.
    pub level: u8,
}

/// What one document may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of a document as it lies at its source.
    pub file_bytes: u64,
    /// Bytes that an archive may become when it is unpacked.
    pub unpacked_bytes: u64,
    /// Characters of text; what is longer is cut there.
    pub text_characters: usize,
    /// Wall time, and also the processor time of the child.
    pub time: Duration,
    /// Memory of the child: `RLIMIT_DATA`.
    pub memory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 50_000_000,
            unpacked_bytes: 200_000_000,
            text_characters: 1_000_000,
            time: Duration::from_secs(300),
            memory_bytes: 512 << 20,
        }
    }
}

/// What reads PDF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PdfBackend {
    /// What is built in.
    #[default]
    Embedded,
    /// The program `pdftotext` of Poppler, which must be in `PATH`. It finds no
    /// headings, and costs a process per document.
    Pdftotext,
}

/// How documents are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtractOptions {
    /// Child processes, and so documents read at once.
    pub children: usize,
    /// What one document may cost.
    pub limits: Limits,
    /// What reads PDF.
    pub pdf: PdfBackend,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        Self {
            children: 2,
            limits: Limits::default(),
            pdf: PdfBackend::default(),
        }
    }
}

/// Why a document was set aside. What it says is for the user to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Reason {
    /// The file is larger than [`Limits::file_bytes`]; it was not read.
    #[error("too large: {} of {}", size(.bytes), size(.limit))]
    TooLarge {
        /// Bytes of the file.
        bytes: u64,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// It unpacks to more than [`Limits::unpacked_bytes`].
    #[error("too large when unpacked: more than {}", size(.limit))]
    Unpacks {
        /// Bytes that are allowed.
        limit: u64,
    },
    /// It took longer than [`Limits::time`].
    #[error("too slow: {} s", .limit.as_secs_f64())]
    TooSlow {
        /// The time that is allowed.
        limit: Duration,
    },
    /// It needed more than [`Limits::memory_bytes`].
    #[error("too much memory: {} MiB", .limit >> 20)]
    TooMuchMemory {
        /// Bytes that are allowed.
        limit: u64,
    },
    /// The child died of it.
    #[error("crashed: {0}")]
    Crashed(String),
    /// A bug in what reads this format.
    #[error("panicked: {0}")]
    Panicked(String),
    /// It is not what it says it is, or is damaged beyond reading.
    #[error("malformed {format}: {what}")]
    Malformed {
        /// What it was read as.
        format: Format,
        /// What is wrong.
        what: String,
    },
    /// A password is needed.
    #[error("encrypted")]
    Encrypted,
    /// Pages without any text: pictures of pages, as scanners make them.
    #[error("no text on any of its {pages} pages: scanned?")]
    NoText {
        /// Pages that were looked at.
        pages: usize,
    },
    /// A kind of file that is not read.
    #[error("unsupported type: {0}")]
    Unsupported(String),
}

impl Reason {
    /// Whether a document that was set aside by a limit of time or memory (`note`, as a
    /// reason says it) has more of it under `limits`.
    #[must_use]
    pub fn is_overcome(note: &str, limits: &Limits) -> bool {
        let number = |begin: &str, end: &str| {
            let number = note.strip_prefix(begin)?.strip_suffix(end)?;
            number.parse::<f64>().ok()
        };
        let seconds = number("too slow: ", " s");
        let mib = number("too much memory: ", " MiB");
        seconds.is_some_and(|seconds| limits.time.as_secs_f64() > seconds)
            || mib.is_some_and(|mib| (limits.memory_bytes >> 20) as f64 > mib)
    }
}

/// Bytes as a person writes them: `60 MB`.
fn size(bytes: &u64) -> String {
    match *bytes {
        count @ 0..10_000 => format!("{count} bytes"),
        count @ 10_000..10_000_000 => format!("{} kB", count / 1_000),
        count => format!("{} MB", count / 1_000_000),
    }
}

/// Reads a document here and now, in this process: what the child does. Anything
/// but trusted documents goes through [`Extractors`].
///
/// # Errors
/// Why it cannot be read.
pub fn read(
    key: &str,
    contents: &[u8],
    limits: &Limits,
    pdf: PdfBackend,
) -> Result<Document, Reason> {
    let size = contents.len() as u64;
    if size > limits.file_bytes {
        return Err(Reason::TooLarge {
            bytes: size,
            limit: limits.file_bytes,
        });
    }
    let mut document = match format::detect(key, contents)? {
        format::Kind::Gzip => {
            let unpacked = archive::gunzip(contents, limits)?;
            let key = archive::without_gz(key);
            match format::detect(&key, &unpacked)? {
                format::Kind::Gzip => Err(Reason::Unsupported("gzip within gzip".to_owned())),
                kind => read_as(kind, &unpacked, limits, pdf),
            }
        }
        kind => read_as(kind, contents, limits, pdf),
    }?;
    document.keep_it_short();
    Ok(document)
}

fn read_as(
    kind: format::Kind,
    contents: &[u8],
    limits: &Limits,
    pdf: PdfBackend,
) -> Result<Document, Reason> {
    let format = match kind {
        format::Kind::Tar => return latex::read_sources(archive::untar(contents, limits)?, limits),
        format::Kind::Gzip => return Err(Reason::Unsupported("gzip within tar".to_owned())),
        format::Kind::Of(format) => format,
    };
    match (format, pdf) {
        (Format::Pdf, PdfBackend::Embedded) => pdf::read(contents, limits),
        (Format::Pdf, PdfBackend::Pdftotext) => pdftotext::read(contents, limits),
        (Format::Docx, _) => docx::read(contents, limits),
        (Format::Html, _) => Ok(html::read(&encoding::decode_html(contents), limits)),
        (Format::Markdown, _) => Ok(markdown::read(&encoding::decode(contents), limits)),
        (Format::Plain, _) => Ok(plain::read(&encoding::decode(contents), limits)),
        (Format::Latex, _) => Ok(latex::read(&encoding::decode(contents), limits)),
    }
}

#[cfg(test)]
mod tests {
    use super::text::TextWriter;
    use super::*;

    #[test]
    fn what_a_document_says_of_itself_is_kept_short() {
        let mut document = TextWriter::new(&Limits::default()).finish(Format::Plain);
        document.title = Some("é".repeat(1_000));
        document.date = Some("2020-01-02".to_owned());
        document.authors = vec!["Ann".to_owned(); 900];
        document.categories = vec!["a".repeat(300); 3];
        document.keep_it_short();
        assert_eq!(document.title.as_ref().map(String::len), Some(LINE_BYTES));
        assert_eq!(document.date.as_deref(), Some("2020-01-02"));
        assert_eq!(
            (document.authors.len(), document.categories.len()),
            (900, 1)
        );
        document.authors = vec!["Ann".to_owned(); 9_000];
        document.keep_it_short();
        let bytes: usize = document.authors.iter().map(|author| author.len() + 1).sum();
        assert!(bytes < LISTS_BYTES && bytes > LISTS_BYTES - 8, "{bytes}");
        assert!(document.categories.is_empty());
    }

    #[test]
    fn a_limit_is_overcome_by_a_wider_one() {
        let limits = |seconds, mib: u64| Limits {
            time: Duration::from_millis(seconds),
            memory_bytes: mib << 20,
            ..Limits::default()
        };
        let narrow = limits(1_500, 64);
        let slow = Reason::TooSlow { limit: narrow.time }.to_string();
        let much = Reason::TooMuchMemory {
            limit: narrow.memory_bytes,
        }
        .to_string();
        for note in [&slow, &much] {
            assert!(!Reason::is_overcome(note, &narrow), "{note}");
            assert!(Reason::is_overcome(note, &limits(1_501, 65)), "{note}");
        }
        assert!(!Reason::is_overcome(&slow, &limits(1_500, 65)));
        assert!(!Reason::is_overcome(
            &Reason::Encrypted.to_string(),
            &limits(9_000, 999)
        ));
    }
}
