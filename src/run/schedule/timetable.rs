//! When turns are due: every so often, or by cron in a time zone.
//!
//! `every` counts from the start of 1970 in UTC: whoever asks, whenever it was
//! started, finds the same turns. Cron is matched on the wall clock of its zone,
//! which is not a straight line: where clocks go forward an hour is missing,
//! where they go back an hour comes twice. A pattern that names its minutes and
//! hours (`30 2 * * *`) runs once a day all the same: after the gap, or in the
//! first of the two hours. A pattern that repeats (`*/15 * * * *`) goes on
//! repeating: nothing in the gap, and in both of the two hours. The search of
//! `croner` alone finds times in the past when asked during the second hour, so
//! it is asked for wall-clock times only and the instants are found here.

use std::time::Duration;

use chrono::offset::LocalResult;
use chrono::{DateTime, NaiveDateTime, Offset as _, TimeDelta, TimeZone as _, Timelike as _, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use croner::Cron;
use croner::parser::{CronParser, Year};

use crate::run::config::{Config, ScheduleConfig, duration};
use crate::run::failure::Failure;

/// The turns of a schedule.
#[derive(Debug, Clone)]
pub struct Timetable {
    kind: Kind,
    words: String,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Milliseconds, at least one.
    Every(i64),
    Cron(Box<CronIn>),
}

/// Why a schedule has no turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// The key of `[schedule]` that is wrong.
    pub(crate) key: &'static str,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: String,
}

impl Timetable {
    /// The turns of `config`; `None` where it names none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(config: &ScheduleConfig) -> Result<Option<Self>, Complaint> {
        match (config.every, &config.cron) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(Complaint {
                key: "cron",
                message: "`schedule` has both `every` and `cron`".to_owned(),
                hint: "keep one of them".to_owned(),
            }),
            (Some(every), None) => Self::every(every).map(Some),
            (None, Some(pattern)) => Self::cron(pattern, &config.time_zone).map(Some),
        }
    }

    /// The turns of a configuration that was checked; `None` where it has none.
    ///
    /// # Errors
    /// It was not checked.
    pub fn of(config: &Config) -> Result<Option<Self>, Failure> {
        Self::new(&config.schedule)
            .map_err(|complaint| Failure::usage(complaint.message).hint(complaint.hint))
    }

    fn every(every: Duration) -> Result<Self, Complaint> {
        let span = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
        if span < 1000 {
            return Err(Complaint {
                key: "every",
                message: format!("`schedule.every` is {}", duration::text(every)),
                hint: "write at least \"1s\"".to_owned(),
            });
        }
        Ok(Self {
            kind: Kind::Every(span),
            words: format!("every {}", duration::text(every)),
        })
    }

    fn cron(pattern: &str, zone: &str) -> Result<Self, Complaint> {
        let timetable = Self {
            kind: Kind::Cron(Box::new(CronIn {
                cron: parse_cron(pattern)?,
                zone: parse_zone(zone)?,
                fixed: is_fixed(pattern),
            })),
            words: format!("cron {pattern}, {zone}"),
        };
        match timetable.after(Utc::now()) {
            Some(_) => Ok(timetable),
            None => Err(Complaint {
                key: "cron",
                message: format!("\"{pattern}\" in `schedule.cron` never comes"),
                hint: "correct the day and the month".to_owned(),
            }),
        }
    }

    /// The schedule in words: `every 15m`, `cron 0 2 * * *, Europe/Rome`.
    #[must_use]
    pub fn words(&self) -> &str {
        &self.words
    }

    /// The first turn after `instant`.
    #[must_use]
    pub fn after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match &self.kind {
            Kind::Every(span) => {
                let turns = instant.timestamp_millis().div_euclid(*span);
                DateTime::from_timestamp_millis(turns.checked_add(1)?.checked_mul(*span)?)
            }
            Kind::Cron(cron) => cron.after(instant),
        }
    }

    /// The last turn at or before `instant`; `None` where there was none in the
    /// ten years before.
    #[must_use]
    pub fn latest(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if let Kind::Every(span) = &self.kind {
            let turns = instant.timestamp_millis().div_euclid(*span);
            return DateTime::from_timestamp_millis(turns * span);
        }
        // Further and further back, so that neither a turn a second nor one a
        // year takes long to find.
        let minutes = [1, 60, 24 * 60, 32 * 24 * 60, 367 * 24 * 60, 3670 * 24 * 60];
        minutes.into_iter().find_map(|minutes| {
            let from = instant.checked_sub_signed(TimeDelta::minutes(minutes))?;
            let turns = std::iter::successors(self.after(from), |&turn| self.after(turn));
            turns.take_while(|&turn| turn <= instant).last()
        })
    }

    /// The time between the next two turns.
    #[must_use]
    pub fn gap(&self, instant: DateTime<Utc>) -> TimeDelta {
        let next = self.after(instant);
        let gap = next.and_then(|next| Some(self.after(next)? - next));
        gap.unwrap_or(TimeDelta::days(1))
    }
}

