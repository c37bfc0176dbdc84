//! Sorts what one worker has been given, range by range, within a share of memory.

use std::collections::BTreeMap;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch, interleave_record_batch};
use arrow::error::ArrowError;
use arrow::row::OwnedRow;
use serde::{Deserialize, Serialize};

use super::keys::{Keys, section_of};
use super::merge::merge;
use super::order::Order;
use super::ranges::Ranges;
use super::spill::{SpillError, SpillFolder, SpillReader, SpillWriter, Spilled};

/// How a sorter uses its share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// What it may hold while rows come, in bytes.
    pub(super) held_bytes: u64,
    /// What it may sort at once, in bytes of rows and their keys.
    pub(super) sort_bytes: u64,
    /// Rows of a batch that it emits or writes to a run.
    pub(super) batch_rows: usize,
    /// Runs that are merged at once.
    pub(super) fan_in: usize,
}

/// What became of the rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SortCounts {
    /// Rows that came.
    pub rows_in: u64,
    /// Rows that left.
    pub rows_out: u64,
    /// Ranges that did not fit into memory and were sorted by runs.
    pub large_ranges: u64,
    /// Times that runs were merged into a longer run, because there were too many.
    pub merges: u64,
}

impl std::iter::Sum for SortCounts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            rows_in: sum.rows_in + one.rows_in,
            rows_out: sum.rows_out + one.rows_out,
            large_ranges: sum.large_ranges + one.large_ranges,
            merges: sum.merges + one.merges,
        })
    }
}

/// A range's rows that are not written: the piece that is spilled first must be
/// worth a write.
const LEAST_SPILL_BYTES: u64 = 512 << 10;

/// Bytes for a row's place and leading key while it is sorted.
const ENTRY_BYTES: u64 = 24;

/// Rows of ranges, kept apart until all have come.
pub(super) struct Sorter<'a> {
    order: &'a Order,
    ranges: &'a Ranges,
    spill: &'a SpillFolder,
    share: Share,
    parts: BTreeMap<usize, Part>,
    held_bytes: u64,
    pub(super) counts: SortCounts,
}

/// The rows of one range.
#[derive(Default)]
struct Part {
    held: Vec<(u32, RecordBatch)>,
    held_bytes: u64,
    spilled: Option<SpillWriter>,
    spilled_bytes: u64,
}

impl<'a> Sorter<'a> {
    pub(super) fn new(
        order: &'a Order,
        ranges: &'a Ranges,
        spill: &'a SpillFolder,
        share: Share,
    ) -> Self {
        Self {
            order,
            ranges,
            spill,
            share,
            parts: BTreeMap::new(),
            held_bytes: 0,
            counts: SortCounts::default(),
        }
    }

    /// Takes rows of one section that are all in one range.
    pub(super) fn add(&mut self, section: u32, rows: RecordBatch) -> Result<(), SpillError> {
        self.counts.rows_in += rows.num_rows() as u64;
        let range = match self.ranges.len() {
            1 => 0,
            _ => {
                let first = self.order.route(section, &rows.slice(0, 1))?;
                self.ranges.of(&first, 0)
            }
        };
        let bytes = held_bytes(&rows);
        let part = self.parts.entry(range).or_default();
        part.held.push((section, rows));
        part.held_bytes += bytes;
        self.held_bytes += bytes;
        while self.held_bytes > self.share.held_bytes {
            let Some(range) = self.to_spill() else { break };
            if let Some(part) = self.parts.get_mut(&range) {
                self.held_bytes = self.held_bytes.saturating_sub(part.held_bytes);
                part.spill(self.spill)?;
            }
        }
        Ok(())
    }

    /// The last range with enough in memory: the first ones are sorted first, and
    /// may never have to be written.
    fn to_spill(&self) -> Option<usize> {
        let worth =
            |part: &Part| part.held_bytes >= LEAST_SPILL_BYTES.min(self.share.held_bytes / 8);
        let last = self.parts.iter().rev().find(|(_, part)| worth(part));
        let largest = || self.parts.iter().max_by_key(|(_, part)| part.held_bytes);
        let (range, part) = last.or_else(largest)?;
        (part.held_bytes > 0).then_some(*range)
    }

