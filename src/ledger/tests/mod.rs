//! The rules of commits (truth.md C1 to C8), each by name, against real tables.

mod checkpoints;
mod commits;
mod faults;
mod foreign;
mod kit;
mod loads;
mod prune;
mod readers;
mod rewrites;
mod verify;
