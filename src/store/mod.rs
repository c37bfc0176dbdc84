//! A URL becomes an object store, and a put-if-absent gets three outcomes.
//!
//! Every place is reached through two clients: one that retries by itself, for
//! everything that may be repeated, and one that sends each request exactly
//! once, for the puts that must not be repeated blindly (C2). Local folders
//! promise what object stores promise: whole objects or none, durable when the
//! call returns (C8).
//!
//! | file | what it holds |
//! |---|---|
//! | `open` | [`Store`]: the two clients of one place, and its children |
//! | `cloud` | builders and options of `s3://`, `gs://` and `az://` |
//! | `local` | [`DurableFolder`]: `fsync`, atomic names, sorted listings |
//! | `put_once` | [`put_once`]: COMMITTED, LOST or UNKNOWN (C1) |
//! | `objects` | objects under exact keys, for those who copy them |
//! | `pace` | how much is asked of a store at once |
//! | `probe` | [`probe_conditional_put`]: can two writers be told apart? (C6) |
//! | `remove` | the one way to delete, for `prune` alone (C4); the store's clock (C5) |
//! | `check` | [`Store::check`]: one clear error before any work is done |
//! | `error` | [`StoreError`] |
//! | `faults` | a store that fails on purpose (tests) |

mod check;
mod cloud;
mod error;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod faults;
mod local;
pub mod objects;
mod open;
pub mod pace;
mod probe;
mod put_once;
mod remove;

pub use error::{StoreError, StoreErrorKind};
pub use local::DurableFolder;
pub use open::Store;
pub use probe::{Conditional, probe_conditional_put};
pub use put_once::{Patience, PutOnce, put_once};
pub(crate) use remove::{present, remove_pruned};
