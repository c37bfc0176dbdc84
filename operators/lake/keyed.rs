//! [`KeyedTable`]: a table whose rows are in the order of one text column, so that a
//! file stands for a range of keys.

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use highwater::ledger::LoggedFile;
use highwater::store::objects::KeyRange;
use object_store::ObjectStore;

use super::{LakeReadError, TableFile};

/// Files that are looked into at once.
const OPENED_AT_ONCE: usize = 8;

/// Rows decoded at once, where only names are read.
const NAMES_AT_ONCE: usize = 8192;

/// The files of a table, in the order of their keys. What is called a file here may be
/// several, where the rows of one key lie in them: they are read and replaced as one.
#[derive(Debug)]
pub struct KeyedTable {
    folder: Arc<dyn ObjectStore>,
    files: Vec<KeyedFile>,
}

/// A file, or those that share keys, and the first and last key.
#[derive(Debug, Clone)]
struct KeyedFile {
    logged: Vec<LoggedFile>,
    first: String,
    last: String,
}

impl KeyedTable {
    /// Looks into `files` of the table in `folder`, whose rows are in the order of the
    /// column `key`, of which no two have the same.
    ///
    /// # Errors
    /// A file cannot be read; files overlap.
    pub async fn open(
        folder: Arc<dyn ObjectStore>,
        files: Vec<LoggedFile>,
        key: &str,
    ) -> Result<Self, LakeReadError> {
        Self::look_into(folder, files, key, false).await
    }

    /// The same of a table in which several rows have one key. Whoever lays it out anew
    /// may end a file between them.
    ///
    /// # Errors
    /// A file cannot be read; files overlap in more than one key.
    pub async fn open_sharing(
        folder: Arc<dyn ObjectStore>,
        files: Vec<LoggedFile>,
        key: &str,
    ) -> Result<Self, LakeReadError> {
        Self::look_into(folder, files, key, true).await
    }

    async fn look_into(
        folder: Arc<dyn ObjectStore>,
        files: Vec<LoggedFile>,
        key: &str,
        may_share: bool,
    ) -> Result<Self, LakeReadError> {
        let opened = stream::iter(files).map(|file| look(Arc::clone(&folder), file, key));
        let opened = opened.buffer_unordered(OPENED_AT_ONCE);
        let mut opened: Vec<KeyedFile> = opened.try_collect().await?;
        opened.sort_by(|a, b| (&a.first, &a.last).cmp(&(&b.first, &b.last)));
        let mut files: Vec<KeyedFile> = Vec::with_capacity(opened.len());
        for next in opened {
            match files.last_mut().filter(|file| file.last >= next.first) {
                None => files.push(next),
                Some(file) if may_share && file.last == next.first => file.join(next),
                Some(file) => return Err(file.reaches(&next, key)),
            }
        }
        Ok(Self { folder, files })
    }

    /// All keys, cut into one range for each file, in their order; one range where
    /// there is no file.
    #[must_use]
    pub fn ranges(&self) -> Vec<KeyRange> {
        let lasts: Vec<String> = self.files.iter().map(|file| file.last.clone()).collect();
        let cuts = lasts.len().saturating_sub(1);
        KeyRange::cut(lasts.get(..cuts).unwrap_or_default())
    }

    /// The files, each with its first and its last key, in their order.
    pub fn spans(&self) -> impl Iterator<Item = (&LoggedFile, &str, &str)> {
        self.files.iter().flat_map(|file| {
            let span = (file.first.as_str(), file.last.as_str());
            file.logged.iter().map(move |one| (one, span.0, span.1))
        })
    }

    /// The last key of all; `None` where there is no file.
    #[must_use]
    pub fn last_key(&self) -> Option<&str> {
        self.files.last().map(|file| file.last.as_str())
    }

    /// Whether there is no file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The path of the file of a range, as the log has it.
    #[must_use]
    pub fn path(&self, range: usize) -> Option<&str> {
        self.paths(range).next()
    }

    /// The paths of all files of a range.
    pub fn paths(&self, range: usize) -> impl Iterator<Item = &str> {
        let files = self.file(range).into_iter().flat_map(|file| &file.logged);
        files.map(|file| file.path.as_str())
    }

    /// Bytes of the file of a range.
    #[must_use]
    pub fn bytes(&self, range: usize) -> u64 {
        let files = self.file(range).into_iter().flat_map(|file| &file.logged);
        files.map(|file| file.bytes).sum()
    }

