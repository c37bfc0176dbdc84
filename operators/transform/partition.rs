//! Divides the rows of a batch by partition values.
//!
//! A partition column is either a column of the table, which then lives in the
//! partition values alone, or a date part of one, which becomes a column of its
//! own (`created_at_month`) beside the untouched original.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{
    DataType, Date32Type, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{Datelike, NaiveDate};

use highwater::flow::TableFailure;
use highwater::flow::event::FailureKind;
use highwater::run::config::PartitionBy;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// How the rows of one table are divided.
#[derive(Debug, Clone)]
pub struct Partitioning {
    by: Vec<By>,
    /// Positions of the batch's columns that stay in the files.
    kept: Vec<usize>,
    table_schema: SchemaRef,
    file_schema: SchemaRef,
}

#[derive(Debug, Clone)]
struct By {
    /// The partition column's name in the lake.
    name: String,
    /// Position of the column it comes from.
    from: usize,
    part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    Year,
    Month,
    Day,
}

impl Partitioning {
    /// Checks `partition_by` against the schema of the batches.
    ///
    /// # Errors
    /// A column that does not exist, has no date part, or cannot be a partition
    /// column.
    pub fn new(batch_schema: &SchemaRef, partition_by: &[PartitionBy]) -> Result<Self, String> {
        let mut by = Vec::new();
        let mut fields: Vec<_> = batch_schema.fields().iter().map(Arc::clone).collect();
        for wanted in partition_by {
            let (column, part, suffix) = match wanted {
                PartitionBy::Column(column) => (column, Part::Whole, None),
                PartitionBy::Year(column) => (column, Part::Year, Some(("year", DataType::Int32))),
                PartitionBy::Month(column) => {
                    (column, Part::Month, Some(("month", DataType::Utf8)))
                }
                PartitionBy::Day(column) => (column, Part::Day, Some(("day", DataType::Date32))),
            };
            let (from, field) = batch_schema.column_with_name(column).ok_or_else(|| {
                format!("partition_by names the column {column}, which the table does not have")
            })?;
            check_type(field, part)?;
            let name = match suffix {
                None => column.clone(),
                Some((suffix, lake_type)) => {
                    let name = format!("{column}_{suffix}");
                    if batch_schema.column_with_name(&name).is_some() {
                        return Err(format!(
                            "partition_by {suffix}({column}) makes a column {name}, which the \
                             table already has"
                        ));
                    }
                    fields.push(Arc::new(Field::new(&name, lake_type, true)));
                    name
                }
            };
            by.push(By { name, from, part });
        }
        let in_values = |index: usize| {
            by.iter()
                .any(|by| by.part == Part::Whole && by.from == index)
        };
        let kept: Vec<usize> = (0..batch_schema.fields().len())
            .filter(|&index| !in_values(index))
            .collect();
        if kept.is_empty() {
            return Err("partition_by takes every column; at least one must stay".to_owned());
        }
        let file_schema = Arc::new(batch_schema.project(&kept).map_err(|e| e.to_string())?);
        Ok(Self {
            by,
            kept,
            table_schema: Arc::new(Schema::new(fields)),
            file_schema,
        })
    }

    /// Names of the partition columns, in order.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        self.by.iter().map(|by| by.name.clone()).collect()
    }

    /// The schema of the table: the batch's columns and those made here.
    #[must_use]
    pub fn table_schema(&self) -> SchemaRef {
        Arc::clone(&self.table_schema)
    }

    /// The schema of the files.
    #[must_use]
    pub fn file_schema(&self) -> SchemaRef {
        Arc::clone(&self.file_schema)
    }

    /// The rows of each partition, with the partition's values in Delta's
    /// serialised form; `None` is NULL.
    ///
    /// # Errors
    /// A value that cannot be a partition value.
    #[allow(clippy::type_complexity)]
    pub fn divide(
        &self,
        rows: &RecordBatch,
    ) -> Result<Vec<(BTreeMap<String, Option<String>>, RecordBatch)>, TableFailure> {
        if self.by.is_empty() {
            return Ok(vec![(BTreeMap::new(), rows.clone())]);
        }
        let values = self
            .by
            .iter()
            .map(|by| by.values(rows))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|reason| TableFailure::new(FailureKind::Failed, reason))?;
        let mut groups: BTreeMap<Vec<Option<&str>>, Vec<u32>> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            let key = values
                .iter()
                .map(|v| v.is_valid(row).then(|| v.value(row)))
                .collect();
            groups
                .entry(key)
                .or_default()
                .push(u32::try_from(row).unwrap_or(u32::MAX));
        }
        let kept = rows.project(&self.kept).map_err(failed)?;
        groups
            .into_iter()
            .map(|(key, members)| {
                let names = self.by.iter().map(|by| by.name.clone());
                let partition = names
                    .zip(key.into_iter().map(|v| v.map(str::to_owned)))
                    .collect();
                let rows = take_record_batch(&kept, &UInt32Array::from(members)).map_err(failed)?;
                Ok((partition, rows))
            })
            .collect()
    }
}

fn failed(error: ArrowError) -> TableFailure {
    TableFailure::new(
        FailureKind::Failed,
        format!("cannot divide rows by partition: {error}"),
    )
}

