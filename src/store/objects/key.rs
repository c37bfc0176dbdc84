//! Keys, and ranges of them. Keys are compared by the bytes of their UTF-8: the
//! order in which S3 lists them.

use serde::{Deserialize, Serialize};

use super::{Listed, Refused};

/// The prefix of our own records in a target: never copied, never deleted.
pub const OUR_OWN: &str = "_highwater/";

/// The keys after one key, up to and with another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    /// Keys come after this one; empty for all.
    pub after: String,
    /// The last key; `None` for all.
    pub upto: Option<String>,
}

/// The object whose key is the prefix of the place itself, where there is something in
/// it: below the prefix it has no key. Told once, by the first of all ranges.
pub(super) fn refused_prefix(object: &Listed, key: &str, range: &KeyRange) -> Option<Refused> {
    let is_lost = key.is_empty() && object.bytes > 0 && range.after.is_empty();
    is_lost.then(|| Refused {
        key: object.key.clone(),
        reason: "it is the prefix itself, and so has no key below it".to_owned(),
    })
}

impl KeyRange {
    /// All keys.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Whether a key is inside.
    #[must_use]
    pub fn holds(&self, key: &str) -> bool {
        key > self.after.as_str() && !self.is_beyond(key)
    }

    /// Whether a key comes after the range.
    #[must_use]
    pub fn is_beyond(&self, key: &str) -> bool {
        self.upto.as_deref().is_some_and(|upto| key > upto)
    }

    /// Whether any key that begins with `prefix` may be inside.
    #[must_use]
    pub fn touches(&self, prefix: &str) -> bool {
        let all_before = self.after.as_str() > prefix && !self.after.starts_with(prefix);
        !all_before && !self.is_beyond(prefix)
    }

    /// All keys, cut after each of these, which are in order.
    #[must_use]
    pub fn cut(after: &[String]) -> Vec<Self> {
        let mut ranges = Vec::with_capacity(after.len() + 1);
        let mut last = String::new();
        for cut in after {
            ranges.push(Self {
                after: std::mem::replace(&mut last, cut.clone()),
                upto: Some(cut.clone()),
            });
        }
        ranges.push(Self {
            after: last,
            upto: None,
        });
        ranges
    }
}

/// Why a key cannot be part of an address, if it cannot. Addresses are made
/// normal on their way: `..` would reach another object.
pub(super) fn problem_in_an_address(key: &str) -> Option<&'static str> {
    if key.split('/').any(|part| part == "." || part == "..") {
        return Some("a part of its key is `.` or `..`, which an address cannot carry");
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_key_is_in_one_range(
            mut cuts in proptest::collection::vec("[a-c/]{1,4}", 0..5),
            key in "[a-d/]{1,5}",
        ) {
            cuts.sort();
            cuts.dedup();
            let ranges = KeyRange::cut(&cuts);
            prop_assert_eq!(ranges.iter().filter(|range| range.holds(&key)).count(), 1);
        }

        #[test]
        fn a_prefix_that_does_not_touch_has_no_key_inside(
            after in "[a-c/]{0,3}",
            upto in proptest::option::of("[a-c/]{1,3}"),
            prefix in "[a-c/]{0,3}",
            rest in "[a-c/]{0,3}",
        ) {
            let range = KeyRange { after, upto };
            let key = format!("{prefix}{rest}");
            if range.holds(&key) {
                prop_assert!(range.touches(&prefix));
            }
        }
    }
}
