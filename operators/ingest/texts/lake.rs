//! Reads a text column of a table of a lake.

use arrow::datatypes::{Schema, SchemaRef};
use futures::TryStreamExt as _;
use highwater::ledger::LoggedFile;
use highwater::store::Store;

use super::spool::{Spool, SpoolError, TextColumns, Texts};
use crate::lake::{LakeReadError, TableFile};

/// A row group is decoded in batches of about so many bytes.
const BATCH_BYTES: u64 = 1 << 20;

/// Why a table's texts cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TextsError {
    /// A file of the lake.
    #[error(transparent)]
    Lake(#[from] LakeReadError),
    /// What its rows are.
    #[error(transparent)]
    Rows(#[from] SpoolError),
}

/// Reads the texts of the `files` of the table at `store`, which has the columns of
/// `schema`; keys may take `most_bytes` of memory.
///
/// # Errors
/// A file cannot be read; the columns are not there; keys are not.
pub async fn read_lake(
    store: &Store,
    files: &[LoggedFile],
    schema: &Schema,
    columns: TextColumns,
    most_bytes: u64,
) -> Result<Texts, TextsError> {
    let wanted = wanted(schema, &columns)?;
    let mut spool = Spool::new(columns, most_bytes)?;
    for file in files {
        let file = TableFile::open(store.objects(), file, &wanted).await?;
        for group in 0..file.row_groups() {
            let mut rows = file.rows(group, file.batch_rows(group, BATCH_BYTES))?;
            while let Some(rows) = rows.try_next().await? {
                spool.take(&rows)?;
            }
        }
    }
    Ok(spool.finish()?)
}

fn wanted(schema: &Schema, columns: &TextColumns) -> Result<SchemaRef, SpoolError> {
    let names = columns.key.iter().chain([&columns.text]);
    let fields = names.map(|name| {
        let field = schema.field_with_name(name);
        field.cloned().map_err(|_| SpoolError::Column(name.clone()))
    });
    let fields = fields.collect::<Result<Vec<_>, _>>()?;
    Ok(Schema::new(fields).into())
}
