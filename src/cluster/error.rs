//! What goes wrong between processes, before and after they have joined. Each
//! text names the process and its address, and never the key.

use std::path::PathBuf;
use std::time::Duration;

use super::CrewError;

/// Why processes did not come together, or cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The list of processes makes no sense.
    #[error("{0}")]
    Membership(String),
    /// The key file cannot be used.
    #[error("the cluster key file {} cannot be used: {why}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// This process cannot listen on its own address.
    #[error("process {process} cannot listen on {address}: {why}")]
    Listen {
        /// This process.
        process: usize,
        /// Its address.
        address: String,
        /// What the system says.
        why: String,
    },
    /// Not all processes came in time.
    #[error("after {} s the run is not complete: {}", waited.as_secs_f32().round(), missing.join("; "))]
    Missing {
        /// How long this process has waited.
        waited: Duration,
        /// Which processes are missing, with addresses and the last reason.
        missing: Vec<String>,
    },
    /// A process does not have the same key.
    #[error("process {process} at {address} does not have the same key")]
    WrongKey {
        /// The process that was asked.
        process: usize,
        /// Its address.
        address: String,
    },
    /// A process will not have this one.
    #[error("process {process} at {address} refuses this one: {why}")]
    Refused {
        /// The process that was asked.
        process: usize,
        /// Its address.
        address: String,
        /// Its reason.
        why: String,
    },
    /// A process left before all had come.
    #[error("process {process} at {address} left before the run was complete")]
    Left {
        /// The process that left.
        process: usize,
        /// Its address.
        address: String,
    },
    /// What shall be sent is too long.
    #[error("a message of {bytes} bytes is longer than the {limit} that are allowed")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
        /// What is allowed, in bytes.
        limit: usize,
    },
    /// Only process 0 gives orders.
    #[error("process {0} does not lead: only process 0 gives orders")]
    NotLeading(usize),
    /// A peer cannot be written to; its loss is told of by the link itself.
    #[error("{0}")]
    Lost(#[from] Lost),
    /// The worker threads could not be started.
    #[error(transparent)]
    Crew(#[from] CrewError),
    /// The system refuses a thread or a socket.
    #[error("cannot start the links: {0}")]
    System(#[from] std::io::Error),
}

/// A process that died, froze, was cut off, or sent what cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("process {process} at {address} is lost: {reason}")]
pub struct Lost {
    /// Its number.
    pub process: usize,
    /// Its address, as the membership gives it.
    pub address: String,
    /// How it is known.
    pub reason: String,
}
