//! Texts on the local disk, and where each of them is.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;

use arrow::array::{Array as _, RecordBatch};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use xxhash_rust::xxh3::xxh3_128;

/// Which columns make documents of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextColumns {
    /// The columns that tell one row from another, in the order in which they make a key.
    pub key: Vec<String>,
    /// The column that holds the text.
    pub text: String,
}

/// Why rows are no documents.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A column that is named is not there.
    #[error("there is no column `{0}`; name it as the table does")]
    Column(String),
    /// Two rows have one key.
    #[error("two rows have the key {0:?}; name more `key_columns`, that tell all rows apart")]
    Twice(String),
    /// The local disk.
    #[error("cannot keep texts in the folder for temporary files: {0}")]
    Disk(#[from] std::io::Error),
    /// A value has no text form.
    #[error("a value cannot be written as text: {0}")]
    Value(#[from] arrow::error::ArrowError),
    /// The texts of more rows than memory is there for.
    #[error("the keys of {rows} rows take more than {bytes} bytes; give more --memory")]
    Memory {
        /// Rows so far.
        rows: usize,
        /// What there is for them.
        bytes: u64,
    },
}

/// Where a text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) key: Box<str>,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) hash: u128,
}

/// Texts by their keys, in the order of the bytes of keys.
#[derive(Debug)]
pub struct Texts {
    file: File,
    places: Vec<Place>,
}

impl Texts {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    pub(super) fn find(&self, key: &str) -> Option<&Place> {
        let at = self
            .places
            .binary_search_by(|place| (*place.key).cmp(key))
            .ok()?;
        self.places.get(at)
    }

    pub(super) fn read(&self, place: &Place) -> std::io::Result<Vec<u8>> {
        let mut text = vec![0; usize::try_from(place.bytes).unwrap_or(0)];
        self.file.read_exact_at(&mut text, place.offset)?;
        Ok(text)
    }
}

/// Takes rows in, in any order.
pub(super) struct Spool {
    file: BufWriter<File>,
    offset: u64,
    places: Vec<Place>,
    columns: TextColumns,
    held_bytes: u64,
    most_bytes: u64,
}

impl Spool {
    /// For these columns; keys may take so many bytes of memory.
    pub(super) fn new(columns: TextColumns, most_bytes: u64) -> Result<Self, SpoolError> {
        Ok(Self {
            file: BufWriter::with_capacity(1 << 18, tempfile::tempfile()?),
            offset: 0,
            places: Vec::new(),
            columns,
            held_bytes: 0,
            most_bytes,
        })
    }

    /// Takes the rows of a batch. Rows without a text are no documents.
    pub(super) fn take(&mut self, rows: &RecordBatch) -> Result<(), SpoolError> {
        let find = |name: &String| {
            let column = rows.column_by_name(name);
            column.ok_or_else(|| SpoolError::Column(name.clone()))
        };
        let text = find(&self.columns.text)?;
        let text = arrow::compute::cast(text, &DataType::Utf8)?;
        let options = FormatOptions::new().with_null("NULL");
        let texts = ArrayFormatter::try_new(&text, &options)?;
        let keys = self.columns.key.iter().map(|name| {
            let column = find(name)?;
            Ok(ArrayFormatter::try_new(column, &options)?)
        });
        let keys = keys.collect::<Result<Vec<_>, SpoolError>>()?;
        for row in (0..rows.num_rows()).filter(|row| text.is_valid(*row)) {
            let parts = keys.iter().map(|key| escaped(&key.value(row).to_string()));
            let key = parts.collect::<Vec<_>>().join("/");
            self.add(key.into(), texts.value(row).to_string().as_bytes())?;
        }
        Ok(())
    }

    fn add(&mut self, key: Box<str>, text: &[u8]) -> Result<(), SpoolError> {
        self.held_bytes += size_of::<Place>() as u64 + key.len() as u64;
        if self.held_bytes > self.most_bytes {
            return Err(SpoolError::Memory {
                rows: self.places.len(),
                bytes: self.most_bytes,
            });
        }
        self.file.write_all(text)?;
        self.places.push(Place {
            key,
            offset: self.offset,
            bytes: text.len() as u64,
            hash: xxh3_128(text),
        });
        self.offset += text.len() as u64;
        Ok(())
    }

    /// All of it is there.
    pub(super) fn finish(mut self) -> Result<Texts, SpoolError> {
        self.places.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let twice = self.places.windows(2).find(|two| match two {
            [a, b] => a.key == b.key,
            _ => false,
        });
        if let Some([place, _]) = twice {
            return Err(SpoolError::Twice(place.key.to_string()));
        }
        let file = self
            .file
            .into_inner()
            .map_err(|error| SpoolError::Disk(error.into_error()))?;
        Ok(Texts {
            file,
            places: self.places,
        })
    }
}

/// A value as a part of a key.
fn escaped(value: &str) -> String {
    value.replace('%', "%25").replace('/', "%2F")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn rows(ids: &[i64], names: &[&str], texts: &[Option<&str>]) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
        let names: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
        let texts: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
        RecordBatch::try_from_iter([("id", ids), ("name", names), ("body", texts)]).unwrap()
    }

    fn columns(key: &[&str]) -> TextColumns {
        TextColumns {
            key: key.iter().map(|name| (*name).to_owned()).collect(),
            text: "body".to_owned(),
        }
    }

    #[test]
    fn texts_come_back_by_key_in_the_order_of_keys() {
        let mut spool = Spool::new(columns(&["name", "id"]), 1 << 20).unwrap();
        spool
            .take(&rows(&[2, 10], &["b/c", "a"], &[Some("two"), Some("ten")]))
            .unwrap();
        spool
            .take(&rows(&[3, 4], &["a", "a"], &[None, Some("")]))
            .unwrap();
        let texts = spool.finish().unwrap();
        let keys: Vec<&str> = texts.places().iter().map(|place| &*place.key).collect();
        assert_eq!(keys, ["a/10", "a/4", "b%2Fc/2"]);
        let read = |key: &str| texts.read(texts.find(key).unwrap()).unwrap();
        assert_eq!(read("a/10"), b"ten");
        assert_eq!(read("a/4"), b"");
        assert_eq!(read("b%2Fc/2"), b"two");
        assert!(texts.find("a/3").is_none());
    }

    #[test]
    fn keys_that_are_no_keys_and_columns_that_are_not_there_are_refused() {
        let mut spool = Spool::new(columns(&["name"]), 1 << 20).unwrap();
        spool
            .take(&rows(&[1, 2], &["a", "a"], &[Some("x"), Some("y")]))
            .unwrap();
        assert!(matches!(spool.finish(), Err(SpoolError::Twice(key)) if key == "a"));
        let mut spool = Spool::new(columns(&["other"]), 1 << 20).unwrap();
        let refused = spool.take(&rows(&[1], &["a"], &[Some("x")]));
        assert!(matches!(refused, Err(SpoolError::Column(name)) if name == "other"));
        let mut spool = Spool::new(columns(&["id"]), 60).unwrap();
        let refused = spool.take(&rows(&[1, 2], &["a", "b"], &[Some("x"), Some("y")]));
        assert!(matches!(refused, Err(SpoolError::Memory { .. })));
    }
}
