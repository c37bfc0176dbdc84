//! `table-backup`: tables of a database become Delta tables in a lake.

fn main() {}