    /// Calls `emit` with all rows in order, in batches of one section. `split` says
    /// where a section is to be cut further: it counts up where the order's cut
    /// columns change, and is the section where there are none.
    pub(super) fn finish<E: From<SpillError>>(
        &mut self,
        mut emit: impl FnMut(u32, RecordBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut last = Last::default();
        while let Some((_, part)) = self.parts.pop_first() {
            self.held_bytes = self.held_bytes.saturating_sub(part.held_bytes);
            let order = self.order;
            let mut counted = 0;
            let mut tidy = |section, rows: RecordBatch| {
                last.newest(order, section, rows)
                    .and_then(|rows| last.cut(order, section, &rows))
                    .map_err(|error| E::from(error.into()))?
                    .into_iter()
                    .filter(|(_, rows)| rows.num_rows() > 0)
                    .try_for_each(|(split, rows)| {
                        counted += rows.num_rows() as u64;
                        emit(split, rows)
                    })
            };
            self.sort(part, &mut tidy)?;
            self.counts.rows_out += counted;
        }
        Ok(())
    }

    fn sort<E: From<SpillError>>(
        &mut self,
        part: Part,
        emit: &mut impl FnMut(u32, RecordBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut pieces = Pieces::new(part)?;
        let mut loaded = Loaded::default();
        let mut runs = Runs::default();
        while let Some((section, rows)) = pieces.next()? {
            loaded
                .add(self.order, section, rows)
                .map_err(SpillError::from)?;
            if loaded.bytes > self.share.sort_bytes {
                let run = self.run(std::mem::take(&mut loaded))?;
                self.keep(&mut runs, run, 0)?;
            }
        }
        if runs.0.is_empty() {
            return loaded.emit(self.share.batch_rows, emit);
        }
        self.counts.large_ranges += 1;
        if !loaded.batches.is_empty() {
            let run = self.run(loaded)?;
            self.keep(&mut runs, run, 0)?;
        }
        let mut last: Vec<Spilled> = runs.0.into_iter().flatten().collect();
        while last.len() > self.share.fan_in {
            let rest = last.split_off(self.share.fan_in);
            let merged = self.merge_runs(last)?;
            last = rest;
            last.push(merged);
        }
        let readers = last.into_iter().map(Spilled::read);
        let readers = readers.collect::<Result<Vec<SpillReader>, _>>()?;
        merge(self.order, readers, self.share.batch_rows, emit)
    }

    /// Sorts what is loaded into a run.
    fn run(&self, mut loaded: Loaded) -> Result<Spilled, SpillError> {
        let mut writer: Option<SpillWriter> = None;
        loaded.emit(self.share.batch_rows, &mut |section, rows: RecordBatch| {
            self.write(&mut writer, section, &rows)
        })?;
        finish(writer)
    }

    fn write(
        &self,
        writer: &mut Option<SpillWriter>,
        section: u32,
        rows: &RecordBatch,
    ) -> Result<(), SpillError> {
        if writer.is_none() {
            *writer = Some(self.spill.begin(&rows.schema())?);
        }
        match writer {
            Some(writer) => writer.write(section, rows),
            None => Ok(()),
        }
    }

    /// Keeps a run; when there are as many of a level as are merged at once, they
    /// become one of the next, so that few files are open.
    fn keep(&mut self, runs: &mut Runs, run: Spilled, level: usize) -> Result<(), SpillError> {
        if runs.0.len() <= level {
            runs.0.resize_with(level + 1, Vec::new);
        }
        let Some(own) = runs.0.get_mut(level) else {
            return Ok(());
        };
        own.push(run);
        if own.len() < self.share.fan_in {
            return Ok(());
        }
        let full = std::mem::take(own);
        let merged = self.merge_runs(full)?;
        self.keep(runs, merged, level + 1)
    }

    fn merge_runs(&mut self, runs: Vec<Spilled>) -> Result<Spilled, SpillError> {
        self.counts.merges += 1;
        let readers = runs.into_iter().map(Spilled::read);
        let readers = readers.collect::<Result<Vec<SpillReader>, _>>()?;
        let mut writer: Option<SpillWriter> = None;
        merge(
            self.order,
            readers,
            self.share.batch_rows,
            |section, rows| self.write(&mut writer, section, &rows),
        )?;
        finish(writer)
    }
}

/// What rows take in memory. Not by their buffers: those that were read from a
/// spill file may be parts of one, which would be counted once for each column.
fn held_bytes(rows: &RecordBatch) -> u64 {
    let columns = rows.columns().iter();
    let sizes = columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or_default());
    sizes.sum::<usize>() as u64
}

fn finish(writer: Option<SpillWriter>) -> Result<Spilled, SpillError> {
    let nothing = || ArrowError::InvalidArgumentError("a run without rows".to_owned());
    writer.ok_or_else(nothing)?.finish()
}

/// Runs by level: those of the next are as many times longer as are merged at once.
#[derive(Default)]
struct Runs(Vec<Vec<Spilled>>);

impl Part {
    fn spill(&mut self, folder: &SpillFolder) -> Result<(), SpillError> {
        // Large batches compress better, and need fewer buffers.
        for pieces in self.held.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((section, first)) = pieces.first() else {
                continue;
            };
            let schema = first.schema();
            let rows = concat_batches(&schema, pieces.iter().map(|(_, rows)| rows))?;
            if self.spilled.is_none() {
                self.spilled = Some(folder.begin(&schema)?);
            }
            if let Some(writer) = &mut self.spilled {
                writer.write(*section, &rows)?;
            }
        }
        self.held.clear();
        self.spilled_bytes += self.held_bytes;
        self.held_bytes = 0;
        Ok(())
    }
}

