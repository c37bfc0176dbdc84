//! One batch under construction, and the rows set aside on the way.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use highwater::dataset::Table;
use highwater::source::{BadRow, Projection, SourceError, SourceErrorKind, TableRead};
use rusqlite::types::ValueRef;

use super::columns::{ColumnBuilder, arrow_bytes, source_bytes};
use super::rule::Rule;
use super::{literal, version};

/// How much of a value is shown with a row that is set aside.
const SHOWN_BYTES: usize = 1024;

/// More rows than this are not set aside in one batch, so that a column of
/// nothing but bad values does not gather in memory.
const BAD_ROWS: usize = 512;

/// What a page needs to know of its table.
pub(super) struct Layout {
    table: Table,
    schema: SchemaRef,
    rules: Vec<Rule>,
}

impl Layout {
    /// Of the columns that `read` asks for.
    pub(super) fn of(read: &TableRead) -> Result<Self, SourceError> {
        match read.projection {
            Projection::Rows => Self::with(read.table.clone(), read.schema()),
            Projection::Keys { .. } => Self::with(version::keys(&read.table), read.schema()),
        }
    }

    /// Of all columns of `table`.
    pub(super) fn rows(table: &Table) -> Result<Self, SourceError> {
        Self::with(table.clone(), table.schema())
    }

    fn with(table: Table, schema: SchemaRef) -> Result<Self, SourceError> {
        let rules = table.columns.iter().map(|column| {
            Rule::of(column).ok_or_else(|| {
                SourceError::new(
                    SourceErrorKind::Failed,
                    format!(
                        "{}.{}: the lake type {} cannot be read from SQLite",
                        table.name, column.name, column.lake_type
                    ),
                )
            })
        });
        Ok(Self {
            rules: rules.collect::<Result<_, _>>()?,
            schema,
            table,
        })
    }

    /// What one row takes in Arrow memory, at most.
    pub(super) fn row_bytes(&self, cells: &[ValueRef<'_>]) -> u64 {
        self.rules
            .iter()
            .zip(cells)
            .map(|(&rule, &cell)| arrow_bytes(rule, cell))
            .sum()
    }
}

/// Finished rows, and the rows that cannot be in the lake.
pub(super) struct Finished {
    /// The rows; may be none.
    pub(super) rows: RecordBatch,
    /// What was read from the source for them.
    pub(super) source_bytes: u64,
    /// What was set aside.
    pub(super) bad: Vec<BadRow>,
}

/// The size of a page: rows, bytes of each column's values, bytes in all.
pub(super) struct Shape {
    rows: usize,
    widths: Vec<usize>,
    bytes: u64,
}

/// Rows on their way into a batch.
pub(super) struct Page {
    layout: Arc<Layout>,
    columns: Vec<ColumnBuilder>,
    /// Bytes of each column's values, to size the next page's buffers.
    widths: Vec<usize>,
    rows: usize,
    left_out: Vec<usize>,
    bad: Vec<BadRow>,
    bytes: u64,
    source_bytes: u64,
}

impl Page {
    /// An empty page.
    pub(super) fn new(layout: &Arc<Layout>) -> Self {
        Self::sized(layout, 0, &[])
    }

    /// An empty page with room for what `shape` had, so that growing buffers do
    /// not hold twice what was paid for; without, where that is more than the
    /// page may take.
    pub(super) fn like(layout: &Arc<Layout>, shape: &Shape, allowance: u64) -> Self {
        if shape.bytes <= allowance {
            Self::sized(layout, shape.rows, &shape.widths)
        } else {
            Self::new(layout)
        }
    }

    /// What the next page will probably be like.
    pub(super) fn shape(&self) -> Shape {
        Shape {
            rows: self.rows,
            widths: self.widths.clone(),
            bytes: self.bytes,
        }
    }

    fn sized(layout: &Arc<Layout>, rows: usize, widths: &[usize]) -> Self {
        let widths = widths.iter().copied().chain(std::iter::repeat(0));
        Self {
            columns: layout
                .rules
                .iter()
                .zip(widths)
                .map(|(&rule, bytes)| ColumnBuilder::new(rule, rows, bytes))
                .collect(),
            widths: vec![0; layout.rules.len()],
            layout: Arc::clone(layout),
            rows: 0,
            left_out: Vec::new(),
            bad: Vec::new(),
            bytes: 0,
            source_bytes: 0,
        }
    }

