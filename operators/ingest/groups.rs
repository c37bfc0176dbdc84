//! Files of a table in groups: each group is a split, read one file after the
//! other, the next ones opened while one is decoded.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use highwater::budget::MemoryBudget;
use highwater::ledger::LoggedFile;
use highwater::source::{Emit, Reader, Readers, SourceError, SourceErrorKind, Split, TableRead};
use object_store::ObjectStore;

use super::lake::{FileBatches, source_error};
use crate::lake::TableFile;

/// Files that are opened ahead of the one that is read: small ones are then in
/// memory as a whole, so this many times [`SMALL_BYTES`](crate::lake::SMALL_BYTES)
/// must be set aside for each reader.
pub const OPEN_AHEAD: usize = 4;

/// A table's files in groups.
#[derive(Clone)]
pub struct FileGroups {
    folder: Arc<dyn ObjectStore>,
    groups: Arc<Vec<Vec<LoggedFile>>>,
    row_groups: MemoryBudget,
}

impl FileGroups {
    /// A view of `groups` of the files in `folder`; `row_groups` pays for what is
    /// read from them before it becomes batches.
    #[must_use]
    pub fn new(
        folder: Arc<dyn ObjectStore>,
        groups: Vec<Vec<LoggedFile>>,
        row_groups: MemoryBudget,
    ) -> Self {
        Self {
            folder,
            groups: Arc::new(groups),
            row_groups,
        }
    }

    /// One split for each group.
    #[must_use]
    pub fn splits(&self) -> Vec<Split> {
        (0..)
            .zip(self.groups.iter())
            .map(|(ordinal, files)| Split {
                ordinal,
                start: None,
                end: None,
                estimated_bytes: files.iter().map(|file| file.bytes).sum(),
            })
            .collect()
    }
}

fn not_here() -> SourceError {
    SourceError::new(
        SourceErrorKind::Failed,
        "groups of files are read as a whole; please report this",
    )
}

#[async_trait]
impl Readers for FileGroups {
    fn max_readers(&self) -> usize {
        usize::MAX
    }

    async fn reader(&self) -> Result<Box<dyn Reader>, SourceError> {
        Ok(Box::new(GroupReader(self.clone())))
    }
}

struct GroupReader(FileGroups);

#[async_trait]
impl Reader for GroupReader {
    async fn read(
        &mut self,
        read: &TableRead,
        split: &Split,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError> {
        let Self(groups) = self;
        let ordinal = usize::try_from(split.ordinal).unwrap_or(usize::MAX);
        let files = groups.groups.get(ordinal).ok_or_else(not_here)?;
        let (name, wanted) = (&read.table.name, read.schema());
        let mut opened = stream::iter(files.iter().cloned())
            .map(|file| {
                let (folder, wanted) = (Arc::clone(&groups.folder), Arc::clone(&wanted));
                async move { TableFile::open(folder, &file, &wanted).await }
            })
            .buffered(OPEN_AHEAD);
        while let Some(file) = opened.next().await {
            let file = file.map_err(|error| source_error(name, error))?;
            let mut batches = FileBatches::of(name, file, &groups.row_groups);
            while let Some((rows, permit)) = batches.next(out).await? {
                out.batch(rows, permit, batches.read_bytes()).await?;
            }
        }
        Ok(())
    }
}
