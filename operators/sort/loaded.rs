//! Rows that are sorted at once, in memory: all of a range, or as many of them as
//! there is room for. They are put together first and moved once, by their order.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::dense::{Head, Unpacked};
use super::keys::{Keys, section_of, section_start};
use super::order::Order;
use super::spill::SpillError;

/// Rows that are sorted at once.
pub(super) struct Loaded {
    rows: Unpacked,
    /// The section of each stretch of rows, and where it ends.
    sections: Vec<(u32, usize)>,
    /// Beside the rows, in bytes.
    key_bytes: u64,
}

/// The part of a row's key that differs within a range, and its place.
type Entry = (u64, u32);

/// Of keys that are kept whole: an encoding is longer than its value.
const ENCODED_PERCENT: u64 = 125;

impl Loaded {
    /// What a row takes beside its columns: its prefix and its entry, in bytes.
    pub(super) const KEY_BYTES: u64 = (size_of::<u128>() + size_of::<Entry>()) as u64;

    /// Room for so many rows; more may come.
    pub(super) fn new(schema: &SchemaRef, rows: usize) -> Self {
        Self {
            rows: Unpacked::new(schema, rows),
            sections: Vec::new(),
            key_bytes: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.rows() == 0
    }

    /// What sorting takes, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.rows.bytes() as u64 + self.key_bytes
    }

    /// Adds the rows of a piece.
    pub(super) fn add(&mut self, order: &Order, head: Head, body: &[u8]) -> Result<(), ArrowError> {
        self.rows.add(head.rows, body)?;
        let rows = self.rows.rows();
        let whole = self.rows.bytes_of(order.kept_whole()) as u64;
        self.key_bytes = rows as u64 * Self::KEY_BYTES + whole * ENCODED_PERCENT / 100;
        match self.sections.last_mut() {
            Some((section, end)) if *section == head.section => *end = rows,
            _ => self.sections.push((head.section, rows)),
        }
        Ok(())
    }

    /// The rows in order, in batches of one section.
    pub(super) fn emit<E: From<SpillError>>(
        self,
        order: &Order,
        batch_rows: usize,
        emit: &mut impl FnMut(u32, RecordBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.is_empty() {
            return Ok(());
        }
        let Self { rows, sections, .. } = self;
        let rows = rows.finish().map_err(SpillError::from)?;
        let mut keys = order.keys(0, &rows).map_err(SpillError::from)?;
        let mut from = 0;
        for (section, end) in sections {
            let start = section_start(section);
            let own = keys.prefix.get_mut(from..end).unwrap_or_default();
            own.iter_mut().for_each(|prefix| *prefix |= start);
            from = end;
        }
        let places = in_order(&keys);
        let section = |place: &u32| section_of(keys.prefix(*place as usize));
        for own in places.chunk_by(|a, b| section(a) == section(b)) {
            for chunk in own.chunks(batch_rows.max(1)) {
                let section = chunk.first().map_or(0, section);
                let places = UInt32Array::from_iter_values(chunk.iter().copied());
                let rows = take_record_batch(&rows, &places);
                emit(section, rows.map_err(SpillError::from)?)?;
            }
        }
        Ok(())
    }
}

/// The places of the rows, in the order of their keys.
fn in_order(keys: &Keys) -> Vec<u32> {
    let least = keys.prefix.iter().min().copied().unwrap_or_default();
    let most = keys.prefix.iter().max().copied().unwrap_or_default();
    // What all prefixes begin with does not decide; 64 bits after it mostly do.
    let common = (least ^ most).leading_zeros();
    let rest = |prefix: &u128| prefix.checked_shl(common).unwrap_or_default();
    let high = |rest: u128| u64::try_from(rest >> 64).unwrap_or(u64::MAX);
    let low = u128::from(u64::MAX);
    let decides = keys.rest.is_none() && keys.prefix.iter().all(|prefix| rest(prefix) & low == 0);
    let prefixes = keys.prefix.iter();
    let mut entries: Vec<Entry> = prefixes.map(|prefix| high(rest(prefix))).zip(0..).collect();
    if decides {
        entries.sort_unstable();
    } else {
        entries.sort_unstable_by(|(a, place), (b, other)| {
            let first = a.cmp(b);
            first.then_with(|| keys.compare(*place as usize, keys, *other as usize))
        });
    }
    entries.into_iter().map(|(_, place)| place).collect()
}
