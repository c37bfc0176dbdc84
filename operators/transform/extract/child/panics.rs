//! Panics of what reads documents: kept as a reason instead of printed.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::{Answer, Reason};

static LAST: Mutex<String> = Mutex::new(String::new());

/// From here on panics are kept, not printed.
pub(super) fn keep_last() {
    set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("no message");
        let place = info.location().map_or_else(String::new, |at| {
            let file = Path::new(at.file()).file_name().unwrap_or_default();
            format!(" ({}:{})", file.to_string_lossy(), at.line())
        });
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = format!("{message}{place}");
    }));
}

/// What `read` says, or that it panicked.
pub(super) fn caught(read: impl FnOnce() -> Answer) -> Answer {
    // Nothing that it may have left half done is used again: the child ends.
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        Err(Reason::Panicked(
            LAST.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        ))
    })
}
