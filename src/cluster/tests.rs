//! Processes as threads: crews that join over loopback, run dataflows and end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ends;
mod flows;
pub(in crate::cluster) mod kit;
mod proxy;
