//! [`PackRanges`]: ranges of a packed table as they are to be.
//!
//! A range is a split. It is listed and compared with its file first, names
//! against names; only where something differs are rows written, and the old file
//! is named as one that goes.

use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use highwater::budget::MemoryBudget;
use highwater::source::{Emit, Reader, Readers, SourceError, SourceErrorKind, Split, TableRead};
use highwater::store::objects::{Carry, KeyRange, Listed, ObjectError, Objects, Refused};
use highwater::store::pace::Retries;
use highwater::telemetry::objects::ObjectTally;

use super::objects::unreadable;
use super::reading::{Paid, Reading};
use super::rows::{PackedRow, Rows, is_same, listed, listed_schema, packed_schema};
use crate::ingest::ahead::{Ahead, Next};
use crate::ingest::objects::KeyFilter;
use crate::ingest::objects::cursor::Cursor;
use crate::lake::{KeyedTable, RowBatches, all_rows};
use crate::sink::objects::BodyReader;

/// Objects that are read at once by one worker, at most.
const MOST_AHEAD: usize = 128;

/// What an object takes beside its content, in bytes. An estimate.
const OBJECT_BYTES: u64 = 16 << 10;

/// Rows decoded at once, where only names are read.
const NAMES_AT_ONCE: usize = 4096;

/// Rows with content decoded at once: with few of a group the whole group is never
/// twice in memory.
const ROWS_AT_ONCE: usize = 64;

/// What is packed, and how; shared by all workers of a process.
pub struct PackPlan {
    /// Where objects come from.
    pub source: Arc<dyn Objects>,
    /// The table as it is.
    pub packed: Arc<KeyedTable>,
    /// The ranges, by the ordinals of the splits; where the table has files, one
    /// for each ([`KeyedTable::ranges`]).
    pub ranges: Vec<KeyRange>,
    /// Which keys are wanted; what is not wanted stays as it is.
    pub filter: KeyFilter,
    /// Whether rows go whose object is gone.
    pub delete: bool,
    /// What is kept beside the content.
    pub carry: Carry,
    /// Whether nothing is read or written but names.
    pub compare_only: bool,
    /// The greatest object that is packed, in bytes.
    pub largest_bytes: u64,
    /// What each worker may hold of objects on their way, in bytes.
    pub ahead_bytes: u64,
    /// Reads bodies.
    pub reader: Arc<BodyReader>,
    /// How listings are repeated.
    pub retries: Retries,
    /// Where everything is counted.
    pub tally: Arc<ObjectTally>,
    /// Ranges whose file goes.
    pub rewritten: Mutex<BTreeSet<u32>>,
}

/// Readers of ranges.
#[derive(Clone)]
pub struct PackRanges(pub Arc<PackPlan>);

#[async_trait]
impl Readers for PackRanges {
    fn max_readers(&self) -> usize {
        usize::MAX
    }

    async fn reader(&self) -> Result<Box<dyn Reader>, SourceError> {
        Ok(Box::new(PackReader(Arc::clone(&self.0))))
    }
}

struct PackReader(Arc<PackPlan>);

#[async_trait]
impl Reader for PackReader {
    async fn read(
        &mut self,
        _read: &TableRead,
        split: &Split,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError> {
        let plan = &self.0;
        let number = usize::try_from(split.ordinal).unwrap_or(usize::MAX);
        if plan.compare_only {
            return plan
                .compare(number)
                .await
                .map_err(|error| failed(plan, &error));
        }
        let differs = plan
            .differs(number)
            .await
            .map_err(|error| failed(plan, &error))?;
        if differs {
            plan.goes(split.ordinal);
            plan.rewrite(number, out).await?;
        }
        Ok(())
    }
}

fn failed(plan: &PackPlan, error: &ObjectError) -> SourceError {
    plan.tally.end(error.clone().into());
    let kind = match error.passes() {
        true => SourceErrorKind::Unavailable,
        false => SourceErrorKind::Failed,
    };
    SourceError::new(kind, error.message.clone())
}

/// What becomes of one key.
enum Step<T> {
    /// The packed row is right.
    Same(T),
    /// The object is to be read; the row that it replaces.
    Read(Listed, Option<T>),
    /// The packed row stays, though the source has nothing like it.
    Stays(T),
    /// The packed row goes.
    Goes(T),
    /// The object is not packed for its size; the row that stays.
    TooLarge(Listed, Option<T>),
    /// Nothing of it is packed.
    Nothing,
}

impl PackPlan {
    fn range(&self, number: usize) -> KeyRange {
        self.ranges.get(number).cloned().unwrap_or_default()
    }

