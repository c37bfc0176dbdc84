//! Before rows go: how many would, and whether so many may.

use std::sync::Arc;

use highwater::app::Failure;
use highwater::run::config::Percent;
use highwater::telemetry::objects::ObjectTally;

use super::{Packing, Pass};
use crate::sync::Doing;

impl Packing<'_> {
    /// Counts the rows whose object is gone. What a run may let go: of so many rows that
    /// share. The run lists the source again, so it is held to that, too.
    ///
    /// # Errors
    /// They are more than may go, or could not all be counted.
    pub(super) fn count_deletes(&self) -> Result<(Percent, u64), Failure> {
        let tally = Arc::new(ObjectTally::new(None));
        let counting = Packing {
            tally: &tally,
            ..*self
        };
        let pass = counting.pass(Doing::Compare, None)?;
        counting.check_whole(&pass)?;
        let (gone, all) = (pass.report.extra, pass.report.target_objects);
        let most = self.objects.max_delete;
        if !most.allows(gone, all) {
            let what = format!(
                "{gone} of {all} packed objects are no longer in the source, more than \
                 --max-delete {most}"
            );
            return Err(Failure::failed(what)
                .hint("look whether the source is whole; allow more by --max-delete, or leave out --delete"));
        }
        Ok((most, all))
    }

    /// That of all ranges everything was counted: what was not listed would be no part of
    /// the share that may go, and go all the same.
    fn check_whole(&self, pass: &Pass) -> Result<(), Failure> {
        if self.context.cancel.is_cancelled() {
            let what = "interrupted while it was counted what would go; nothing was done";
            return Err(Failure::interrupted(what));
        }
        let doing = "cannot count which packed objects are gone, and so none goes";
        if let Some(why) = self.tally.ended_by() {
            let message = format!("{doing}: {}", why.message);
            return Err(Failure { message, ..why });
        }
        if pass.read < pass.ranges {
            let (read, all) = (pass.read, pass.ranges);
            let what = format!("{doing}: {read} of {all} ranges of keys were listed");
            return Err(Failure::failed(what).hint("run again"));
        }
        Ok(())
    }
}
