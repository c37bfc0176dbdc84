//! The text of a document as it is written: one place that keeps the convention
//! of [`Document::text`], the cap, and where headings and pages begin.

use super::{Document, Format, Heading, Limits};

/// What comes between what was written and what is written next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    None,
    Blank,
    Line,
    Paragraph,
}

/// Writes text. Blanks, lines and paragraphs are owed until something follows, so
/// that none stands at the start or the end.
#[derive(Debug)]
pub(super) struct TextWriter {
    text: String,
    characters: usize,
    limit: usize,
    gap: Gap,
    headings: Vec<Heading>,
    open: Option<Open>,
    pages: Vec<usize>,
    owed_pages: usize,
    truncated: bool,
}

/// A heading that is being written.
#[derive(Debug)]
struct Open {
    start: Option<usize>,
    level: u8,
}

impl TextWriter {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            text: String::new(),
            characters: 0,
            limit: limits.text_characters,
            gap: Gap::None,
            headings: Vec::new(),
            open: None,
            pages: Vec::new(),
            owed_pages: 0,
            truncated: false,
        }
    }

    /// A page begins.
    pub(super) fn page(&mut self) {
        self.owed_pages += 1;
    }

    /// Whether nothing more is taken.
    pub(super) fn is_full(&self) -> bool {
        self.truncated
    }

    pub(super) fn blank(&mut self) {
        self.owe(Gap::Blank);
    }

    /// No blank stands here after all.
    pub(super) fn no_blank(&mut self) {
        if self.gap == Gap::Blank {
            self.gap = Gap::None;
        }
    }

    /// A line ends, which is a blank within a heading.
    pub(super) fn line(&mut self) {
        self.owe(if self.open.is_some() {
            Gap::Blank
        } else {
            Gap::Line
        });
    }

    pub(super) fn paragraph(&mut self) {
        self.owe(if self.open.is_some() {
            Gap::Blank
        } else {
            Gap::Paragraph
        });
    }

    pub(super) fn begin_heading(&mut self, level: u8) {
        self.end_heading();
        self.paragraph();
        self.open = Some(Open {
            start: None,
            level: level.clamp(1, 6),
        });
    }

    pub(super) fn end_heading(&mut self) {
        let Some(open) = self.open.take() else { return };
        if let Some(start_byte) = open.start {
            let end_byte = self.text.len();
            self.headings.push(Heading {
                start_byte,
                end_byte,
                level: open.level,
            });
        }
        self.paragraph();
    }

    /// Text whose line ends mean nothing.
    pub(super) fn flow(&mut self, text: &str) {
        self.write(text, Gap::Blank, Gap::Blank);
    }

    /// Text whose lines and blank lines are meant as they are.
    pub(super) fn lines(&mut self, text: &str) {
        self.write(text, Gap::Line, Gap::Paragraph);
    }

    /// Writes `text`, in which one line end is an `end` and more of them `empty`.
    fn write(&mut self, text: &str, end: Gap, empty: Gap) {
        let mut ends = 0;
        let mut previous = ' ';
        for character in text.chars() {
            match character {
                '\n' if previous == '\r' => {}
                '\n' | '\r' | '\u{85}' | '\u{2028}' => {
                    ends += 1;
                    self.owe_unless_heading(if ends > 1 { empty } else { end });
                }
                '\u{2029}' => self.owe_unless_heading(empty),
                character if character.is_whitespace() => self.owe(Gap::Blank),
                character if is_dropped(character) => {}
                character => {
                    ends = 0;
                    if !self.put(character) {
                        return;
                    }
                }
            }
            previous = character;
        }
    }

    fn owe_unless_heading(&mut self, gap: Gap) {
        self.owe(if self.open.is_some() { Gap::Blank } else { gap });
    }

    fn owe(&mut self, gap: Gap) {
        self.gap = self.gap.max(gap);
    }

    /// Writes one character; false when there is no room for it.
    fn put(&mut self, character: char) -> bool {
        let gap = match self.gap {
            _ if self.text.is_empty() => "",
            Gap::None => "",
            Gap::Blank => " ",
            Gap::Line => "\n",
            Gap::Paragraph => "\n\n",
        };
        if self.truncated || self.characters + gap.len() + 1 > self.limit {
            self.truncated = true;
            return false;
        }
        self.text.push_str(gap);
        self.characters += gap.len() + 1;
        self.gap = Gap::None;
        self.settle_pages();
        if let Some(open) = &mut self.open {
            open.start.get_or_insert(self.text.len());
        }
        self.text.push(character);
        true
    }

    fn settle_pages(&mut self) {
        for _ in 0..std::mem::take(&mut self.owed_pages) {
            self.pages.push(self.text.len());
        }
    }

    /// The document, without what it says of itself.
    pub(super) fn finish(mut self, format: Format) -> Document {
        self.end_heading();
        self.settle_pages();
        Document {
            format,
            text: self.text,
            headings: self.headings,
            pages: self.pages,
            title: None,
            authors: Vec::new(),
            date: None,
            categories: Vec::new(),
            truncated: self.truncated,
        }
    }
}

