//! Differences into the collection.

use std::collections::HashMap;

use futures::TryStreamExt as _;
use highwater::app::{Failure, RunContext};
use highwater::ledger::LoggedFile;
use highwater::store::Store;
use highwater_operators::lake::{LakeReadError, TableFile};
use highwater_operators::sink::chroma::Expected;

use super::super::instance::Instance;
use super::super::vectors::unreadable;
use super::differ::{Side, differ};
use super::points::{OwnedPoint, content, key, points, wanted};
use super::target::Target;
use super::versions::Versions;

/// Rows decoded at once.
const ROWS_AT_ONCE: usize = 512;

/// What was done to a collection.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Applied {
    pub(super) upserted: u64,
    pub(super) deleted: u64,
}

impl Applied {
    pub(super) fn and(self, more: Self) -> Self {
        Self {
            upserted: self.upserted + more.upserted,
            deleted: self.deleted + more.deleted,
        }
    }
}

/// Brings what the collection lacks into it, step by step and range by range. Whatever the
/// version that a step begins at, what is written is of the newest one.
///
/// # Errors
/// A file cannot be read, the collection not written.
pub(super) fn apply(
    target: &Target,
    instance: &Instance,
    versions: &Versions,
    context: &RunContext,
) -> Result<Applied, Failure> {
    let mut applied = Applied::default();
    for step in &versions.steps {
        let ranges = step.ranges(&instance.store);
        for range in context.runtime.block_on(ranges)? {
            go_on(context)?;
            applied = applied.and(apply_range(target, &instance.store, &range, context)?);
        }
    }
    Ok(applied)
}

/// Whether the run was asked to end.
fn go_on(context: &RunContext) -> Result<(), Failure> {
    match context.cancel.is_cancelled() {
        true => Err(Failure::interrupted("the run was asked to end")),
        false => Ok(()),
    }
}

/// Files whose documents are in one range.
#[derive(Debug, Default)]
pub(super) struct Range {
    pub(super) added: Vec<LoggedFile>,
    pub(super) removed: Vec<LoggedFile>,
}

fn apply_range(
    target: &Target,
    store: &Store,
    range: &Range,
    context: &RunContext,
) -> Result<Applied, Failure> {
    if range.removed.is_empty() {
        let write = write(target, store, &range.added, |_| true, context);
        let upserted = context.runtime.block_on(write)?;
        return Ok(Applied {
            upserted,
            deleted: 0,
        });
    }
    let sides = async {
        let newer = side(store, &range.added).await?;
        Ok::<_, Failure>((newer, side(store, &range.removed).await?))
    };
    let ((newer, _), (older, names)) = context.runtime.block_on(sides)?;
    let changed = differ(newer, older, context)?;
    context.runtime.block_on(async {
        let wanted = |point: &OwnedPoint| changed.upsert.contains(&key(&point.id));
        let upserted = write(target, store, &range.added, wanted, context).await?;
        let gone = changed
            .delete
            .iter()
            .filter_map(|key| names.get(key).cloned());
        let gone: Vec<String> = gone.collect();
        target.delete(&gone).await?;
        Ok(Applied {
            upserted,
            deleted: gone.len() as u64,
        })
    })
}

/// One side of a range, and the ids by their numbers.
async fn side(
    store: &Store,
    files: &[LoggedFile],
) -> Result<(Side, HashMap<u128, String>), Failure> {
    let (mut side, mut names) = (Side::new(), HashMap::new());
    for file in files {
        let mut batches = batches(store, file).await?;
        while let Some(points) = batches.next().await? {
            for point in points {
                let number = key(&point.id);
                side.push((number, content(&point)));
                names.insert(number, point.id);
            }
        }
    }
    Ok((side, names))
}

/// Writes those points of files that are wanted; says how many.
async fn write(
    target: &Target,
    store: &Store,
    files: &[LoggedFile],
    wanted: impl Fn(&OwnedPoint) -> bool,
    context: &RunContext,
) -> Result<u64, Failure> {
    let mut written = 0;
    for file in files {
        let mut batches = batches(store, file).await?;
        while let Some(mut points) = batches.next().await? {
            go_on(context)?;
            points.retain(&wanted);
            target.upsert(&points).await?;
            written += points.len() as u64;
        }
    }
    Ok(written)
}

/// Makes a collection equal that is not what it says: everything is written, and what the
/// lake does not have is removed. Of the lake only ids are in memory, as hashes.
///
/// # Errors
/// As [`apply`].
pub(super) fn reconcile(
    target: &Target,
    instance: &Instance,
    versions: &Versions,
    context: &RunContext,
) -> Result<Applied, Failure> {
    context.runtime.block_on(async {
        let (mut expected, mut upserted) = (Expected::default(), 0);
        for file in &versions.all {
            let mut batches = batches(&instance.store, file).await?;
            while let Some(points) = batches.next().await? {
                go_on(context)?;
                points.iter().for_each(|point| expected.add(&point.id));
                target.upsert(&points).await?;
                upserted += points.len() as u64;
            }
        }
        let deleted = target.keep_only(expected).await?;
        Ok(Applied { upserted, deleted })
    })
}

/// The points of a file, a batch at a time.
struct PointBatches {
    file: TableFile,
    group: usize,
    rows: Option<
        futures::stream::BoxStream<'static, Result<arrow::array::RecordBatch, LakeReadError>>,
    >,
}

async fn batches(store: &Store, file: &LoggedFile) -> Result<PointBatches, Failure> {
    let file = TableFile::open(store.objects(), file, &wanted()).await;
    Ok(PointBatches {
        file: file.map_err(|error| unreadable(&error))?,
        group: 0,
        rows: None,
    })
}

impl PointBatches {
    async fn next(&mut self) -> Result<Option<Vec<OwnedPoint>>, Failure> {
        loop {
            let rows = match &mut self.rows {
                Some(rows) => rows,
                None if self.group >= self.file.row_groups() => return Ok(None),
                none => {
                    let rows = self.file.rows(self.group, ROWS_AT_ONCE);
                    let rows = rows.map_err(|error| unreadable(&error))?;
                    self.group += 1;
                    none.insert(Box::pin(rows))
                }
            };
            let batch = rows.try_next().await.map_err(|error| unreadable(&error))?;
            match batch {
                Some(batch) => return Ok(Some(points(&batch))),
                None => self.rows = None,
            }
        }
    }
}