    /// What it takes in memory so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it should be handed on whatever its size.
    pub(super) fn is_full(&self) -> bool {
        self.bad.len() >= BAD_ROWS
    }

    /// Appends one row that takes `bytes`; `row` finds it again where the table
    /// has no key.
    pub(super) fn push(&mut self, row: Option<i64>, cells: &[ValueRef<'_>], bytes: u64) {
        let mut refused = None;
        let columns = self
            .columns
            .iter_mut()
            .zip(&mut self.widths)
            .zip(cells)
            .enumerate();
        for (position, ((column, width), &cell)) in columns {
            let width_of_cell = source_bytes(cell);
            self.source_bytes += width_of_cell;
            *width += usize::try_from(width_of_cell).unwrap_or(0);
            if refused.is_some() {
                column.push_null();
            } else if let Err(reason) = column.push(cell) {
                refused = Some((position, reason));
            }
        }
        if let Some((position, reason)) = refused {
            self.left_out.push(self.rows);
            self.bad.push(self.bad_row(row, cells, position, reason));
        }
        self.rows += 1;
        self.bytes += bytes;
    }

    fn bad_row(
        &self,
        row: Option<i64>,
        cells: &[ValueRef<'_>],
        position: usize,
        reason: &str,
    ) -> BadRow {
        let table = &self.layout.table;
        let named = |at: usize| Some((table.columns.get(at)?, *cells.get(at)?));
        let mut key: BTreeMap<_, _> = table
            .key
            .iter()
            .filter_map(|&at| named(at))
            .map(|(column, cell)| (column.name.clone(), key_text(cell)))
            .collect();
        if key.is_empty() {
            key.extend(row.map(|row| ("rowid".to_owned(), Some(row.to_string()))));
        }
        let (column, value, declared) =
            named(position).map_or_else(Default::default, |(column, cell)| {
                (
                    column.name.clone(),
                    literal::shown(cell, SHOWN_BYTES),
                    column.source_type.clone(),
                )
            });
        let class = cells.get(position).map_or("value", |cell| class(*cell));
        let lake = self
            .layout
            .rules
            .get(position)
            .map(|rule| rule.lake_type().to_string());
        BadRow {
            key,
            column,
            value,
            reason: format!(
                "{reason}: {class} in a column declared `{declared}`, kept as {}",
                lake.unwrap_or_default()
            ),
        }
    }

    /// The batch, without the rows that were set aside.
    pub(super) fn finish(self) -> Result<Finished, SourceError> {
        let columns: Vec<ArrayRef> = self
            .columns
            .into_iter()
            .map(ColumnBuilder::finish)
            .collect();
        let built =
            RecordBatch::try_new(Arc::clone(&self.layout.schema), columns).and_then(|rows| {
                if self.left_out.is_empty() {
                    return Ok(rows);
                }
                let mut keep = vec![true; self.rows];
                for &row in &self.left_out {
                    if let Some(keep) = keep.get_mut(row) {
                        *keep = false;
                    }
                }
                filter_record_batch(&rows, &BooleanArray::from(keep))
            });
        let rows = built.map_err(|error| {
            SourceError::new(
                SourceErrorKind::Failed,
                format!(
                    "{}: rows did not make a batch: {error}",
                    self.layout.table.name
                ),
            )
            .caused_by(error)
        })?;
        Ok(Finished {
            rows,
            source_bytes: self.source_bytes,
            bad: self.bad,
        })
    }
}

/// A key value as text: plain where it is text or a number.
fn key_text(cell: ValueRef<'_>) -> Option<String> {
    match cell {
        ValueRef::Null => None,
        ValueRef::Text(bytes) if bytes.len() <= SHOWN_BYTES => Some(
            std::str::from_utf8(bytes)
                .map_or_else(|_| literal::shown(cell, SHOWN_BYTES), ToOwned::to_owned),
        ),
        other => Some(literal::shown(other, SHOWN_BYTES)),
    }
}

fn class(cell: ValueRef<'_>) -> &'static str {
    match cell {
        ValueRef::Null => "NULL",
        ValueRef::Integer(_) => "an integer",
        ValueRef::Real(_) => "a real",
        ValueRef::Text(_) => "text",
        ValueRef::Blob(_) => "a blob",
    }
}
