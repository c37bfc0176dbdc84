//! What is carried of an object beside its content.

use http::{HeaderMap, HeaderName};

/// Tags, as they are told when an object is written: `name=value&...`.
pub(super) const TAGGING: HeaderName = HeaderName::from_static("x-amz-tagging");

/// What is carried of an object beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carry {
    /// Content type, metadata and the like.
    pub metadata: bool,
    /// Tags.
    pub tags: bool,
}

impl Carry {
    /// Of all that is known of an object what is carried.
    #[must_use]
    pub fn of(self, attributes: HeaderMap) -> HeaderMap {
        if self.metadata && self.tags {
            return attributes;
        }
        let wanted = |name: &HeaderName| match *name == TAGGING {
            true => self.tags,
            false => self.metadata,
        };
        let kept = attributes.iter().filter(|(name, _)| wanted(name));
        kept.map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_is_what_was_asked_for() {
        let mut all = HeaderMap::new();
        all.insert("content-type", http::HeaderValue::from_static("text/plain"));
        all.insert("x-amz-meta-owner", http::HeaderValue::from_static("me"));
        all.insert(TAGGING, http::HeaderValue::from_static("a=b"));
        for (metadata, tags, kept) in [
            (true, true, 3),
            (true, false, 2),
            (false, true, 1),
            (false, false, 0),
        ] {
            let carried = Carry { metadata, tags }.of(all.clone());
            assert_eq!(carried.len(), kept);
            assert_eq!(carried.contains_key(TAGGING), tags);
        }
    }
}
