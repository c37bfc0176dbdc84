//! Which keys are wanted.

use globset::{Glob, GlobSet, GlobSetBuilder};
use highwater::store::objects::Refused;
use highwater::telemetry::objects::ObjectTally;

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

    /// Counts and names what was refused, as far as it is wanted. What cannot be read may
    /// be a folder with wanted keys: only what is left out by name is not told.
    pub(crate) fn tell(&self, refused: &mut Vec<Refused>, tally: &ObjectTally) {
        for refused in refused.drain(..) {
            let key = &refused.key;
            let is_wanted = match refused.is_unreadable() {
                true => !self.exclude.is_match(key),
                false => self.takes(key),
            };
            if is_wanted {
                tally.refused.add(1);
                tally.failed(key, &refused.reason);
            }
        }
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

    #[test]
    fn a_folder_that_cannot_be_read_is_told_whatever_is_asked_for() {
        let filter = KeyFilter::new(&["*.csv".to_owned()], &["lost+found/*".to_owned()]).unwrap();
        let tally = ObjectTally::new(None);
        let refused = |key: &str, reason: &str| Refused {
            key: key.to_owned(),
            reason: reason.to_owned(),
        };
        let unreadable = "it is there and cannot be read: no permission";
        let mut all = vec![
            refused("private/", unreadable),
            refused("lost+found/", unreadable),
            refused("link", "it is a symbolic link, which is not followed"),
            refused("link.csv", "it is a symbolic link, which is not followed"),
        ];
        filter.tell(&mut all, &tally);
        assert!(all.is_empty());
        assert_eq!((tally.refused.get(), tally.failed.get()), (2, 2));
    }
}
