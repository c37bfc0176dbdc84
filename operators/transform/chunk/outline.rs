//! Sections of a document, what stands above them, and pages.

use std::ops::Range;
use std::sync::Arc;

use super::document::{ChunkError, Document, Heading};

/// A heading is shown up to here.
const SHOWN_CHARS: usize = 120;
/// Only the innermost so many headings are shown.
const SHOWN_DEPTH: usize = 6;

/// A heading and what stands below it, up to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) bytes: Range<usize>,
    pub(super) path: Arc<str>,
}

/// The sections and pages of one document.
pub(super) struct Outline<'a> {
    document: &'a Document<'a>,
}

impl<'a> Outline<'a> {
    pub(super) fn new(document: &'a Document<'a>) -> Result<Self, ChunkError> {
        let text = document.text;
        let mut past = 0;
        for heading in document.headings {
            let &Heading {
                start_byte: start,
                end_byte: end,
                ..
            } = heading;
            if start < past || end <= start || text.get(start..end).is_none() {
                let key = document.key.to_owned();
                return Err(ChunkError::Heading { key, start, end });
            }
            past = end;
        }
        let mut last = 0;
        for &start in document.page_starts {
            if start < last || start > text.len() {
                let key = document.key.to_owned();
                return Err(ChunkError::Page { key, start });
            }
            last = start;
        }
        Ok(Self { document })
    }

    /// All of the text, section by section. A heading with nothing between it and the
    /// next one begins the section of that one: no chunk holds a title alone.
    pub(super) fn sections(&self) -> Vec<Section> {
        let Document { text, headings, .. } = *self.document;
        let mut sections = Vec::new();
        let mut above: Vec<&Heading> = Vec::new();
        let mut path = Arc::from("");
        let mut begin = 0;
        let mut body = 0;
        for heading in headings {
            if !text[body..heading.start_byte].trim().is_empty() {
                sections.push(Section {
                    bytes: begin..heading.start_byte,
                    path: Arc::clone(&path),
                });
                begin = heading.start_byte;
            }
            body = heading.end_byte;
            while above.last().is_some_and(|last| last.level >= heading.level) {
                above.pop();
            }
            above.push(heading);
            path = shown(text, &above);
        }
        sections.push(Section {
            bytes: begin..text.len(),
            path,
        });
        sections
    }

    /// The page of a place in the text, from 1. What comes before the first page that is
    /// known counts as on it.
    pub(super) fn page(&self, byte: usize) -> Option<u32> {
        let starts = self.document.page_starts;
        let begun = starts.partition_point(|start| *start <= byte).max(1);
        (!starts.is_empty()).then(|| u32::try_from(begun).unwrap_or(u32::MAX))
    }
}

fn shown(text: &str, above: &[&Heading]) -> Arc<str> {
    let first = above.len().saturating_sub(SHOWN_DEPTH);
    let titles = above[first..].iter().map(|heading| {
        // Marks of Markdown and the like are not part of a title.
        let line = text[heading.start_byte..heading.end_byte].trim();
        let title = line.trim_start_matches(['#', '=']).trim();
        let title = title.trim_end_matches(['#', '=']).trim();
        one_line(if title.is_empty() { line } else { title })
    });
    let titles: Vec<String> = titles.filter(|title| !title.is_empty()).collect();
    Arc::from(titles.join(" > "))
}

/// The text with single blanks in it, cut where it is too long.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    let mut left = SHOWN_CHARS;
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        for char in word.chars() {
            if left == 0 {
                line.push('…');
                return line;
            }
            line.push(char);
            left -= 1;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headings(text: &str) -> Vec<Heading> {
        let mut start_byte = 0;
        let mut found = Vec::new();
        for line in text.split_inclusive('\n') {
            let level = line.bytes().take_while(|byte| *byte == b'#').count();
            if level > 0 {
                found.push(Heading {
                    start_byte,
                    end_byte: start_byte + line.len(),
                    level: u8::try_from(level).unwrap(),
                });
            }
            start_byte += line.len();
        }
        found
    }

    fn sections(text: &str) -> Vec<(String, String)> {
        let document = Document {
            key: "k",
            text,
            headings: &headings(text),
            page_starts: &[],
        };
        let sections = Outline::new(&document).unwrap().sections();
        assert_eq!(sections.first().unwrap().bytes.start, 0);
        assert_eq!(sections.last().unwrap().bytes.end, text.len());
        let text = |section: &Section| text[section.bytes.clone()].trim().to_owned();
        sections
            .iter()
            .map(|s| (s.path.to_string(), text(s)))
            .collect()
    }

    #[test]
    fn sections_have_the_path_of_their_headings() {
        let text = "before\n# A\n\n## B  #\nb\n## C\nc\n# D\nd\n";
        let found = sections(text);
        let expected = [
            ("", "before"),
            ("A > B", "# A\n\n## B  #\nb"),
            ("A > C", "## C\nc"),
            ("D", "# D\nd"),
        ];
        assert_eq!(found.len(), expected.len());
        for ((path, text), (expected_path, expected_text)) in found.iter().zip(expected) {
            assert_eq!(
                (path.as_str(), text.as_str()),
                (expected_path, expected_text)
            );
        }
    }

    #[test]
    fn titles_are_shown_up_to_a_length_and_a_depth() {
        let text = format!("# {}\nx", "long ".repeat(100_000));
        assert_eq!(
            sections(&text)[0].0.chars().filter(|c| *c != ' ').count(),
            SHOWN_CHARS + 1
        );
        let deep: String = (1..50)
            .map(|level| format!("{} t\n", "#".repeat(level)))
            .collect();
        assert_eq!(
            sections(&format!("{deep}x"))[0].0.matches('t').count(),
            SHOWN_DEPTH
        );
    }

    #[test]
    fn pages_are_counted_from_one() {
        let document = Document {
            key: "k",
            text: "0123456789",
            headings: &[],
            page_starts: &[0, 4, 4, 8],
        };
        let outline = Outline::new(&document).unwrap();
        let pages = [0, 3, 4, 7, 8, 9].map(|byte| outline.page(byte).unwrap());
        assert_eq!(pages, [1, 1, 3, 3, 4, 4]);
        let none = Document {
            page_starts: &[],
            ..document
        };
        assert_eq!(Outline::new(&none).unwrap().page(5), None);
    }

    #[test]
    fn what_lies_outside_is_refused() {
        let heading = |start_byte, end_byte| Heading {
            start_byte,
            end_byte,
            level: 1,
        };
        for headings in [
            vec![heading(0, 11)],
            vec![heading(4, 4)],
            vec![heading(5, 3)],
            vec![heading(1, 3)],
            vec![heading(4, 6), heading(3, 8)],
        ] {
            let document = Document {
                key: "k",
                text: "é23456789",
                headings: &headings,
                page_starts: &[],
            };
            let refused = Outline::new(&document).err().unwrap();
            assert!(
                matches!(refused, ChunkError::Heading { .. }),
                "{headings:?}"
            );
        }
        for pages in [vec![11], vec![5, 2]] {
            let document = Document {
                key: "k",
                text: "0123456789",
                headings: &[],
                page_starts: &pages,
            };
            assert!(matches!(
                Outline::new(&document),
                Err(ChunkError::Page { .. })
            ));
        }
    }
}
