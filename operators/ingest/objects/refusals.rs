//! What a listing has refused: it is there, so nothing of it is gone.

use std::collections::HashSet;

use xxhash_rust::xxh3::xxh3_64;

/// Names of one listing that are known again: half a MiB of them. Where there are more,
/// nothing of it counts as gone.
const MOST_NAMES: usize = 50_000;

/// Names that one listing has refused, as hashes. Two names with the same one would leave
/// something in a target that could be removed, and do nothing else.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    names: HashSet<u64>,
    too_many: bool,
}

impl Refusals {
    /// Adds a name; one that ends with `/` is that of a folder.
    pub(super) fn add(&mut self, name: &str) {
        if self.names.len() < MOST_NAMES {
            self.names.insert(hash(name));
        } else {
            self.too_many = true;
        }
    }

    /// Whether a key is one of the names, or below one.
    pub(super) fn cover(&self, key: &str) -> bool {
        if self.names.is_empty() || self.too_many {
            return self.too_many;
        }
        let above = key.match_indices('/').filter_map(|(at, _)| key.get(..at));
        above
            .chain([key])
            .any(|name| self.names.contains(&hash(name)))
    }
}

fn hash(name: &str) -> u64 {
    xxh3_64(name.strip_suffix('/').unwrap_or(name).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_covers_itself_and_what_is_below_it() {
        let mut refusals = Refusals::default();
        assert!(!refusals.cover("a"));
        for name in ["a", "b/c/", "d//e"] {
            refusals.add(name);
        }
        for key in ["a", "a/", "a/x/y", "b/c", "b/c/x", "d//e", "d//e/x"] {
            assert!(refusals.cover(key), "{key}");
        }
        for key in ["", "a.x", "ab", "b/", "b/cd", "b/d/c", "x/a", "d/e", "/a"] {
            assert!(!refusals.cover(key), "{key}");
        }
    }

    #[test]
    fn with_too_many_nothing_is_gone() {
        let mut refusals = Refusals::default();
        (0..MOST_NAMES).for_each(|number| refusals.add(&number.to_string()));
        assert!(!refusals.cover("x"));
        refusals.add("one more");
        assert!(refusals.cover("x"));
    }
}
