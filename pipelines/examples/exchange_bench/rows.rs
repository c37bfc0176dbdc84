//! The batches that are sent.

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};

/// What stands in the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Numbers in a row and a text of 23 bytes that says one of them: LZ4 leaves
    /// about a third of it.
    Text,
    /// Numbers and characters by chance: LZ4 leaves all of it.
    Noise,
}

impl Contents {
    pub(crate) fn of(name: &str) -> Self {
        match name {
            "text" => Self::Text,
            "noise" => Self::Noise,
            _ => panic!("--contents is text or noise"),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Noise => "noise",
        }
    }
}

/// SplitMix64: the same rows in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn letter(&mut self) -> char {
        char::from(b'0' + (self.next() % 75) as u8)
    }
}

/// Bytes of the columns of a batch: an integer, a float, a string of 23 bytes and
/// its offset.
pub(crate) fn column_bytes(rows: usize) -> u64 {
    (rows * (8 + 8 + 23 + 4) + 4) as u64
}

pub(crate) fn batch(rows: usize, seed: i64, contents: Contents) -> RecordBatch {
    let mut chance = Chance(seed.unsigned_abs());
    let ids: Vec<i64> = match contents {
        Contents::Text => (0..rows as i64).map(|row| seed * 1_000_000 + row).collect(),
        Contents::Noise => (0..rows).map(|_| chance.next().cast_signed()).collect(),
    };
    let halves = ids.iter().map(|id| match contents {
        Contents::Text => *id as f64 / 2.0,
        Contents::Noise => chance.next() as f64,
    });
    let halves = Float64Array::from_iter_values(halves);
    let texts = ids.iter().map(|id| match contents {
        Contents::Text => format!("text of {id:015}"),
        Contents::Noise => (0..23).map(|_| chance.letter()).collect(),
    });
    let texts = StringArray::from_iter_values(texts);
    let ids = Int64Array::from(ids.clone());
    RecordBatch::try_from_iter([
        ("half", Arc::new(halves) as _),
        ("text", Arc::new(texts) as _),
        ("id", Arc::new(ids) as _),
    ])
    .unwrap()
}
