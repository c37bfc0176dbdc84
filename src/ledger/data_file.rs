//! A data file as the log records it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One durable Parquet file of a table, ready to be published by a commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataFile {
    /// Path relative to the table's folder, `/`-separated, percent-encoded where
    /// partition values need it.
    pub path: String,
    /// Number of rows.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the content, in lower-case hexadecimal (C7).
    pub sha256: String,
    /// Partition column to value, in Delta's serialised form; `None` is NULL.
    /// Empty for tables that are not partitioned.
    pub partition: BTreeMap<String, Option<String>>,
    /// Delta statistics: `numRecords`, `minValues`, `maxValues`, `nullCount`,
    /// `tightBounds`.
    pub stats: serde_json::Value,
}
