//! Hashes of keys and rows, by which tables are compared without their values.
//!
//! A value is hashed in the form that Arrow's row encoding gives it, which is
//! injective for one type: two rows of one schema have the same bytes only if
//! they are the same row. The hash is xxh3 with 128 bits, and the table's number
//! is its seed. It is no defence against somebody who *makes* collisions; by
//! chance, two of n different rows share a hash with odds below n² / 2^129: for
//! a billion rows about one in 10^21.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// The hash of a key or of a row.
pub type Hash = u128;

/// The hash of a key in its encoded form, in the table with this number.
#[must_use]
pub fn hash_key(table: usize, key: &[u8]) -> Hash {
    xxh3_128_with_seed(key, table as u64)
}

/// Encodes some columns of a table's batches.
pub struct Encoder {
    columns: Vec<usize>,
    converter: RowConverter,
}

impl Encoder {
    /// An encoder of the columns at `columns`, in this order.
    ///
    /// # Errors
    /// A type has no row encoding.
    pub fn new(schema: &SchemaRef, columns: &[usize]) -> Result<Self, ArrowError> {
        let fields = schema.project(columns)?;
        let fields = fields.fields().iter();
        let fields = fields.map(|field| SortField::new(field.data_type().clone()));
        Ok(Self {
            columns: columns.to_vec(),
            converter: RowConverter::new(fields.collect())?,
        })
    }

    /// An encoder of all columns.
    ///
    /// # Errors
    /// A type has no row encoding.
    pub fn whole(schema: &SchemaRef) -> Result<Self, ArrowError> {
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        Self::new(schema, &all)
    }

    /// The encoded columns of each row. Encodings compare as the values do.
    ///
    /// # Errors
    /// The batch has another schema.
    pub fn encode(&self, batch: &RecordBatch) -> Result<Rows, ArrowError> {
        self.converter
            .convert_columns(batch.project(&self.columns)?.columns())
    }

    /// The columns that encodings stand for, as a batch.
    ///
    /// # Errors
    /// The bytes are no encodings of these columns.
    pub fn decode<'a>(
        &self,
        schema: &SchemaRef,
        encodings: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<RecordBatch, ArrowError> {
        let parser = self.converter.parser();
        let rows = encodings.into_iter().map(|bytes| parser.parse(bytes));
        let columns = self.converter.convert_rows(rows)?;
        RecordBatch::try_new(schema.project(&self.columns)?.into(), columns)
    }
}

/// Hashes the keys and the rows of one table's batches.
pub struct Fingerprint {
    table: usize,
    /// `None` where the table has no key: then a row is its own key.
    key: Option<Encoder>,
    row: Encoder,
}

impl Fingerprint {
    /// For batches of `schema` with the key at these positions.
    ///
    /// # Errors
    /// A type has no row encoding.
    pub fn new(table: usize, schema: &SchemaRef, key: &[usize]) -> Result<Self, ArrowError> {
        Ok(Self {
            table,
            key: match key {
                [] => None,
                key => Some(Encoder::new(schema, key)?),
            },
            row: Encoder::whole(schema)?,
        })
    }

    /// The hash of the key and of the whole of each row.
    ///
    /// # Errors
    /// The batch has another schema.
    pub fn of(&self, batch: &RecordBatch) -> Result<Vec<(Hash, Hash)>, ArrowError> {
        let rows = self.row.encode(batch)?;
        let rows = rows.iter().map(|row| hash_key(self.table, row.as_ref()));
        Ok(match &self.key {
            None => rows.map(|row| (row, row)).collect(),
            Some(key) => {
                let keys = key.encode(batch)?;
                let keys = keys.iter().map(|key| hash_key(self.table, key.as_ref()));
                keys.zip(rows).collect()
            }
        })
    }

    /// The hash of the key of each row.
    ///
    /// # Errors
    /// The batch has another schema.
    pub fn keys(&self, batch: &RecordBatch) -> Result<Vec<Hash>, ArrowError> {
        let encoder = self.key.as_ref().unwrap_or(&self.row);
        let keys = encoder.encode(batch)?;
        Ok(keys
            .iter()
            .map(|key| hash_key(self.table, key.as_ref()))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn batch(ids: Vec<i64>, names: Vec<Option<&str>>) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from(ids));
        let names: ArrayRef = Arc::new(StringArray::from(names));
        RecordBatch::try_from_iter([("id", ids), ("name", names)]).unwrap()
    }

    #[test]
    fn equal_rows_have_equal_hashes_whatever_batch_they_are_in() {
        let rows = batch(vec![1, 2, 2], vec![Some("a"), None, Some("")]);
        let print = Fingerprint::new(3, &rows.schema(), &[0]).unwrap();
        let all = print.of(&rows).unwrap();
        assert_eq!(print.of(&rows.slice(1, 1)).unwrap(), all[1..2]);
        assert_eq!(print.keys(&rows).unwrap()[1], all[1].0);
        // The same key, and NULL is not the empty text.
        assert_eq!(all[1].0, all[2].0);
        assert_ne!(all[1].1, all[2].1);
        let other_table = Fingerprint::new(4, &rows.schema(), &[0]).unwrap();
        assert_ne!(other_table.of(&rows).unwrap()[0], all[0]);
    }

    #[test]
    fn keys_come_back_from_their_encoding() {
        let rows = batch(vec![7, -3], vec![Some("x"), Some("y")]);
        let encoder = Encoder::new(&rows.schema(), &[1, 0]).unwrap();
        let encoded = encoder.encode(&rows).unwrap();
        let bytes: Vec<Vec<u8>> = encoded.iter().map(|row| row.as_ref().to_vec()).collect();
        let back = encoder
            .decode(&rows.schema(), bytes.iter().map(Vec::as_slice))
            .unwrap();
        assert_eq!(back, rows.project(&[1, 0]).unwrap());
    }
}
