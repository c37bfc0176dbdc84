//! A section as a row of units, none of which is larger than a chunk.
//!
//! A unit is a sentence where that fits, with the white space that follows it. Each
//! is counted once.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation as _;

use super::document::{ChunkOptions, TokenCounter};
use super::long;

/// What ends with a unit; a cut is best after the first of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Paragraph,
    Sentence,
    Line,
    Word,
    Piece,
}

/// A stretch of text that is not cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    /// Where it ends; it begins where the one before it ends.
    pub(super) end_byte: usize,
    pub(super) tokens: usize,
    pub(super) end: End,
}

/// Counts, and knows what is too much.
pub(super) struct Measure<'a, C: ?Sized> {
    pub(super) counter: &'a C,
    pub(super) options: &'a ChunkOptions,
}

impl<C: TokenCounter + ?Sized> Measure<'_, C> {
    /// The tokens of a text that fits a chunk.
    pub(super) fn fits(&self, text: &str) -> Option<usize> {
        if text.len() > self.options.max_bytes {
            return None;
        }
        let tokens = self.counter.count(text);
        (tokens <= self.options.max_tokens).then_some(tokens)
    }
}

/// The units of a section.
pub(super) fn units<C: TokenCounter + ?Sized>(
    text: &str,
    section: Range<usize>,
    measure: &Measure<'_, C>,
) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut start = section.start;
    while start < section.end {
        let end = start + paragraph_bytes(&text[start..section.end]);
        sentences(&text[start..end], start, measure, &mut units);
        if let Some(last) = units.last_mut() {
            last.end = End::Paragraph;
        }
        start = end;
    }
    units
}

/// The length of the first paragraph, with the empty lines that follow it.
fn paragraph_bytes(text: &str) -> usize {
    let mut bytes = 0;
    let mut has_text = false;
    let mut is_over = false;
    for line in text.split_inclusive('\n') {
        let is_blank = line.trim().is_empty();
        if is_over && !is_blank {
            break;
        }
        is_over |= is_blank && has_text;
        has_text |= !is_blank;
        bytes += line.len();
    }
    bytes
}

fn sentences<C: TokenCounter + ?Sized>(
    paragraph: &str,
    start_byte: usize,
    measure: &Measure<'_, C>,
    units: &mut Vec<Unit>,
) {
    // To Unicode each line ends a sentence; in wrapped text it does not.
    let unwrapped = paragraph.replace(['\n', '\r'], " ");
    for (begin, sentence) in unwrapped.split_sentence_bound_indices() {
        // As it stands, its line ends in it: both texts have the same bytes else.
        let sentence = &paragraph[begin..begin + sentence.len()];
        match measure.fits(sentence) {
            Some(tokens) => units.push(Unit {
                end_byte: start_byte + begin + sentence.len(),
                tokens,
                end: End::Sentence,
            }),
            None => long::divide(sentence, start_byte + begin, measure, units),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Words;

    impl TokenCounter for Words {
        fn count(&self, text: &str) -> usize {
            text.split_whitespace().count()
        }
    }

    fn parts(text: &str, max_tokens: usize) -> Vec<(&str, End)> {
        let options = ChunkOptions {
            max_tokens,
            ..ChunkOptions::default()
        };
        let measure = Measure {
            counter: &Words,
            options: &options,
        };
        let mut start = 0;
        let units = units(text, 0..text.len(), &measure);
        let parts = units.iter().map(|unit| {
            let part = &text[std::mem::replace(&mut start, unit.end_byte)..unit.end_byte];
            (part, unit.end)
        });
        parts.collect()
    }

    #[test]
    fn wrapped_sentences_stay_whole() {
        let text = "One is\nwrapped. Two\r\nas well.\n\n \nThree.";
        let expected = [
            ("One is\nwrapped. ", End::Sentence),
            ("Two\r\nas well.\n\n \n", End::Paragraph),
            ("Three.", End::Paragraph),
        ];
        assert_eq!(parts(text, 10), expected);
    }

    #[test]
    fn long_sentences_end_at_lines_then_at_words() {
        let text = "a b c\nd e f g h";
        let expected = [
            ("a b c\n", End::Line),
            ("d ", End::Word),
            ("e ", End::Word),
            ("f ", End::Word),
            ("g ", End::Word),
            ("h", End::Paragraph),
        ];
        assert_eq!(parts(text, 4), expected);
    }
}
