//! The rules of commits (truth.md C1 to C8), each by name, against real tables.

mod commits;
mod faults;
mod foreign;
mod kit;
mod loads;
mod readers;
