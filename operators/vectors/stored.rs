//! What a [`VectorCache`] reads of its table: the names in files, and vectors by their
//! places.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use highwater::ledger::LoggedFile;

use super::cache::{Hash, Vector, VectorCache};
use super::index::Place;
use super::rows::{hash_in, names_schema, vector_in, vectors_schema};
use crate::lake::{LakeReadError, TableFile, all_rows};

/// Rows decoded at once, where only names are read.
const NAMES_AT_ONCE: usize = 8192;

/// Rows decoded at once, with their vectors.
const VECTORS_AT_ONCE: usize = 256;

/// Files that are read at once when the index is made.
const FILES_AT_ONCE: usize = 8;

/// The names in a file, row by row, or why it cannot be read.
type Names = (LoggedFile, Result<Vec<Option<Hash>>, LakeReadError>);

impl VectorCache {
    /// The names in files, in the order of the files.
    pub(super) fn names(&self, files: Vec<LoggedFile>) -> impl Stream<Item = Names> + Unpin {
        let names = futures::stream::iter(files).map(move |file| async move {
            let hashes = self.names_in(&file).await;
            (file, hashes)
        });
        names.buffered(FILES_AT_ONCE)
    }

    async fn names_in(&self, file: &LoggedFile) -> Result<Vec<Option<Hash>>, LakeReadError> {
        let opened = TableFile::open(Arc::clone(&self.folder), file, &names_schema()).await?;
        let batches: Vec<_> = all_rows(opened, NAMES_AT_ONCE).try_collect().await?;
        let hashes = batches
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(|row| hash_in(batch, row, &self.model)));
        Ok(hashes.collect())
    }

    /// Vectors of the table by their places; none where another text's is there, or one
    /// of another length, or where the file cannot be read any more.
    ///
    /// # Errors
    /// A file cannot be read for a reason that passes.
    pub(super) async fn fetch(
        &self,
        mut wanted: Vec<(Hash, Place)>,
        dimensions: usize,
    ) -> Result<HashMap<Hash, Vector>, LakeReadError> {
        wanted.sort_unstable_by_key(|(_, place)| *place);
        let mut found = HashMap::with_capacity(wanted.len());
        for of_file in wanted.chunk_by(|(_, a), (_, b)| a.file == b.file) {
            let number = of_file.first().map_or(0, |(_, place)| place.file);
            let Some(file) = self.file(number) else {
                continue;
            };
            match self
                .fetch_from(&file, of_file, dimensions, &mut found)
                .await
            {
                Err(error) if error.passes => return Err(error),
                Err(error) => self.leave_out(number, &error),
                Ok(()) => {}
            }
        }
        Ok(found)
    }

    async fn fetch_from(
        &self,
        file: &LoggedFile,
        wanted: &[(Hash, Place)],
        dimensions: usize,
        found: &mut HashMap<Hash, Vector>,
    ) -> Result<(), LakeReadError> {
        let file = TableFile::open(Arc::clone(&self.folder), file, &vectors_schema()).await?;
        let mut first = 0;
        for group in 0..file.row_groups() {
            let end = first + file.row_count(group);
            let inside = |(_, place): &&(Hash, Place)| (first..end).contains(&u64::from(place.row));
            let inside: Vec<_> = wanted.iter().filter(inside).collect();
            if inside.is_empty() {
                first = end;
                continue;
            }
            let mut rows = file.rows(group, VECTORS_AT_ONCE)?;
            while let Some(batch) = rows.try_next().await? {
                let after = first + batch.num_rows() as u64;
                for (hash, place) in &inside {
                    let at = u64::from(place.row);
                    if !(first..after).contains(&at) {
                        continue;
                    }
                    let row = usize::try_from(at - first).unwrap_or(usize::MAX);
                    if hash_in(&batch, row, &self.model) == Some(*hash)
                        && let Some(vector) = vector_in(&batch, row, dimensions)
                    {
                        found.insert(*hash, vector);
                    }
                }
                first = after;
            }
            first = end;
        }
        Ok(())
    }
}
