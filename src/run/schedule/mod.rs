//! The daemon that a backup needs: runs when they are due, one at a time, until
//! it is told to stop.
//!
//! A schedule has no state of its own that could be lost. When the next turn is
//! due follows from the configuration and the last turn that was done, which
//! stands in the lake; a daemon may be killed, doubled or moved to another host
//! at any time. What must never happen (a row lost or doubled) is prevented by
//! each run; what should not happen (work done twice) is prevented here.
//!
//! Runs happen inside the daemon's own process, not in children of it: there is
//! one memory limit, one process to signal and to supervise, and a daemon that is
//! killed leaves no run behind that nobody renews the lease for. Each run has its
//! own threads and its own memory budget, which end with it. A panic ends the
//! process, as in every verb: its supervisor (systemd, a container) starts it
//! again, and the turn that was lost is a missed one. The configuration is read
//! once; start the daemon again to change it.
//!
//! | file | what it holds |
//! |---|---|
//! | `timetable` | when turns are due: every so often, or cron in a time zone |
//! | `turns` | what to do next: jitter, missed turns, back-off, clocks that jump |
//! | `keep` | the loop, and what it needs of the world |
//! | `lease` | who is at it, and which turn was done last |
//! | `cell` | one object that is replaced only if it is what was read |
//! | `status` | the last run and the next, for `status` |

mod cell;
mod keep;
mod lease;
mod status;
mod timetable;
mod turns;

pub use keep::{Attempt, Ran, RunLine, World, failure, keep, line, spell};
pub use lease::{Held, Holder, LIFE, LastRun, Lease, Note, RENEWED, Taking};
pub use status::{ScheduleStatus, schedule_status};
pub use timetable::Timetable;
pub use turns::{Ended, Random, Step, Turn, Turns};
