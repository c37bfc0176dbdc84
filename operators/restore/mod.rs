//! From the lake back into a database or plain files.
//!
//! A [`Target`] takes the rows of one table and keeps them out of sight; what it
//! holds is then read back by the reader that would read it as a source, and
//! compared with what was read from the lake: so many rows, and the same sum of
//! their hashes. Only then it is published, as a whole. Whatever ends before that
//! leaves what was there.

mod csv;
mod files;
mod form;
mod parquet;
mod tally;

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use highwater::budget::{MemoryBudget, Permit};
use highwater::dataset::Table;
use highwater::source::{BadRow, Emit, Readers as _, SourceError, SourceErrorKind, TableRead};

use crate::ingest::lake::{LakeSnapshot, LakeTable};
use crate::ingest::{postgres, sqlite};
pub(crate) use form::{null_or_text, stored_as};
pub(crate) use tally::Tally;

/// One version of one table, and what it is to become.
pub struct Restore {
    /// Under the name it shall have, with the columns and the key it shall have.
    pub table: Table,
    /// What kind of source it came from: whose types its columns name.
    pub origin: String,
    /// The lake types that the user chose for columns, by name.
    pub types: BTreeMap<String, String>,
    /// The files of the version.
    pub lake: LakeTable,
    /// Whether a table or file of that name is replaced.
    pub replace: bool,
}

/// Where tables are restored to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A database, by its URL.
    Database(String),
    /// Parquet files in a folder.
    Parquet(PathBuf),
    /// CSV files in a folder.
    Csv(PathBuf),
}

/// What pays for the rows in memory.
pub struct RestoreMemory {
    /// Row groups of the lake.
    pub row_groups: MemoryBudget,
    /// Batches.
    pub batches: MemoryBudget,
    /// The size of a batch, in bytes.
    pub batch_bytes: u64,
}

/// A table that was restored and found equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// Rows.
    pub rows: u64,
    /// Bytes read from the lake.
    pub bytes: u64,
    /// The sum of the hashes of its rows, in hexadecimal.
    pub digest: String,
    /// What the target could not be given as the source had it.
    pub inexact: Vec<String>,
}

/// Why a table was not restored; the target is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The lake or the target failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The target holds something else than it was given.
    #[error(
        "{table} was written and read back, and differs: {wanted} in the lake, {found} in the \
         target{example}. Nothing of it was kept"
    )]
    Differs {
        /// The table.
        table: String,
        /// Rows and digest in the lake.
        wanted: String,
        /// Rows and digest in the target.
        found: String,
        /// A value that cannot be read back, where there is one.
        example: String,
    },
}

/// A place for one table that is not published yet. Dropping it leaves what was
/// there before.
#[async_trait]
pub(crate) trait Target: Send {
    /// The columns in which rows are given and read back.
    fn schema(&self) -> SchemaRef;

    /// What cannot be as the source had it.
    fn inexact(&self) -> Vec<String>;

    /// Takes rows.
    async fn write(&mut self, rows: &RecordBatch) -> Result<(), SourceError>;

    /// Reads back all that was taken.
    async fn read_back(&mut self, tally: &mut Tally) -> Result<(), SourceError>;

    /// Puts the table in its place.
    async fn publish(self: Box<Self>) -> Result<(), SourceError>;
}

/// Restores one table.
///
/// # Errors
/// Whatever failed; a difference between lake and target.
pub async fn restore(
    job: Restore,
    to: &Destination,
    memory: &RestoreMemory,
) -> Result<Restored, RestoreError> {
    let mut target = open(&job, to).await?;
    let name = job.table.name.clone();
    let mut tally = Tally::new(&target.schema(), memory)?;
    let bytes = fill(job, target.as_mut(), &mut tally, memory).await?;
    let mut found = Tally::new(&target.schema(), memory)?;
    target.read_back(&mut found).await?;
    if !found.equals(&tally) {
        return Err(RestoreError::Differs {
            table: name.to_string(),
            wanted: tally.to_string(),
            found: found.to_string(),
            example: found.example(),
        });
    }
    let inexact = target.inexact();
    target.publish().await?;
    Ok(Restored {
        rows: tally.rows(),
        bytes,
        digest: tally.digest(),
        inexact,
    })
}

async fn open(job: &Restore, to: &Destination) -> Result<Box<dyn Target>, SourceError> {
    match to {
        Destination::Parquet(folder) => files::parquet(job, folder),
        Destination::Csv(folder) => files::csv(job, folder),
        Destination::Database(url) => match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("postgres" | "postgresql") => postgres::restore_into(url, job).await,
            Some("sqlite") => sqlite::restore_into(url, job),
            _ => Err(SourceError::new(
                SourceErrorKind::Usage,
                "--to is neither postgres://user@host/database nor sqlite:path/to/file; for a \
                 folder, say --format parquet or --format csv",
            )),
        },
    }
}

/// Reads the lake into `target`. Returns the bytes that were read.
async fn fill(
    job: Restore,
    target: &mut dyn Target,
    tally: &mut Tally,
    memory: &RestoreMemory,
) -> Result<u64, SourceError> {
    let splits = job.lake.splits();
    let tables = BTreeMap::from([(job.table.name.clone(), job.lake)]);
    let snapshot = LakeSnapshot::new(tables, memory.row_groups.clone());
    let mut reader = snapshot.reader().await?;
    let read = TableRead::all(job.table, None);
    let mut pour = Pour {
        schema: target.schema(),
        target,
        tally,
        memory,
        bytes: 0,
    };
    for split in &splits {
        reader.read(&read, split, &mut pour).await?;
    }
    Ok(pour.bytes)
}

/// What is read from the lake on its way into the target.
struct Pour<'a> {
    schema: SchemaRef,
    target: &'a mut dyn Target,
    tally: &'a mut Tally,
    memory: &'a RestoreMemory,
    bytes: u64,
}

#[async_trait]
impl Emit for Pour<'_> {
    async fn permit(&mut self, bytes: u64) -> Permit {
        self.memory.batches.take(bytes).await
    }

    fn batch_bytes(&self) -> u64 {
        self.memory.batch_bytes
    }

    async fn batch(
        &mut self,
        rows: RecordBatch,
        _paid: Permit,
        source_bytes: u64,
    ) -> Result<(), SourceError> {
        self.bytes += source_bytes;
        let rows = form::into(&rows, &self.schema)?;
        self.tally.add(&rows)?;
        self.target.write(&rows).await
    }

    async fn quarantine(&mut self, row: BadRow) -> Result<(), SourceError> {
        Err(failed(format!(
            "column {} of the lake cannot be read: {}",
            row.column, row.reason
        )))
    }
}

/// A failure in words.
pub(crate) fn failed(what: impl Into<String>) -> SourceError {
    SourceError::new(SourceErrorKind::Failed, what)
}

/// The target has something of that name.
pub(crate) fn exists(what: impl std::fmt::Display) -> SourceError {
    SourceError::new(
        SourceErrorKind::Usage,
        format!(
            "{what} exists already: say --replace to replace it, or --as NAME to restore beside it"
        ),
    )
}
