//! The client of ChromaDB against a real server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    missing_docs,
    unreachable_pub
)]

#[path = "../../tests/kit/chroma.rs"]
mod server;

#[path = "../../tests/kit/flaky.rs"]
mod flaky;

#[path = "chroma/faults.rs"]
mod faults;
#[path = "chroma/points.rs"]
mod points;
#[path = "chroma/reconcile.rs"]
mod reconcile;
#[path = "chroma/sample.rs"]
mod sample;
