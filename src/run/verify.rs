//! Is the lake what its logs say? Asks the lake alone; see
//! [`ledger::verify`](crate::ledger::verify) for what is checked.

use std::collections::BTreeSet;

use chrono::Utc;
use futures::{StreamExt as _, stream};

use super::failure::Failure;
use super::lake::{LakeTable, Wanted, lake_tables};
use super::report::{TableVerified, VerifyReport};
use crate::ledger::verify::{Checked, Depth, Evidence, Finding, FindingKind, Share, verify_table};
use crate::ledger::{PastRun, read_reports};
use crate::store::Store;

/// Tables that are verified at once: each holds a few pieces of files.
const VERIFIED_AT_ONCE: usize = 4;

/// What is wanted of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Globs of tables; all of the lake when empty.
    pub tables: Vec<String>,
    /// The share of files whose content is hashed.
    pub share: Share,
    /// Which share: the day when absent, so that daily runs cover everything.
    pub seed: Option<u64>,
    /// Whether every file is decoded.
    pub full: bool,
    /// Whether all rows are compared with the source.
    pub against_source: bool,
}

impl VerifyOptions {
    /// Whether the table of this name is wanted.
    ///
    /// # Errors
    /// A glob is none.
    pub fn takes(&self, table: &str) -> Result<bool, Failure> {
        Ok(Wanted::new(&self.tables)?.takes(table))
    }

    fn depth(&self) -> Depth {
        // A clock that is wrong reads another share, and nothing less.
        let today = u64::try_from(Utc::now().timestamp() / 86_400).unwrap_or_default();
        Depth {
            share: if self.full { Share::ALL } else { self.share },
            seed: self.seed.unwrap_or(today),
            full: self.full,
        }
    }
}

/// Verifies the tables of the lake.
///
/// # Errors
/// The lake cannot be listed. What fails for one table is in the report.
pub async fn verify_lake(lake: &Store, options: &VerifyOptions) -> Result<VerifyReport, Failure> {
    // Before any log: what a run commits meanwhile must not look lost.
    let reports = read_reports(lake).await?;
    let tables = lake_tables(lake, &options.tables).await;
    let lost = lost_tables(lake, &reports, options).await?;
    let tables = match tables {
        Err(_) if !lost.is_empty() => Vec::new(),
        tables => tables?,
    };
    let depth = options.depth();
    let mut verified: Vec<TableVerified> = stream::iter(tables)
        .map(|table| verify(table, &reports, depth))
        .buffered(VERIFIED_AT_ONCE)
        .collect()
        .await;
    verified.extend(lost);
    verified.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(VerifyReport {
        lake: lake.url().to_string(),
        share: depth.share.to_string(),
        seed: depth.seed,
        full: depth.full,
        tables: verified,
        objects: None,
        warnings: Vec::new(),
    })
}

async fn verify(table: LakeTable, reports: &[PastRun], depth: Depth) -> TableVerified {
    let evidence = Evidence::of(reports, &table.name);
    tracing::info!("{}: verifying", table.name);
    match verify_table(&table.store, &evidence, depth).await {
        Ok(checked) => TableVerified {
            name: table.name,
            checked,
            against_source: None,
            error: None,
        },
        Err(error) => TableVerified {
            name: table.name,
            checked: Checked::default(),
            against_source: None,
            error: Some(Failure::from(error).into()),
        },
    }
}

/// Tables that the newest report knows and the lake has not: not even a folder.
async fn lost_tables(
    lake: &Store,
    reports: &[PastRun],
    options: &VerifyOptions,
) -> Result<Vec<TableVerified>, Failure> {
    let there: BTreeSet<String> = lake_tables(lake, &[])
        .await?
        .into_iter()
        .map(|table| table.name)
        .collect();
    let wanted = Wanted::new(&options.tables)?;
    let Some(newest) = reports.last() else {
        return Ok(Vec::new());
    };
    let known = newest.tables.iter().filter_map(|table| {
        let version = table.version?;
        let lost = !there.contains(&table.name) && wanted.takes(&table.name);
        lost.then(|| (table.name.clone(), version))
    });
    let lost = known.map(|(name, version)| {
        let what = format!("the last run left version {version}, but the table's folder is gone");
        let finding = Finding::new(FindingKind::RolledBack, &newest.path, what)
            .advise("restore the folder from a copy of the lake, or run again to load it anew");
        TableVerified {
            name,
            checked: Checked {
                findings: vec![finding],
                ..Checked::default()
            },
            against_source: None,
            error: None,
        }
    });
    Ok(lost.collect())
}
