//! Is the table what its log says, and is the log whole? (C7)
//!
//! | level | what is checked |
//! |---|---|
//! | 1 | the chain and seals of the log, evidence of commits that it lacks, every file's size |
//! | 2 | SHA-256 of the content of a share of the files |
//! | 3 | every file decoded, its rows counted, its statistics held against its values |
//!
//! A table may be committed to and pruned meanwhile: whatever is found is looked
//! at again with the newest head before it is called damage. Nothing is written.
//!
//! | file | what it holds |
//! |---|---|
//! | `finding` | [`Finding`]: what, where, and what to do |
//! | `chain` | entries against each other |
//! | `evidence` | entries against what else remembers them |
//! | `files` | files against the log |
//! | `content` | what is in a file against what the log says of it |
//! | `share` | [`Share`]: which files are read today |

mod chain;
mod content;
mod evidence;
mod files;
mod finding;
mod share;

use serde::{Deserialize, Serialize};

pub use evidence::Evidence;
pub use finding::{Finding, FindingKind};
pub use share::Share;

use super::entries::{LogFolder, Pruned, load_folders};
use super::error::LedgerError;
use super::table::Ledger;
use crate::store::{Store, StoreError, StoreErrorKind};

/// A table that changes under every look is looked at so often.
const MOST_LOOKS: usize = 5;

/// How closely a table is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// The share of files whose SHA-256 is computed.
    pub share: Share,
    /// Which share it is: consecutive seeds cover all files.
    pub seed: u64,
    /// Whether every file is decoded; all are hashed then.
    pub full: bool,
}

/// What was looked at in one table, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Checked {
    /// The version that was checked; `None` where there is no table.
    pub version: Option<u64>,
    /// Log entries read.
    pub entries: u64,
    /// Files of the version.
    pub files: u64,
    /// Their bytes, by the log.
    pub bytes: u64,
    /// Rows, by the log.
    pub rows: u64,
    /// Files whose SHA-256 was computed.
    pub hashed_files: u64,
    /// Their bytes.
    pub hashed_bytes: u64,
    /// Files that were decoded.
    pub decoded_files: u64,
    /// Rows that were decoded.
    pub decoded_rows: u64,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl Checked {
    /// What is damaged, without mere notes.
    pub fn damage(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.kind.is_damage())
    }

    /// With what an `earlier` look did not see as mere notes: what is damaged stays
    /// so, what passes is the work of others.
    fn doubting(mut self, earlier: &Self) -> Self {
        for now in &mut self.findings {
            let same = |then: &Finding| (then.kind, &then.path) == (now.kind, &now.path);
            if now.kind.is_damage() && !earlier.findings.iter().any(same) {
                let kind = now.kind.words();
                now.what = format!("{kind}: {}, seen once while the table changed", now.what);
                now.kind = FindingKind::Note;
                now.advice = Some("verify again while nothing runs".to_owned());
            }
        }
        self
    }
}

/// Verifies the table at `store`; `evidence` must have been gathered before.
///
/// # Errors
/// The store cannot be read now. Damage is no error: it is found.
pub async fn verify_table(
    store: &Store,
    evidence: &Evidence,
    depth: Depth,
) -> Result<Checked, LedgerError> {
    let mut before = LogFolder::list(store).await?;
    let mut checked = look(store, evidence, depth).await?;
    for looks in 1..MOST_LOOKS {
        if checked.damage().next().is_none() {
            break;
        }
        // Was the table committed to, or pruned, while it was looked at?
        let after = LogFolder::list(store).await?;
        if before.entries == after.entries {
            break;
        }
        before = after;
        let again = look(store, evidence, depth).await?;
        let last = looks + 1 == MOST_LOOKS;
        checked = if last {
            again.doubting(&checked)
        } else {
            again
        };
    }
    Ok(checked)
}

async fn look(store: &Store, evidence: &Evidence, depth: Depth) -> Result<Checked, LedgerError> {
    let mut checked = Checked::default();
    // Before the head is read: what a run adds afterwards is no evidence of loss.
    let loads = load_folders(store).await?;
    let pruned = Pruned::read(store).await?;
    let log = chain::read(store, pruned).await?;
    checked.entries = log.entries.len() as u64;
    checked.findings.extend(log.findings());
    let ledger = match Ledger::open(store.clone()).await {
        Ok(ledger) => ledger,
        Err(error) => {
            checked.findings.push(unreadable(store, error)?);
            checked.findings.extend(evidence.against_log(&log));
            return Ok(checked);
        }
    };
    let head = ledger.head();
    checked.findings.extend(evidence.against_log(&log));
    checked
        .findings
        .extend(evidence.against_head(head, &loads, &log));
    let Some(head) = head else {
        return Ok(checked);
    };
    checked.version = Some(head.version);
    (checked.files, checked.bytes, checked.rows) = (head.files, head.bytes, head.rows);
    let files = match ledger.files().await {
        Ok(files) => files,
        Err(error) => {
            checked.findings.push(unreadable(store, error)?);
            return Ok(checked);
        }
    };
    match log.against_head(store, head.version, &files).await {
        Ok(finding) => checked.findings.extend(finding),
        Err(error) => checked.findings.push(unreadable(store, error)?),
    }
    files::check(store, &files, depth, &mut checked).await?;
    Ok(checked)
}

/// A log that cannot be read is damage, unless the store is what fails.
fn unreadable(store: &Store, error: LedgerError) -> Result<Finding, LedgerError> {
    let passes = |error: &StoreError| {
        !matches!(
            error.kind,
            StoreErrorKind::NotFound | StoreErrorKind::Failed | StoreErrorKind::Usage
        )
    };
    match error {
        LedgerError::Store(error) if passes(&error) => Err(error.into()),
        error => Ok(Finding::new(
            FindingKind::LogUnreadable,
            "_delta_log",
            error.to_string(),
        )
        .advise(format!(
            "restore {}_delta_log from a copy of the lake, or remove the folder and run again",
            store.url()
        ))),
    }
}