    /// The file of a range goes.
    fn goes(&self, range: u32) {
        let mut rewritten = self
            .rewritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        rewritten.insert(range);
    }

    /// Whether anything of a range has changed. If not, its objects are counted.
    async fn differs(&self, number: usize) -> Result<bool, ObjectError> {
        let mut merge = Merge::new(self, number, Names).await?;
        let (mut same, mut other, mut large) = (0, 0, Vec::new());
        while let Some(step) = merge.next().await? {
            match step {
                Step::Same(_) => same += 1,
                // What nobody looks at is not counted either.
                Step::Stays(row) => {
                    other += u64::from(self.filter.takes(&Names::object(&row).key));
                }
                Step::TooLarge(object, _) => large.push(object),
                Step::Nothing => {}
                Step::Read(..) | Step::Goes(_) => return Ok(true),
            }
            if self.tally.is_stopped() {
                return Ok(false);
            }
        }
        merge.tell_refused();
        self.tally.source_objects.add(same);
        self.tally.unchanged.add(same);
        self.tally.target_objects.add(same + other);
        self.tally.extra.add(other);
        for object in large {
            self.refuse(&object);
        }
        Ok(false)
    }

    /// An object is too large.
    fn refuse(&self, object: &Listed) {
        self.tally.source_objects.add(1);
        self.tally.refused.add(1);
        let what = format!(
            "{} bytes are too many to be packed, {} at most: copy it, or give more --memory",
            object.bytes, self.largest_bytes
        );
        self.tally.failed(&object.key, &what);
    }

    /// Counts what would be done of a range.
    async fn compare(&self, number: usize) -> Result<(), ObjectError> {
        let mut merge = Merge::new(self, number, Names).await?;
        while let Some(step) = merge.next().await? {
            self.count::<Names>(&step);
            if self.tally.is_stopped() {
                break;
            }
        }
        merge.tell_refused();
        Ok(())
    }

    /// Emits the rows of a range as they are to be.
    async fn rewrite(&self, number: usize, out: &mut dyn Emit) -> Result<(), SourceError> {
        let told = |error: &ObjectError| failed(self, error);
        let mut ahead = Ahead::new(MOST_AHEAD, MemoryBudget::new(self.ahead_bytes));
        let reading = Reading {
            reader: Arc::clone(&self.reader),
            tally: Arc::clone(&self.tally),
            carry: self.carry,
        };
        let mut rows = Outgoing::default();
        let merge = Merge::new(self, number, Contents).await;
        let mut merge = merge.map_err(|error| told(&error))?;
        while let Some(step) = merge.next().await.map_err(|error| told(&error))? {
            if self.tally.is_stopped() {
                let what = "interrupted; what was packed before is complete";
                return Err(SourceError::new(SourceErrorKind::Unavailable, what));
            }
            let bytes = self.count::<Contents>(&step);
            let Some(bytes) = bytes else { continue };
            let permit = loop {
                let next = ahead.room(bytes + OBJECT_BYTES).await;
                match next.map_err(|error| told(&error))? {
                    Next::Room(permit) => break permit,
                    Next::First(paid) => rows.push(paid, out).await?,
                    Next::Nothing => rows.flush(out).await?,
                }
            };
            match step {
                Step::Same(row) | Step::Stays(row) | Step::TooLarge(_, Some(row)) => {
                    ahead.keep(Paid { row, permit });
                }
                Step::Read(object, old) => ahead.begin(reading.clone().row(object, permit, old)),
                Step::Goes(_) | Step::TooLarge(_, None) | Step::Nothing => {}
            }
        }
        merge.tell_refused();
        while let Some(paid) = ahead.next().await.map_err(|error| told(&error))? {
            rows.push(paid, out).await?;
        }
        rows.flush(out).await
    }

