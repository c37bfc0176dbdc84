//! What happens to batches between a source and a sink.

pub mod partition;
pub mod repeats;
