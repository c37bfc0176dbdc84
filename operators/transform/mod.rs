//! What happens to batches between a source and a sink.

pub mod changed_keys;
pub mod changes;
pub mod chunk;
pub mod extract;
pub mod fingerprint;
pub mod meet;
pub mod partition;
pub mod repeats;
pub mod touched;