    /// Counts a step, and says what its row takes; `None` where there is no row.
    fn count<S: Side>(&self, step: &Step<S::Row>) -> Option<u64> {
        let tally = &self.tally;
        match step {
            Step::Same(row) => {
                tally.source_objects.add(1);
                tally.target_objects.add(1);
                tally.unchanged.add(1);
                Some(S::object(row).bytes)
            }
            Step::Read(object, old) => {
                tally.source_objects.add(1);
                tally.target_objects.add(old.is_some().into());
                tally.differs(&object.key, object.bytes, old.is_none());
                let old = old.as_ref().map_or(0, |old| S::object(old).bytes);
                Some(object.bytes + old)
            }
            Step::Stays(row) => {
                let stays = S::object(row);
                if self.filter.takes(&stays.key) {
                    tally.target_objects.add(1);
                    tally.is_extra(&stays.key);
                }
                Some(stays.bytes)
            }
            Step::Goes(row) => {
                tally.target_objects.add(1);
                tally.is_extra(&S::object(row).key);
                tally.deleted.add(1);
                None
            }
            Step::TooLarge(object, row) => {
                self.refuse(object);
                row.as_ref().map(|row| S::object(row).bytes)
            }
            Step::Nothing => None,
        }
    }
}

/// Rows that wait until they are a batch.
#[derive(Default)]
struct Outgoing {
    rows: Rows,
    permits: Vec<highwater::budget::Permit>,
}

impl Outgoing {
    async fn push(&mut self, paid: Paid, out: &mut dyn Emit) -> Result<(), SourceError> {
        self.rows.push(paid.row);
        self.permits.push(paid.permit);
        if self.rows.bytes() >= out.batch_bytes() {
            return self.flush(out).await;
        }
        Ok(())
    }

    async fn flush(&mut self, out: &mut dyn Emit) -> Result<(), SourceError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let bytes = self.rows.bytes();
        let permit = out.permit(bytes).await;
        let batch = self.rows.batch().map_err(|error| {
            let what = format!("rows of a packed table do not make a batch: {error}");
            SourceError::new(SourceErrorKind::Failed, what)
        })?;
        self.permits.clear();
        out.batch(batch, permit, bytes).await
    }
}

/// How rows of the table are read: with or without their content.
trait Side {
    type Row;
    fn open(file: crate::lake::TableFile) -> RowBatches;
    fn wanted() -> arrow::datatypes::SchemaRef;
    fn row(batch: &RecordBatch, row: usize) -> Self::Row;
    fn object(row: &Self::Row) -> &Listed;
}

/// Names alone.
struct Names;

impl Side for Names {
    type Row = Listed;

    fn open(file: crate::lake::TableFile) -> RowBatches {
        all_rows(file, NAMES_AT_ONCE)
    }

    fn wanted() -> arrow::datatypes::SchemaRef {
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
struct Contents;

impl Side for Contents {
    type Row = PackedRow;

    fn open(file: crate::lake::TableFile) -> RowBatches {
        all_rows(file, ROWS_AT_ONCE)
    }

    fn wanted() -> arrow::datatypes::SchemaRef {
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
struct Merge<'a, S: Side> {
    plan: &'a PackPlan,
    source: Cursor,
    batches: RowBatches,
    batch: Option<(RecordBatch, usize)>,
    rows: VecDeque<S::Row>,
    refused: Vec<Refused>,
}

impl<'a, S: Side> Merge<'a, S> {
    async fn new(plan: &'a PackPlan, number: usize, _: S) -> Result<Self, ObjectError> {
        let batches = match plan.packed.path(number) {
            None => stream::empty().boxed(),
            Some(_) => {
                let file = plan.packed.open_file(number, &S::wanted()).await;
                S::open(file.map_err(|error| unreadable("", &error))?)
            }
        };
        let pages = plan.source.pages(plan.range(number));
        Ok(Self {
            plan,
            source: Cursor::new(pages, plan.retries.clone()),
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
    async fn next(&mut self) -> Result<Option<Step<S::Row>>, ObjectError> {
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
            (None, Some(row)) if plan.delete => Step::Goes(row),
            (None, Some(row)) => Step::Stays(row),
            _ => Step::Nothing,
        }
    }

    /// Tells of names that are no objects.
    fn tell_refused(&mut self) {
        for Refused { key, reason } in self.refused.drain(..) {
            if self.plan.filter.takes(&key) {
                self.plan.tally.refused.add(1);
                self.plan.tally.failed(&key, &reason);
            }
        }
    }
}
