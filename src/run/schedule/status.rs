//! What `status` says of a schedule, read from the lake alone.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keep::spell;
use super::lease::{Holder, LastRun, Lease};
use super::timetable::Timetable;
use crate::run::config::Config;
use crate::run::failure::Failure;
use crate::store::Store;

/// The last run of a schedule, and its next.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleStatus {
    /// The schedule in words: `every 15m`.
    pub schedule: String,
    /// How the last run of a daemon went.
    pub last: Option<LastRun>,
    /// Who holds the lease, or held it when it died.
    pub held_by: Option<Holder>,
    /// When the next run is due, RFC 3339 in UTC; in the past where it is
    /// overdue: then no daemon is running.
    pub next: Option<String>,
}

/// The state of the schedule of `config`; `None` where it has none.
///
/// # Errors
/// The lake cannot be read.
pub async fn schedule_status(
    lake: &Store,
    config: &Config,
) -> Result<Option<ScheduleStatus>, Failure> {
    let Ok(Some(table)) = Timetable::new(&config.schedule) else {
        return Ok(None);
    };
    let note = Lease::new(lake.clone()).note().await?;
    let next = table.after(note.done.unwrap_or_else(Utc::now));
    Ok(Some(ScheduleStatus {
        schedule: table.words().to_owned(),
        last: note.last,
        held_by: note.holder,
        next: next.map(spell),
    }))
}

impl ScheduleStatus {
    /// The schedule in a few lines for people, as of `now`.
    #[must_use]
    pub fn render(&self, now: DateTime<Utc>) -> String {
        let mut text = format!("schedule: {}", self.schedule);
        match &self.last {
            Some(last) => {
                text += &format!(
                    "; last run {} ({})",
                    short(&last.started),
                    match last.exit {
                        0 => "done".to_owned(),
                        code => format!("exit {code}"),
                    }
                );
            }
            None => text += "; no run yet",
        }
        if let Some(holder) = &self.held_by {
            text += &format!("; held by {holder}");
        }
        if let Some(next) = &self.next {
            let overdue = next.parse::<DateTime<Utc>>().is_ok_and(|next| next < now);
            let word = if overdue { "overdue since" } else { "next" };
            text += &format!("; {word} {}", short(next));
        }
        text
    }
}

/// `2026-11-21T07:33:09.123Z` to the second, as people write it.
fn short(time: &str) -> String {
    let second = time.get(..19).unwrap_or(time);
    format!("{} UTC", second.replace('T', " "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn says_last_next_and_overdue() {
        let now: DateTime<Utc> = "2026-06-15T10:05:00Z".parse().unwrap();
        let mut status = ScheduleStatus {
            schedule: "every 15m".to_owned(),
            next: Some("2026-06-15T10:15:00.000Z".to_owned()),
            ..ScheduleStatus::default()
        };
        assert_eq!(
            status.render(now),
            "schedule: every 15m; no run yet; next 2026-06-15 10:15:00 UTC"
        );
        status.last = Some(LastRun {
            run: uuid::Uuid::nil(),
            due: String::new(),
            started: "2026-06-15T09:30:02.100Z".to_owned(),
            seconds: 2.0,
            exit: 4,
        });
        status.next = Some("2026-06-15T09:45:00.000Z".to_owned());
        assert_eq!(
            status.render(now),
            "schedule: every 15m; last run 2026-06-15 09:30:02 UTC (exit 4); \
             overdue since 2026-06-15 09:45:00 UTC"
        );
    }
}
