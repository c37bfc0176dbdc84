//! Publishes a rewrite: files in, files out, no row more or less.

use std::collections::BTreeMap;

use highwater::app::{Exit, Failure};
use highwater::flow::TableFailure;
use highwater::flow::event::FailureKind;
use highwater::ledger::{DataFile, Rewrite, RewriteKind};
use highwater::run::config::CompactCommit;
use highwater::run::report::{TableOutcome, TableReport};
use highwater_operators::sort::SortCounts;
use uuid::Uuid;

use super::choose::Partition;
use super::collect::Collected;
use super::job::Job;

/// A table's rows in new files, none of them published.
pub(super) struct Rewritten {
    /// What the dataflow said.
    pub(super) collected: Collected,
    /// What sorting did, of all workers together.
    pub(super) sorted: SortCounts,
    /// Splits that had to be read.
    pub(super) splits: u64,
}

/// Checks that every row is accounted for, and publishes.
pub(super) async fn publish(
    job: &mut Job,
    rewritten: Rewritten,
    run: Uuid,
) -> Result<TableReport, Failure> {
    let Rewritten {
        collected,
        sorted,
        splits,
    } = rewritten;
    if let Some(failure) = collected.failure {
        return Err(told(&failure));
    }
    let written: u64 = collected.files.iter().map(|file| file.rows).sum();
    let dropped = sorted.rows_in - sorted.rows_out.min(sorted.rows_in);
    if collected.splits != splits || collected.rows != written + dropped {
        return Err(Failure::failed(format!(
            "{} rows were read and {written} written, in {} of {splits} splits; nothing was \
             published, please report this",
            collected.rows, collected.splits
        )));
    }
    let mut report = TableReport {
        outcome: TableOutcome::Committed,
        rows: written,
        source_bytes: collected.bytes,
        files: collected.files.len() as u64,
        lake_bytes: collected.files.iter().map(|file| file.bytes).sum(),
        replaced_files: job.rewritten() as u64,
        splits,
        deleted: dropped,
        ..job.unchanged()
    };
    let text = job.layout.text();
    let order = (!text.is_empty()).then(|| format!("{text} #{run}"));
    let kind = if dropped > 0 {
        RewriteKind::Newest
    } else {
        RewriteKind::Layout
    };
    for (removed, added) in parts(job, collected.files) {
        let rewrite = Rewrite {
            run,
            removed,
            added,
            order: order.clone(),
            kind,
            partition_columns: job.layout.partition_by.clone(),
        };
        let done = job.table.commit(&rewrite).await?;
        if done.rebased > 0 {
            tracing::info!(
                table = job.name,
                version = done.version,
                "published after {} commits of others",
                done.rebased
            );
        }
        report.version = Some(done.version);
    }
    Ok(report)
}

/// What goes into one entry: paths that go, files that come.
fn parts(job: &Job, files: Vec<DataFile>) -> Vec<(Vec<String>, Vec<DataFile>)> {
    let by_partition = job.commit == CompactCommit::Partition && job.layout.partition_by.is_none();
    let mut parts: BTreeMap<Partition, (Vec<String>, Vec<DataFile>)> = BTreeMap::new();
    let place = |partition: &Partition| match by_partition {
        true => partition.clone(),
        false => Partition::new(),
    };
    for section in &job.choice.sections {
        let (removed, _) = parts.entry(place(&section.partition)).or_default();
        removed.extend(section.files.iter().map(|file| file.path.clone()));
    }
    for file in files {
        parts
            .entry(place(&file.partition))
            .or_default()
            .1
            .push(file);
    }
    parts.into_values().collect()
}

fn told(failure: &TableFailure) -> Failure {
    let exit = match failure.kind {
        FailureKind::Usage => Exit::Usage,
        FailureKind::Retryable => Exit::Retry,
        FailureKind::Overtaken => Exit::Overtaken,
        FailureKind::Schema => Exit::SchemaRefused,
        FailureKind::Failed => Exit::Failed,
    };
    Failure::new(exit, failure.message.clone())
}
