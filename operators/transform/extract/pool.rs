//! The parent's side: children that wait for documents, and what becomes of those
//! that fail at one.

mod process;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::{Document, ExtractOptions, Limits, PdfBackend, Reason};
use process::{Outcome, Process};

/// What is wrong with us or with this machine, not with a document.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// No process could be started.
    #[error("cannot start {} to read a document: {source}", program.display())]
    Spawn {
        /// What was to be started.
        program: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A process was started but cannot work.
    #[error("a process that reads documents cannot work: {what}")]
    Start {
        /// Why, and what to do about it.
        what: String,
    },
}

/// Children that read documents. As many calls of [`Extractors::extract`] work at
/// once as there are children; more of them wait.
#[derive(Debug)]
pub struct Extractors {
    program: PathBuf,
    options: ExtractOptions,
    idle: Mutex<Vec<Process>>,
    free: Semaphore,
}

impl Extractors {
    /// Children are `program`, which must call [`serve`](super::serve) when its first
    /// argument is [`ARGUMENT`](super::ARGUMENT); none is started before it is needed.
    /// Needs a tokio runtime with its clock and I/O when it is used.
    pub fn new(program: PathBuf, options: ExtractOptions) -> Self {
        let free = Semaphore::new(options.children.max(1));
        Self {
            program,
            options,
            idle: Mutex::default(),
            free,
        }
    }

    /// What one document may cost.
    pub fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// Reads one document; `key` is its name, of which the extension may matter.
    /// Dropping the future ends the child.
    ///
    /// # Errors
    /// Of the inner result: why the document is set aside. Of the outer one: what keeps
    /// us from reading any document.
    pub async fn extract(
        &self,
        key: &str,
        contents: &[u8],
    ) -> Result<Result<Document, Reason>, ExtractError> {
        if let Some(reason) = self.options.limits.refuse(contents.len() as u64) {
            return Ok(Err(reason));
        }
        // It is never closed.
        let _free = self.free.acquire().await.ok();
        if let Some(mut used) = self.take_idle() {
            match used.read(key, contents, &self.options.limits).await {
                Outcome::Answered(answer) => {
                    self.keep(used, &answer);
                    return Ok(answer);
                }
                Outcome::Lost(reason @ Reason::TooSlow { .. }) => return Ok(Err(reason)),
                // What earlier documents left behind must not decide: once more, alone.
                Outcome::Lost(_) => {}
            }
        }
        let mut fresh = Process::spawn(&self.program, &self.options).await?;
        Ok(
            match fresh.read(key, contents, &self.options.limits).await {
                Outcome::Answered(answer) => {
                    self.keep(fresh, &answer);
                    answer
                }
                Outcome::Lost(reason) => Err(reason),
            },
        )
    }

    fn take_idle(&self) -> Option<Process> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop()).find_map(Process::alive)
    }

    fn keep(&self, process: Process, answer: &Result<Document, Reason>) {
        if !matches!(answer, Err(Reason::Panicked(_))) {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(process);
        }
    }
}

impl Limits {
    /// The most memory that so many children may take together, with what the parent
    /// needs for their answers, in bytes. The contents of documents are the caller's.
    #[must_use]
    pub fn memory_of(&self, children: usize, pdf: PdfBackend) -> u64 {
        let processes = match pdf {
            PdfBackend::Embedded => 1,
            PdfBackend::Pdftotext => 2,
        };
        let child = self.memory_bytes.saturating_mul(processes);
        // An answer, and what it says.
        child
            .saturating_add(self.answer_bytes().saturating_mul(2))
            .saturating_mul(children.max(1) as u64)
    }

    /// Why a file of so many bytes is not even fetched.
    pub fn refuse(&self, bytes: u64) -> Option<Reason> {
        (bytes > self.file_bytes).then_some(Reason::TooLarge {
            bytes,
            limit: self.file_bytes,
        })
    }

    /// The longest answer of a child that is taken: all text escaped, and room for
    /// headings.
    fn answer_bytes(&self) -> u64 {
        (self.text_characters as u64)
            .saturating_mul(8)
            .saturating_add(1 << 20)
    }
}
