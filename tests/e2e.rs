//! End to end, against real servers: one binary of all tests, because each one
//! more costs a minute of compiling and linking.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod kit;

mod append;
mod bad_input;
mod big_changes;
mod cluster;
mod commit_faults;
mod compact;
mod compact_faults;
mod compact_mirror;
mod cursors;
mod full_mode;
mod hidden_deletes;
mod identity;
mod keep;
mod key_types;
mod kill;
mod kill_merge;
mod kit_itself;
mod lake_clouds;
mod late_commits;
mod memory;
mod merge_races;
mod mirror;
mod network;
mod object_checks;
mod object_clouds;
mod object_cluster;
mod object_ends;
mod object_memory;
mod object_pack;
mod object_record;
mod object_sync;
mod paper_chroma;
mod paper_endpoint;
mod paper_faults;
mod paper_index;
mod paper_limits;
mod paper_others;
mod paper_texts;
mod partition;
mod pgbench;
mod readme;
mod restore;
mod resume;
mod schedule;
mod schema_change;
mod two_runs;
mod types;
