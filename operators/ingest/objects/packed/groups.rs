//! Row groups that are in memory, for whoever asks for one object after the other.
//!
//! What is held is paid for by the share that was given. Not paid for are: the pages of
//! a group while it is decoded; of a group that is larger than the share, what is beyond
//! it, as one is always held; a group that was given up, as long as somebody still reads
//! an object in it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::TryStreamExt as _;
use highwater::ledger::hex;
use highwater::store::objects::Listed;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, OnceCell};

use super::rows::{attributes, content, key, key_schema, listed, packed_schema, sha256};
use crate::lake::{KeyedTable, LakeReadError, TableFile};

/// Files whose keys are known at once.
const FILES: usize = 4;

/// Rows decoded at once.
const BATCH_ROWS: usize = 1024;

/// Row groups of a packed table, the ones that were asked for last.
#[derive(Debug)]
pub(super) struct Groups {
    table: Arc<KeyedTable>,
    share_bytes: u64,
    /// One at a time: who asks next wants the group that is being read.
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    files: VecDeque<(usize, Arc<OpenFile>)>,
    groups: VecDeque<Group>,
}

/// A file and the last key of each of its row groups.
struct OpenFile {
    file: TableFile,
    lasts: Vec<String>,
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile")
            .field("lasts", &self.lasts)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Group {
    /// File and group.
    place: (usize, usize),
    rows: Vec<RecordBatch>,
    bytes: u64,
    /// Of objects that are read in parts, by batch and row.
    hashes: BTreeMap<(usize, usize), Hash>,
}

/// The SHA-256 of a content as it lies in memory, once somebody wanted it.
type Hash = Arc<OnceCell<String>>;

/// An object in a row group that is in memory. Its batch stays there with it.
#[derive(Debug)]
pub(super) struct Found {
    rows: RecordBatch,
    row: usize,
    hash: Hash,
}

impl Found {
    /// What a listing tells of it.
    pub(super) fn object(&self) -> Listed {
        listed(&self.rows, self.row)
    }

    /// Content type, metadata and the like, as JSON.
    pub(super) fn attributes(&self) -> Option<&str> {
        attributes(&self.rows, self.row)
    }

    /// The SHA-256 of what was packed, in hexadecimal.
    pub(super) fn packed_sha256(&self) -> &str {
        sha256(&self.rows, self.row)
    }

    /// The content, where it lies.
    pub(super) fn content(&self) -> &[u8] {
        content(&self.rows, self.row)
    }

    /// The SHA-256 of it, in hexadecimal. Of an object that is read in parts it is
    /// computed once, as long as its group is in memory.
    pub(super) async fn sha256(&self) -> &str {
        let compute = || async { hex(&Sha256::digest(self.content())) };
        self.hash.get_or_init(compute).await
    }
}

impl Group {
    /// The object of a key. `in_parts` says that it will be asked for again.
    fn find(&mut self, wanted: &str, in_parts: bool) -> Option<Found> {
        let last = |rows: &RecordBatch| rows.num_rows().saturating_sub(1);
        let at = self
            .rows
            .partition_point(|rows| key(rows, last(rows)) < wanted);
        let rows = self.rows.get(at)?;
        let (mut from, mut to) = (0, rows.num_rows());
        while from < to {
            let middle = from.midpoint(to);
            match key(rows, middle) < wanted {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        if from >= rows.num_rows() || key(rows, from) != wanted {
            return None;
        }
        let hash = match in_parts {
            true => Arc::clone(self.hashes.entry((at, from)).or_default()),
            // There may be many, and each is asked for once.
            false => Hash::default(),
        };
        Some(Found {
            rows: rows.clone(),
            row: from,
            hash,
        })
    }
}

impl Groups {
    /// Of `table`, holding about `share_bytes`, and one group at least.
    pub(super) fn new(table: Arc<KeyedTable>, share_bytes: u64) -> Self {
        Self {
            table,
            share_bytes,
            held: Mutex::default(),
        }
    }

    /// The object of a key, if the table has it. `in_parts` says that it will be asked
    /// for again.
    pub(super) async fn find(
        &self,
        wanted: &str,
        in_parts: bool,
    ) -> Result<Option<Found>, LakeReadError> {
        let Some(number) = self.table.file_of(wanted) else {
            return Ok(None);
        };
        let mut held = self.held.lock().await;
        let file = self.file(&mut held, number).await?;
        let group = file.lasts.partition_point(|last| last.as_str() < wanted);
        if group >= file.lasts.len() {
            return Ok(None);
        }
        let place = (number, group);
        if !held.groups.iter().any(|known| known.place == place) {
            self.load(&mut held, &file, place).await?;
        }
        let found = held.groups.iter_mut().find(|known| known.place == place);
        Ok(found.and_then(|group| group.find(wanted, in_parts)))
    }

    async fn file(&self, held: &mut Held, number: usize) -> Result<Arc<OpenFile>, LakeReadError> {
        if let Some((_, file)) = held.files.iter().find(|(known, _)| *known == number) {
            return Ok(Arc::clone(file));
        }
        let names = self.table.open_file(number, &key_schema()).await?;
        let mut lasts = Vec::new();
        for group in 0..names.row_groups() {
            let rows: Vec<RecordBatch> = names.rows(group, BATCH_ROWS)?.try_collect().await?;
            let last = rows
                .last()
                .map(|rows| key(rows, rows.num_rows().saturating_sub(1)));
            lasts.push(last.unwrap_or_default().to_owned());
        }
        let file = self.table.open_file(number, &packed_schema()).await?;
        let file = Arc::new(OpenFile { file, lasts });
        if held.files.len() >= FILES {
            held.files.pop_front();
        }
        held.files.push_back((number, Arc::clone(&file)));
        Ok(file)
    }

    async fn load(
        &self,
        held: &mut Held,
        file: &OpenFile,
        place: (usize, usize),
    ) -> Result<(), LakeReadError> {
        let bytes = file.file.uncompressed_bytes(place.1);
        let sum = |held: &Held| held.groups.iter().map(|group| group.bytes).sum::<u64>();
        while !held.groups.is_empty() && sum(held) + bytes > self.share_bytes {
            held.groups.pop_front();
        }
        let rows = file.file.rows(place.1, BATCH_ROWS)?;
        held.groups.push_back(Group {
            place,
            rows: rows.try_collect().await?,
            bytes,
            hashes: BTreeMap::new(),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;

    use super::super::rows::{PackedRow, Rows};
    use super::*;

    #[tokio::test]
    async fn what_is_read_in_parts_is_hashed_once_and_copied_by_nobody_here() {
        let mut rows = Rows::default();
        rows.push(PackedRow {
            object: Listed {
                key: "k".to_owned(),
                bytes: 7,
                modified_ns: 0,
                etag: None,
            },
            attributes: None,
            sha256: String::new(),
            content: Bytes::from_static(b"content"),
        });
        let mut group = Group {
            place: (0, 0),
            rows: vec![rows.batch().unwrap()],
            bytes: 0,
            hashes: BTreeMap::new(),
        };
        let first = group.find("k", true).unwrap();
        let hash = first.sha256().await.to_owned();
        let next = group.find("k", true).unwrap();
        assert_eq!(next.hash.get(), Some(&hash));
        assert_eq!(first.content().as_ptr(), next.content().as_ptr());
        // What is read as a whole is not kept in mind.
        let whole = group.find("k", false).unwrap();
        assert_eq!(whole.hash.get(), None);
    }
}
