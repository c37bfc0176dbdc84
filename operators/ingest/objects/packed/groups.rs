//! Row groups that are in memory, for whoever asks for one object after the other.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::TryStreamExt as _;
use tokio::sync::Mutex;

use super::rows::{PackedRow, key, key_schema, packed_schema};
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
}

impl Group {
    fn find(&self, wanted: &str) -> Option<PackedRow> {
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
        (from < rows.num_rows() && key(rows, from) == wanted).then(|| PackedRow::of(rows, from))
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

    /// The object of a key, if the table has it.
    pub(super) async fn find(&self, wanted: &str) -> Result<Option<PackedRow>, LakeReadError> {
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
        let found = held.groups.iter().find(|known| known.place == place);
        Ok(found.and_then(|group| group.find(wanted)))
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
        });
        Ok(())
    }
}
