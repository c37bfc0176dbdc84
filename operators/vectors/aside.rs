//! Documents of which a text will never have a vector: each becomes the one row of a
//! document without text, whose note says why.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, RecordBatch, StringArray, StringBuilder, UInt64Array,
};
use arrow::compute::take;
use arrow::datatypes::Int32Type;
use arrow::error::ArrowError;

use crate::ingest::documents::columns;

/// A document that is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetAside {
    /// Its key.
    pub(super) key: String,
    /// Why.
    pub(super) reason: String,
}

/// The rows of a batch of whole documents, where texts of the rows in `refused` have no
/// vector, and why.
///
/// # Errors
/// The columns do not fit together: an error of ours.
pub(super) fn set_aside(
    rows: &RecordBatch,
    refused: &BTreeMap<usize, Arc<str>>,
) -> Result<(RecordBatch, Vec<SetAside>), ArrowError> {
    let (mut kept, mut documents) = (Kept::default(), Vec::new());
    let mut begin = 0;
    while begin < rows.num_rows() {
        let end = end_of_document(rows, begin);
        match refused.range(begin..end).next() {
            None => (begin..end).for_each(|row| kept.whole(rows, row)),
            Some((row, why)) => {
                let document = SetAside {
                    key: text(rows, columns::DOCUMENT, begin).to_owned(),
                    reason: format!("the model refuses chunk {}: {why}", number(rows, *row)),
                };
                kept.without_chunk(begin, &document.reason);
                documents.push(document);
            }
        }
        begin = end;
    }
    Ok((kept.of(rows)?, documents))
}

/// The row after the last one of the document of this row.
fn end_of_document(rows: &RecordBatch, begin: usize) -> usize {
    let key = text(rows, columns::DOCUMENT, begin);
    let others = (begin..rows.num_rows()).find(|row| text(rows, columns::DOCUMENT, *row) != key);
    others.unwrap_or(rows.num_rows())
}

/// The rows that stay, and what of them.
#[derive(Default)]
struct Kept {
    rows: Vec<u64>,
    /// The same rows, but none where the chunk goes.
    chunks: Vec<Option<u64>>,
    notes: StringBuilder,
}

impl Kept {
    /// A row stays as it is.
    fn whole(&mut self, rows: &RecordBatch, row: usize) {
        self.rows.push(row as u64);
        self.chunks.push(Some(row as u64));
        let notes = texts(rows, columns::NOTE);
        let note = notes.filter(|notes| row < notes.len() && notes.is_valid(row));
        self.notes.append_option(note.map(|notes| notes.value(row)));
    }

    /// Of a row only what is said of its document stays, with this note.
    fn without_chunk(&mut self, row: usize, note: &str) {
        self.rows.push(row as u64);
        self.chunks.push(None);
        self.notes.append_value(note);
    }

    fn of(mut self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let notes: ArrayRef = Arc::new(self.notes.finish());
        let (all, chunks) = (UInt64Array::from(self.rows), UInt64Array::from(self.chunks));
        let taken = rows.columns().iter().enumerate();
        let taken = taken.map(|(at, column)| match at {
            columns::NOTE => Ok(Arc::clone(&notes)),
            columns::CHUNK..=columns::VECTOR => take(column, &chunks, None),
            _ => take(column, &all, None),
        });
        let taken: Vec<ArrayRef> = taken.collect::<Result<_, ArrowError>>()?;
        RecordBatch::try_new(rows.schema(), taken)
    }
}

fn texts(rows: &RecordBatch, column: usize) -> Option<&StringArray> {
    rows.columns().get(column)?.as_string_opt::<i32>()
}

/// A text of a row; empty where there is none.
fn text(rows: &RecordBatch, column: usize, row: usize) -> &str {
    let texts = texts(rows, column).filter(|texts| row < texts.len() && texts.is_valid(row));
    texts.map_or("", |texts| texts.value(row))
}

/// The number of the chunk in a row.
fn number(rows: &RecordBatch, row: usize) -> i32 {
    let numbers = rows.columns().get(columns::CHUNK);
    let numbers = numbers.and_then(|column| column.as_primitive_opt::<Int32Type>());
    let numbers = numbers.filter(|numbers| row < numbers.len());
    numbers.map_or(0, |numbers| numbers.value(row))
}
