//! What a table is made of and how, as its watermark says it. Where a source has not moved
//! since and all of this is as it was, nothing is looked at.
//!
//! What documents were set aside by is told only where some were: else a limit that is
//! another one changes nothing, and no source is read again for it. A limit is what holds
//! for a run, not what the configuration says: little memory makes it narrower.

use highwater::run::config::InstanceConfig;
use highwater_operators::ingest::documents::EXTRACTION;
use highwater_operators::transform::extract::Limits;
use serde::{Deserialize, Serialize};

use super::instance::Instance;

/// What stands before the limits under which documents were set aside.
const UNDER: &str = "; set aside under ";

/// How a table is made.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// What all of its rows depend on.
    all: String,
    /// What those documents depend on that have no text.
    under: Under,
}

impl Reading {
    /// How the table of an instance is made now, with vectors of the model of this name.
    pub(super) fn of(instance: &Instance, model: &str, limits: &Limits) -> Self {
        let InstanceConfig {
            include,
            exclude,
            key_columns,
            text_column,
            ..
        } = &instance.config;
        let recipe = &instance.recipe;
        Self {
            all: format!(
                "{recipe}; {model}; {include:?} {exclude:?} {key_columns:?} {text_column:?}"
            ),
            under: Under::of(limits),
        }
    }

    /// As the watermark says it; whether documents wait for other limits or another version
    /// of this program.
    pub(super) fn text(&self, do_wait: bool) -> String {
        match do_wait {
            true => format!("{}{UNDER}{}", self.all, self.under.text()),
            false => self.all.clone(),
        }
    }

    /// Whether a table whose watermark says `then` is what it would be now, if its source
    /// is where it was.
    pub(super) fn still_holds(&self, then: &str) -> bool {
        let Some(rest) = then.strip_prefix(self.all.as_str()) else {
            return false;
        };
        let under = rest.strip_prefix(UNDER).and_then(Under::read);
        rest.is_empty() || under.is_some_and(|then| !then.is_overcome_by(&self.under))
    }
}

/// What keeps documents from having text, although they are the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Under {
    /// The largest document that was read, in bytes.
    file_bytes: u64,
    /// The longest time that one took.
    milliseconds: u64,
    /// The most memory of a process that read one.
    mebibytes: u64,
    /// The version of what reads them.
    version: String,
}

impl Under {
    fn of(limits: &Limits) -> Self {
        Self {
            file_bytes: limits.file_bytes,
            milliseconds: u64::try_from(limits.time.as_millis()).unwrap_or(u64::MAX),
            // As a note says it: a few bytes more or less let no document in.
            mebibytes: limits.memory_bytes >> 20,
            version: EXTRACTION.to_owned(),
        }
    }

    fn text(&self) -> String {
        // What cannot be written cannot be read either: then the source is looked at.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Whether a document may have text now that had none then.
    fn is_overcome_by(&self, now: &Self) -> bool {
        now.file_bytes > self.file_bytes
            || now.milliseconds > self.milliseconds
            || now.mebibytes > self.mebibytes
            || now.version != self.version
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn under(all: &str, file_bytes: u64, seconds: u64, mib: u64) -> Reading {
        Reading {
            all: all.to_owned(),
            under: Under::of(&Limits {
                file_bytes,
                time: Duration::from_secs(seconds),
                memory_bytes: mib << 20,
                ..Limits::default()
            }),
        }
    }

    #[test]
    fn where_nothing_waits_no_limit_matters() {
        let then = under("recipe; model", 10, 10, 10).text(false);
        assert!(under("recipe; model", 99, 99, 99).still_holds(&then));
        assert!(!under("recipe; another model", 10, 10, 10).still_holds(&then));
        assert!(!under("recipe", 10, 10, 10).still_holds(&then));
    }

    /// Guards `is_overcome_by`, limit by limit.
    #[test]
    fn what_waits_for_a_wider_limit_is_looked_at_when_it_is_wider() {
        let then = under("r", 10, 10, 10).text(true);
        for (file_bytes, seconds, mib, holds) in [
            (10, 10, 10, true),
            (9, 9, 9, true),
            (11, 10, 10, false),
            (10, 11, 10, false),
            (10, 10, 11, false),
        ] {
            let now = under("r", file_bytes, seconds, mib);
            assert_eq!(
                now.still_holds(&then),
                holds,
                "{file_bytes} {seconds} {mib}"
            );
        }
        let mut newer = under("r", 10, 10, 10);
        newer.under.version += ".1";
        assert!(!newer.still_holds(&then));
        assert!(!under("r; more", 10, 10, 10).still_holds(&then));
    }

    /// What nobody writes there is no reason not to look.
    #[test]
    fn what_cannot_be_read_does_not_hold() {
        let now = under("r", 10, 10, 10);
        for then in [
            "",
            "r; more",
            "r; set aside under ",
            "r; set aside under {}",
        ] {
            assert!(!now.still_holds(then), "{then}");
        }
    }
}
