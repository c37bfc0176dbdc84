//! What the progress line says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use highwater::app::RunContext;
use highwater::telemetry::objects::ObjectTally;
use highwater::telemetry::{Told, memory, units};
use highwater_operators::ingest::documents::ChunkTally;

use super::instance::Instance;

/// Lets the progress line tell how far an instance is.
pub(super) fn show(
    context: &RunContext,
    instance: &Instance,
    tally: &Arc<ObjectTally>,
    chunks: &Arc<ChunkTally>,
) {
    let (tally, chunks) = (Arc::clone(tally), Arc::clone(chunks));
    let (name, limit) = (instance.name.clone(), context.memory_limit.as_u64());
    let last = Mutex::new((Duration::ZERO, 0_u64));
    context.progress.tell(move |elapsed| {
        let (documents, tokens) = (tally.copied.get(), chunks.tokens.get());
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = elapsed.saturating_sub(last.0).as_secs_f64().max(1e-3);
        let rate = units::whole(tokens.saturating_sub(last.1) as f64 / seconds);
        *last = (elapsed, tokens);
        let (to_read, embedded) = (tally.to_copy.get(), chunks.embedded.get());
        let found = chunks.kept.get() + chunks.reused.get();
        let left = time_left(elapsed, tally.copied_bytes.get(), tally.to_copy_bytes.get());
        let rss = memory::rss_bytes().unwrap_or_default();
        Told {
            text: format!(
                "{name}: {} of {} documents read, {}, chunks: {} embedded, {} reused, {} tokens/s, \
                 {} set aside{}, memory {} of {}",
                units::count(documents),
                units::count(to_read),
                units::bytes(tally.copied_bytes.get()),
                units::count(embedded),
                units::count(found),
                units::count(rate),
                units::count(chunks.quarantined.get()),
                left.map_or(String::new(), |left| format!(", {left} left")),
                units::bytes(rss),
                units::bytes(limit),
            ),
            json: serde_json::json!({
                "instance": name,
                "documents_compared": tally.source_objects.get(),
                "documents_to_read": to_read,
                "documents_read": documents,
                "bytes_read": tally.copied_bytes.get(),
                "chunks_embedded": embedded,
                "chunks_reused": found,
                "tokens_per_second": rate,
                "quarantined": chunks.quarantined.get(),
                "memory_bytes": rss,
            }),
        }
    });
}

/// What the rest takes if it goes on as so far; by bytes, and not before a hundredth of
/// them is done.
fn time_left(elapsed: Duration, done: u64, all: u64) -> Option<String> {
    if done == 0 || done >= all || done < all / 100 {
        return None;
    }
    let left = elapsed.as_secs_f64() * (all - done) as f64 / done as f64;
    let seconds = units::whole(left);
    Some(match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    })
}
