//! Which keys are wanted.

use globset::{Glob, GlobSet, GlobSetBuilder};

/// Globs of keys to take and to leave out.
#[derive(Debug, Clone)]
pub struct KeyFilter {
    include: GlobSet,
    exclude: GlobSet,
    all: bool,
}

impl KeyFilter {
    /// Takes what matches one of `include` (everything, where that is empty) and
    /// none of `exclude`.
    ///
    /// # Errors
    /// The glob that is none.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, String> {
        Ok(Self {
            include: set(include)?,
            exclude: set(exclude)?,
            all: include.is_empty(),
        })
    }

    /// Whether a key is wanted.
    #[must_use]
    pub fn takes(&self, key: &str) -> bool {
        (self.all || self.include.is_match(key)) && !self.exclude.is_match(key)
    }
}

fn set(globs: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let parsed = Glob::new(glob);
        set.add(parsed.map_err(|error| format!("\"{glob}\" is no glob: {}", error.kind()))?);
    }
    set.build().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_left_out_wins() {
        let globs = |globs: &[&str]| {
            globs
                .iter()
                .map(|glob| (*glob).to_owned())
                .collect::<Vec<_>>()
        };
        let filter = KeyFilter::new(&globs(&["logs/*", "*.csv"]), &globs(&["*/tmp/*"])).unwrap();
        for (key, taken) in [
            ("logs/a", true),
            ("logs/a/b", true),
            ("x/y.csv", true),
            ("x/tmp/y.csv", false),
            ("x/y", false),
        ] {
            assert_eq!(filter.takes(key), taken, "{key}");
        }
        assert!(KeyFilter::new(&[], &[]).unwrap().takes("anything"));
    }
}
