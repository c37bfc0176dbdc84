//! A panic is a bug of ours: said in one line, with its place; then the process
//! ends. A task that is gone would leave others waiting for it for ever, and
//! ending at any instant is safe.

use std::backtrace::Backtrace;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells of the first panic and ends the process; panics that follow from the
/// first would only bury it.
pub(super) fn install(binary: &'static str, json: bool) {
    let told = AtomicBool::new(false);
    std::panic::set_hook(Box::new(move |panic| {
        if crate::flow::exchange::contained() {
            return;
        }
        if told.swap(true, Ordering::Relaxed) {
            return;
        }
        let text = if json {
            as_json(binary, panic)
        } else {
            as_text(binary, panic)
        };
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|wanted| wanted != "0") {
            let _ = writeln!(std::io::stderr(), "{}", Backtrace::force_capture());
        }
        std::process::exit(i32::from(super::Exit::Failed.code()));
    }));
}

fn as_text(binary: &str, panic: &PanicHookInfo<'_>) -> String {
    format!(
        "error: {}\n  do: please report this line; the lake is as it was committed last, and \
         running again is safe\n",
        sentence(binary, panic)
    )
}

fn as_json(binary: &str, panic: &PanicHookInfo<'_>) -> String {
    let failure = super::Failure::failed(sentence(binary, panic));
    format!("{}\n", failure.to_json())
}

fn sentence(binary: &str, panic: &PanicHookInfo<'_>) -> String {
    let place = panic
        .location()
        .map_or_else(String::new, |at| format!(" at {at}"));
    let thread = std::thread::current();
    let what = panic
        .payload_as_str()
        .unwrap_or("no message")
        .replace('\n', " ");
    format!(
        "this is a bug in {binary} {}{place}, thread {}: {what}",
        env!("CARGO_PKG_VERSION"),
        thread.name().unwrap_or("unnamed")
    )
}
