//! The workers of a run, in one process or many. What timely lacks between
//! processes (authentication, a clean death, compression, somebody who says what
//! is done next) lives here. Nothing here knows a pipeline: it moves orders as
//! bytes, and batches only as what timely writes into a link.
//!
//! | file | what it answers |
//! |---|---|
//! | `membership` | who belongs to the run, and how is it reached |
//! | `key` | the secret that the processes share |
//! | `bootstrap` | how do processes find and believe each other |
//! | `link` | what crosses a connection, and when is a peer lost |
//! | `compress` | which frames are worth LZ4 |
//! | `slabs` | where timely's buffers come from |
//! | `sockets` | what is asked of TCP |
//! | `crew` | the worker threads, and the orders they follow |

mod bootstrap;
mod compress;
mod crew;
mod error;
mod key;
mod link;
mod membership;
mod slabs;
mod sockets;
#[cfg(test)]
mod tests;

pub use crew::{Crew, CrewError, Place};
pub use error::{ClusterError, Lost};
pub use key::ClusterKey;
pub use link::{LinkCounters, MAX_NOTE_BYTES, MAX_ORDER_BYTES, Note};
pub use membership::Membership;
