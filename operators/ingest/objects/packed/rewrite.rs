//! [`PackRanges`]: ranges of a packed table as they are to be.
//!
//! A range is a split. It is listed and compared with its file first, names
//! against names; only where something differs are rows written, and the old file
//! is named as one that goes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use highwater::budget::MemoryBudget;
use highwater::run::config::Percent;
use highwater::source::{Emit, Reader, Readers, SourceError, SourceErrorKind, Split, TableRead};
use highwater::store::objects::{Carry, KeyRange, Listed, ObjectError, ObjectErrorKind, Objects};
use highwater::store::pace::Retries;
use highwater::telemetry::objects::ObjectTally;

use super::merge::{Contents, Merge, Names, Side, Step};
use super::reading::Paid;
use super::rows::Rows;
use crate::ingest::ahead::{Ahead, Next};
use crate::ingest::objects::KeyFilter;
use crate::lake::KeyedTable;
use crate::sink::objects::BodyReader;

/// Objects that are read at once by one worker, at most.
const MOST_AHEAD: usize = 128;

/// What an object takes beside its content, in bytes. An estimate.
const OBJECT_BYTES: u64 = 16 << 10;

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
    /// Of so many rows no more than this share goes; `None` where they are only counted.
    pub most_deleted: Option<(Percent, u64)>,
    /// Rows that went.
    pub gone: AtomicU64,
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

impl PackPlan {
    /// The keys of a range.
    pub(super) fn range(&self, number: usize) -> KeyRange {
        self.ranges.get(number).cloned().unwrap_or_default()
    }

    /// Lets the row of one more key go.
    ///
    /// # Errors
    /// It is one more than may go. They were counted before, and were not too many then:
    /// the source has lost more since.
    pub(super) fn let_go(&self, key: &str) -> Result<(), ObjectError> {
        let gone = self.gone.fetch_add(1, Ordering::Relaxed) + 1;
        let Some((share, all)) = self.most_deleted else {
            return Ok(());
        };
        if share.allows(gone, all) {
            return Ok(());
        }
        let what = format!(
            "the source has lost more objects since they were counted, now more than --max-delete \
             {share} of {all}: look whether it is whole, and run again"
        );
        Err(ObjectError::new(ObjectErrorKind::Failed, key, what))
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
        let (mut same, mut extra, mut withheld) = (0, 0, 0);
        let mut large = Vec::new();
        while let Some(step) = merge.next().await? {
            match step {
                Step::Same(_) => same += 1,
                // What nobody looks at is not counted either.
                Step::Stays(row) => {
                    extra += u64::from(self.filter.takes(&Names::object(&row).key));
                }
                Step::Withheld(_) => withheld += 1,
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
        self.tally.target_objects.add(same + extra + withheld);
        self.tally.extra.add(extra);
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
    async fn rewrite(
        self: &Arc<Self>,
        number: usize,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError> {
        let told = |error: &ObjectError| failed(self, error);
        let mut ahead = Ahead::new(MOST_AHEAD, MemoryBudget::new(self.ahead_bytes));
        let mut rows = Outgoing::default();
        let merge = Merge::new(self, number, Contents).await;
        let mut merge = merge.map_err(|error| told(&error))?;
        while let Some(step) = merge.next().await.map_err(|error| told(&error))? {
            if self.tally.is_stopped() {
                let what = "interrupted; what was packed before is complete";
                return Err(SourceError::new(SourceErrorKind::Unavailable, what));
            }
            if let Step::Goes(row) = &step {
                self.let_go(&row.object.key).map_err(|error| told(&error))?;
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
                Step::Same(row)
                | Step::Stays(row)
                | Step::Withheld(row)
                | Step::TooLarge(_, Some(row)) => ahead.keep(Paid { row, permit }),
                Step::Read(object, old) => ahead.begin(Arc::clone(self).row(object, permit, old)),
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
            Step::Withheld(row) => {
                tally.target_objects.add(1);
                Some(S::object(row).bytes)
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
