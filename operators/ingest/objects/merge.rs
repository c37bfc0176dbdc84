//! The comparison of one range of keys.

use std::cmp::Ordering;
use std::sync::Arc;

use futures::StreamExt as _;
use highwater::run::config::Against;
use highwater::store::objects::{
    KeyRange, Listed, ObjectError, ObjectErrorKind, Page, Pages, Refused,
};

use super::cursor::Cursor;
use super::decide::Verdict;
use super::operator::CompareObjects;
use super::recorded::{Record, Recorded};

/// Objects of a page that the record makes.
const PAGE_OBJECTS: usize = 1000;

/// Where differences go, in the order of keys.
pub(super) trait Differences {
    /// An object is to be copied. `false`: nobody wants more.
    fn copy(&mut self, object: Listed) -> impl Future<Output = bool> + Send;
}

/// Compares both sides within a range, and hands on what is to be copied.
pub(super) async fn compare_range(
    plan: &CompareObjects,
    range: KeyRange,
    differences: &mut (impl Differences + Send),
) -> Result<(), ObjectError> {
    let mut merge = Merge::new(plan, range);
    let (mut refused, mut of_target) = (Vec::new(), Vec::new());
    while !plan.tally.is_stopped() {
        let order = {
            let source = merge.source.peek(&mut refused).await?;
            let target = merge.target.peek(&mut of_target).await?;
            match (source, target) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(source), Some(target)) => source.key.cmp(&target.key),
            }
        };
        merge.refuse(&mut refused);
        merge.refuse_of_target(&mut of_target);
        let source = (order != Ordering::Greater)
            .then(|| merge.source.take())
            .flatten();
        let target = (order != Ordering::Less)
            .then(|| merge.target.take())
            .flatten();
        if let Some(changed) = merge.judge(source, target).await?
            && !differences.copy(changed).await
        {
            return Ok(());
        }
    }
    merge.refuse(&mut refused);
    merge.refuse_of_target(&mut of_target);
    Ok(())
}

struct Merge<'a> {
    plan: &'a CompareObjects,
    source: Cursor,
    target: Cursor,
    record: Option<Recorded>,
}

impl<'a> Merge<'a> {
    fn new(plan: &'a CompareObjects, range: KeyRange) -> Self {
        let recorded = || {
            let record = plan.record.as_ref()?;
            let folder = Arc::clone(&record.folder);
            Some(Recorded::new(folder, &record.files, range.clone()))
        };
        let target = match (plan.against, recorded()) {
            (Against::Target, _) => {
                let pages = plan.target.pages(range.clone());
                Cursor::new(pages, plan.retries.clone()).past_unreadable()
            }
            (Against::Ledger, Some(record)) => Cursor::new(pages_of(record), plan.retries.clone()),
            (Against::Ledger, None) => Cursor::nothing(),
        };
        let record = recorded();
        let source = Cursor::new(plan.source.pages(range), plan.retries.clone());
        Self {
            plan,
            source: source.past_unreadable(),
            target,
            record,
        }
    }

    /// What is to be copied of a key that one side or both have.
    async fn judge(
        &mut self,
        source: Option<Listed>,
        target: Option<Listed>,
    ) -> Result<Option<Listed>, ObjectError> {
        let tally = &self.plan.tally;
        let key = source
            .as_ref()
            .or(target.as_ref())
            .map(|object| object.key.as_str());
        if !key.is_some_and(|key| self.plan.filter.takes(key)) {
            return Ok(None);
        }
        tally.source_objects.add(source.is_some().into());
        tally.target_objects.add(target.is_some().into());
        let missing = target.is_none();
        let changed = match (source, target) {
            (Some(source), Some(target)) => {
                if self.is_same(&source, &target).await? {
                    tally.unchanged.add(1);
                    return Ok(None);
                }
                source
            }
            (Some(source), None) => source,
            // What cannot be copied from the source is not gone from there.
            (None, Some(target)) if self.source.refuses(&target.key) => return Ok(None),
            (None, Some(target)) => {
                self.extra(&target)?;
                return Ok(None);
            }
            (None, None) => return Ok(None),
        };
        tally.differs(&changed.key, changed.bytes, missing);
        if let Some(requests_of) = &self.plan.requests_of {
            for (kind, count) in requests_of(&changed) {
                tally.would_ask(kind, count);
            }
        }
        Ok(Some(changed))
    }

    async fn is_same(&mut self, source: &Listed, target: &Listed) -> Result<bool, ObjectError> {
        let rules = self.plan.rules;
        let verdict = match rules.by_listings(source, target) {
            Verdict::AskRecord => {
                let record = self.recorded(&source.key).await?;
                rules.by_record(source, target, record.as_ref())
            }
            verdict => verdict,
        };
        Ok(verdict == Verdict::Same)
    }

    async fn recorded(&mut self, key: &str) -> Result<Option<Record>, ObjectError> {
        match &mut self.record {
            None => Ok(None),
            Some(record) => record.find(key).await.map_err(|error| unreadable(&error)),
        }
    }

    fn extra(&self, target: &Listed) -> Result<(), ObjectError> {
        self.plan.tally.is_extra(&target.key);
        let Some(extras) = &self.plan.extras else {
            return Ok(());
        };
        extras.push(&target.key).map_err(|error| {
            let what = format!("there is no place for the keys that are to be removed: {error}");
            ObjectError::new(ObjectErrorKind::Full, &target.key, what)
        })
    }

    /// What is no object in the target is in nobody's way until it is written. Of what
    /// cannot be read there nobody can say that both sides are equal.
    fn refuse_of_target(&self, refused: &mut Vec<Refused>) {
        refused.retain(Refused::is_unreadable);
        for Refused { reason, .. } in refused.iter_mut() {
            *reason = format!("in the target: {reason}");
        }
        self.refuse(refused);
    }

    fn refuse(&self, refused: &mut Vec<Refused>) {
        self.plan.filter.tell(refused, &self.plan.tally);
    }
}

fn unreadable(error: &parquet::errors::ParquetError) -> ObjectError {
    let what = format!("the record of what was copied cannot be read: {error}");
    ObjectError::new(ObjectErrorKind::Failed, "", what)
}

/// The record in place of a listing.
fn pages_of(record: Recorded) -> Pages {
    let pages = futures::stream::unfold(Some(record), |record| async move {
        let mut record = record?;
        let mut page = Page::default();
        while page.objects.len() < PAGE_OBJECTS {
            match record.next().await {
                Ok(Some(found)) => page.objects.push(as_listed(found)),
                Ok(None) => return (!page.objects.is_empty()).then_some((Ok(page), None)),
                Err(error) => return Some((Err(unreadable(&error)), None)),
            }
        }
        Some((Ok(page), Some(record)))
    });
    pages.boxed()
}

/// What a listing of the target would have shown when it was written.
fn as_listed(record: Record) -> Listed {
    let written = record.target_version;
    let modified = written.strip_prefix('@').and_then(|time| time.parse().ok());
    Listed {
        key: record.key,
        bytes: record.bytes,
        modified_ns: modified.unwrap_or_default(),
        etag: (modified.is_none() && !written.is_empty()).then_some(written),
    }
}
