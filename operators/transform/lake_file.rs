//! A Parquet file of the lake, read by ranges.

pub(crate) use highwater::ledger::LakeFile;
