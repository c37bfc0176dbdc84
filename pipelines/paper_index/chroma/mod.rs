//! A collection of a vector store, made equal to the table of chunks in the lake.
//!
//! The collection says of which table and of which version of it it is the equal, and to
//! which one a run is on its way. What has to be done is what the lake changed since, found
//! by its log alone; so it does not matter when, or whether, an earlier run got to it. A run
//! that was interrupted may have written some of what its version had, and a later one has
//! no more: what lies between that version and the newest one is done, too. A collection
//! that is not what it says (it was emptied, removed, or filled by others) is compared as a
//! whole. One whose points are not of this table is left as it is. Nothing is embedded here:
//! all vectors come from the lake.
//!
//! | file | what it holds |
//! |---|---|
//! | `target` | the collection, and what it says of itself |
//! | `versions` | the files that differ between two versions, in ranges of documents |
//! | `points` | rows of chunks as points of a collection |
//! | `differ` | what differs in a range, by differential dataflow |
//! | `apply` | differences into the collection |

mod apply;
mod differ;
mod points;
mod target;
mod versions;

use highwater::app::{Failure, RunContext};
use highwater::ledger::Ledger;
use highwater::run::report::ChromaReport;

use super::instance::Instance;
use apply::Applied;
use target::Target;
use versions::Versions;

/// Makes the collection of an instance equal to the newest version of its table; `None`
/// where it has no collection. What fails is in the report: the lake is complete without
/// it, and the next run goes on.
pub(super) fn sync(instance: &Instance, context: &RunContext) -> Option<ChromaReport> {
    let url = instance.config.chroma.as_ref()?;
    let mut report = ChromaReport {
        collection: Target::name(instance),
        ..ChromaReport::default()
    };
    let outcome = equalise(url.expose(), instance, context, &mut report);
    report.error = outcome.err().map(|failure| {
        let what = format!("collection {} is behind the lake", report.collection);
        let cause = failure.message.clone();
        Failure {
            message: what,
            ..failure
        }
        .because(cause)
        .into()
    });
    Some(report)
}

fn equalise(
    url: &str,
    instance: &Instance,
    context: &RunContext,
    report: &mut ChromaReport,
) -> Result<(), Failure> {
    let runtime = &context.runtime;
    let ledger = runtime.block_on(Ledger::open(instance.store.clone()))?;
    let (Some(head), Some(id)) = (ledger.head(), ledger.table_id()) else {
        return Ok(());
    };
    report.version = head.version;
    // A table that was made anew at the same place is another one.
    let lake = format!("{} {id}", instance.store.url());
    let target = &Target::open(url, instance, &lake, context)?;
    let (state, (versions, because)) = runtime.block_on(async {
        let files = ledger.files().await?;
        let state = target.state().await?;
        target.check_owner(&state)?;
        let versions = Versions::since(instance, &lake, head.version, files, &state).await;
        Ok::<_, Failure>((state, versions))
    })?;
    report.because = because;
    let Some(versions) = versions else {
        return Ok(());
    };
    runtime.block_on(target.begin(&state, &versions.from, head.version))?;
    let mut applied = match report.because {
        None => apply::apply(target, instance, &versions, context)?,
        Some(_) => apply::reconcile(target, instance, &versions, context)?,
    };
    let counted = runtime.block_on(target.count())?;
    if counted != versions.points {
        // Something in it is not ours, or was taken out behind our back.
        report.because = Some(format!(
            "it held {counted} chunks where the lake has {}",
            versions.points
        ));
        runtime.block_on(target.begin(&state, &[], head.version))?;
        applied = applied.and(apply::reconcile(target, instance, &versions, context)?);
    }
    let Applied { upserted, deleted } = applied;
    (report.upserted, report.deleted) = (upserted, deleted);
    runtime.block_on(target.equals(head.version, versions.points))
}
