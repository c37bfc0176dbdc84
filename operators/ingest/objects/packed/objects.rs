//! [`PackedObjects`]: a packed table as a place of objects that can be read.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use highwater::ledger::hex;
use highwater::store::objects::{
    Describe, Got, KeyRange, Listed, ObjectError, ObjectErrorKind, Objects, Page, Pages, Parts,
    Written,
};
use sha2::{Digest as _, Sha256};

use super::groups::Groups;
use super::rows::{PackedRow, attributes_of, is_same, listed, listed_schema};
use crate::lake::{KeyedTable, LakeReadError, all_rows};

/// Objects of a page.
const PAGE_OBJECTS: usize = 1000;

/// A packed table as a place of objects. It is read; it is written by
/// [`PackRanges`](super::PackRanges).
#[derive(Debug)]
pub struct PackedObjects {
    url: String,
    table: Arc<KeyedTable>,
    groups: Groups,
}

impl PackedObjects {
    /// The objects of `table`, which is at `url`; row groups that are in memory for
    /// the next object take about `share_bytes`.
    #[must_use]
    pub fn new(url: String, table: Arc<KeyedTable>, share_bytes: u64) -> Self {
        Self {
            url,
            groups: Groups::new(Arc::clone(&table), share_bytes),
            table,
        }
    }

    async fn row(&self, key: &str) -> Result<PackedRow, ObjectError> {
        let found = self
            .groups
            .find(key)
            .await
            .map_err(|error| unreadable(key, &error))?;
        found.ok_or_else(|| {
            let what = format!("{} does not hold {key:?}", self.url);
            ObjectError::new(ObjectErrorKind::Vanished, key, what)
        })
    }

    fn read_only<T>(&self, key: &str) -> Result<T, ObjectError> {
        let what = format!(
            "{} is written range by range, not object by object",
            self.url
        );
        Err(ObjectError::new(ObjectErrorKind::Impossible, key, what))
    }
}

/// A file of the table that cannot be read, as a failure with an object.
pub(crate) fn unreadable(key: &str, error: &LakeReadError) -> ObjectError {
    let kind = match error.passes {
        true => ObjectErrorKind::Broken,
        false => ObjectErrorKind::Failed,
    };
    ObjectError::new(kind, key, error.to_string())
}

fn page(rows: &RecordBatch, range: &KeyRange) -> Page {
    let objects = (0..rows.num_rows()).map(|row| listed(rows, row));
    Page {
        objects: objects.filter(|object| range.holds(&object.key)).collect(),
        refused: Vec::new(),
    }
}

#[async_trait]
impl Objects for PackedObjects {
    fn url(&self) -> &str {
        &self.url
    }

    fn pages(&self, range: KeyRange) -> Pages {
        let files = stream::iter(self.table.files_of(&range));
        let table = Arc::clone(&self.table);
        files
            .then(move |number| {
                let table = Arc::clone(&table);
                async move { table.open_file(number, &listed_schema()).await }
            })
            .flat_map(|file| match file {
                Ok(file) => all_rows(file, PAGE_OBJECTS),
                Err(error) => stream::once(async { Err(error) }).boxed(),
            })
            .map(move |rows| match rows {
                Ok(rows) => Ok(page(&rows, &range)),
                Err(error) => Err(unreadable("", &error)),
            })
            .boxed()
    }

    /// Folders near which files end: there it is best cut.
    async fn names_below(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let below = self
            .table
            .lasts()
            .filter_map(|last| last.strip_prefix(prefix));
        let folders = below.filter_map(|rest| {
            let (folder, _) = rest.split_once('/')?;
            Some(format!("{prefix}{folder}/"))
        });
        let mut folders: Vec<String> = folders.collect();
        folders.dedup();
        Ok(folders)
    }

    async fn get(&self, object: &Listed, range: Option<Range<u64>>) -> Result<Got, ObjectError> {
        let key = object.key.as_str();
        let row = self.row(key).await?;
        if !is_same(object, &row.object) {
            let what = format!("{key:?} has changed while it was read");
            return Err(ObjectError::new(ObjectErrorKind::Changed, key, what));
        }
        let found = hex(&Sha256::digest(&row.content));
        if found != row.sha256 {
            let what = format!("{key:?} has the SHA-256 {found}, {} was packed", row.sha256);
            return Err(ObjectError::new(ObjectErrorKind::Corrupt, key, what));
        }
        let body = match range {
            None => row.content,
            Some(range) => {
                let end = |at: u64| {
                    usize::try_from(at)
                        .unwrap_or(usize::MAX)
                        .min(row.content.len())
                };
                row.content.slice(end(range.start)..end(range.end))
            }
        };
        Ok(Got {
            bytes: body.len() as u64,
            etag: row.object.etag,
            attributes: attributes_of(row.attributes.as_deref()),
            // They are among the attributes.
            tags: 0,
            // It was compared when it was packed, and the content has a hash of ours.
            etag_is_no_md5: true,
            checksum: None,
            body: stream::once(async { Ok(body) }).boxed(),
        })
    }

    fn keeps_tags(&self) -> bool {
        true
    }

    async fn head(&self, key: &str) -> Result<Listed, ObjectError> {
        Ok(self.row(key).await?.object)
    }

    async fn put(&self, key: &str, _: Bytes, _: &Describe) -> Result<Written, ObjectError> {
        self.read_only(key)
    }

    async fn begin(&self, key: &str, _: u64, _: &Describe) -> Result<Box<dyn Parts>, ObjectError> {
        self.read_only(key)
    }

    async fn delete(&self, keys: &[String]) -> Result<Vec<(String, ObjectError)>, ObjectError> {
        self.read_only(keys.first().map_or("", String::as_str))
    }
}
