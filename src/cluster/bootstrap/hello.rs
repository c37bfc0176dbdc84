//! What processes say to each other before they are linked. Everything but the
//! first twelve bytes is authenticated, so it may name the job and say plainly
//! why somebody is refused.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cluster::Membership;

/// What every connection starts with: a stray one is known by it.
pub(super) const MAGIC: [u8; 8] = *b"HIGHWATR";
/// The form of everything that follows; changes with any of it.
pub(super) const PROTOCOL: u16 = 1;

/// What the connecting process says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) processes: usize,
    pub(super) workers: usize,
    pub(super) encrypted: bool,
    pub(super) version: String,
    pub(super) job: String,
    /// The run as process 0 has told it; `None` on the way to process 0.
    pub(super) run: Option<Uuid>,
}

/// What the other one answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Verdict {
    /// Come in.
    Welcome {
        /// The run.
        run: Uuid,
        /// Seed of the checksums of what the welcomed one will receive.
        seed: u64,
    },
    /// Come again: this process does not know the run yet, or another one.
    Later,
    /// Never.
    Refused(String),
}

/// The last word, which proves that the hello was no recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Confirm {
    pub(super) run: Uuid,
    /// Seed of the checksums of what the other one will receive.
    pub(super) seed: u64,
}

impl Hello {
    pub(super) fn new(membership: &Membership, to: usize, run: Option<Uuid>) -> Self {
        Self {
            from: membership.process,
            to,
            processes: membership.processes(),
            workers: membership.workers,
            encrypted: membership.encrypted(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            job: membership.job.clone(),
            run,
        }
    }

    /// Why a process that says this does not belong here, if it does not.
    pub(super) fn objection(&self, membership: &Membership) -> Option<String> {
        let here = Self::new(membership, membership.process, None);
        let differs = |what: &str, theirs: &str, ours: &str| {
            Some(format!("{what} is {theirs} there and {ours} here"))
        };
        let number = |n: usize| n.to_string();
        if self.version != here.version {
            return differs("the version", &self.version, &here.version);
        }
        if self.job != here.job {
            return differs("the job", &self.job, &here.job);
        }
        if self.processes != here.processes {
            let (theirs, ours) = (number(self.processes), number(here.processes));
            return differs("the number of processes", &theirs, &ours);
        }
        if self.workers != here.workers {
            let (theirs, ours) = (number(self.workers), number(here.workers));
            return differs("the number of workers", &theirs, &ours);
        }
        if self.encrypted != here.encrypted {
            let word = |encrypted| if encrypted { "encrypted" } else { "plaintext" };
            return differs("the link", word(self.encrypted), word(here.encrypted));
        }
        if self.to != here.to {
            return Some(format!("this is process {}, not {}", here.to, self.to));
        }
        if self.from == here.from {
            return Some(format!("process {} cannot join itself", self.from));
        }
        if self.from < here.from || self.from >= here.processes {
            return Some(format!("process {} has no business here", self.from));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn who_does_not_belong_is_told_why() {
        let here = Membership::loopback(1, 4, 2101, 2, "job");
        let there = Membership::loopback(2, 4, 2101, 2, "job");
        let hello = Hello::new(&there, 1, None);
        assert_eq!(hello.objection(&here), None);
        let objection = |change: &dyn Fn(&mut Hello)| {
            let mut hello = hello.clone();
            change(&mut hello);
            hello.objection(&here).unwrap()
        };
        for (change, why) in [
            (
                &(|h: &mut Hello| h.version = "0".into()) as &dyn Fn(&mut Hello),
                "the version is 0",
            ),
            (
                &|h| h.job = "other".into(),
                "the job is other there and job here",
            ),
            (
                &|h| h.processes = 5,
                "number of processes is 5 there and 4 here",
            ),
            (
                &|h| h.workers = 1,
                "number of workers is 1 there and 2 here",
            ),
            (
                &|h| h.encrypted = true,
                "encrypted there and plaintext here",
            ),
            (&|h| h.to = 0, "this is process 1, not 0"),
            (&|h| h.from = 1, "cannot join itself"),
            (&|h| h.from = 0, "no business"),
            (&|h| h.from = 4, "no business"),
        ] {
            assert!(objection(change).contains(why), "{}", objection(change));
        }
    }
}
