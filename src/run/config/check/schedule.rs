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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::config::ScheduleConfig;

    /// The key and the message of the first problem.
    fn problem(change: impl FnOnce(&mut ScheduleConfig)) -> Option<String> {
        let mut config = Config::new("sqlite:x".into(), "file:lake");
        change(&mut config.schedule);
        let problem = config.problems().into_iter().next()?;
        Some(format!("{}: {}", problem.path.join("."), problem.message))
    }

    #[test]
    fn a_schedule_has_one_rhythm_that_can_be_kept() {
        let seconds = |n| Some(std::time::Duration::from_secs(n));
        assert_eq!(problem(|_| {}), None);
        assert_eq!(problem(|schedule| schedule.every = seconds(900)), None);
        let both = problem(|schedule| {
            schedule.every = seconds(900);
            schedule.cron = Some("0 2 * * *".to_owned());
        });
        let said = "schedule.cron: `schedule` has both `every` and `cron`";
        assert_eq!(both.as_deref(), Some(said));
        let jitter = problem(|schedule| {
            schedule.every = seconds(900);
            schedule.jitter = seconds(1800);
        });
        let said = "schedule.jitter: `schedule.jitter` is 30m, not less than `schedule.every`, \
                    which is 15m";
        assert_eq!(jitter.as_deref(), Some(said));
        let zone = problem(|schedule| {
            schedule.cron = Some("0 2 * * *".to_owned());
            schedule.time_zone = "Europe/Roma".to_owned();
        });
        let said = "schedule.time_zone: \"Europe/Roma\" in `schedule.time_zone` is no time zone";
        assert_eq!(zone.as_deref(), Some(said));
    }
}
