//! Sorts what one worker has been given, range by range, within a share of memory.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};

use super::dense::{Head, Packer, Piece};
use super::last::Last;
use super::loaded::Loaded;
use super::merge::merge;
use super::order::Order;
use super::ranges::Ranges;
use super::spill::{SpillError, SpillFolder, SpillReader, SpillWriter, Spilled};

/// How a sorter uses its share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// What it may hold at a time, in bytes.
    pub(super) bytes: u64,
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

/// Rows of ranges, kept apart until all have come.
pub(super) struct Sorter<'a> {
    order: &'a Order,
    ranges: &'a Ranges,
    spill: &'a SpillFolder,
    share: Share,
    /// Known with the first rows.
    packing: Option<Packing>,
    parts: BTreeMap<usize, Part>,
    held_bytes: u64,
    pub(super) counts: SortCounts,
}

struct Packing {
    schema: SchemaRef,
    packer: Packer,
}

/// The rows of one range.
#[derive(Default)]
struct Part {
    held: Vec<Piece>,
    held_bytes: u64,
    spilled: Option<SpillWriter>,
    /// What its rows take when they are sorted, without their keys.
    loaded_bytes: u64,
    rows: u64,
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
            packing: None,
            parts: BTreeMap::new(),
            held_bytes: 0,
            counts: SortCounts::default(),
        }
    }

    /// Takes the rows of a parcel: of one range and one section.
    pub(super) fn add(&mut self, parcel: u32, rows: &RecordBatch) -> Result<(), SpillError> {
        self.counts.rows_in += rows.num_rows() as u64;
        let (range, section) = self.ranges.of_parcel(parcel);
        let packing = self.packing.get_or_insert_with(|| Packing {
            schema: rows.schema(),
            packer: Packer::new(rows.schema_ref()),
        });
        let piece = packing.packer.pack(section, rows)?;
        let bytes = piece.len() as u64;
        let part = self.parts.entry(range).or_default();
        part.held.push(piece);
        part.held_bytes += bytes;
        part.loaded_bytes += rows_bytes(rows);
        part.rows += rows.num_rows() as u64;
        self.held_bytes += bytes;
        self.make_room(self.share.bytes)
    }

    /// Spills until no more than so many bytes are held.
    fn make_room(&mut self, bytes: u64) -> Result<(), SpillError> {
        while self.held_bytes > bytes {
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
        let worth = |part: &Part| part.held_bytes >= LEAST_SPILL_BYTES.min(self.share.bytes / 8);
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
            let needed = part.loaded_bytes + part.rows * Loaded::KEY_BYTES;
            let needed = needed.min(self.share.sort_bytes) + part.held_bytes;
            self.make_room(self.share.bytes.saturating_sub(needed))?;
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
        let Some(Packing { schema, .. }) = &self.packing else {
            return Ok(());
        };
        let schema = SchemaRef::clone(schema);
        // Of a range that does not fit, about as many as there is room for.
        let fits = self.share.sort_bytes as u128 * u128::from(part.rows);
        let fits = fits / u128::from(part.loaded_bytes.max(1));
        let at_once = usize::try_from(fits.min(u128::from(part.rows))).unwrap_or_default();
        let mut pieces = Pieces::new(part)?;
        let mut loaded = Loaded::new(&schema, at_once);
        let mut runs = Runs::default();
        loop {
            let added = pieces.next(|head, body| loaded.add(self.order, head, body))?;
            if !added {
                break;
            }
            if loaded.bytes() > self.share.sort_bytes {
                let run = self.run(std::mem::replace(
                    &mut loaded,
                    Loaded::new(&schema, at_once),
                ))?;
                self.keep(&mut runs, run, 0)?;
            }
        }
        if runs.0.is_empty() {
            return loaded.emit(self.order, self.share.batch_rows, emit);
        }
        self.counts.large_ranges += 1;
        if !loaded.is_empty() {
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
        merge(self.order, &schema, readers, self.share.batch_rows, emit)
    }

    /// Sorts what is loaded into a run.
    fn run(&mut self, loaded: Loaded) -> Result<Spilled, SpillError> {
        let mut writer = self.spill.begin()?;
        let Self {
            order,
            packing,
            share,
            ..
        } = self;
        loaded.emit(
            order,
            share.batch_rows,
            &mut |section, rows: RecordBatch| write(packing, &mut writer, section, &rows),
        )?;
        Ok(writer.finish())
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
        let mut writer = self.spill.begin()?;
        let Self {
            order,
            packing,
            share,
            ..
        } = self;
        let Some(Packing { schema, .. }) = &*packing else {
            return Ok(writer.finish());
        };
        let schema = SchemaRef::clone(schema);
        merge(
            order,
            &schema,
            readers,
            share.batch_rows,
            |section, rows| write(packing, &mut writer, section, &rows),
        )?;
        Ok(writer.finish())
    }
}

fn write(
    packing: &mut Option<Packing>,
    writer: &mut SpillWriter,
    section: u32,
    rows: &RecordBatch,
) -> Result<(), SpillError> {
    match packing {
        Some(packing) => writer.write(&packing.packer.pack(section, rows)?),
        None => Ok(()),
    }
}

/// What rows take in memory; not by their buffers, which may be longer than they.
fn rows_bytes(rows: &RecordBatch) -> u64 {
    let columns = rows.columns().iter();
    let sizes = columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or_default());
    sizes.sum::<usize>() as u64
}

/// Runs by level: those of the next are as many times longer as are merged at once.
#[derive(Default)]
struct Runs(Vec<Vec<Spilled>>);

impl Part {
    fn spill(&mut self, folder: &SpillFolder) -> Result<(), SpillError> {
        let writer = match &mut self.spilled {
            Some(writer) => writer,
            none => none.insert(folder.begin()?),
        };
        for piece in self.held.drain(..) {
            writer.write(&piece)?;
        }
        self.held_bytes = 0;
        Ok(())
    }
}

/// The rows of a range, from the disk and from memory.
struct Pieces {
    held: std::vec::IntoIter<Piece>,
    spilled: Option<SpillReader>,
}

impl Pieces {
    fn new(part: Part) -> Result<Self, SpillError> {
        let spilled = part.spilled.map(|writer| writer.finish().read());
        Ok(Self {
            held: part.held.into_iter(),
            spilled: spilled.transpose()?,
        })
    }

    /// Gives the next piece away; false at the end.
    fn next(
        &mut self,
        mut take: impl FnMut(Head, &[u8]) -> Result<(), ArrowError>,
    ) -> Result<bool, SpillError> {
        if let Some(spilled) = &mut self.spilled {
            if let Some(head) = spilled.next()? {
                take(head, spilled.body())?;
                return Ok(true);
            }
            self.spilled = None;
        }
        let Some(piece) = self.held.next() else {
            return Ok(false);
        };
        let (head, body) = Head::divide(&piece)?;
        take(head, body)?;
        Ok(true)
    }
}
