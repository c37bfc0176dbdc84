//! Removes what retention gives up; see [`ledger::prune`](crate::ledger::prune)
//! for what may go and why. Asks the lake alone.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{StreamExt as _, stream};

use super::config::RetentionConfig;
use super::failure::Failure;
use super::lake::{LakeTable, lake_tables};
use super::report::{PruneReport, TablePruned};
use crate::ledger::prune::{Keep, PruneOutcome, prune_table, safe_age};
use crate::ledger::verify::Evidence;
use crate::ledger::{PastRun, read_reports};
use crate::store::{Store, present};

/// Tables that are pruned at once.
const PRUNED_AT_ONCE: usize = 4;

/// What is wanted of a prune.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneOptions {
    /// Globs of tables; all of the lake when empty.
    pub tables: Vec<String>,
    /// Which versions stay.
    pub retention: RetentionConfig,
    /// Only say what would go.
    pub dry_run: bool,
    /// Replaces the age below which no file is removed: **a run that is working
    /// then loses the files it is about to publish**. For tests.
    pub unsafe_min_age: Option<Duration>,
}

/// Prunes the tables of the lake.
///
/// # Errors
/// The lake cannot be read or asked for the time. What fails for one table is in
/// the report.
pub async fn prune_lake(lake: &Store, options: &PruneOptions) -> Result<PruneReport, Failure> {
    let tables = lake_tables(lake, &options.tables).await?;
    let reports = read_reports(lake).await?;
    let longest = reports.iter().map(|run| run.elapsed_seconds);
    let longest = longest.fold(0.0, f64::max);
    let longest = Duration::try_from_secs_f64(longest).unwrap_or_default();
    let young = options.unsafe_min_age.unwrap_or(safe_age(longest));
    let keep = Keep::new(options.retention.age, options.retention.versions, young);
    // The store's clock, not ours (C5); asked once: a present that is a little
    // past makes everything younger.
    let now = present(lake).await?;
    let tables: Vec<TablePruned> = stream::iter(tables)
        .map(|table| prune(table, &reports, &keep, now, options.dry_run))
        .buffered(PRUNED_AT_ONCE)
        .collect()
        .await;
    let mut warnings = Vec::new();
    if options.unsafe_min_age.is_some() {
        warnings.push("--unsafe-min-age: files of a run that is working may be removed".to_owned());
    }
    Ok(PruneReport {
        lake: lake.url().to_string(),
        dry_run: options.dry_run,
        keep_age_seconds: keep.age.as_secs(),
        keep_versions: keep.versions,
        min_file_age_seconds: young.as_secs(),
        tables,
        warnings,
    })
}

async fn prune(
    table: LakeTable,
    reports: &[PastRun],
    keep: &Keep,
    now: DateTime<Utc>,
    dry_run: bool,
) -> TablePruned {
    let evidence = Evidence::of(reports, &table.name);
    let (outcome, error) = match prune_table(&table.store, &evidence, keep, now, dry_run).await {
        Ok(outcome) => (outcome, None),
        Err(error) => (PruneOutcome::default(), Some(Failure::from(error).into())),
    };
    TablePruned {
        name: table.name,
        outcome,
        error,
    }
}
