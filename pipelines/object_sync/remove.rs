//! Removes what only the target has, if that is not too much.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater::app::{Failure, RunContext};
use highwater::run::config::ObjectsConfig;
use highwater::telemetry::objects::ObjectTally;
use highwater_operators::ingest::objects::{Extras, Record as Row, RecordClock};

use highwater::store::objects::{ObjectError, Objects};
use highwater::store::pace::Retries;

use super::record::Record;
use super::sync::Doing;

/// Objects that are removed at once: what S3 takes in one request.
const OBJECTS_AT_ONCE: usize = 1000;

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is needed to remove objects.
pub(super) struct Removal {
    pub(super) target: Arc<dyn Objects>,
    pub(super) extras: Arc<Extras>,
    pub(super) tally: Arc<ObjectTally>,
    pub(super) retries: Retries,
    pub(super) record: Option<Arc<tokio::sync::Mutex<Record>>>,
    /// What rows of the record are stamped with.
    pub(super) clock: RecordClock,
    /// Whether it takes requests.
    pub(super) remote: bool,
}

impl Removal {
    /// Removes all of them, or none where they are too many. A comparison only counts
    /// what a run would remove.
    ///
    /// # Errors
    /// They are too many; the target cannot be written.
    pub(super) fn run(
        &self,
        doing: Doing,
        objects: &ObjectsConfig,
        context: &RunContext,
    ) -> Result<(), Failure> {
        let (extra, all) = (self.tally.extra.get(), self.tally.target_objects.get());
        if !objects.max_delete.allows(extra, all) {
            let what = format!(
                "{extra} of the target's {all} objects are not in the source, which is more than \
                 max_delete = \"{}\": {}",
                objects.max_delete,
                match doing {
                    Doing::Copy => "none was removed, everything else is done",
                    Doing::Compare => "a run would remove none",
                }
            );
            return Err(Failure::failed(what)
                .hint("look at the source; if it is right, allow more (--max-delete 100%)"));
        }
        if doing == Doing::Compare {
            self.tally.deleted.add(extra);
            if self.remote {
                let requests = extra.div_ceil(self.target.deletes_at_once() as u64);
                self.tally.would_ask("delete", requests);
            }
            return Ok(());
        }
        let unreadable = |error: std::io::Error| {
            Failure::failed("cannot read back which objects to remove").caused_by(&error)
        };
        self.extras.in_groups(OBJECTS_AT_ONCE, unreadable, |keys| {
            if context.cancel.is_cancelled() {
                return Ok(());
            }
            context.runtime.block_on(self.remove(keys))
        })
    }

    /// Removes keys; those that could not be, for a reason that does not pass. Where one
    /// passes its keys are asked for again, and no others.
    async fn delete(&self, keys: &[String]) -> (Vec<(String, ObjectError)>, Option<Failure>) {
        let (left, failed) = (Mutex::new(keys.to_vec()), Mutex::new(Vec::new()));
        let delete = || async {
            let asked = locked(&left).clone();
            let answered = self.target.delete(&asked).await?;
            let (again, never): (Vec<_>, Vec<_>) =
                answered.into_iter().partition(|(_, error)| error.passes());
            locked(&failed).extend(never);
            let why = again.first().map(|(_, error)| error.clone());
            *locked(&left) = again.into_iter().map(|(key, _)| key).collect();
            why.map_or(Ok(()), Err)
        };
        let ended = self.retries.ask(delete, |_| ()).await;
        let mut all = std::mem::take(&mut *locked(&failed));
        let Err(error) = ended else {
            return (all, None);
        };
        let left = std::mem::take(&mut *locked(&left));
        all.extend(left.into_iter().map(|key| (key, error.clone())));
        (all, error.ends_the_run().then(|| error.into()))
    }

    async fn remove(&self, keys: Vec<String>) -> Result<(), Failure> {
        let (failed, failure) = self.delete(&keys).await;
        for (key, error) in &failed {
            self.tally.failed(key, &error.message);
        }
        self.tally
            .deleted
            .add((keys.len() - failed.len().min(keys.len())) as u64);
        let Some(record) = &self.record else {
            return failure.map_or(Ok(()), Err);
        };
        let gone = keys
            .into_iter()
            .filter(|key| !failed.iter().any(|(of, _)| of == key));
        let rows = gone.map(|key| Row {
            key,
            ..Row::default()
        });
        let rows = Row::rows(rows.collect(), self.clock.now_us(), true);
        let rows = rows.map_err(|error| Failure::failed(error.to_string()))?;
        if rows.num_rows() > 0 {
            record.lock().await.add_rows(&rows).await?;
        }
        failure.map_or(Ok(()), Err)
    }
}
