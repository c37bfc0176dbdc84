//! What became of objects, for people: of a run, a plan and a verification.

use std::collections::BTreeMap;

use super::columns::wrap;
use super::{Difference, MOST_NAMED, ObjectsReport};
use crate::telemetry::units;

/// Failures and differences that are told to people.
const MOST_TOLD: usize = 10;

impl ObjectsReport {
    /// What a run did, at most `width` columns wide.
    #[must_use]
    pub fn render(&self, width: usize, verbose: bool) -> String {
        let mut lines = vec![self.headline()];
        lines.extend(self.about_extra());
        if self.dry_run {
            lines.extend(self.about_differences());
        }
        if self.vanished > 0 {
            lines.push(format!(
                "{} gone between the listing and the copy",
                units::counted(self.vanished, "object")
            ));
        }
        if !self.dry_run && self.copied > 0 {
            lines.push(self.about_speed());
        }
        lines.extend(self.about_requests());
        if verbose {
            lines.extend(self.slowest.iter().map(|slow| {
                format!(
                    "slow: {:?}, {}, {:.1} s",
                    slow.key,
                    units::bytes(slow.bytes),
                    slow.seconds
                )
            }));
        }
        lines.extend(self.about_failures(if verbose { MOST_NAMED } else { MOST_TOLD }));
        wrapped(&lines, width)
    }

    /// What a run would do.
    #[must_use]
    pub fn render_plan(&self, width: usize) -> String {
        let mut text = self.render(width, false);
        if let Some(error) = &self.error {
            text += &wrapped(&[format!("! {}", error.message)], width);
        }
        text
    }

    /// What a verification found.
    #[must_use]
    pub fn render_verify(&self, width: usize) -> String {
        let differ = self.copied - self.missing.min(self.copied);
        let counts = [
            (self.missing, "missing in the target"),
            (differ, "different"),
            (self.extra, "only in the target"),
            (self.failed, "cannot be copied"),
        ];
        let found: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{} {what}", units::count(*count)))
            .collect();
        let found = match found.is_empty() {
            true => "all are the same".to_owned(),
            false => found.join(", "),
        };
        let mut lines = vec![format!(
            "{} -> {}: {} compared by listings: {found}",
            self.source,
            self.target,
            units::counted(self.source_objects, "object"),
        )];
        lines.extend(self.about_differences());
        lines.extend(self.about_failures(MOST_TOLD));
        lines.extend(self.about_requests_so_far());
        if let Some(error) = &self.error {
            lines.push(format!("! {}", error.message));
        } else if self.copied + self.deleted > 0 {
            let rest = match self.extra {
                0 => "",
                _ => ", with `delete` it also removes what only the target has",
            };
            lines.push(format!(
                "NOT EQUAL: a run copies what is missing or different{rest}"
            ));
        }
        wrapped(&lines, width)
    }

    fn headline(&self) -> String {
        let (copied, deleted) = match self.dry_run {
            true => ("to copy", "to delete"),
            false => ("copied", "deleted"),
        };
        let mut parts = vec![match self.copied {
            0 => format!("nothing {copied}"),
            some => format!(
                "{} {copied} ({})",
                units::counted(some, "object"),
                units::bytes(self.copied_bytes)
            ),
        }];
        if self.copied_by_store > 0 {
            parts.push(format!(
                "{} of them by the store itself",
                units::count(self.copied_by_store)
            ));
        }
        parts.push(match self.source_objects {
            0 => "the source has no objects".to_owned(),
            _ => format!("{} unchanged", units::count(self.unchanged)),
        });
        if self.deleted > 0 {
            parts.push(format!("{} {deleted}", units::count(self.deleted)));
        }
        if self.failed > 0 {
            parts.push(format!("{} FAILED", units::count(self.failed)));
        }
        format!("{} -> {}: {}", self.source, self.target, parts.join(", "))
    }

    fn about_extra(&self) -> Option<String> {
        match self.extra - self.deleted.min(self.extra) {
            0 => None,
            1 => Some("1 object is only in the target and stays (`delete` removes it)".to_owned()),
            left => Some(format!(
                "{} are only in the target and stay (`delete` removes them)",
                units::counted(left, "object")
            )),
        }
    }

    fn about_differences(&self) -> impl Iterator<Item = String> {
        let all = self.copied + self.extra;
        let untold = all.saturating_sub(self.differing.len().min(MOST_TOLD) as u64);
        let told = self.differing.iter().take(MOST_TOLD).map(|one| {
            let how = match one.how {
                Difference::Missing => "missing",
                Difference::Differs => "different",
                Difference::Extra => "only in the target",
            };
            format!("  {how}: {:?}", one.key)
        });
        let more = (untold > 0 && !self.differing.is_empty())
            .then(|| format!("  and {} more; --json names more", units::count(untold)));
        told.chain(more)
    }

