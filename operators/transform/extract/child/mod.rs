//! What runs in the child process: it confines itself before it reads anything,
//! then answers one document after the other until its parent closes its input.

mod caps;
mod frame;
mod panics;

use std::env;
use std::io::{self, Write, stdin, stdout};
use std::process::{ExitCode, exit};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};

pub use caps::{Confined, confine};

use super::{Document, ExtractOptions, Limits, PdfBackend, Reason, pdftotext};

/// The first argument of a child; the second are its [`ExtractOptions`] as JSON.
/// A binary whose first argument this is calls [`serve`] before all else: no
/// thread, no runtime, no allocation of size.
pub const ARGUMENT: &str = "__extract";

/// What a child says first.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Why it cannot work.
    pub(super) error: Option<String>,
    /// What it cannot promise.
    pub(super) warning: Option<String>,
}

/// What a child says to each document.
pub(super) type Answer = Result<Document, Reason>;

/// Is the child: reads documents from standard input and answers on standard
/// output, until the parent closes them or dies.
pub fn serve() -> ExitCode {
    serve_with(super::read)
}

/// [`serve`] with another reader of documents: what tests use to misbehave.
pub fn serve_with(
    read: impl Fn(&str, &[u8], &Limits, PdfBackend) -> Result<Document, Reason>,
) -> ExitCode {
    match begin().and_then(|options| answer_all(&options, read)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Confines itself and says so.
fn begin() -> io::Result<ExtractOptions> {
    let options: ExtractOptions = serde_json::from_str(&env::args().nth(2).unwrap_or_default())?;
    let mut hello = Hello::default();
    match confine(&options.limits, options.pdf) {
        Ok(confined) => hello.warning = confined.warning(),
        Err(error) => hello.error = Some(error),
    }
    if hello.error.is_none() && options.pdf == PdfBackend::Pdftotext {
        hello.error = pdftotext::missing();
    }
    panics::keep_last();
    end_with_parent();
    say(&hello)?;
    Ok(options)
}

fn answer_all(
    options: &ExtractOptions,
    read: impl Fn(&str, &[u8], &Limits, PdfBackend) -> Result<Document, Reason>,
) -> io::Result<()> {
    let mut input = stdin().lock();
    while let Some(key) = frame::read(&mut input, frame::KEY_BYTES)? {
        let contents = frame::read(&mut input, options.limits.file_bytes)?
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        caps::allow_time(&options.limits)?;
        let key = String::from_utf8_lossy(&key);
        let answer = panics::caught(|| read(&key, &contents, &options.limits, options.pdf));
        say(&answer)?;
        if matches!(answer, Err(Reason::Panicked(_))) {
            // What it left behind may be in any state.
            break;
        }
    }
    Ok(())
}

fn say(what: &impl Serialize) -> io::Result<()> {
    let mut out = stdout().lock();
    frame::write(&mut out, &serde_json::to_vec(what)?)?;
    out.flush()
}

/// Ends this process when nobody holds the other end of its input any more, also
/// while a document is being read: a parent that was killed leaves no child.
fn end_with_parent() {
    const STACK_BYTES: usize = 64 << 10;
    let watch = || {
        let input = stdin();
        loop {
            let mut ends = [PollFd::new(&input, PollFlags::empty())];
            if poll(&mut ends, None).is_ok()
                && ends[0]
                    .revents()
                    .intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL)
            {
                exit(0);
            }
        }
    };
    if let Err(error) = thread::Builder::new().stack_size(STACK_BYTES).spawn(watch) {
        eprintln!("cannot watch for the end of the parent: {error}");
    }
}
