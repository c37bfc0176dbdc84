//! What must hold in `[schedule]`.

use super::super::{Config, duration};
use super::Problem;
use crate::run::schedule::Timetable;

pub(super) fn check(config: &Config, found: &mut Vec<Problem>) {
    let schedule = &config.schedule;
    if let Err(complaint) = Timetable::new(schedule) {
        found.push(Problem::at(
            &["schedule", complaint.key],
            complaint.message,
            complaint.hint,
        ));
    }
    if let (Some(every), Some(jitter)) = (schedule.every, schedule.jitter)
        && jitter >= every
    {
        found.push(Problem::at(
            &["schedule", "jitter"],
            format!(
                "`schedule.jitter` is {}, not less than `schedule.every`, which is {}",
                duration::text(jitter),
                duration::text(every)
            ),
            "write a jitter that is shorter than the time between two runs",
        ));
    }
}
