//! Has this object changed?

use highwater::run::config::Compare;
use highwater::store::objects::Listed;

use super::recorded::Record;

/// What is needed to tell whether an object has changed.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The policy.
    pub compare: Compare,
    /// Whether the target gives what is written the time of its source, as a folder
    /// does; a bucket has the time of the writing.
    pub target_keeps_times: bool,
}

/// What is known so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Same,
    Differs,
    /// The record must be asked.
    AskRecord,
}

impl Rules {
    /// What both listings alone tell.
    pub(super) fn by_listings(self, source: &Listed, target: &Listed) -> Verdict {
        if source.bytes != target.bytes {
            return Verdict::Differs;
        }
        if self.compare == Compare::SizeTime {
            // What comes out of the record of a bucket has no time.
            return match target.modified_ns {
                0 => Verdict::AskRecord,
                _ => self.by_time(source, target),
            };
        }
        match (source.md5(), target.md5()) {
            (Some(here), Some(there)) if here.eq_ignore_ascii_case(there) => Verdict::Same,
            // Tags of encrypted objects look the same and are not: ask.
            _ => Verdict::AskRecord,
        }
    }

    /// What the record adds: the source is what was copied then, and the target
    /// what was written then.
    pub(super) fn by_record(
        self,
        source: &Listed,
        target: &Listed,
        record: Option<&Record>,
    ) -> Verdict {
        let both_tagged = source.md5().is_some() && target.md5().is_some();
        match record {
            Some(record) if is_as_recorded(source, target, record) => Verdict::Same,
            Some(_) => Verdict::Differs,
            None if both_tagged || self.compare == Compare::Checksum => Verdict::Differs,
            None => self.by_time(source, target),
        }
    }

    fn by_time(self, source: &Listed, target: &Listed) -> Verdict {
        let (source, target) = (source.modified_ns, target.modified_ns);
        // Where times are kept, a later one is that of another content: of a source that
        // was changed in place while it was copied, or of who wrote the target.
        let same = match self.target_keeps_times {
            true => is_kept(source, target),
            false => target >= source,
        };
        match same {
            true => Verdict::Same,
            false => Verdict::Differs,
        }
    }
}

/// Units of the times that file systems keep, in nanoseconds: among them 100 ns (NTFS,
/// SMB), 10 ms (exFAT) and two seconds (FAT).
const UNITS_NS: [i64; 7] = [
    1,
    100,
    1_000,
    1_000_000,
    10_000_000,
    1_000_000_000,
    2_000_000_000,
];

/// Whether a time is what a file system makes of another.
fn is_kept(source: i64, target: i64) -> bool {
    let kept = |unit| target == source - source.rem_euclid(unit);
    UNITS_NS.into_iter().any(kept)
}

fn is_as_recorded(source: &Listed, target: &Listed, record: &Record) -> bool {
    let copied = record.bytes == source.bytes && record.source_version == source.version();
    // Some stores do not tell what they call a new object.
    let untouched = record.target_version.is_empty() || record.target_version == target.version();
    copied && untouched
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(bytes: u64, modified_ns: i64, etag: Option<&str>) -> Listed {
        Listed {
            key: "k".to_owned(),
            bytes,
            modified_ns,
            etag: etag.map(str::to_owned),
        }
    }

    /// What was recorded when the one was copied and became the other.
    fn recorded(source: &Listed, target: &Listed) -> Record {
        Record {
            key: source.key.clone(),
            bytes: source.bytes,
            source_version: source.version(),
            target_version: target.version(),
            digest: None,
        }
    }

    fn verdict(
        compare: Compare,
        source: &Listed,
        target: &Listed,
        record: Option<&Record>,
    ) -> Verdict {
        let rules = Rules {
            compare,
            target_keeps_times: false,
        };
        match rules.by_listings(source, target) {
            Verdict::AskRecord => rules.by_record(source, target, record),
            verdict => verdict,
        }
    }

    const A: &str = "0123456789abcdef0123456789abcdef";
    const B: &str = "1123456789abcdef0123456789abcdef";

    #[test]
    fn tags_of_the_content_decide_alone() {
        let etag = Compare::Etag;
        assert_eq!(
            verdict(etag, &listed(1, 9, Some(A)), &listed(1, 0, Some(A)), None),
            Verdict::Same
        );
        assert_eq!(
            verdict(etag, &listed(1, 0, Some(A)), &listed(1, 9, Some(B)), None),
            Verdict::Differs
        );
        assert_eq!(
            verdict(etag, &listed(2, 0, Some(A)), &listed(1, 9, Some(A)), None),
            Verdict::Differs
        );
    }

    #[test]
    fn else_the_record_and_then_the_time() {
        let (source, target) = (listed(1, 5, None), listed(1, 9, Some("a-2")));
        let mut record = recorded(&source, &target);
        let etag = Compare::Etag;
        assert_eq!(verdict(etag, &source, &target, None), Verdict::Same);
        assert_eq!(
            verdict(Compare::Checksum, &source, &target, None),
            Verdict::Differs
        );
        assert_eq!(
            verdict(Compare::Checksum, &source, &target, Some(&record)),
            Verdict::Same
        );
        // An older file was moved there: time would not tell.
        let moved = listed(1, 3, None);
        assert_eq!(
            verdict(etag, &moved, &target, Some(&record)),
            Verdict::Differs
        );
        assert_eq!(
            verdict(Compare::SizeTime, &moved, &target, Some(&record)),
            Verdict::Same
        );
        record.target_version = "other".to_owned();
        assert_eq!(
            verdict(etag, &source, &target, Some(&record)),
            Verdict::Differs
        );
    }

    #[test]
    fn what_has_no_time_is_asked_of_the_record() {
        let (source, target) = (listed(1, 9, Some(A)), listed(1, 0, Some(B)));
        let mut record = recorded(&source, &target);
        let by_time = Compare::SizeTime;
        let found = verdict(by_time, &source, &target, Some(&record));
        assert_eq!(found, Verdict::Same);
        record.source_version = "@8".to_owned();
        let found = verdict(by_time, &source, &target, Some(&record));
        assert_eq!(found, Verdict::Differs);
    }

    #[test]
    fn where_times_are_kept_a_later_one_is_of_another_content() {
        let rules = Rules {
            compare: Compare::Etag,
            target_keeps_times: true,
        };
        let at = 1_700_000_001_123_456_789;
        let by_time =
            |target| rules.by_record(&listed(1, at, None), &listed(1, target, None), None);
        for ago in [0, 89, 789, 456_789, 3_456_789, 123_456_789, 1_123_456_789] {
            let kept = at - ago;
            assert_eq!(by_time(kept), Verdict::Same, "{kept}");
        }
        for other in [at + 1, at - 1, at + 123_456_789, at - 2_000_000_000] {
            assert_eq!(by_time(other), Verdict::Differs, "{other}");
        }
    }

    #[test]
    fn an_older_target_differs() {
        let (source, target) = (listed(1, 9, None), listed(1, 5, None));
        for compare in [Compare::Etag, Compare::SizeTime, Compare::Checksum] {
            assert_eq!(verdict(compare, &source, &target, None), Verdict::Differs);
        }
    }
}
