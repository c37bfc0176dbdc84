//! Texts: their lengths as whole numbers, their bytes as they are or as LZ4.

use arrow::error::ArrowError;

use super::unpack::{Bytes, damaged};
use super::whole::bytes4;

/// So many bytes are compressed to see whether it pays.
const SAMPLE_BYTES: usize = 8 << 10;

/// A sample is worth so many batches.
const BATCHES_OF_A_SAMPLE: u32 = 64;

/// What is set aside for texts to come, at most.
const MOST_AHEAD_BYTES: usize = 16 << 20;

/// LZ4 makes nothing shorter than this.
const MOST_RATIO: usize = 256;

/// Shorter texts are left alone, on average: the time of LZ4 goes by repeats, and
/// many short ones save little.
const LONG_BYTES: usize = 64;

/// What the last sample of a column said. The page cache takes bytes faster than
/// LZ4 does: it pays where a third is left.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sampled {
    pays: bool,
    batches_left: u32,
}

impl Sampled {
    fn pays(&mut self, texts: usize, bytes: &[u8]) -> bool {
        if bytes.len() < LONG_BYTES * texts || bytes.is_empty() {
            return false;
        }
        if self.batches_left == 0 {
            let sample = bytes.get(..SAMPLE_BYTES).unwrap_or(bytes);
            self.pays = lz4_flex::block::compress(sample).len() * 3 <= sample.len();
            self.batches_left = BATCHES_OF_A_SAMPLE;
        }
        self.batches_left = self.batches_left.saturating_sub(1);
        self.pays
    }
}

/// The texts between `offsets`: lengths, how many bytes there are, how many are
/// kept, and these.
pub(super) fn pack(offsets: &[i32], bytes: &[u8], sampled: &mut Sampled, out: &mut Vec<u8>) {
    let ends = offsets.iter().skip(1);
    let lengths: Vec<i32> = offsets
        .iter()
        .zip(ends)
        .map(|(from, to)| to - from)
        .collect();
    bytes4::pack(&lengths, out);
    let place = |offset: Option<&i32>| usize::try_from(*offset?).ok();
    let own = place(offsets.first()).zip(place(offsets.last()));
    let own = own.and_then(|(from, to)| bytes.get(from..to));
    let own = own.unwrap_or_default();
    let pressed = sampled
        .pays(lengths.len(), own)
        .then(|| lz4_flex::block::compress(own));
    // As long as what it stands for means: as it was.
    let kept = pressed.as_deref().filter(|kept| kept.len() < own.len());
    let kept = kept.unwrap_or(own);
    out.extend_from_slice(&(own.len() as u64).to_le_bytes());
    out.extend_from_slice(&(kept.len() as u64).to_le_bytes());
    out.extend_from_slice(kept);
}

fn too_much() -> ArrowError {
    ArrowError::InvalidArgumentError("more than 2 GiB of text at once".to_owned())
}

/// Adds so many texts. `offsets` has an end for each text that is there, after a
/// first zero.
pub(super) fn unpack(
    count: usize,
    from: &mut Bytes<'_>,
    offsets: &mut Vec<i32>,
    bytes: &mut Vec<u8>,
) -> Result<(), ArrowError> {
    let start = offsets.len();
    bytes4::unpack(count, from, offsets)?;
    let mut end = match start.checked_sub(1) {
        Some(last) => offsets.get(last).copied().unwrap_or_default(),
        None => 0,
    };
    for length in offsets.get_mut(start..).unwrap_or_default() {
        end = end.checked_add(*length).ok_or_else(too_much)?;
        *length = end;
    }
    let whole = from.length()?;
    let kept = from.length()?;
    let kept = from.take(kept, 1)?;
    if bytes.is_empty() {
        // As many bytes for each text still to come, and a little more.
        let texts = offsets.capacity().div_ceil(count.max(1));
        bytes.reserve(whole.saturating_mul(texts + 1).min(MOST_AHEAD_BYTES));
    }
    if kept.len() == whole {
        bytes.extend_from_slice(kept);
        return Ok(());
    }
    if whole > kept.len().saturating_mul(MOST_RATIO) {
        return Err(damaged());
    }
    let here = bytes.len();
    bytes.resize(here + whole, 0);
    let place = bytes.get_mut(here..).unwrap_or_default();
    match lz4_flex::block::decompress_into(kept, place) {
        Ok(written) if written == whole => Ok(()),
        _ => Err(damaged()),
    }
}