    fn about_failures(&self, most: usize) -> impl Iterator<Item = String> {
        let untold = self
            .failed
            .saturating_sub(most.min(self.failures.len()) as u64);
        let failures = self.failures.iter().take(most);
        failures
            .map(|failure| format!("! {:?}: {}", failure.key, failure.reason))
            .chain((untold > 0).then(|| format!("! and {} more failed", units::count(untold))))
    }

    fn about_requests(&self) -> Option<String> {
        if !self.dry_run {
            return self.about_requests_so_far();
        }
        match (self.requests.is_empty(), self.planned.is_empty()) {
            (true, true) => None,
            (true, false) => Some(format!("requests of a run: {}", counts(&self.planned))),
            (false, true) => Some(format!("requests of a run: {}", counts(&self.requests))),
            (false, false) => Some(format!(
                "requests of a run: {} as now, then {}",
                counts(&self.requests),
                counts(&self.planned)
            )),
        }
    }

    fn about_requests_so_far(&self) -> Option<String> {
        let repeated = match self.retries {
            0 => String::new(),
            some => format!("; {} repeated", units::count(some)),
        };
        let hedged = match self.hedged {
            0 => String::new(),
            some => format!(
                "; {} late and asked twice, where {} answered sooner",
                units::count(some),
                units::counted(self.hedges_won, "second request")
            ),
        };
        (!self.requests.is_empty())
            .then(|| format!("requests: {}{repeated}{hedged}", counts(&self.requests)))
    }

    fn about_speed(&self) -> String {
        format!(
            "{} objects/s, {}, at most {} at once",
            units::count(units::whole(self.objects_per_second)),
            units::rate(self.bytes_per_second),
            units::count(self.peak_at_once)
        )
    }
}

fn counts(of: &BTreeMap<String, u64>) -> String {
    let each = of
        .iter()
        .map(|(kind, count)| format!("{kind} {}", units::count(*count)));
    each.collect::<Vec<_>>().join(", ")
}

fn wrapped(lines: &[String], width: usize) -> String {
    lines
        .iter()
        .map(|line| match line.starts_with(' ') {
            // A key, which is told as it is.
            true => format!("{line}\n"),
            false => wrap(line, width, 2) + "\n",
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{DifferingObject, FailedObject};
    use super::*;

    fn compared() -> ObjectsReport {
        let differing = [
            ("f/k3", Difference::Differs),
            ("new", Difference::Missing),
            ("old", Difference::Extra),
        ];
        ObjectsReport {
            source: "s3://one/x".to_owned(),
            target: "s3://two/x".to_owned(),
            dry_run: true,
            source_objects: 14,
            copied: 2,
            copied_bytes: 2048,
            missing: 1,
            unchanged: 12,
            extra: 1,
            requests: [("list".to_owned(), 6)].into(),
            planned: [("get".to_owned(), 2), ("put".to_owned(), 2)].into(),
            differing: differing
                .map(|(key, how)| DifferingObject {
                    key: key.to_owned(),
                    how,
                })
                .into(),
            ..ObjectsReport::default()
        }
    }

    #[test]
    fn a_plan_of_objects() {
        assert_eq!(
            compared().render_plan(100),
            "\
s3://one/x -> s3://two/x: 2 objects to copy (2 KiB), 12 unchanged
1 object is only in the target and stays (`delete` removes it)
  different: \"f/k3\"
  missing: \"new\"
  only in the target: \"old\"
requests of a run: list 6 as now, then get 2, put 2
"
        );
    }

    #[test]
    fn a_verification_of_objects() {
        let found = compared();
        assert_eq!(
            found.render_verify(100),
            "\
s3://one/x -> s3://two/x: 14 objects compared by listings: 1 missing in the target, 1 different, 1
  only in the target
  different: \"f/k3\"
  missing: \"new\"
  only in the target: \"old\"
requests: list 6
NOT EQUAL: a run copies what is missing or different, with `delete` it also removes what only the
  target has
"
        );
        assert_eq!(found.exit_of_verify(), super::super::Exit::Damaged);
        let equal = ObjectsReport {
            copied: 0,
            missing: 0,
            extra: 0,
            differing: Vec::new(),
            ..found
        };
        let text = equal.render_verify(100);
        assert!(
            text.contains("14 objects compared by listings: all are the same\n"),
            "{text}"
        );
        assert_eq!(equal.exit_of_verify(), super::super::Exit::Done);
    }

    #[test]
    fn a_run_names_what_failed() {
        let report = ObjectsReport {
            source: "file:a".to_owned(),
            target: "file:b".to_owned(),
            source_objects: 30,
            unchanged: 15,
            failed: 15,
            failures: (0..15)
                .map(|number| FailedObject {
                    key: format!("k{number}"),
                    reason: "no permission".to_owned(),
                })
                .collect(),
            ..ObjectsReport::default()
        };
        let text = report.render(100, false);
        assert!(
            text.starts_with("file:a -> file:b: nothing copied, 15 unchanged, 15 FAILED\n"),
            "{text}"
        );
        assert!(
            text.ends_with("! \"k9\": no permission\n! and 5 more failed\n"),
            "{text}"
        );
    }
}
