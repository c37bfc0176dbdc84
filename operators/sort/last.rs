//! What is decided by a row and the one before it, across batches: which rows repeat
//! a key, and where the rows are cut.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;
use arrow::row::OwnedRow;

use super::order::Order;

/// What the row before was: the next batch goes on from it.
#[derive(Default)]
pub(super) struct Last {
    key: Option<(u32, OwnedRow)>,
    cut: Option<OwnedRow>,
    split: Option<u32>,
}

impl Last {
    /// Without rows that have the key of the row before them.
    pub(super) fn newest(
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
    pub(super) fn cut(
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
