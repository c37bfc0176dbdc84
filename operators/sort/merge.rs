//! Merges sorted runs: the least row of all comes next.

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::datatypes::SchemaRef;

use super::dense::Unpacked;
use super::heap::Heap;
use super::keys::Keys;
use super::order::Order;
use super::spill::{SpillError, SpillReader};

/// A run that is being read.
struct Cursor {
    reader: SpillReader,
    section: u32,
    keys: Keys,
    /// Position of its batch among those in play.
    batch: usize,
    row: usize,
    rows: usize,
}

/// Calls `emit` with the rows of all runs, in order, in batches of one section and
/// of at most `batch_rows` rows.
pub(super) fn merge<E: From<SpillError>>(
    order: &Order,
    schema: &SchemaRef,
    runs: Vec<SpillReader>,
    batch_rows: usize,
    mut emit: impl FnMut(u32, RecordBatch) -> Result<(), E>,
) -> Result<(), E> {
    let mut merging = Merging {
        order,
        schema,
        cursors: Vec::new(),
        in_play: Vec::new(),
        chosen: Vec::new(),
        section: 0,
    };
    let mut heap = Heap::default();
    for reader in runs {
        if merging.open(reader)? {
            let last = merging.cursors.len() - 1;
            heap.push(last, |a, b| merging.less(a, b));
        }
    }
    while let Some(top) = heap.top() {
        let section = merging.cursors.get(top).map_or(0, |cursor| cursor.section);
        if merging.chosen.len() >= batch_rows || section != merging.section {
            merging.flush(&mut emit)?;
            merging.section = section;
        }
        // As many as come before any of another run.
        let rival = heap.second(|a, b| merging.less(a, b));
        let over = loop {
            if !merging.take(top) {
                break true;
            }
            if merging.chosen.len() >= batch_rows
                || rival.is_some_and(|rival| merging.less(rival, top))
            {
                break false;
            }
        };
        if over && !merging.refill(top)? {
            heap.pop(|a, b| merging.less(a, b));
        } else {
            heap.sink(|a, b| merging.less(a, b));
        }
    }
    merging.flush(&mut emit)
}

fn next_rows(
    schema: &SchemaRef,
    reader: &mut SpillReader,
) -> Result<Option<(u32, RecordBatch)>, SpillError> {
    let Some(head) = reader.next()? else {
        return Ok(None);
    };
    let mut rows = Unpacked::new(schema, head.rows);
    rows.add(head.rows, reader.body())?;
    Ok(Some((head.section, rows.finish()?)))
}

struct Merging<'a> {
    order: &'a Order,
    schema: &'a SchemaRef,
    cursors: Vec<Cursor>,
    /// The batches that chosen rows, and rows to come, are in.
    in_play: Vec<RecordBatch>,
    /// Rows that come next, by batch and position.
    chosen: Vec<(usize, usize)>,
    section: u32,
}

impl Merging<'_> {
    fn less(&self, a: usize, b: usize) -> bool {
        match (self.cursors.get(a), self.cursors.get(b)) {
            (Some(one), Some(other)) => {
                let order = one.keys.compare(one.row, &other.keys, other.row);
                order.then(a.cmp(&b)).is_lt()
            }
            _ => false,
        }
    }

    /// Adds a run, unless it is empty.
    fn open(&mut self, mut reader: SpillReader) -> Result<bool, SpillError> {
        let Some((section, rows)) = next_rows(self.schema, &mut reader)? else {
            return Ok(false);
        };
        self.cursors.push(Cursor {
            reader,
            section,
            keys: self.order.keys(section, &rows)?,
            batch: self.in_play.len(),
            row: 0,
            rows: rows.num_rows(),
        });
        self.in_play.push(rows);
        Ok(true)
    }

    /// Chooses the row at a cursor and moves on; false at the end of its batch.
    fn take(&mut self, cursor: usize) -> bool {
        let Some(cursor) = self.cursors.get_mut(cursor) else {
            return false;
        };
        self.chosen.push((cursor.batch, cursor.row));
        cursor.row += 1;
        cursor.row < cursor.rows
    }

    /// Reads the next batch of a run; false at its end.
    fn refill(&mut self, cursor: usize) -> Result<bool, SpillError> {
        let place = self.in_play.len();
        let Some(cursor) = self.cursors.get_mut(cursor) else {
            return Ok(false);
        };
        let Some((section, rows)) = next_rows(self.schema, &mut cursor.reader)? else {
            // Nothing of it is in play beyond what is chosen.
            cursor.rows = 0;
            return Ok(false);
        };
        cursor.keys = self.order.keys(section, &rows)?;
        (cursor.section, cursor.batch) = (section, place);
        (cursor.row, cursor.rows) = (0, rows.num_rows());
        self.in_play.push(rows);
        Ok(true)
    }

    /// Emits the chosen rows, and forgets batches that no cursor is in.
    fn flush<E: From<SpillError>>(
        &mut self,
        emit: &mut impl FnMut(u32, RecordBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.chosen.is_empty() {
            let batches: Vec<&RecordBatch> = self.in_play.iter().collect();
            let rows = interleave_record_batch(&batches, &self.chosen);
            emit(self.section, rows.map_err(SpillError::from)?)?;
            self.chosen.clear();
        }
        let mut kept = Vec::with_capacity(self.cursors.len());
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.rows > 0) {
            if let Some(batch) = self.in_play.get(cursor.batch) {
                cursor.batch = kept.len();
                kept.push(batch.clone());
            }
        }
        self.in_play = kept;
        Ok(())
    }
}
