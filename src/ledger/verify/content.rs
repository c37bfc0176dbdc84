//! Level 3: a file decoded as a whole, and held against its statistics.
//!
//! A statistic that is wrong hides rows from readers, which then see less than
//! the lake holds. Integers are compared; other types have bounds that may be
//! rounded.

use arrow::array::{Array, AsArray as _, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::{ArrowNumericType, DataType, Int8Type, Int16Type, Int32Type, Int64Type};
use futures::TryStreamExt as _;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;
use serde_json::Value;

use super::super::files::LoggedFile;
use super::super::lake_file::LakeFile;
use super::files::{finding, place};
use super::{Finding, FindingKind};
use crate::store::{Store, StoreError, StoreErrorKind};

/// Rows that are decoded at once: small, whatever the row group's size.
const BATCH: usize = 8192;

/// Decodes one file; its rows, and what is wrong with it.
pub(super) async fn check(
    store: &Store,
    file: &LoggedFile,
) -> Result<(u64, Vec<Finding>), StoreError> {
    let mut seen = Seen::default();
    let wrong = |what: String| finding(FindingKind::FileRows, file, what);
    if let Err(error) = decode(store, file, &mut seen).await {
        // A store that is away is no damage; a footer that points beyond the end is.
        if let ParquetError::External(cause) = &error
            && let Some(cause) = cause.downcast_ref::<object_store::Error>()
        {
            let said = StoreError::from_object_store(cause, &format!("read {}", file.path));
            if said.is_retryable() || said.kind == StoreErrorKind::Refused {
                return Err(said);
            }
        }
        return Ok((
            seen.rows,
            vec![wrong(format!("it cannot be decoded: {error}"))],
        ));
    }
    let findings = seen.against(file).into_iter().map(wrong).collect();
    Ok((seen.rows, findings))
}

async fn decode(store: &Store, file: &LoggedFile, seen: &mut Seen) -> Result<(), ParquetError> {
    let path = place(&file.path).ok_or_else(|| ParquetError::General("no path".to_owned()))?;
    let reader = LakeFile::new(store.objects(), path, file.bytes);
    let builder = ParquetRecordBatchStreamBuilder::new(reader).await?;
    let mut batches = builder.with_batch_size(BATCH).build()?;
    while let Some(batch) = batches.try_next().await? {
        seen.add(&batch);
    }
    Ok(())
}

/// What was seen of a file's rows.
#[derive(Default)]
struct Seen {
    rows: u64,
    columns: Vec<Column>,
}

struct Column {
    name: String,
    nulls: u64,
    /// The least and the greatest value, of integers.
    range: Option<(i64, i64)>,
}

impl Seen {
    fn add(&mut self, batch: &RecordBatch) {
        self.rows += batch.num_rows() as u64;
        if self.columns.is_empty() {
            let fields = batch.schema();
            let column = |name: &String| Column {
                name: name.clone(),
                nulls: 0,
                range: None,
            };
            self.columns = fields.fields().iter().map(|f| column(f.name())).collect();
        }
        for (column, values) in self.columns.iter_mut().zip(batch.columns()) {
            column.nulls += values.null_count() as u64;
            if let Some((low, high)) = range(values) {
                let (least, greatest) = column.range.unwrap_or((low, high));
                column.range = Some((least.min(low), greatest.max(high)));
            }
        }
    }

    /// What of the log's statistics does not hold.
    fn against(&self, file: &LoggedFile) -> Vec<String> {
        let mut wrong = Vec::new();
        let Some(stats) = &file.stats else {
            return wrong;
        };
        if let Some(rows) = stats.get("numRecords").and_then(Value::as_u64)
            && rows != self.rows
        {
            wrong.push(format!("it has {} rows, the log says {rows}", self.rows));
        }
        for column in &self.columns {
            let of = |kind: &str| stats.get(kind)?.get(&column.name);
            if let Some(nulls) = of("nullCount").and_then(Value::as_u64)
                && nulls != column.nulls
            {
                let name = &column.name;
                wrong.push(format!(
                    "`{name}` has {} NULLs, the log says {nulls}",
                    column.nulls
                ));
            }
            let Some((least, greatest)) = column.range else {
                continue;
            };
            if let Some(bound) = of("minValues").and_then(Value::as_i64)
                && least < bound
            {
                wrong.push(format!(
                    "`{}` has {least}, below the log's least {bound}",
                    column.name
                ));
            }
            if let Some(bound) = of("maxValues").and_then(Value::as_i64)
                && greatest > bound
            {
                wrong.push(format!(
                    "`{}` has {greatest}, above the log's greatest {bound}",
                    column.name
                ));
            }
        }
        wrong
    }
}

/// The least and the greatest of a column of integers.
fn range(values: &dyn Array) -> Option<(i64, i64)> {
    fn of<T: ArrowNumericType>(values: &dyn Array) -> Option<(i64, i64)>
    where
        T::Native: Into<i64> + PartialOrd,
    {
        let values = values.as_primitive_opt::<T>()?;
        Some((min(values)?.into(), max(values)?.into()))
    }
    match values.data_type() {
        DataType::Int8 => of::<Int8Type>(values),
        DataType::Int16 => of::<Int16Type>(values),
        DataType::Int32 => of::<Int32Type>(values),
        DataType::Int64 => of::<Int64Type>(values),
        _ => None,
    }
}