/// A cron pattern on the wall clock of a zone.
#[derive(Debug, Clone)]
struct CronIn {
    cron: Cron,
    zone: Tz,
    /// Whether it names times of day instead of repeating.
    fixed: bool,
}

impl CronIn {
    /// Goes from one change of the clocks to the next: between two of them the
    /// wall clock is a straight line.
    fn after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        const CHANGES: usize = 10_000;
        let mut from = instant.with_nanosecond(0)?;
        let mut wall = self.wall(from, self.offset(from));
        let mut inclusive = false;
        for _ in 0..CHANGES {
            let offset = self.offset(from);
            let found = self.next_on_the_wall(wall, inclusive)?;
            let turn = found.and_utc() - offset;
            if self.offset(turn) == offset {
                if !self.is_repeated(found, turn) {
                    return Some(turn);
                }
                (wall, inclusive) = (found, false);
                continue;
            }
            if turn - from > TimeDelta::days(2) {
                // Nothing is due before; other changes lie in between.
                from = turn - TimeDelta::days(1);
                continue;
            }
            let change = self.change(from, turn);
            let (before, after) = (
                self.wall(change, offset),
                self.wall(change, self.offset(change)),
            );
            if self.fixed && before <= found && found < after {
                return Some(change);
            }
            from = change;
            wall = if self.fixed { after.max(before) } else { after };
            inclusive = true;
        }
        None
    }

    fn next_on_the_wall(&self, wall: NaiveDateTime, inclusive: bool) -> Option<NaiveDateTime> {
        let found = self
            .cron
            .find_next_occurrence(&wall.and_utc(), inclusive)
            .ok()?;
        Some(found.naive_utc())
    }

    /// Whether a fixed time comes for the second time.
    fn is_repeated(&self, wall: NaiveDateTime, turn: DateTime<Utc>) -> bool {
        let LocalResult::Ambiguous(one, other) = self.zone.from_local_datetime(&wall) else {
            return false;
        };
        self.fixed && turn > one.to_utc().min(other.to_utc())
    }

    fn offset(&self, instant: DateTime<Utc>) -> TimeDelta {
        let fixed = self
            .zone
            .offset_from_utc_datetime(&instant.naive_utc())
            .fix();
        TimeDelta::seconds(i64::from(fixed.local_minus_utc()))
    }

    fn wall(&self, instant: DateTime<Utc>, offset: TimeDelta) -> NaiveDateTime {
        (instant + offset).naive_utc()
    }

    /// The first second with another offset than `from` has; `to` has another.
    fn change(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> DateTime<Utc> {
        let offset = self.offset(from);
        let (mut same, mut other) = (from, to);
        while other - same > TimeDelta::seconds(1) {
            let middle = same + TimeDelta::seconds((other - same).num_seconds() / 2);
            if self.offset(middle) == offset {
                same = middle;
            } else {
                other = middle;
            }
        }
        other
    }
}

fn parse_cron(pattern: &str) -> Result<Cron, Complaint> {
    let parser = CronParser::builder().year(Year::Disallowed).build();
    parser.parse(pattern).map_err(|error| Complaint {
        key: "cron",
        message: format!(
            "\"{pattern}\" in `schedule.cron` is no cron expression: {}",
            error.to_string().trim_end_matches('.')
        ),
        hint: "write minute, hour, day, month and weekday, for instance \"0 2 * * *\" for two \
               o'clock each night"
            .to_owned(),
    })
}

/// Whether minutes and hours are named, not repeated: the rule of cron itself.
fn is_fixed(pattern: &str) -> bool {
    if pattern.trim_start().starts_with('@') {
        return !pattern.to_lowercase().contains("hourly");
    }
    let fields: Vec<&str> = pattern.split_whitespace().collect();
    let first = fields.len().saturating_sub(5);
    fields
        .iter()
        .skip(first)
        .take(2)
        .all(|field| !field.contains(['*', '/', '?']))
}

fn parse_zone(name: &str) -> Result<Tz, Complaint> {
    let known = || TZ_VARIANTS.iter().map(|zone| zone.name());
    let wanted = name.to_lowercase();
    // `rome` means the end of `Europe/Rome`.
    let distance = |zone: &str| {
        let zone = zone.to_lowercase();
        let city = zone.rsplit('/').next().unwrap_or_default();
        let end = wanted.rsplit('/').next().unwrap_or_default();
        strsim::damerau_levenshtein(&zone, &wanted).min(strsim::damerau_levenshtein(city, end) + 1)
    };
    name.parse().map_err(|_| Complaint {
        key: "time_zone",
        message: format!("\"{name}\" in `schedule.time_zone` is no time zone"),
        hint: match known().min_by_key(|zone| distance(zone)) {
            Some(near) if distance(near) <= wanted.len() / 3 => {
                format!("did you mean \"{near}\"?")
            }
            _ => "write a name such as \"Europe/Rome\" or \"UTC\"".to_owned(),
        },
    })
}

#[cfg(test)]
#[path = "timetable_tests.rs"]
mod tests;
