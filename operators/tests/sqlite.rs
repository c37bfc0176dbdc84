//! The SQLite source against real files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

#[path = "sqlite/kit.rs"]
mod kit;

#[path = "sqlite/bad_input.rs"]
mod bad_input;
#[path = "sqlite/changes.rs"]
mod changes;
#[path = "sqlite/cursors.rs"]
mod cursors;
#[path = "sqlite/discovery.rs"]
mod discovery;
#[path = "sqlite/one_state.rs"]
mod one_state;
#[path = "sqlite/sample.rs"]
mod sample;
#[path = "sqlite/splits.rs"]
mod splits;
#[path = "sqlite/values.rs"]
mod values;
