//! Who is at it, and which turn was done last: `_highwater/lease.json`.
//!
//! The lease saves work, nothing more. Runs are safe against each other without
//! it: one that was overtaken ends with exit code 11 and neither loses nor
//! doubles a row (C3). So a lease may be lost, expire too early, or be deleted by
//! hand at any time, and there is no `unlock`.
//!
//! It is taken for one turn and renewed while that turn's run goes on. It lives
//! as long as the store's own clock finds it young (C5): the clocks of two hosts
//! are never compared. The turn that was done stands in the same object as the
//! holder, so that taking the lease and finding out that the turn is done
//! already are one step: a daemon that wakes up late does no turn twice.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::cell::{Cell, Seen, Swap};
use super::turns::Turn;
use crate::store::{Store, StoreError};

/// A lease that was not renewed for so long has expired.
pub const LIFE: Duration = Duration::from_secs(20);
/// How often a lease is renewed: three may be lost.
pub const RENEWED: Duration = Duration::from_secs(5);

/// One process that keeps a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Holder {
    /// The name of its host.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// The run it is at (a UUID of version 7).
    #[schemars(with = "String")]
    pub run: Uuid,
}

impl Holder {
    /// This process, for `run`.
    #[must_use]
    pub fn this(run: Uuid) -> Self {
        Self {
            host: host(),
            pid: std::process::id(),
            run,
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "process {} on {} (run {})",
            self.pid, self.host, self.run
        )
    }
}

/// For people: no decision depends on it.
fn host() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = kernel.or_else(|| std::env::var("HOSTNAME").ok());
    let name = name.or_else(|| std::env::var("COMPUTERNAME").ok());
    let name = name.as_deref().map(str::trim).unwrap_or_default();
    if name.is_empty() {
        "an unnamed host"
    } else {
        name
    }
    .to_owned()
}

/// How a run that was scheduled went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LastRun {
    /// The run's id (a UUID of version 7).
    #[schemars(with = "String")]
    pub run: Uuid,
    /// When it was due, RFC 3339 in UTC.
    pub due: String,
    /// When it started, RFC 3339 in UTC.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// Its exit code.
    pub exit: u8,
}

/// What the object says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Note {
    /// Who is at it; nobody, where the lease was given back.
    pub holder: Option<Holder>,
    /// The turn it was taken for.
    pub turn: Option<DateTime<Utc>>,
    /// The last turn that was dealt with.
    pub done: Option<DateTime<Utc>>,
    /// How the last run went.
    pub last: Option<LastRun>,
    /// No two writings are equal, so that each is known by reading it back (C1).
    writing: Uuid,
}

impl Note {
    fn read(seen: Option<&Seen>) -> Self {
        let Some(seen) = seen else {
            return Self::default();
        };
        serde_json::from_slice(&seen.content).unwrap_or_else(|error| {
            tracing::warn!(%error, "_highwater/lease.json cannot be understood and is replaced");
            Self::default()
        })
    }

    fn bytes(&mut self) -> Bytes {
        self.writing = Uuid::now_v7();
        // Texts, numbers and times: there is nothing that JSON cannot hold.
        serde_json::to_vec_pretty(self).unwrap_or_default().into()
    }
}

/// The lease of one lake.
#[derive(Debug, Clone)]
pub struct Lease {
    cell: Cell,
    life: Duration,
}

/// What became of an attempt to take the lease.
#[derive(Debug)]
pub enum Taking {
    /// It is ours.
    Taken(Box<Held>),
    /// Another is at it.
    Held(Holder),
    /// The turn, or a later one, was done by another.
    Done(DateTime<Utc>),
}

impl Lease {
    /// The lease of the lake at `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self::living(store, LIFE)
    }

    fn living(store: Store, life: Duration) -> Self {
        Self {
            cell: Cell::new(store, "lease", life),
            life,
        }
    }

    /// What the object says now.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn note(&self) -> Result<Note, StoreError> {
        Ok(Note::read(self.cell.read().await?.as_ref()))
    }

    /// Takes the lease for one run: of `turn`, or, without one, of no turn but
    /// the present.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn take(&self, turn: Option<&Turn>, run: Uuid) -> Result<Taking, StoreError> {
        let mut faster = None;
        for _ in 0..3 {
            let seen = self.cell.read().await?;
            let mut note = Note::read(seen.as_ref());
            match (turn, note.done) {
                (Some(turn), Some(done)) if turn.is_covered_by(done) => {
                    return Ok(Taking::Done(done));
                }
                _ => {}
            }
            if let (Some(holder), Some(seen)) = (&note.holder, &seen)
                && self.lives(seen).await?
            {
                return Ok(Taking::Held(holder.clone()));
            }
            note.holder = Some(Holder::this(run));
            note.turn = turn.map(|turn| turn.due);
            match self.cell.swap(seen.as_ref(), note.bytes()).await? {
                Swap::Done(seen) => {
                    return Ok(Taking::Taken(Box::new(Held {
                        lease: self.clone(),
                        note,
                        seen,
                    })));
                }
                Swap::Changed => faster = self.note().await?.holder.or(faster),
            }
        }
        Ok(Taking::Held(faster.unwrap_or_else(|| Holder {
            host: "another host".to_owned(),
            pid: 0,
            run: Uuid::nil(),
        })))
    }

    async fn lives(&self, seen: &Seen) -> Result<bool, StoreError> {
        let age = self.cell.present().await? - seen.modified;
        Ok(age.to_std().unwrap_or_default() < self.life)
    }
}

/// A lease that is ours, as far as we know.
#[derive(Debug)]
pub struct Held {
    lease: Lease,
    note: Note,
    seen: Seen,
}

impl Held {
    /// Says that we still live. False where another has taken the lease: then
    /// we were taken for dead.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn renew(&mut self) -> Result<bool, StoreError> {
        let mut note = self.note.clone();
        let swapped = self.lease.cell.swap(Some(&self.seen), note.bytes()).await?;
        match swapped {
            Swap::Done(seen) => {
                (self.note, self.seen) = (note, seen);
                Ok(true)
            }
            Swap::Changed => Ok(false),
        }
    }

    /// Gives the lease back, and says how the run went and, if so, that its turn
    /// is done. Where another has taken it, nothing is said.
    ///
    /// # Errors
    /// The store cannot be read or written; then it expires.
    pub async fn release(
        mut self,
        done: Option<DateTime<Utc>>,
        last: LastRun,
    ) -> Result<(), StoreError> {
        self.note.holder = None;
        self.note.done = done.or(self.note.done);
        self.note.last = Some(last);
        let content = self.note.bytes();
        self.lease.cell.swap(Some(&self.seen), content).await?;
        Ok(())
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
