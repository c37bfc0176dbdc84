//! [`join_small`]: many small files of the table become few. Each tick of a run leaves
//! some, and each costs whoever opens the table a request or two.

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::TryStreamExt as _;
use highwater::cancel::Cancel;
use highwater::ledger::{DataFile, LoggedFile, SmallFile, SmallFileError};
use object_store::ObjectStore;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::schema::types::ColumnPath;

use super::rows::vectors_schema;
use crate::lake::{LakeReadError, TableFile, all_rows};
use crate::sink::lake::{lake_options, lake_properties};

/// A file below this size is small, in bytes.
const SMALL_BYTES: u64 = 4 << 20;

/// So many small files are left alone.
const MOST_SMALL: usize = 100;

/// A joined file is completed at about this size, in bytes: until then it is in memory.
const JOINED_BYTES: u64 = 16 << 20;

/// A row group of it is completed at this size, in bytes.
const GROUP_BYTES: u64 = 4 << 20;

/// Rows decoded at once.
const ROWS_AT_ONCE: usize = 256;

/// Small files and the ones that hold their rows instead. Nothing of it is published yet.
#[derive(Debug, Default)]
pub struct Joined {
    /// Paths of the files whose rows are elsewhere now.
    pub removed: Vec<String>,
    /// The files that hold them.
    pub added: Vec<DataFile>,
}

/// Why files were not joined. The table is as it was.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The store does not answer now.
    #[error(transparent)]
    Read(#[from] LakeReadError),
    /// A joined file cannot be written.
    #[error(transparent)]
    Write(#[from] SmallFileError),
}

/// Joins the small ones of `files`, which are those of the table in `folder`; `None` where
/// they are few, or where `until` asks to end. A file that cannot be read stays.
///
/// # Errors
/// [`JoinError`].
pub async fn join_small(
    folder: &Arc<dyn ObjectStore>,
    files: &[LoggedFile],
    until: &Cancel,
) -> Result<Option<Joined>, JoinError> {
    let small: Vec<&LoggedFile> = files.iter().filter(|file| is_small(file)).collect();
    if small.len() <= MOST_SMALL {
        return Ok(None);
    }
    let mut joining = Joining {
        folder: Arc::clone(folder),
        open: None,
        joined: Joined::default(),
    };
    for file in small {
        if until.is_cancelled() {
            return Ok(None);
        }
        match rows_of(folder, file).await {
            Ok(rows) => joining.take(file, &rows).await?,
            Err(error) if error.passes => return Err(error.into()),
            // Whoever needs its vectors tells that it is damaged.
            Err(_) => {}
        }
    }
    joining.complete().await?;
    Ok(Some(joining.joined).filter(|joined| !joined.removed.is_empty()))
}

fn is_small(file: &LoggedFile) -> bool {
    file.bytes < SMALL_BYTES && file.partition.is_empty() && file.deleted_rows == 0
}

/// All rows of a small file: only when all could be read they are taken.
async fn rows_of(
    folder: &Arc<dyn ObjectStore>,
    file: &LoggedFile,
) -> Result<Vec<RecordBatch>, LakeReadError> {
    let opened = TableFile::open(Arc::clone(folder), file, &vectors_schema()).await?;
    all_rows(opened, ROWS_AT_ONCE).try_collect().await
}

/// Rows on their way into joined files.
struct Joining {
    folder: Arc<dyn ObjectStore>,
    open: Option<SmallFile>,
    joined: Joined,
}

impl Joining {
    async fn take(&mut self, file: &LoggedFile, rows: &[RecordBatch]) -> Result<(), JoinError> {
        for rows in rows {
            let open = match &mut self.open {
                Some(open) => open,
                none => none.insert(SmallFile::new(vectors_schema(), options())?),
            };
            open.write(rows)?;
            if open.row_group_bytes() >= GROUP_BYTES {
                open.flush()?;
            }
            if open.file_bytes() >= JOINED_BYTES {
                self.complete().await?;
            }
        }
        self.joined.removed.push(file.path.clone());
        Ok(())
    }

    /// Writes the open file, under a name that is never used again.
    async fn complete(&mut self) -> Result<(), JoinError> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let file = open.put(&self.folder, "part").await?;
        self.joined.added.push(file);
        Ok(())
    }
}

/// Numbers and hashes hardly repeat, the model's name does.
fn options() -> ArrowWriterOptions {
    let properties = lake_properties(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_column_dictionary_enabled(ColumnPath::from("model"), true);
    lake_options(properties.build())
}
