//! [`Listing`]: what a packed table holds of a range, page by page.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::{StreamExt as _, stream};
use highwater::store::objects::{KeyRange, Page, Pages};

use super::objects::unreadable;
use super::rows::{listed, listed_schema};
use crate::lake::{KeyedTable, LakeReadError, RowBatches, TableFile};

/// Objects of a page.
const PAGE_OBJECTS: usize = 1000;

/// Where the listing of a range stands. Whoever reads it asks again where a failure
/// passes, and means the page that failed: so no failure moves it on, and what it has
/// given it does not give again.
pub(super) struct Listing {
    table: Arc<KeyedTable>,
    range: KeyRange,
    /// Files that are left; the first one is being read.
    files: VecDeque<usize>,
    /// That file, once it is open.
    open: Option<TableFile>,
    /// The row group of it that is being read.
    group: usize,
    /// Rows of this group that were given.
    given: usize,
    /// What is left of the group and how many rows of it were read; nothing before it is
    /// begun, and after a failure.
    left: Option<(RowBatches, usize)>,
}

impl Listing {
    /// The objects of `table` in a range.
    pub(super) fn new(table: Arc<KeyedTable>, range: KeyRange) -> Self {
        Self {
            files: table.files_of(&range).into(),
            table,
            range,
            open: None,
            group: 0,
            given: 0,
            left: None,
        }
    }

    /// Its pages.
    pub(super) fn pages(self) -> Pages {
        let pages = stream::unfold(self, |mut listing| async move {
            let page = listing.page().await.transpose()?;
            Some((page.map_err(|error| unreadable("", &error)), listing))
        });
        pages.boxed()
    }

    /// The next page; after a failure the one that failed. `None` at the end.
    async fn page(&mut self) -> Result<Option<Page>, LakeReadError> {
        while let Some(number) = self.files.front().copied() {
            if self.open.is_none() {
                let file = self.table.open_file(number, &listed_schema()).await?;
                self.open = Some(file);
            }
            if let Some(rows) = self.rows().await? {
                return Ok(Some(page(&rows, &self.range)));
            }
            self.next_file();
        }
        Ok(None)
    }

    /// The next rows of the file that is open; `None` at its end.
    async fn rows(&mut self) -> Result<Option<RecordBatch>, LakeReadError> {
        let Some(file) = &self.open else {
            return Ok(None);
        };
        while self.group < file.row_groups() {
            let (mut rows, read) = match self.left.take() {
                Some(left) => left,
                None => (file.rows(self.group, PAGE_OBJECTS)?.boxed(), 0),
            };
            let Some(batch) = rows.next().await.transpose()? else {
                self.group += 1;
                self.given = 0;
                continue;
            };
            let count = batch.num_rows();
            self.left = Some((rows, read + count));
            // Of a group that was begun anew, what was given before.
            let known = self.given.saturating_sub(read).min(count);
            if known < count {
                self.given = read + count;
                return Ok(Some(batch.slice(known, count - known)));
            }
        }
        Ok(None)
    }

    fn next_file(&mut self) {
        self.files.pop_front();
        self.open = None;
        self.group = 0;
        self.given = 0;
        self.left = None;
    }
}

fn page(rows: &RecordBatch, range: &KeyRange) -> Page {
    let objects = (0..rows.num_rows()).map(|row| listed(rows, row));
    Page {
        objects: objects.filter(|object| range.holds(&object.key)).collect(),
        refused: Vec::new(),
    }
}
