//! What happens to batches between a source and a sink.

mod lake_file;
pub mod partition;
pub mod repeats;
