//! Tables and columns, as a source describes them and as the lake keeps them.
//!
//! Nothing here reads or writes: these are the nouns that sources, the plan,
//! the ledger and the sink share.

use std::fmt;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

/// Key of the Arrow and Delta column metadata that keeps the source's exact
/// type, as the source spells it (`numeric(12,2)`), so that a restore can be exact.
pub const SOURCE_TYPE: &str = "highwater.source_type";

/// The name of a table in its source: an optional schema and a name.
///
/// Displays as `schema.name`, or `name` where the source has no schemas.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    /// The schema (namespace), where the source has such.
    pub schema: Option<String>,
    /// The table's own name, unquoted.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// How much of a source column's meaning its lake column keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "fidelity", content = "because")]
pub enum Fidelity {
    /// Every value has a typed equivalent.
    Exact,
    /// Every value is kept exactly, as text; the reason says why not typed.
    Text(String),
    /// Typed, but some values of the source's type do not exist in the lake's
    /// type and are quarantined; the text names them (for instance `NaN`).
    Partial(String),
}

/// One column: its source type, and what it becomes in the lake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// The column's name, the same in source and lake.
    pub name: String,
    /// The exact type as the source spells it, for instance `numeric(12,2)`.
    pub source_type: String,
    /// The Arrow type of the lake column.
    #[serde(with = "type_as_text")]
    pub lake_type: DataType,
    /// Whether the column may hold NULL.
    pub nullable: bool,
    /// What the lake column keeps.
    pub fidelity: Fidelity,
}

impl Column {
    /// The Arrow field, with the exact source type in its metadata.
    #[must_use]
    pub fn field(&self) -> Field {
        // Always nullable in the lake: a source may relax NOT NULL at any time,
        // and that must not need a rewrite of the table.
        Field::new(&self.name, self.lake_type.clone(), true)
            .with_metadata([(SOURCE_TYPE.to_owned(), self.source_type.clone())])
    }
}

/// One table of a source, as discovered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// The table's name.
    pub name: TableName,
    /// The selected columns, in the source's order.
    pub columns: Vec<Column>,
    /// Positions in `columns` of the key (primary key, else a unique key
    /// without NULLs); empty when the table has none.
    pub key: Vec<usize>,
    /// The source's own estimate of the row count.
    pub estimated_rows: Option<u64>,
    /// The estimated size of the rows as read, in bytes.
    pub estimated_bytes: u64,
}

impl Table {
    /// A table of rows of this schema, without a key or estimates.
    #[must_use]
    pub fn of(name: TableName, schema: &Schema) -> Self {
        let columns = schema.fields().iter().map(|field| Column {
            name: field.name().clone(),
            source_type: field
                .metadata()
                .get(SOURCE_TYPE)
                .cloned()
                .unwrap_or_default(),
            lake_type: field.data_type().clone(),
            nullable: true,
            fidelity: Fidelity::Exact,
        });
        Self {
            name,
            columns: columns.collect(),
            key: Vec::new(),
            estimated_rows: None,
            estimated_bytes: 0,
        }
    }

    /// The Arrow schema of the table's batches.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        Schema::new(self.columns.iter().map(Column::field).collect::<Vec<_>>()).into()
    }

    /// Names of the key columns, in key order; empty when the table has no key.
    pub fn key_names(&self) -> impl Iterator<Item = &str> {
        self.key
            .iter()
            .filter_map(|&position| self.columns.get(position))
            .map(|column| column.name.as_str())
    }
}

/// Arrow types in the form that Arrow itself prints and parses (`Timestamp(µs)`).
mod type_as_text {
    use arrow::datatypes::DataType;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(lake_type: &DataType, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(lake_type)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<DataType, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use arrow::datatypes::TimeUnit;

    #[test]
    fn a_column_survives_serialisation() {
        let list = DataType::List(Field::new("element", DataType::Decimal128(12, 2), true).into());
        for lake_type in [
            DataType::Int64,
            DataType::Decimal128(38, 9),
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Timestamp(TimeUnit::Microsecond, None),
            list,
        ] {
            let column = Column {
                name: "c".to_owned(),
                source_type: "x".to_owned(),
                lake_type,
                nullable: true,
                fidelity: Fidelity::Text("no equivalent".to_owned()),
            };
            let text = serde_json::to_string(&column).unwrap();
            assert_eq!(
                serde_json::from_str::<Column>(&text).unwrap(),
                column,
                "{text}"
            );
        }
    }
}
