//! What every dataflow is made of: splits handed out on demand, an
//! asynchronous source, a commit at the frontier.
//!
//! ```text
//!          requests (feedback)
//!       +-----------------------+
//!       v                       |
//!   [assign] --splits--> [ingest] --batches--> [sink] --files--+
//!       ^                       |                              v
//!       |                       +---------events--------> [commit]
//!       |              settled epochs (feedback)               |
//!       +------------------------------------------------------+
//! ```
//!
//! A timestamp is an epoch. [`assign`](mod@assign) hands each split out at the
//! current epoch; the batches, files and events of the split carry it on; when
//! the frontier at [`commit`](mod@commit) has passed an epoch, every file of
//! that epoch is durable and every split of it is complete. Two epochs are open
//! at most.
//!
//! No operator blocks: what waits is a task on the asynchronous runtime, which
//! reaches its operator through a [`mailbox`](mod@mailbox) and wakes the parked
//! worker. Nothing here knows a database, a file format or a table log.

pub mod assign;
pub mod commit;
pub mod event;
pub mod exchange;
pub mod ingest;
pub mod mailbox;
pub mod wire;

pub use assign::{Assign, Assignment, assign, longest_first};
pub use commit::{Settle, Settled, Settler, commit};
pub use event::{Event, TableFailure};
pub use exchange::{Exchange, exchange};
pub use ingest::{Ingest, IngestTable, ingest};
pub use mailbox::{Mailbox, Sender, mailbox};
pub use wire::Wire;

use timely::dataflow::StreamVec;

use crate::batch::Batch;

/// The timestamp of every dataflow: the epoch.
pub type Epoch = u64;

/// Batches on their way from an ingest to a sink of the same worker.
pub type Batches<'scope> = StreamVec<'scope, Epoch, Batch>;

/// Events on their way to the commit.
pub type Events<'scope> = StreamVec<'scope, Epoch, Wire<Event>>;
