//! [`join_small`]: many small files of the table become few. Each tick of a run leaves
//! some, and each costs whoever opens the table a request or two.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::TryStreamExt as _;
use highwater::cancel::Cancel;
use highwater::ledger::{DataFile, LoggedFile, delta_stats, hex};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::rows::vectors_schema;
use crate::lake::{LakeReadError, TableFile, all_rows};

/// A file below this size is small, in bytes.
const SMALL_BYTES: u64 = 4 << 20;

/// So many small files are left alone.
const MOST_SMALL: usize = 100;

/// A joined file is completed at about this size, in bytes: until then it is in memory.
const JOINED_BYTES: usize = 16 << 20;

/// A row group of it is completed at this size, in bytes.
const GROUP_BYTES: usize = 4 << 20;

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
    /// Rows are no Parquet: an error of ours.
    #[error("cannot encode vectors: {0}")]
    Encode(#[from] ParquetError),
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: Path,
        /// Why.
        source: object_store::Error,
    },
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
    open: Option<OpenFile>,
    joined: Joined,
}

/// A file that is not complete yet.
struct OpenFile {
    writer: ArrowWriter<Vec<u8>>,
    rows: u64,
}

impl OpenFile {
    fn new() -> Result<Self, ParquetError> {
        let options = ArrowWriterOptions::new()
            .with_properties(properties())
            // Delta's schema rules; a second one inside the file only confuses.
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), vectors_schema(), options)?;
        Ok(Self { writer, rows: 0 })
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        self.writer.write(rows)?;
        self.rows += rows.num_rows() as u64;
        if self.writer.in_progress_size() >= GROUP_BYTES {
            self.writer.flush()?;
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.writer.bytes_written() + self.writer.in_progress_size() >= JOINED_BYTES
    }
}

impl Joining {
    async fn take(&mut self, file: &LoggedFile, rows: &[RecordBatch]) -> Result<(), JoinError> {
        for rows in rows {
            let open = match &mut self.open {
                Some(open) => open,
                none => none.insert(OpenFile::new()?),
            };
            open.write(rows)?;
            if open.is_full() {
                self.complete().await?;
            }
        }
        self.joined.removed.push(file.path.clone());
        Ok(())
    }

    /// Writes the open file, under a name that is never used again.
    async fn complete(&mut self) -> Result<(), JoinError> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        let metadata = open.writer.finish()?;
        let bytes = std::mem::take(open.writer.inner_mut());
        let path = Path::from(format!("part-{}.parquet", Uuid::now_v7()));
        let file = DataFile {
            path: path.to_string(),
            rows: open.rows,
            bytes: bytes.len() as u64,
            sha256: hex(&Sha256::digest(&bytes)),
            partition: BTreeMap::new(),
            stats: delta_stats(&vectors_schema(), &metadata),
        };
        let written = self.folder.put(&path, PutPayload::from(bytes)).await;
        written.map_err(|source| JoinError::Write { path, source })?;
        self.joined.added.push(file);
        Ok(())
    }
}

/// Numbers and hashes hardly repeat, the model's name does.
fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("highwater ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_max_row_group_row_count(None)
        .set_dictionary_enabled(false)
        .set_column_dictionary_enabled(ColumnPath::from("model"), true)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        // Lists with the element name that Delta readers expect.
        .set_coerce_types(true)
        .build()
}
