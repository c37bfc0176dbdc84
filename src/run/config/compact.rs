//! `[compact]`: how `lake-compact` lays files out.

use std::path::PathBuf;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::size;

/// How files of tables are laid out anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CompactConfig {
    /// Columns to sort by, the most important first: `"id"`, `"created_at desc"`.
    /// Without them, and without `z_order`, small files are only joined.
    pub sort_by: Vec<String>,
    /// Columns to Z-order by, in place of `sort_by`.
    pub z_order: Vec<String>,
    /// Of rows with the same key only the newest is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_newest_by: Option<KeepNewest>,
    /// Columns to partition by; as the table is when absent. An empty list takes
    /// the partitions away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition_by: Option<Vec<String>>,
    /// What is published at once.
    pub commit: CompactCommit,
    /// The size that files should have; 128 MiB when absent.
    #[serde(with = "size::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<size::SizeText>")]
    pub target: Option<ByteSize>,
    /// Files below this size are small; half of `target` when absent.
    #[serde(with = "size::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<size::SizeText>")]
    pub smaller_than: Option<ByteSize>,
    /// A folder on a local disk for rows that do not fit into memory; the
    /// system's folder for temporary files when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spill: Option<PathBuf>,
}

/// Which rows stand for the same thing, and which of them is the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepNewest {
    /// The key columns.
    pub key: Vec<String>,
    /// The column whose greatest value is the newest; NULL is older than all.
    pub version: String,
}

/// What is published at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CompactCommit {
    /// A table, in one entry of its log.
    #[default]
    Table,
    /// A partition: one that meets a concurrent change does not hold the others
    /// back.
    Partition,
}
