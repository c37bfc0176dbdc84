//! The operators of Highwater dataflows: one file, one operator.
//!
//! An operator may use the runtime (`highwater`); never another operator's
//! insides, never a pipeline.

pub mod embed;
pub mod ingest;
pub mod lake;
pub mod packed;
pub mod restore;
pub mod service;
pub mod sink;
pub mod sort;
pub mod transform;
pub mod vectors;
