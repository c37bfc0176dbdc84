//! Arrow schemas as Delta schemas.
//!
//! Column names are kept as the source has them, without column mapping: the
//! format allows any name, and readers read them, while tables with column
//! mapping are refused by the Python readers (tested with `deltalake` 1.6 and
//! `polars` 2.1). The kernel's own checks of names on creation are stricter than
//! that, which is why a created table's schema is put into its entry by the
//! [committer](super::committer).

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use delta_kernel::engine::arrow_conversion::{TryFromArrow as _, TryIntoArrow as _};
use delta_kernel::schema::{StructField, StructType};

use super::error::LedgerError;

/// The shape that a commit gives the table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    /// The Delta schema.
    pub(super) schema: StructType,
    /// Its form in the log.
    pub(super) schema_string: String,
    /// The partition columns.
    pub(super) partition_columns: Vec<String>,
    /// Whether the table feature `timestampNtz` is needed.
    pub(super) timestamp_ntz: bool,
}

impl Layout {
    /// Checks and converts.
    pub(super) fn new(schema: &Schema, partition_columns: &[String]) -> Result<Self, LedgerError> {
        if schema.fields().is_empty() {
            return Err(LedgerError::Invalid(
                "a table needs at least one column".to_owned(),
            ));
        }
        check_names(schema)?;
        check_partitions(schema, partition_columns)?;
        let fields = schema.fields().iter().map(|field| delta_field(field));
        let fields = fields.collect::<Result<Vec<_>, _>>()?;
        let timestamp_ntz = schema
            .fields()
            .iter()
            .any(|field| has_ntz(field.data_type()));
        let schema = StructType::try_new(fields)
            .map_err(|error| LedgerError::Invalid(format!("the schema: {error}")))?;
        let schema_string = serde_json::to_string(&schema)
            .map_err(|error| LedgerError::Invalid(format!("the schema: {error}")))?;
        let partition_columns = partition_columns.to_vec();
        Ok(Self {
            schema,
            schema_string,
            partition_columns,
            timestamp_ntz,
        })
    }

    /// The same types under names that the kernel accepts: what it needs to
    /// derive the table features from.
    pub(super) fn nameless(&self) -> Result<StructType, LedgerError> {
        let fields = self.schema.fields().enumerate().map(|(position, field)| {
            StructField::nullable(format!("c{position}"), field.data_type().clone())
        });
        StructType::try_new(fields)
            .map_err(|error| LedgerError::Invalid(format!("the schema: {error}")))
    }
}

/// The Arrow schema of a Delta schema, column metadata included.
pub(super) fn arrow_schema(schema: &StructType) -> Result<Schema, LedgerError> {
    schema.try_into_arrow().map_err(|error| {
        LedgerError::Invalid(format!("the table's schema has no Arrow form: {error}"))
    })
}

fn delta_field(field: &Field) -> Result<StructField, LedgerError> {
    let refused = |reason: String| LedgerError::Column {
        column: field.name().clone(),
        reason,
    };
    check_type(field.data_type()).map_err(refused)?;
    StructField::try_from_arrow(field).map_err(|error| refused(error.to_string()))
}

/// The kernel converts more types than it keeps exactly; refuse what would change.
fn check_type(data_type: &DataType) -> Result<(), String> {
    match data_type {
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            Err("Delta has no unsigned integers".to_owned())
        }
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Nanosecond, _) => {
            Err("Delta keeps timestamps in microseconds".to_owned())
        }
        DataType::Null => Err("it has no type".to_owned()),
        DataType::List(field) | DataType::LargeList(field) => check_type(field.data_type()),
        DataType::Struct(fields) => fields
            .iter()
            .try_for_each(|field| check_type(field.data_type())),
        _ => Ok(()),
    }
}

/// Delta compares names without case, so two names may not differ in case only.
fn check_names(schema: &Schema) -> Result<(), LedgerError> {
    let mut seen = std::collections::HashMap::new();
    for field in schema.fields() {
        let refused = |reason: String| LedgerError::Column {
            column: field.name().clone(),
            reason,
        };
        if field.name().is_empty() {
            return Err(refused("its name is empty".to_owned()));
        }
        if let Some(other) = seen.insert(field.name().to_lowercase(), field.name()) {
            let reason = format!("readers cannot tell it from `{other}` (case does not count)");
            return Err(refused(reason));
        }
    }
    Ok(())
}

fn check_partitions(schema: &Schema, partition_columns: &[String]) -> Result<(), LedgerError> {
    for (position, column) in partition_columns.iter().enumerate() {
        let Ok(field) = schema.field_with_name(column) else {
            let what = format!("partition column `{column}` is not a column of the table");
            return Err(LedgerError::Invalid(what));
        };
        if field.data_type().is_nested()
            || partition_columns
                .iter()
                .skip(position + 1)
                .any(|other| other == column)
        {
            let what = format!("`{column}` cannot be a partition column, or is one twice");
            return Err(LedgerError::Invalid(what));
        }
    }
    if partition_columns.len() >= schema.fields().len() {
        let what = "at least one column must not be a partition column".to_owned();
        return Err(LedgerError::Invalid(what));
    }
    Ok(())
}

fn has_ntz(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(_, None) => true,
        DataType::List(field) | DataType::LargeList(field) | DataType::Map(field, _) => {
            has_ntz(field.data_type())
        }
        DataType::Struct(fields) => fields.iter().any(|field| has_ntz(field.data_type())),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::dataset::SOURCE_TYPE;

    #[test]
    fn the_source_type_goes_there_and_back() {
        let ntz = DataType::Timestamp(TimeUnit::Microsecond, None);
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = Schema::new(vec![
            Field::new("a b,;{}()\t\n=", DataType::Decimal128(38, 9), true)
                .with_metadata([(SOURCE_TYPE.to_owned(), "numeric(38,9)".to_owned())]),
            Field::new("at", ntz, true),
            Field::new("utc", utc, true),
        ]);
        let layout = Layout::new(&schema, &[]).unwrap();
        assert!(layout.timestamp_ntz);
        assert_eq!(arrow_schema(&layout.schema).unwrap(), schema);
    }

    #[test]
    fn names_that_differ_in_case_only_are_refused_by_name() {
        let field = |name| Field::new(name, DataType::Int64, true);
        let error = Layout::new(&Schema::new(vec![field("Id"), field("id")]), &[]).unwrap_err();
        assert!(error.to_string().contains("`id`"), "{error}");
        assert!(error.to_string().contains("leave it out"), "{error}");
    }

    #[test]
    fn types_that_would_change_are_refused() {
        let schema = Schema::new(vec![Field::new("n", DataType::UInt64, true)]);
        let error = Layout::new(&schema, &[]).unwrap_err();
        assert!(error.to_string().contains("unsigned"), "{error}");
    }
}