    /// The last keys of the files.
    pub(crate) fn lasts(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.last.as_str())
    }

    fn file(&self, number: usize) -> Option<&KeyedFile> {
        self.files.get(number)
    }

    /// The file that holds a key, if one does.
    pub(crate) fn file_of(&self, key: &str) -> Option<usize> {
        let number = self.files.partition_point(|file| file.last.as_str() < key);
        let file = self.files.get(number)?;
        (file.first.as_str() <= key).then_some(number)
    }

    /// The files that may hold keys of a range.
    pub(crate) fn files_of(&self, range: &KeyRange) -> Vec<usize> {
        let touched = |file: &KeyedFile| {
            file.last.as_str() > range.after.as_str() && !range.is_beyond(&file.first)
        };
        (0..)
            .zip(&self.files)
            .filter_map(|(n, file)| touched(file).then_some(n))
            .collect()
    }

    /// Opens a file in the columns of `wanted`, of a table in which no two rows have the
    /// same key.
    pub(crate) async fn open_file(
        &self,
        number: usize,
        wanted: &SchemaRef,
    ) -> Result<TableFile, LakeReadError> {
        let opened = self.open_files(number, wanted).await?;
        opened.into_iter().next().ok_or_else(|| LakeReadError {
            path: String::new(),
            reason: format!("there is no file {number}; please report this"),
            passes: false,
        })
    }

    /// Opens all files of a range in the columns of `wanted`.
    pub(crate) async fn open_files(
        &self,
        number: usize,
        wanted: &SchemaRef,
    ) -> Result<Vec<TableFile>, LakeReadError> {
        let mut opened = Vec::new();
        for file in self.file(number).into_iter().flat_map(|file| &file.logged) {
            opened.push(TableFile::open(Arc::clone(&self.folder), file, wanted).await?);
        }
        Ok(opened)
    }
}

impl KeyedFile {
    /// Takes up the one that comes next and begins with the key with which this ends.
    fn join(&mut self, next: Self) {
        self.logged.extend(next.logged);
        self.last = next.last;
    }

    fn reaches(&self, next: &Self, key: &str) -> LakeReadError {
        let path = |file: &Self| file.logged.last().map(|file| file.path.clone());
        LakeReadError {
            path: path(next).unwrap_or_default(),
            reason: format!(
                "its keys reach into those of {}; `lake-compact --sort-by {key}` puts the rows in \
                 order",
                path(self).unwrap_or_default()
            ),
            passes: false,
        }
    }
}

/// Batches of a file, or why there are none.
pub(crate) type RowBatches = BoxStream<'static, Result<RecordBatch, LakeReadError>>;

/// All rows of a file that was opened, so many at once.
pub(crate) fn all_rows(file: TableFile, rows_at_once: usize) -> RowBatches {
    stream::iter(0..file.row_groups())
        .map(move |group| file.rows(group, rows_at_once))
        .flat_map(|rows| match rows {
            Ok(rows) => rows.boxed(),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        })
        .boxed()
}

async fn look(
    folder: Arc<dyn ObjectStore>,
    logged: LoggedFile,
    column: &str,
) -> Result<KeyedFile, LakeReadError> {
    let file = TableFile::open(folder, &logged, &key_schema(column)).await?;
    let (mut first, mut last) = (String::new(), String::new());
    if let Some(group) = file.row_groups().checked_sub(1) {
        let begin = file.rows(0, 1)?.next().await.transpose()?;
        first = begin.map_or_else(String::new, |rows| key_of(&rows, 0).to_owned());
        let mut end = file.rows(group, NAMES_AT_ONCE)?;
        while let Some(rows) = end.next().await.transpose()? {
            last = key_of(&rows, rows.num_rows().saturating_sub(1)).to_owned();
        }
    }
    if first > last {
        return Err(LakeReadError {
            path: logged.path,
            reason: format!(
                "its rows are not in the order of {column}; `lake-compact --sort-by {column}` puts \
                 them in order"
            ),
            passes: false,
        });
    }
    Ok(KeyedFile {
        logged: vec![logged],
        first,
        last,
    })
}

/// The key alone.
fn key_schema(column: &str) -> SchemaRef {
    Schema::new(vec![Field::new(column, DataType::Utf8, true)]).into()
}

/// The key of a row of a batch that begins with it.
fn key_of(batch: &RecordBatch, row: usize) -> &str {
    let keys = batch.columns().first();
    let keys = keys.and_then(|keys| keys.as_string_opt::<i32>());
    let valid = keys.filter(|keys| row < keys.len() && keys.is_valid(row));
    valid.map_or("", |keys| keys.value(row))
}
