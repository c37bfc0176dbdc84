//! Where both places are asked.

use highwater::app::{Failure, RunContext};
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads beyond these gain little, and each has memory of its own.
const MOST: usize = 4;

/// Threads that list and copy, from the first request on: who opens a connection reads from
/// it for as long as it lasts, for whomever.
pub(super) struct Threads {
    own: Option<Runtime>,
    shared: Handle,
}

impl Threads {
    /// Some of their own if the run has fewer workers than the machine has cores: hashing
    /// alone keeps a core busy, and workers cost more memory than threads.
    ///
    /// # Errors
    /// They cannot be started.
    pub(super) fn start(context: &RunContext) -> Result<Self, Failure> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let wanted = cores.min(MOST);
        let start = || {
            Builder::new_multi_thread()
                .worker_threads(wanted)
                .thread_name("copy")
                .enable_all()
                .build()
        };
        let own = (wanted > context.workers()).then(start).transpose();
        Ok(Self {
            own: own.map_err(|error| Failure::failed("cannot start threads").caused_by(&error))?,
            shared: context.runtime.clone(),
        })
    }

    /// Where to run what asks them.
    pub(super) fn handle(&self) -> &Handle {
        self.own.as_ref().map_or(&self.shared, Runtime::handle)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(own) = self.own.take() {
            // Nothing is left to do: what hangs must not keep the process.
            own.shutdown_background();
        }
    }
}
