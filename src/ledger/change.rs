//! [`Change`]: what a commit publishes, and whether it makes sense.

use std::path::{Component, Path as FsPath};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use delta_kernel::schema::StructType;
use serde_json::json;
use uuid::Uuid;

use super::committer::Lines;
use super::data_file::DataFile;
use super::error::LedgerError;
use super::schema::Layout;
use super::{ORDER_TAG, SHA256_TAG, now};
use crate::watermark::Watermark;

/// What a commit does to the files that are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// Removes all current files and adds these: readers see the old table until
    /// they see the new one, whole.
    Replace,
    /// Adds these.
    Append,
    /// Removes some of the current files and adds these.
    Merge {
        /// Paths of the files to remove, as the log has them.
        removed: Vec<String>,
    },
}

/// What one commit publishes.
#[derive(Debug, Clone)]
pub struct Change {
    /// The run.
    pub run: Uuid,
    /// The schema of the table after the commit.
    pub schema: SchemaRef,
    /// The partition columns of the table after the commit.
    pub partition_columns: Vec<String>,
    /// What happens to the files that are there.
    pub kind: ChangeKind,
    /// The durable files to publish.
    pub files: Vec<DataFile>,
    /// What the table equals after the commit.
    pub watermark: Watermark,
    /// The commit that the run started from; 0 for a new table (C3).
    pub from: i64,
}

/// A change that was checked, with its `add` actions serialised.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) change: Change,
    pub(super) lines: Arc<Lines>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) at: String,
}

impl Prepared {
    pub(super) fn new(change: Change) -> Result<Self, LedgerError> {
        let layout = Layout::new(&change.schema, &change.partition_columns)?;
        let written = chrono::Utc::now().timestamp_millis();
        let adds = change
            .files
            .iter()
            .map(|file| {
                check_file(file, &change.partition_columns)?;
                Ok(add_line(file, written, NEW))
            })
            .collect::<Result<Vec<_>, LedgerError>>()?;
        let rows = change.files.iter().map(|file| file.rows).sum();
        let bytes = change.files.iter().map(|file| file.bytes).sum();
        Ok(Self {
            change,
            lines: Arc::new(Lines { layout, adds }),
            rows,
            bytes,
            at: now(),
        })
    }

    /// Whether rows of this shape can be added to a table of `current` shape
    /// without touching the files that are there: new columns may come, nothing
    /// may go or change.
    pub(super) fn appends_to(
        &self,
        current: &StructType,
        partition_columns: &[String],
        url: &str,
    ) -> Result<(), LedgerError> {
        let refuse = |what: String| {
            Err(LedgerError::Shape {
                url: url.to_owned(),
                what,
            })
        };
        if partition_columns != self.lines.layout.partition_columns {
            return refuse(format!("it is partitioned by {partition_columns:?}"));
        }
        for field in current.fields() {
            let name = field.name();
            match self.lines.layout.schema.field(name) {
                None => return refuse(format!("column `{name}` is missing")),
                Some(new) if new.data_type() != field.data_type() => {
                    return refuse(format!(
                        "column `{name}` changed from {} to {}",
                        field.data_type(),
                        new.data_type()
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

pub(super) fn check_file(file: &DataFile, partition_columns: &[String]) -> Result<(), LedgerError> {
    let inside = FsPath::new(&file.path)
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    if !inside || file.path.is_empty() || file.path.contains("://") {
        let what = format!("`{}` is not a path inside the table's folder", file.path);
        return Err(LedgerError::Invalid(what));
    }
    let named = file.partition.len() == partition_columns.len()
        && partition_columns
            .iter()
            .all(|column| file.partition.contains_key(column));
    if !named {
        let what = format!(
            "`{}` must have a value for each of {partition_columns:?}",
            file.path
        );
        return Err(LedgerError::Invalid(what));
    }
    Ok(())
}

/// What an `add` action says of its rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Laid<'a> {
    /// Whether the table holds other rows with it.
    pub(super) data_change: bool,
    /// The order that they were put in.
    pub(super) order: Option<&'a str>,
}

/// Rows that are new to the table.
const NEW: Laid<'static> = Laid {
    data_change: true,
    order: None,
};

/// The `add` action of one file. Ours, not the kernel's, because it carries the
/// file's hash (C7), and statistics exactly as they were computed.
pub(super) fn add_line(file: &DataFile, written: i64, laid: Laid<'_>) -> String {
    let mut stats = file.stats.clone();
    if let Some(stats) = stats.as_object_mut() {
        // The row count is part of C7 whatever the statistics hold.
        stats.insert("numRecords".to_owned(), file.rows.into());
    } else {
        stats = json!({ "numRecords": file.rows });
    }
    let mut tags = json!({ SHA256_TAG: file.sha256 });
    if let Some(order) = laid.order {
        tags[ORDER_TAG] = order.into();
    }
    json!({ "add": {
        "path": file.path,
        "partitionValues": file.partition,
        "size": file.bytes,
        "modificationTime": written,
        "dataChange": laid.data_change,
        "stats": stats.to_string(),
        "tags": tags,
    }})
    .to_string()
}
