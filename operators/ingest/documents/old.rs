//! The documents of a file of the table, one at a time.

use arrow::array::RecordBatch;
use futures::StreamExt as _;
use highwater::store::objects::{KeyRange, ObjectError, ObjectErrorKind};

use super::rows::{State, rows_bytes, text};
use crate::ingest::objects::unreadable;
use crate::lake::RowBatches;

/// A document as the lake has it.
#[derive(Debug)]
pub(super) struct OldDocument {
    pub(super) state: State,
    /// Its rows, in the columns that were asked for.
    pub(super) rows: Vec<RecordBatch>,
}

impl OldDocument {
    /// What its rows take in memory, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.rows.iter().map(rows_bytes).sum()
    }

    /// How many rows it has.
    pub(super) fn row_count(&self) -> u64 {
        self.rows.iter().map(|rows| rows.num_rows() as u64).sum()
    }
}

/// The documents of a range, in the order of keys.
pub(super) struct OldDocuments {
    batches: RowBatches,
    range: KeyRange,
    /// What is left of the batch that is being read.
    left: Option<RecordBatch>,
    next: Option<OldDocument>,
    /// The key of the last rows that were met.
    last: String,
}

impl OldDocuments {
    /// Those of `batches` whose keys are in `range`.
    pub(super) fn new(batches: RowBatches, range: KeyRange) -> Self {
        Self {
            batches,
            range,
            left: None,
            next: None,
            last: String::new(),
        }
    }

    /// The key of the next document.
    pub(super) async fn peek(&mut self) -> Result<Option<&str>, ObjectError> {
        if self.next.is_none() {
            self.next = self.read().await?;
        }
        Ok(self
            .next
            .as_ref()
            .map(|next| next.state.object.key.as_str()))
    }

    /// Takes what was peeked at.
    pub(super) fn take(&mut self) -> Option<OldDocument> {
        self.next.take()
    }

    async fn read(&mut self) -> Result<Option<OldDocument>, ObjectError> {
        let mut document: Option<OldDocument> = None;
        loop {
            let Some(batch) = self.batch().await? else {
                return Ok(document);
            };
            let key = text(&batch, 0, 0).unwrap_or_default().to_owned();
            if document
                .as_ref()
                .is_some_and(|document| document.state.object.key != key)
            {
                self.left = Some(batch);
                return Ok(document);
            }
            self.check_order(&key)?;
            let same = |row: &usize| text(&batch, 0, *row).unwrap_or_default() == key;
            let length = (0..batch.num_rows()).take_while(same).count();
            self.left =
                (length < batch.num_rows()).then(|| batch.slice(length, batch.num_rows() - length));
            if !self.range.holds(&key) {
                continue;
            }
            let document = document.get_or_insert_with(|| OldDocument {
                state: State::of(&batch, 0),
                rows: Vec::new(),
            });
            document.rows.push(batch.slice(0, length));
        }
    }

    /// Rows that another program put into another order would be taken for documents
    /// that are not there.
    fn check_order(&mut self, key: &str) -> Result<(), ObjectError> {
        if key < self.last.as_str() {
            let what = format!(
                "rows of the table of chunks are not in the order of documents ({key:?} comes \
                 after {:?}): `lake-compact --sort-by document` puts them in order",
                self.last
            );
            return Err(ObjectError::new(ObjectErrorKind::Failed, key, what));
        }
        key.clone_into(&mut self.last);
        Ok(())
    }

    async fn batch(&mut self) -> Result<Option<RecordBatch>, ObjectError> {
        if let Some(left) = self.left.take() {
            return Ok(Some(left));
        }
        while let Some(batch) = self.batches.next().await {
            let batch = batch.map_err(|error| unreadable("", &error))?;
            if batch.num_rows() > 0 {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}
