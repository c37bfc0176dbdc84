//! Where batches end: one file or folder for each kind of sink.

pub mod chroma;
pub mod lake;
pub mod objects;
