//! What the progress line says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use highwater::app::RunContext;
use highwater::telemetry::objects::ObjectTally;
use highwater::telemetry::{Told, memory, units};

use super::sync::Doing;

/// Says that nothing is known yet.
pub(super) fn show_opening(context: &RunContext) {
    context.progress.tell(|_| Told {
        text: "looking at both places".to_owned(),
        json: serde_json::json!({"objects_compared": 0}),
    });
}

/// Lets the progress line tell how far the run is; `at_once` says how many requests
/// are on their way.
pub(super) fn show(
    context: &RunContext,
    tally: &Arc<ObjectTally>,
    at_once: impl Fn() -> u32 + Send + Sync + 'static,
    doing: Doing,
) {
    let tally = Arc::clone(tally);
    let limit = context.memory_limit.as_u64();
    let last = Mutex::new(Look::default());
    context.progress.tell(move |elapsed| {
        let now = Look {
            elapsed,
            objects: tally.copied.get(),
            bytes: tally.copied_bytes.get(),
        };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let (objects, bytes) = now.rates_since(&last);
        *last = now;
        let at_once = at_once();
        let rss = memory::rss_bytes().unwrap_or_default();
        let listed = tally.source_objects.get();
        let text = match doing {
            Doing::Compare => format!(
                "{} compared, {} to copy",
                units::counted(listed, "object"),
                units::count(tally.to_copy.get())
            ),
            Doing::Copy => format!(
                "{} of {} so far copied, {}, {} objects/s, {}, {} at once, {} failed, memory {} of {}",
                units::count(now.objects),
                units::count(tally.to_copy.get()),
                units::bytes(now.bytes),
                units::count(units::whole(objects)),
                units::rate(bytes),
                at_once,
                units::count(tally.failed.get()),
                units::bytes(rss),
                units::bytes(limit),
            ),
        };
        Told {
            text,
            json: serde_json::json!({
                "objects_compared": listed,
                "objects_to_copy": tally.to_copy.get(),
                "objects_copied": now.objects,
                "bytes_copied": now.bytes,
                "objects_per_second": units::whole(objects),
                "bytes_per_second": units::whole(bytes),
                "at_once": at_once,
                "failed": tally.failed.get(),
                "memory_bytes": rss,
            }),
        }
    });
}

/// What was seen at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    elapsed: Duration,
    objects: u64,
    bytes: u64,
}

impl Look {
    fn rates_since(&self, before: &Self) -> (f64, f64) {
        let seconds = (self.elapsed.saturating_sub(before.elapsed))
            .as_secs_f64()
            .max(1e-3);
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        (
            rate(self.objects, before.objects),
            rate(self.bytes, before.bytes),
        )
    }
}
