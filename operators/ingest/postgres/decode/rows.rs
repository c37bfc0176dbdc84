//! Rows on their way into one batch.
//!
//! A value that the lake cannot hold becomes a NULL and its row is remembered;
//! the finished batch is filtered, so the good rows never pay for the bad ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use highwater::source::BadRow;

use super::varlen::NotUtf8;
use super::{Decoder, Flaw};

/// Longest value text of a [`BadRow`].
const VALUE_TEXT_BYTES: usize = 1024;
/// How often the size of the batch is looked at.
const ROWS_BETWEEN_SIZES: usize = 64;
/// Rows longer than this are looked at one by one.
const LONG_ROW_BYTES: usize = 16 * 1024;

/// Why a row could not be taken apart: the bytes are not what was expected.
#[derive(Debug)]
pub(in super::super) struct RowError {
    /// The column at fault, where it is one.
    pub(in super::super) column: Option<String>,
    /// What is wrong.
    pub(in super::super) what: String,
}

/// A value that the lake cannot hold.
struct BadCell {
    row: usize,
    column: usize,
    value: String,
    reason: String,
}

/// A finished batch: its good rows, and what was set aside.
pub(in super::super) struct Finished {
    /// The rows that the lake can hold.
    pub(in super::super) batch: RecordBatch,
    /// The others.
    pub(in super::super) bad: Vec<BadRow>,
}

/// Decodes rows of one table, batch after batch.
pub(in super::super) struct Rows {
    schema: SchemaRef,
    key: Vec<usize>,
    columns: Vec<Decoder>,
    /// Where the last field of each row is its `ctid`: what finds rows of
    /// tables without a key.
    locators: Option<Vec<[u8; 6]>>,
    rows: usize,
    row_bytes: usize,
    variable: Vec<usize>,
    bad: Vec<BadCell>,
    size: usize,
    target: usize,
    /// The size at which this batch is full.
    limit: usize,
    shape: Option<Shape>,
}

/// The shape of a finished batch, by which room is made for the next one.
#[derive(Debug, Clone)]
pub(in super::super) struct Shape {
    rows: usize,
    /// Variable bytes, column by column.
    variable: Vec<usize>,
}

