//! Units to chunks.
//!
//! A chunk may end at any unit that leaves it at least half full. Of these places the
//! kind decides first (the end of a paragraph before that of a sentence), then the
//! lowest hash of the text before the place. Two runs that come from different places
//! see mostly the same candidates and so soon choose the same one: after an edit the
//! cuts fall into step again. Filling each chunk to the brim would shift every cut up
//! to the end of the section.

use std::cmp::Reverse;
use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::document::{ChunkOptions, TokenCounter};
use super::units::{End, Measure, Unit, units};

/// A chunk is at least so full where there is a choice: in percent.
const LEAST_FULL: usize = 50;
/// What is left of a section after a cut is at least so much of a chunk, where there is
/// a choice: in percent.
const LEAST_LEFT: usize = 20;
/// So much of the text before a place decides about it, in bytes.
const SEEN: usize = 48;
/// The overlap has at most this share of a chunk's bytes.
const OVERLAP_BYTES: usize = 4;

/// A chunk that has no name yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) bytes: Range<usize>,
    pub(super) own_start: usize,
    pub(super) tokens: usize,
}

/// What a chunk repeats of the one before it.
#[derive(Debug, Clone, Copy)]
struct Overlap {
    start_byte: usize,
    tokens: usize,
}

/// Cuts one section.
pub(super) struct Packer<'a, C: ?Sized> {
    text: &'a str,
    section: Range<usize>,
    measure: Measure<'a, C>,
    units: Vec<Unit>,
    /// The tokens of all units before each one, and of all.
    tokens_before: Vec<usize>,
    next: usize,
}

impl<'a, C: TokenCounter + ?Sized> Packer<'a, C> {
    pub(super) fn new(
        text: &'a str,
        section: Range<usize>,
        counter: &'a C,
        options: &'a ChunkOptions,
    ) -> Self {
        let measure = Measure { counter, options };
        let units = units(text, section.clone(), &measure);
        let mut sum = 0;
        let sums = units.iter().map(|unit| {
            sum += unit.tokens;
            sum
        });
        let tokens_before = std::iter::once(0).chain(sums).collect();
        Self {
            text,
            section,
            measure,
            units,
            tokens_before,
            next: 0,
        }
    }

    fn start_byte(&self, unit: usize) -> usize {
        match unit {
            0 => self.section.start,
            _ => self.units[unit - 1].end_byte,
        }
    }

    fn tokens(&self, units: Range<usize>) -> usize {
        self.tokens_before[units.end] - self.tokens_before[units.start]
    }

    /// What the chunk that begins with `unit` repeats: whole units that fit, or the last
    /// words of one that does not.
    fn overlap(&self, unit: usize) -> Overlap {
        let options = self.measure.options;
        let begin = self.start_byte(unit);
        let fits = |first: &usize| {
            self.tokens(*first..unit) <= options.overlap_tokens
                && begin - self.start_byte(*first) <= options.max_bytes / OVERLAP_BYTES
        };
        let first = (0..unit).rev().take_while(fits).last();
        match first {
            Some(first) => Overlap {
                start_byte: self.start_byte(first),
                tokens: self.tokens(first..unit),
            },
            None if unit > 0 => self.last_words(unit - 1),
            None => Overlap {
                start_byte: begin,
                tokens: 0,
            },
        }
    }

    fn last_words(&self, unit: usize) -> Overlap {
        let options = self.measure.options;
        let (start, end) = (self.start_byte(unit), self.units[unit].end_byte);
        let mut overlap = Overlap {
            start_byte: end,
            tokens: 0,
        };
        let mut rest = self.text[start..end].trim_end();
        while let Some(blank) = rest.rfind(char::is_whitespace) {
            let word = rest[blank..].trim_start();
            let start_byte = start + rest.len() - word.len();
            let tokens = overlap.tokens + self.measure.counter.count(word);
            if tokens > options.overlap_tokens
                || end - start_byte > options.max_bytes / OVERLAP_BYTES
            {
                break;
            }
            overlap = Overlap { start_byte, tokens };
            rest = rest[..blank].trim_end();
        }
        overlap
    }

    /// The first unit that is not in the chunk which begins with unit `begin`.
    fn cut(&self, begin: usize, overlap: Overlap) -> usize {
        let options = self.measure.options;
        let most_tokens = options.max_tokens.saturating_sub(overlap.tokens);
        let fits = |end: usize| {
            self.tokens(begin..end) <= most_tokens
                && self.start_byte(end) - overlap.start_byte <= options.max_bytes
        };
        let all = self.units.len();
        if fits(all) {
            return all;
        }
        let ends = (begin + 1..all).take_while(|end| fits(*end));
        let mut fullest = begin + 1;
        let mut best = None;
        for end in ends {
            fullest = end;
            let bytes = self.start_byte(end) - overlap.start_byte;
            let is_full = self.tokens(begin..end) * 100 >= most_tokens * LEAST_FULL
                || bytes * 100 >= options.max_bytes * LEAST_FULL;
            if is_full {
                let candidate = (self.rank(end), Reverse(end));
                best = Some(best.map_or(candidate, |best| candidate.min(best)));
            }
        }
        best.map_or(fullest, |(_, Reverse(end))| end)
    }

    /// How good a place is to cut: less is better.
    fn rank(&self, end: usize) -> (bool, End, u64) {
        let left = self.tokens(end..self.units.len());
        let leaves_little = left * 100 < self.measure.options.max_tokens * LEAST_LEFT;
        let place = self.start_byte(end);
        let seen = place.saturating_sub(SEEN).max(self.section.start);
        let hash = xxh3_64(&self.text.as_bytes()[seen..place]);
        (leaves_little, self.units[end - 1].end, hash)
    }

    /// The chunk of these units, without white space around it; and whether it keeps to
    /// the limits.
    fn piece(&self, units: Range<usize>, overlap: Overlap) -> (Piece, bool) {
        let options = self.measure.options;
        let own = self.text[self.start_byte(units.start)..self.start_byte(units.end)].trim_end();
        let own_end = self.start_byte(units.start) + own.len();
        let own_start = own_end - own.trim_start().len();
        let overlapping = &self.text[overlap.start_byte.min(own_start)..own_end];
        let start = own_end - overlapping.trim_start().len();
        let tokens = self.measure.counter.count(&self.text[start..own_end]);
        let keeps = tokens <= options.max_tokens && own_end - start <= options.max_bytes;
        let piece = Piece {
            bytes: start..own_end,
            own_start,
            tokens,
        };
        (piece, keeps)
    }
}

impl<C: TokenCounter + ?Sized> Iterator for Packer<'_, C> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        while self.next < self.units.len() {
            let begin = self.next;
            let none = Overlap {
                start_byte: self.start_byte(begin),
                tokens: 0,
            };
            let mut overlap = self.overlap(begin);
            if overlap.tokens + self.units[begin].tokens > self.measure.options.max_tokens {
                overlap = none;
            }
            let mut end = self.cut(begin, overlap);
            // Tokens of the whole may be more than those of its parts.
            let piece = loop {
                let (piece, keeps) = self.piece(begin..end, overlap);
                if keeps || (end == begin + 1 && overlap.tokens == 0) {
                    break piece;
                }
                match overlap.start_byte < none.start_byte {
                    true => overlap = none,
                    false => end = begin + (end - begin).div_ceil(2),
                }
            };
            self.next = end;
            if piece.own_start < piece.bytes.end {
                return Some(piece);
            }
        }
        None
    }
}
