//! What is longer than a chunk: cut at lines, where these are too long at words, and
//! words at places that their bytes decide.

use xxhash_rust::xxh3::xxh3_64;

use super::document::TokenCounter;
use super::units::{End, Measure, Unit};

/// The shortest piece of a word, in bytes, but for the last one.
const LEAST: usize = 32;
/// The longest; longer words are cut.
const MOST: usize = 128;
/// A piece ends where a hash of so many bytes ...
const SEEN: usize = 16;
/// ... is a multiple of this: pieces have about 80 bytes.
const ONE_IN: u64 = 64;

/// Appends the units of a sentence that begins at `start_byte`.
pub(super) fn divide<C: TokenCounter + ?Sized>(
    sentence: &str,
    start_byte: usize,
    measure: &Measure<'_, C>,
    units: &mut Vec<Unit>,
) {
    let mut end_byte = start_byte;
    for line in sentence.split_inclusive('\n') {
        if let Some(tokens) = measure.fits(line) {
            end_byte += line.len();
            units.push(Unit {
                end_byte,
                tokens,
                end: End::Line,
            });
            continue;
        }
        let mut rest = line;
        while !rest.is_empty() {
            let (word, after) = rest.split_at(word_bytes(rest));
            rest = after;
            match (word.len() <= MOST).then(|| measure.fits(word)).flatten() {
                Some(tokens) => units.push(Unit {
                    end_byte: end_byte + word.len(),
                    tokens,
                    end: End::Word,
                }),
                None => pieces(word, end_byte, measure, units),
            }
            end_byte += word.len();
        }
    }
}

/// The length of the first word, with the white space around it.
fn word_bytes(text: &str) -> usize {
    let letters = text.len() - text.trim_start().len();
    let word = text[letters..].find(char::is_whitespace);
    let Some(blank) = word.map(|bytes| letters + bytes) else {
        return text.len();
    };
    let after = text[blank..].find(|char: char| !char.is_whitespace());
    after.map_or(text.len(), |bytes| blank + bytes)
}

fn pieces<C: TokenCounter + ?Sized>(
    mut word: &str,
    mut start_byte: usize,
    measure: &Measure<'_, C>,
    units: &mut Vec<Unit>,
) {
    while !word.is_empty() {
        let (piece, rest) = word.split_at(piece_bytes(word));
        halves(piece, start_byte, measure, units);
        start_byte += piece.len();
        word = rest;
    }
}

/// The length of the first piece: by its bytes, so that pieces after an edit are the
/// same as before.
fn piece_bytes(word: &str) -> usize {
    let most = word.floor_char_boundary(MOST);
    let mut places = (LEAST..most).filter(|place| word.is_char_boundary(*place));
    let ends = |place: &usize| {
        let seen = &word.as_bytes()[place - SEEN..*place];
        xxh3_64(seen).is_multiple_of(ONE_IN)
    };
    places.find(ends).unwrap_or(most)
}

/// A piece, halved for as long as it does not fit. One character is never cut.
fn halves<C: TokenCounter + ?Sized>(
    piece: &str,
    start_byte: usize,
    measure: &Measure<'_, C>,
    units: &mut Vec<Unit>,
) {
    let middle = piece.ceil_char_boundary((piece.len() / 2).max(1));
    let tokens = match measure.fits(piece) {
        Some(tokens) => tokens,
        None if middle < piece.len() => {
            let (left, right) = piece.split_at(middle);
            halves(left, start_byte, measure, units);
            halves(right, start_byte + middle, measure, units);
            return;
        }
        None => measure.counter.count(piece),
    };
    units.push(Unit {
        end_byte: start_byte + piece.len(),
        tokens,
        end: End::Piece,
    });
}