/// What no reader sees: control characters, the byte order mark, soft hyphens,
/// zero-width spaces, and what is no character at all.
fn is_dropped(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{200b}' | '\u{2060}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
    ) || character.is_control()
}

/// One line of what a document says of itself; nothing if there is nothing in it.
pub(super) fn one_line(text: &str) -> Option<String> {
    let limits = Limits {
        text_characters: 1_000,
        ..Limits::default()
    };
    let mut writer = TextWriter::new(&limits);
    writer.flow(text);
    Some(writer.text).filter(|line| !line.is_empty())
}

/// Several of them, as people write lists: by `;`, else by `,`.
pub(super) fn list(text: &str) -> Vec<String> {
    let by = if text.contains(';') { ';' } else { ',' };
    text.split(by).filter_map(one_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn writer(limit: usize) -> TextWriter {
        TextWriter::new(&Limits {
            text_characters: limit,
            ..Limits::default()
        })
    }

    #[test]
    fn gaps_stand_between_and_never_around() {
        let mut out = writer(100);
        out.lines("\n\n one \t two\u{0} \r\nthree\n \n\n four\u{feff}  \n");
        out.paragraph();
        let document = out.finish(Format::Plain);
        assert_eq!(document.text, "one two\nthree\n\nfour");
    }

    #[test]
    fn headings_and_pages_are_found_by_their_bytes() {
        let mut out = writer(100);
        out.page();
        out.begin_heading(2);
        out.lines("é one\ntwo ");
        out.end_heading();
        out.page();
        out.page();
        out.flow("body\nmore");
        out.page();
        let document = out.finish(Format::Plain);
        assert_eq!(document.text, "é one two\n\nbody more");
        assert_eq!(
            document.headings,
            [Heading {
                start_byte: 0,
                end_byte: 10,
                level: 2
            }]
        );
        assert_eq!(document.pages, [0, 12, 12, 21]);
    }

    proptest! {
        #[test]
        fn whatever_is_written_keeps_the_convention(
            parts in prop::collection::vec((0..6u8, "\\PC{0,12}|[ \n\r\t\u{0}a#]{0,12}"), 0..12),
            limit in 0..60usize,
        ) {
            let mut out = writer(limit);
            for (what, text) in parts {
                match what {
                    0 => out.begin_heading(1),
                    1 => out.end_heading(),
                    2 => out.page(),
                    3 => out.paragraph(),
                    4 => out.flow(&text),
                    _ => out.lines(&text),
                }
            }
            let document = out.finish(Format::Plain);
            let text = &document.text;
            prop_assert!(text.chars().count() <= limit);
            prop_assert!(!text.contains("  ") && !text.contains("\n\n\n"));
            prop_assert!(!text.contains(" \n") && !text.contains("\n "));
            prop_assert_eq!(text.trim(), text);
            prop_assert!(document.pages.is_sorted());
            let mut before = 0;
            for heading in &document.headings {
                prop_assert!(before <= heading.start_byte && heading.start_byte < heading.end_byte);
                prop_assert!(!text[heading.start_byte..heading.end_byte].contains('\n'));
                before = heading.end_byte;
            }
        }
    }
}