impl Rows {
    /// Rows of `schema` by `columns`, in batches of about `target` bytes; `key`
    /// are the positions of the columns that name a row. With `located`, one
    /// more field follows: the row's `ctid`.
    pub(in super::super) fn new(
        schema: SchemaRef,
        key: Vec<usize>,
        columns: Vec<Decoder>,
        located: bool,
        target: usize,
        shape: Option<Shape>,
    ) -> Self {
        let row_bytes =
            columns.iter().map(Decoder::row_bytes).sum::<usize>() + if located { 6 } else { 0 };
        let variable = columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column.is_variable())
            .map(|(position, _)| position);
        Self {
            schema,
            key,
            variable: variable.collect(),
            columns,
            locators: located.then(Vec::new),
            rows: 0,
            row_bytes: row_bytes.max(1),
            bad: Vec::new(),
            size: 0,
            target: target.max(1),
            // Until the shape is known, buffers grow by doubling: half the rows
            // then take no more than all of the bytes.
            limit: target.max(1) / 2,
            shape,
        }
    }

    /// Rows in the batch so far.
    pub(in super::super) fn len(&self) -> usize {
        self.rows
    }

    /// Whether the batch has its size. Looked at every so many rows.
    #[inline]
    pub(in super::super) fn is_full(&self) -> bool {
        self.size >= self.limit
    }

    /// Makes room for the next batch, by the shape of the one before. To be
    /// called when its bytes have been paid for.
    pub(in super::super) fn begin(&mut self) {
        let Some(shape) = &self.shape else { return };
        self.limit = self.target;
        let bytes = shape.rows * self.row_bytes + shape.variable.iter().sum::<usize>();
        let share = |part: usize| {
            let share = part as u128 * self.target as u128 / bytes.max(1) as u128;
            // 3% more: batches differ, and doubling would cost twice the bytes.
            usize::try_from(share + share / 32).unwrap_or(0)
        };
        // The size is looked at only every so many rows.
        let rows = share(shape.rows) + ROWS_BETWEEN_SIZES;
        for (column, &variable) in self.columns.iter_mut().zip(&shape.variable) {
            column.reserve(rows, share(variable));
        }
        if let Some(locators) = &mut self.locators {
            locators.reserve_exact(rows);
        }
    }

    /// The shape of the batch before, for the rows of the next split.
    pub(in super::super) fn shape(&self) -> Option<Shape> {
        self.shape.clone()
    }

    /// Takes one row: a field count, then the fields with their lengths.
    /// Returns what follows it, or `None` at the trailer.
    #[inline]
    pub(in super::super) fn push<'a>(
        &mut self,
        tuple: &'a [u8],
    ) -> Result<Option<&'a [u8]>, RowError> {
        let Some((count, mut rest)) = tuple.split_first_chunk::<2>() else {
            return Err(ends_early(None));
        };
        let count = i16::from_be_bytes(*count);
        let expected = self.columns.len() + usize::from(self.locators.is_some());
        if usize::try_from(count).ok() != Some(expected) {
            return if count == -1 {
                Ok(None)
            } else {
                Err(wrong_count(expected, count))
            };
        }
        for (position, column) in self.columns.iter_mut().enumerate() {
            let Some((length, after)) = rest.split_first_chunk::<4>() else {
                return Err(ends_early(self.name(position)));
            };
            rest = after;
            let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
                column.push_null();
                continue;
            };
            let Some((field, after)) = rest.split_at_checked(length) else {
                return Err(ends_early(self.name(position)));
            };
            rest = after;
            if let Err(flaw) = column.push(field) {
                column.push_null();
                match *flaw {
                    Flaw::Value { value, reason } => {
                        self.bad.push(BadCell {
                            row: self.rows,
                            column: position,
                            value,
                            reason,
                        });
                    }
                    Flaw::Wire(what) => {
                        return Err(RowError {
                            column: self.name(position),
                            what,
                        });
                    }
                }
            }
        }
        if let Some(locators) = &mut self.locators {
            let Some((locator, after)) = rest.split_first_chunk::<10>() else {
                return Err(ends_early(Some("ctid".to_owned())));
            };
            rest = after;
            let [_, _, _, _, tid @ ..] = *locator;
            locators.push(tid);
        }
        self.rows += 1;
        if self.rows.is_multiple_of(ROWS_BETWEEN_SIZES) || tuple.len() > LONG_ROW_BYTES {
            self.measure();
        }
        Ok(Some(rest))
    }

    fn measure(&mut self) {
        let variable = self
            .variable
            .iter()
            .filter_map(|&position| self.columns.get(position));
        self.size =
            self.rows * self.row_bytes + variable.map(Decoder::variable_bytes).sum::<usize>();
    }

    fn name(&self, column: usize) -> Option<String> {
        self.schema
            .fields()
            .get(column)
            .map(|field| field.name().clone())
    }

    /// The column that a row reaches whose first bytes are `tuple`.
    pub(in super::super) fn reaches(&self, tuple: &[u8]) -> String {
        let mut rest = tuple.get(2..).unwrap_or_default();
        let mut reached = 0;
        while let Some((length, fields)) = rest.split_first_chunk::<4>() {
            match fields.get(usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0)..) {
                Some(after) if reached + 1 < self.columns.len() => {
                    (reached, rest) = (reached + 1, after)
                }
                _ => break,
            }
        }
        self.name(reached).unwrap_or_default()
    }

    /// The batch so far, and room for the next one.
    pub(in super::super) fn finish(&mut self) -> Result<Finished, ArrowError> {
        self.shape = Some(Shape {
            rows: self.rows,
            variable: self.columns.iter().map(Decoder::variable_bytes).collect(),
        });
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (position, column) in self.columns.iter_mut().enumerate() {
            let Some(field) = self.schema.fields().get(position) else {
                continue;
            };
            let mut invalid = Vec::new();
            arrays.push(column.finish(field.data_type(), &mut invalid));
            self.bad
                .extend(invalid.into_iter().map(|(row, value): NotUtf8| BadCell {
                    row,
                    column: position,
                    value,
                    reason: "not valid UTF-8 (is the database in SQL_ASCII?)".to_owned(),
                }));
        }
        let rows = std::mem::take(&mut self.rows);
        self.size = 0;
        let cells = std::mem::take(&mut self.bad);
        let locators = self.locators.as_mut().map(std::mem::take);
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        if cells.is_empty() {
            return Ok(Finished {
                batch,
                bad: Vec::new(),
            });
        }
        self.filter(&batch, cells, locators.as_deref())
    }

    /// Parts the good rows from the bad ones; a row is reported by its first flaw.
    #[cold]
    fn filter(
        &self,
        batch: &RecordBatch,
        cells: Vec<BadCell>,
        locators: Option<&[[u8; 6]]>,
    ) -> Result<Finished, ArrowError> {
        let mut keep = vec![true; batch.num_rows()];
        let mut rows: BTreeMap<usize, Vec<BadCell>> = BTreeMap::new();
        for cell in cells {
            if let Some(keep) = keep.get_mut(cell.row) {
                *keep = false;
            }
            rows.entry(cell.row).or_default().push(cell);
        }
        let mut bad = Vec::with_capacity(rows.len());
        for (row, mut cells) in rows {
            cells.sort_by_key(|cell| cell.column);
            let locator = locators.and_then(|locators| locators.get(row));
            let key = self.key_of(batch, row, &cells, locator)?;
            let Some(cell) = cells.into_iter().next() else {
                continue;
            };
            bad.push(BadRow {
                key,
                column: self.name(cell.column).unwrap_or_default(),
                value: cut(cell.value),
                reason: cell.reason,
            });
        }
        let batch = filter_record_batch(batch, &BooleanArray::from(keep))?;
        Ok(Finished { batch, bad })
    }

    fn key_of(
        &self,
        batch: &RecordBatch,
        row: usize,
        cells: &[BadCell],
        locator: Option<&[u8; 6]>,
    ) -> Result<BTreeMap<String, Option<String>>, ArrowError> {
        let mut key = BTreeMap::new();
        for &position in &self.key {
            let own = cells
                .iter()
                .find(|cell| cell.column == position)
                .map(|cell| cell.value.clone());
            let text = match own {
                Some(text) => Some(text),
                None => text_of(batch.columns().get(position), row)?,
            };
            key.insert(self.name(position).unwrap_or_default(), text.map(cut));
        }
        if let Some(&[b0, b1, b2, b3, p0, p1]) = locator {
            let (block, position) = (
                u32::from_be_bytes([b0, b1, b2, b3]),
                u16::from_be_bytes([p0, p1]),
            );
            key.insert("ctid".to_owned(), Some(format!("({block},{position})")));
        }
        Ok(key)
    }
}

fn text_of(array: Option<&ArrayRef>, row: usize) -> Result<Option<String>, ArrowError> {
    let Some(array) = array.filter(|array| array.is_valid(row)) else {
        return Ok(None);
    };
    let formatter = ArrayFormatter::try_new(array.as_ref(), &FormatOptions::default())?;
    Ok(Some(formatter.value(row).try_to_string()?))
}

/// At most [`VALUE_TEXT_BYTES`] of a text, cut between characters.
fn cut(mut text: String) -> String {
    let mut end = text.len().min(VALUE_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cold]
fn ends_early(column: Option<String>) -> RowError {
    RowError {
        column,
        what: "the row ends early".to_owned(),
    }
}

#[cold]
fn wrong_count(expected: usize, found: i16) -> RowError {
    RowError {
        column: None,
        what: format!("{expected} fields were expected, the server sent {found}"),
    }
}