/// The rows of a range, from the disk and from memory.
struct Pieces {
    held: std::vec::IntoIter<(u32, RecordBatch)>,
    spilled: Option<SpillReader>,
}

impl Pieces {
    fn new(part: Part) -> Result<Self, SpillError> {
        let spilled = part.spilled.map(|writer| writer.finish()?.read());
        Ok(Self {
            held: part.held.into_iter(),
            spilled: spilled.transpose()?,
        })
    }

    fn next(&mut self) -> Result<Option<(u32, RecordBatch)>, SpillError> {
        if let Some(spilled) = &mut self.spilled {
            match spilled.next()? {
                Some(found) => return Ok(Some(found)),
                None => self.spilled = None,
            }
        }
        Ok(self.held.next())
    }
}

/// Rows that are sorted at once.
#[derive(Default)]
struct Loaded {
    batches: Vec<RecordBatch>,
    keys: Vec<Keys>,
    bytes: u64,
}

/// A row's leading key and its place; smaller than with a number of 128 bits.
#[derive(Clone, Copy)]
struct Entry {
    high: u64,
    low: u64,
    batch: u32,
    row: u32,
}

impl Loaded {
    fn add(&mut self, order: &Order, section: u32, rows: RecordBatch) -> Result<(), ArrowError> {
        let keys = order.keys(section, &rows)?;
        let own = held_bytes(&rows) + rows.num_rows() as u64 * ENTRY_BYTES;
        self.bytes += own + keys.bytes() as u64;
        self.batches.push(rows);
        self.keys.push(keys);
        Ok(())
    }

