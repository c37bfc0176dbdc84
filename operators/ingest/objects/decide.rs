//! Has this object changed?

use highwater::run::config::Compare;
use highwater::store::objects::Listed;

use super::recorded::Record;

/// What is needed to tell whether an object has changed.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The policy.
    pub compare: Compare,
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
                _ => by_time(source, target),
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
            None => by_time(source, target),
        }
    }
}

fn is_as_recorded(source: &Listed, target: &Listed, record: &Record) -> bool {
    let copied = record.bytes == source.bytes && record.source_version == source.version();
    // Some stores do not tell what they call a new object.
    let untouched = record.target_version.is_empty() || record.target_version == target.version();
    copied && untouched
}

fn by_time(source: &Listed, target: &Listed) -> Verdict {
    match target.modified_ns >= source.modified_ns {
        true => Verdict::Same,
        false => Verdict::Differs,
    }
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

    fn verdict(
        compare: Compare,
        source: &Listed,
        target: &Listed,
        record: Option<&Record>,
    ) -> Verdict {
        let rules = Rules { compare };
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
        let mut record = Record {
            key: "k".to_owned(),
            bytes: 1,
            source_version: source.version(),
            target_version: target.version(),
            digest: None,
        };
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
        let mut record = Record {
            key: "k".to_owned(),
            bytes: 1,
            source_version: source.version(),
            target_version: target.version(),
            digest: None,
        };
        let by_time = Compare::SizeTime;
        let found = verdict(by_time, &source, &target, Some(&record));
        assert_eq!(found, Verdict::Same);
        record.source_version = "@8".to_owned();
        let found = verdict(by_time, &source, &target, Some(&record));
        assert_eq!(found, Verdict::Differs);
    }

    #[test]
    fn an_older_target_differs() {
        let (source, target) = (listed(1, 9, None), listed(1, 5, None));
        for compare in [Compare::Etag, Compare::SizeTime, Compare::Checksum] {
            assert_eq!(verdict(compare, &source, &target, None), Verdict::Differs);
        }
    }
}