fn check_type(field: &Field, part: Part) -> Result<(), String> {
    let (name, of) = (field.name(), field.data_type());
    let dated = matches!(
        of,
        DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond, _)
    );
    match part {
        Part::Whole if of.is_nested() || of.is_floating() || matches!(of, DataType::Binary) => Err(
            format!("the column {name} is {of}, which cannot be a partition column"),
        ),
        Part::Whole => Ok(()),
        _ if dated => Ok(()),
        _ => Err(format!(
            "the column {name} is {of}, which has no date part; use it as it is"
        )),
    }
}

impl By {
    /// The partition values of the rows as text.
    fn values(&self, rows: &RecordBatch) -> Result<StringArray, String> {
        let column = rows.column(self.from);
        match self.part {
            Part::Whole => whole(&self.name, column),
            part => dated(&self.name, column, part),
        }
    }
}

fn whole(name: &str, column: &ArrayRef) -> Result<StringArray, String> {
    if let DataType::Utf8 = column.data_type() {
        let texts = column.as_string::<i32>();
        if texts.iter().flatten().any(str::is_empty) {
            return Err(format!(
                "the column {name} holds an empty text, which Delta cannot tell from NULL in a \
                 partition column; partition by another column, or exclude such rows with `where`"
            ));
        }
        return Ok(texts.clone());
    }
    let options = FormatOptions::new()
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.6f"))
        .with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.6fZ"));
    let formatter = ArrayFormatter::try_new(column, &options).map_err(|e| e.to_string())?;
    let text = |row| -> Result<Option<String>, String> {
        let value = || {
            formatter
                .value(row)
                .try_to_string()
                .map_err(|e| e.to_string())
        };
        column.is_valid(row).then(value).transpose()
    };
    (0..column.len()).map(text).collect()
}

fn dated(name: &str, column: &ArrayRef, part: Part) -> Result<StringArray, String> {
    let days: Vec<Option<i64>> = if let DataType::Timestamp(..) = column.data_type() {
        let micros = column.as_primitive::<TimestampMicrosecondType>();
        micros
            .iter()
            .map(|micros| micros.map(|micros| micros.div_euclid(MICROS_PER_DAY)))
            .collect()
    } else {
        let dates = cast(column, &DataType::Date32).map_err(|error| error.to_string())?;
        dates
            .as_primitive::<Date32Type>()
            .iter()
            .map(|days| days.map(i64::from))
            .collect()
    };
    let text = |days: Option<i64>| -> Result<Option<String>, String> {
        let Some(days) = days else { return Ok(None) };
        let date = i32::try_from(days)
            .ok()
            .and_then(|days| days.checked_add(719_163))
            .and_then(NaiveDate::from_num_days_from_ce_opt)
            .filter(|date| (1..=9999).contains(&date.year()))
            .ok_or_else(|| {
                format!("the column {name} holds a date outside the years 1 to 9999: no partition")
            })?;
        Ok(Some(match part {
            Part::Year => date.year().to_string(),
            Part::Month => date.format("%Y-%m").to_string(),
            _ => date.format("%Y-%m-%d").to_string(),
        }))
    };
    days.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use arrow::array::{Int64Array, TimestampMicrosecondArray};

    fn orders() -> RecordBatch {
        let at =
            TimestampMicrosecondArray::from(vec![Some(-1), Some(0), None]).with_timezone("UTC");
        RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
            (
                "status",
                Arc::new(StringArray::from(vec![Some("a b/c"), None, Some("a b/c")])),
            ),
            ("at", Arc::new(at)),
        ])
        .unwrap()
    }

    #[test]
    fn rows_are_divided_by_column_and_by_date_part() {
        let rows = orders();
        let by = [
            PartitionBy::Column("status".into()),
            PartitionBy::Month("at".into()),
        ];
        let partitioning = Partitioning::new(&rows.schema(), &by).unwrap();
        assert_eq!(partitioning.columns(), ["status", "at_month"]);
        assert_eq!(
            partitioning.file_schema().fields().len(),
            2,
            "status lives in the values"
        );
        assert_eq!(partitioning.table_schema().fields().len(), 4);
        let parts = partitioning.divide(&rows).unwrap();
        let seen: Vec<_> = parts
            .iter()
            .map(|(values, rows)| {
                let get = |column: &str| values[column].as_deref();
                (get("status"), get("at_month"), rows.num_rows())
            })
            .collect();
        let expected = [
            (None, Some("1970-01"), 1),
            (Some("a b/c"), None, 1),
            (Some("a b/c"), Some("1969-12"), 1),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_cannot_be_a_partition_is_refused() {
        let rows = orders();
        for (by, word) in [
            (PartitionBy::Column("nope".into()), "nope"),
            (PartitionBy::Year("status".into()), "no date part"),
        ] {
            let error = Partitioning::new(&rows.schema(), &[by]).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        let empty = StringArray::from(vec![""]);
        let rows = RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
            ("s", Arc::new(empty) as ArrayRef),
        ])
        .unwrap();
        let partitioning =
            Partitioning::new(&rows.schema(), &[PartitionBy::Column("s".into())]).unwrap();
        assert!(
            partitioning
                .divide(&rows)
                .unwrap_err()
                .message
                .contains("empty text")
        );
    }
}