    /// The rows in order, and nothing left.
    fn emit<E: From<SpillError>>(
        &mut self,
        batch_rows: usize,
        emit: &mut impl FnMut(u32, RecordBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        let entries = self.sorted();
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let section = |entry: &Entry| section_of(u128::from(entry.high) << 64);
        for own in entries.chunk_by(|a, b| section(a) == section(b)) {
            for chunk in own.chunks(batch_rows.max(1)) {
                let places = chunk
                    .iter()
                    .map(|entry| (entry.batch as usize, entry.row as usize));
                let places: Vec<(usize, usize)> = places.collect();
                let rows = interleave_record_batch(&batches, &places);
                let section = chunk.first().map_or(0, section);
                emit(section, rows.map_err(SpillError::from)?)?;
            }
        }
        Ok(())
    }

    fn sorted(&mut self) -> Vec<Entry> {
        let rows = self.keys.iter().map(|keys| keys.prefix.len()).sum();
        let mut entries = Vec::with_capacity(rows);
        for (batch, keys) in (0_u32..).zip(&mut self.keys) {
            for (row, prefix) in (0_u32..).zip(std::mem::take(&mut keys.prefix)) {
                entries.push(Entry {
                    high: u64::try_from(prefix >> 64).unwrap_or(u64::MAX),
                    low: u64::try_from(prefix & u128::from(u64::MAX)).unwrap_or(u64::MAX),
                    batch,
                    row,
                });
            }
        }
        let ties = self.keys.iter().any(|keys| keys.rest.is_some());
        if !ties {
            entries.sort_unstable_by_key(|entry| (entry.high, entry.low));
            return entries;
        }
        let rest = |entry: &Entry| {
            let keys = self.keys.get(entry.batch as usize);
            keys.map_or(&[][..], |keys| keys.rest(entry.row as usize))
        };
        entries.sort_unstable_by(|a, b| {
            let first = (a.high, a.low).cmp(&(b.high, b.low));
            first.then_with(|| rest(a).cmp(rest(b)))
        });
        entries
    }
}

/// What the row before was: the next batch goes on from it.
#[derive(Default)]
struct Last {
    key: Option<(u32, OwnedRow)>,
    cut: Option<OwnedRow>,
    split: Option<u32>,
}

impl Last {
    /// Without rows that have the key of the row before them.
    fn newest(
        &mut self,
        order: &Order,
        section: u32,
        rows: RecordBatch,
    ) -> Result<RecordBatch, ArrowError> {
        let Some(keys) = order.newest(&rows) else {
            return Ok(rows);
        };
        let keys = keys?;
        let mut kept = Vec::with_capacity(rows.num_rows());
        let before = self.key.take().filter(|(known, _)| *known == section);
        for row in 0..rows.num_rows() {
            let repeats = match row.checked_sub(1) {
                Some(above) => keys.row(above) == keys.row(row),
                None => before
                    .as_ref()
                    .is_some_and(|(_, key)| key.row() == keys.row(row)),
            };
            kept.push(!repeats);
        }
        self.key = match rows.num_rows().checked_sub(1) {
            Some(last) => Some((section, keys.row(last).owned())),
            None => before,
        };
        filter_record_batch(&rows, &BooleanArray::from(kept))
    }

    /// The rows with the number of the stretch in which the cut columns are the
    /// same.
    fn cut(
        &mut self,
        order: &Order,
        section: u32,
        rows: &RecordBatch,
    ) -> Result<Vec<(u32, RecordBatch)>, ArrowError> {
        let Some(keys) = order.cut(rows) else {
            return Ok(vec![(section, rows.clone())]);
        };
        let keys = keys?;
        let mut stretches = Vec::new();
        let mut from = 0;
        for row in 0..rows.num_rows() {
            let same = match row.checked_sub(1) {
                Some(above) => keys.row(above) == keys.row(row),
                None => self
                    .cut
                    .as_ref()
                    .is_some_and(|cut| cut.row() == keys.row(row)),
            };
            if same {
                continue;
            }
            if row > from {
                stretches.push((self.split.unwrap_or(0), rows.slice(from, row - from)));
            }
            from = row;
            self.split = Some(self.split.map_or(0, |split| split + 1));
        }
        if rows.num_rows() > from {
            stretches.push((
                self.split.unwrap_or(0),
                rows.slice(from, rows.num_rows() - from),
            ));
            self.cut = Some(keys.row(rows.num_rows() - 1).owned());
        }
        Ok(stretches)
    }
}
