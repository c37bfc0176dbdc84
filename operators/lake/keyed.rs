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

/// The files of a table, in the order of their keys.
#[derive(Debug)]
pub struct KeyedTable {
    folder: Arc<dyn ObjectStore>,
    files: Vec<KeyedFile>,
}

/// A file and its first and last key.
#[derive(Debug, Clone)]
struct KeyedFile {
    logged: LoggedFile,
    first: String,
    last: String,
}

impl KeyedTable {
    /// Looks into `files` of the table in `folder`, whose rows are in the order of the
    /// column `key`.
    ///
    /// # Errors
    /// A file cannot be read; files overlap.
    pub async fn open(
        folder: Arc<dyn ObjectStore>,
        files: Vec<LoggedFile>,
        key: &str,
    ) -> Result<Self, LakeReadError> {
        let opened = stream::iter(files).map(|file| look(Arc::clone(&folder), file, key));
        let opened = opened.buffer_unordered(OPENED_AT_ONCE);
        let mut files: Vec<KeyedFile> = opened.try_collect().await?;
        files.sort_by(|a, b| (&a.first, &a.last).cmp(&(&b.first, &b.last)));
        for (file, next) in files.iter().zip(files.iter().skip(1)) {
            if file.last >= next.first {
                return Err(LakeReadError {
                    path: next.logged.path.clone(),
                    reason: format!(
                        "its keys reach into those of {}; `lake-compact --sort-by {key}` puts the \
                         rows in order",
                        file.logged.path
                    ),
                    passes: false,
                });
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
        let files = self.files.iter();
        files.map(|file| (&file.logged, file.first.as_str(), file.last.as_str()))
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
        self.file(range).map(|file| file.logged.path.as_str())
    }

    /// Bytes of the file of a range.
    #[must_use]
    pub fn bytes(&self, range: usize) -> u64 {
        self.file(range).map_or(0, |file| file.logged.bytes)
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

    /// Opens a file in the columns of `wanted`.
    pub(crate) async fn open_file(
        &self,
        number: usize,
        wanted: &SchemaRef,
    ) -> Result<TableFile, LakeReadError> {
        match self.file(number) {
            Some(file) => TableFile::open(Arc::clone(&self.folder), &file.logged, wanted).await,
            None => Err(LakeReadError {
                path: String::new(),
                reason: format!("there is no file {number}; please report this"),
                passes: false,
            }),
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
        logged,
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
