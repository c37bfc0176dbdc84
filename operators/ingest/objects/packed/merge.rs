//! [`Merge`]: a listing of a range beside the rows of its file, and what becomes of
//! each key.

use std::cmp::Ordering;
use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::{StreamExt as _, stream};
use highwater::store::objects::{Listed, ObjectError, Refused};

use super::objects::unreadable;
use super::rewrite::PackPlan;
use super::rows::{PackedRow, is_same, listed, listed_schema, packed_schema};
use crate::ingest::objects::cursor::Cursor;
use crate::lake::{RowBatches, TableFile, all_rows};

/// Rows decoded at once, where only names are read.
const NAMES_AT_ONCE: usize = 4096;

/// Rows with content decoded at once: with few of a group the whole group is never
/// twice in memory.
const ROWS_AT_ONCE: usize = 64;

/// What becomes of one key.
pub(super) enum Step<T> {
    /// The packed row is right.
    Same(T),
    /// The object is to be read; the row that it replaces.
    Read(Listed, Option<T>),
    /// The packed row stays, though the source has nothing like it.
    Stays(T),
    /// The packed row stays: the source has refused its key, or a folder above it, and so
    /// has something there.
    Withheld(T),
    /// The packed row goes.
    Goes(T),
    /// The object is not packed for its size; the row that stays.
    TooLarge(Listed, Option<T>),
    /// Nothing of it is packed.
    Nothing,
}

/// How rows of the table are read: with or without their content.
pub(super) trait Side {
    /// What is held of a row.
    type Row;
    /// The rows of a file.
    fn open(file: TableFile) -> RowBatches;
    /// The columns that are read.
    fn wanted() -> SchemaRef;
    /// A row of a batch.
    fn row(batch: &RecordBatch, row: usize) -> Self::Row;
    /// What a row says of its object.
    fn object(row: &Self::Row) -> &Listed;
}

/// Names alone.
pub(super) struct Names;

impl Side for Names {
    type Row = Listed;

    fn open(file: TableFile) -> RowBatches {
        all_rows(file, NAMES_AT_ONCE)
    }

    fn wanted() -> SchemaRef {
        listed_schema()
    }

    fn row(batch: &RecordBatch, row: usize) -> Listed {
        listed(batch, row)
    }

    fn object(row: &Listed) -> &Listed {
        row
    }
}

/// Rows with their content.
pub(super) struct Contents;

impl Side for Contents {
    type Row = PackedRow;

    fn open(file: TableFile) -> RowBatches {
        all_rows(file, ROWS_AT_ONCE)
    }

    fn wanted() -> SchemaRef {
        packed_schema()
    }

    fn row(batch: &RecordBatch, row: usize) -> PackedRow {
        PackedRow::of(batch, row)
    }

    fn object(row: &PackedRow) -> &Listed {
        &row.object
    }
}

/// A listing of a range beside the rows of its file.
pub(super) struct Merge<'a, S: Side> {
    plan: &'a PackPlan,
    source: Cursor,
    batches: RowBatches,
    batch: Option<(RecordBatch, usize)>,
    rows: VecDeque<S::Row>,
    refused: Vec<Refused>,
}

impl<'a, S: Side> Merge<'a, S> {
    /// The range of this number.
    ///
    /// # Errors
    /// Its file cannot be opened.
    pub(super) async fn new(plan: &'a PackPlan, number: usize, _: S) -> Result<Self, ObjectError> {
        let batches = match plan.packed.path(number) {
            None => stream::empty().boxed(),
            Some(_) => {
                let file = plan.packed.open_file(number, &S::wanted()).await;
                S::open(file.map_err(|error| unreadable("", &error))?)
            }
        };
        let pages = plan.source.pages(plan.range(number));
        let source = Cursor::new(pages, plan.retries.clone());
        Ok(Self {
            plan,
            source: source.past_unreadable(),
            batches,
            batch: None,
            rows: VecDeque::new(),
            refused: Vec::new(),
        })
    }

    async fn peek_row(&mut self) -> Result<Option<&S::Row>, ObjectError> {
        while self.rows.is_empty() {
            match &mut self.batch {
                Some((batch, next)) if *next < batch.num_rows() => {
                    self.rows.push_back(S::row(batch, *next));
                    *next += 1;
                }
                _ => match self.batches.next().await {
                    None => return Ok(None),
                    Some(batch) => {
                        let batch = batch.map_err(|error| unreadable("", &error))?;
                        self.batch = Some((batch, 0));
                    }
                },
            }
        }
        Ok(self.rows.front())
    }

    /// What becomes of the next key; `None` at the end of both sides.
    ///
    /// # Errors
    /// One side cannot be read.
    pub(super) async fn next(&mut self) -> Result<Option<Step<S::Row>>, ObjectError> {
        let packed = self.peek_row().await?.map(|row| S::object(row).key.clone());
        let source = self.source.peek(&mut self.refused).await?;
        let order = match (source, &packed) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(source), Some(packed)) => source.key.cmp(packed),
        };
        let object = (order != Ordering::Greater)
            .then(|| self.source.take())
            .flatten();
        let row = (order != Ordering::Less)
            .then(|| self.rows.pop_front())
            .flatten();
        Ok(Some(self.step(object, row)))
    }

    fn step(&self, object: Option<Listed>, row: Option<S::Row>) -> Step<S::Row> {
        let plan = self.plan;
        let key = object.as_ref().or(row.as_ref().map(S::object));
        let wanted = key.is_some_and(|object| plan.filter.takes(&object.key));
        match (object, row) {
            (_, Some(row)) if !wanted => Step::Stays(row),
            (Some(object), Some(row)) if is_same(&object, S::object(&row)) => Step::Same(row),
            (Some(object), row) if wanted && object.bytes > plan.largest_bytes => {
                Step::TooLarge(object, row)
            }
            (Some(object), row) if wanted => Step::Read(object, row),
            (None, Some(row)) if self.source.refuses(&S::object(&row).key) => Step::Withheld(row),
            (None, Some(row)) if plan.delete => Step::Goes(row),
            (None, Some(row)) => Step::Stays(row),
            _ => Step::Nothing,
        }
    }

    /// Tells of names that are no objects.
    pub(super) fn tell_refused(&mut self) {
        let plan = self.plan;
        plan.filter.tell(&mut self.refused, &plan.tally);
    }
}
