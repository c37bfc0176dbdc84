//! The log against what else remembers its commits (C7).
//!
//! A log that lost its last entries is a good log by itself. But run reports name
//! the version that each run left behind, and a load log names the commit that
//! its load began from.

use uuid::Uuid;

use super::super::lake_runs::PastRun;
use super::super::view::Head;
use super::chain::Log;
use super::{Finding, FindingKind};

/// What run reports say of one table.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    known: Vec<Known>,
}

#[derive(Debug, Clone)]
struct Known {
    version: u64,
    run: Uuid,
    /// Whether this run made the version, or only found it.
    made: bool,
    report: String,
}

const ADVICE: &str = "restore _delta_log from a copy of the lake; do not run or prune before: new commits would \
     take the place of the lost ones. If the table was put back on purpose, remove these reports";

impl Evidence {
    /// What `reports` say of `table`. Read them before the log: what a run commits
    /// meanwhile must not look lost.
    #[must_use]
    pub fn of(reports: &[PastRun], table: &str) -> Self {
        let known = reports.iter().flat_map(|report| {
            let named = report.tables.iter().filter(|named| named.name == table);
            named.filter_map(|named| {
                Some(Known {
                    version: named.version?,
                    run: report.run,
                    made: named.outcome == "committed",
                    report: report.path.clone(),
                })
            })
        });
        Self {
            known: known.collect(),
        }
    }

    /// The greatest version that any run saw, of the table that has `version` 0
    /// by the run `born`.
    fn newest(&self, born: Option<Uuid>) -> Option<&Known> {
        let of_this_table = |known: &&Known| born.is_none_or(|born| known.run >= born);
        let known = self.known.iter().filter(of_this_table);
        known.max_by_key(|known| known.version)
    }

    /// Entries that are not by the run that reported them.
    pub(super) fn against_log(&self, log: &Log) -> Vec<Finding> {
        let born = log.born;
        let mut findings = Vec::new();
        // Ids of runs are of version 7: they grow with time.
        let (earlier, these): (Vec<&Known>, Vec<&Known>) = self
            .known
            .iter()
            .partition(|known| born.is_some_and(|born| known.run < born));
        if let Some(known) = earlier.last() {
            let what = format!(
                "the table was created anew; an earlier one was at version {}",
                known.version
            );
            findings.push(Finding::new(FindingKind::Note, &known.report, what));
        }
        for known in these.into_iter().filter(|known| known.made) {
            let Some(record) = log.record(known.version) else {
                continue;
            };
            if record.run != known.run {
                let what = format!(
                    "version {} was committed by run {}, but the log has one by run {} in its place",
                    known.version, known.run, record.run
                );
                let finding = Finding::new(FindingKind::RolledBack, &known.report, what);
                findings.push(finding.advise(ADVICE));
            }
        }
        findings
    }

    /// Commits that the log lacks; `loads` are the commits that loads began from.
    pub(super) fn against_head(
        &self,
        head: Option<&Head>,
        loads: &[i64],
        log: &Log,
    ) -> Vec<Finding> {
        let version = head.map(|head| head.version);
        let commit = head.map_or(0, |head| head.commit);
        let holds = version.map_or("no version".to_owned(), |v| format!("version {v}"));
        let mut findings = Vec::new();
        if let Some(known) = self
            .newest(log.born)
            .filter(|known| Some(known.version) > version)
        {
            let what = format!(
                "run {} left version {}, but the log holds {holds}",
                known.run, known.version
            );
            let finding = Finding::new(FindingKind::RolledBack, &known.report, what);
            findings.push(finding.advise(ADVICE));
        }
        if let Some(load) = loads.iter().max().filter(|load| **load > commit) {
            let path = format!("_highwater/loads/{load:020}");
            let what = format!("a load began from commit {load}, but the log ends at {commit}");
            let finding = Finding::new(FindingKind::RolledBack, path, what);
            findings.push(finding.advise(ADVICE));
        }
        findings
    }

    /// Why nothing may be removed from the table at `head`: the log lacks commits
    /// whose files would be taken for leftovers.
    pub(in super::super) fn forbids(
        &self,
        head: &Head,
        loads: &[i64],
        born: Option<Uuid>,
    ) -> Option<String> {
        if let Some(known) = self
            .newest(born)
            .filter(|known| known.version > head.version)
        {
            return Some(format!(
                "{} says that it was at version {}, but its log ends at {}",
                known.report, known.version, head.version
            ));
        }
        let load = loads.iter().max().filter(|load| **load > head.commit)?;
        Some(format!(
            "a load began from commit {load}, but its log ends at commit {}",
            head.commit
        ))
    }
}
