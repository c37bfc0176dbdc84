//! Documents to text, with real child processes: what each format gives, and that
//! nothing a document does ends more than the document.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "extract/bombs.rs"]
mod bombs;
#[path = "extract/faults.rs"]
mod faults;
#[path = "extract/formats.rs"]
mod formats;
#[path = "extract/kit.rs"]
mod kit;
#[path = "extract/mutated.rs"]
mod mutated;
