//! What a run would do: read without side effects, shown without secrets.

use arrow::datatypes::{DataType, TimeUnit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{Columns, Side, wrap};
use super::{DocumentsReport, Exit, ObjectsReport, TableError, mode_word};
use crate::dataset::{Column, Fidelity, Table};
use crate::run::mirror::ColumnChange;
use crate::telemetry::units;
use crate::watermark::{Method, Mode};

/// What a run would do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanReport {
    /// The pipeline's name.
    pub pipeline: String,
    /// URL of the source, without secrets.
    pub source: String,
    /// URL of the lake, without secrets.
    pub lake: String,
    /// Every selected table, in name order.
    pub tables: Vec<TablePlan>,
    /// What would become of objects; of `object-sync` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<Box<ObjectsReport>>,
    /// What would become of documents, by instance; of `paper-index` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<DocumentsReport>,
    /// How memory would be used.
    pub memory: MemoryPlan,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What would be done with one table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TablePlan {
    /// The table's name.
    pub name: String,
    /// How it would be kept.
    pub mode: Option<Mode>,
    /// What the run would do, in a few words: `first load`, `replace`,
    /// `continue a load`, `rows with updated_at >= 2026-01-01`.
    pub action: String,
    /// In mirror mode: how changes would be found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// Why it is not another method, where that needs saying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method_because: Option<String>,
    /// How its columns have changed since the last commit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub column_changes: Vec<ColumnChange>,
    /// How many splits it would be read in.
    pub splits: u64,
    /// The source's estimate of its rows.
    pub estimated_rows: Option<u64>,
    /// The estimated bytes to read.
    pub estimated_bytes: u64,
    /// The key columns; empty when it has none.
    pub key: Vec<String>,
    /// Its columns.
    pub columns: Vec<ColumnPlan>,
    /// What its files are partitioned by.
    pub partition_by: Vec<String>,
    /// How its files would be laid out anew; of compactions only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<LayoutPlan>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Why it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TableError>,
}

/// How the files of a table would be laid out anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LayoutPlan {
    /// Files that the table has.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Files that would be rewritten; none where there is nothing to gain.
    pub rewritten_files: u64,
    /// Bytes of these files.
    pub rewritten_bytes: u64,
    /// Files that the table would have, about.
    pub files_after: u64,
    /// How many files may hold one value of the leading column, at the worst.
    pub overlap: u64,
    /// The same afterwards.
    pub overlap_after: u64,
}

/// What one column would become.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ColumnPlan {
    /// The column's name.
    pub name: String,
    /// Its exact type in the source.
    pub source_type: String,
    /// Its type in the lake, in Delta's words.
    pub lake_type: String,
    /// What is not kept as it is; empty when everything is.
    pub note: String,
}

/// How memory would be used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryPlan {
    /// The limit of the process.
    pub limit_bytes: u64,
    /// Where the limit comes from.
    pub origin: String,
    /// For code, libraries and stacks.
    pub fixed_bytes: u64,
    /// For batches, encoders and buffers.
    pub budget_bytes: u64,
    /// Worker threads.
    pub workers: u64,
}

impl From<&Column> for ColumnPlan {
    fn from(column: &Column) -> Self {
        let note = match &column.fidelity {
            Fidelity::Exact => String::new(),
            Fidelity::Text(because) => format!("as text: {because}"),
            Fidelity::Partial(missing) => format!("set aside: {missing}"),
        };
        Self {
            name: column.name.clone(),
            source_type: column.source_type.clone(),
            lake_type: lake_type_name(&column.lake_type),
            note,
        }
    }
}

impl From<&Table> for TablePlan {
    fn from(table: &Table) -> Self {
        Self {
            name: table.name.to_string(),
            estimated_rows: table.estimated_rows,
            estimated_bytes: table.estimated_bytes,
            key: table.key_names().map(str::to_owned).collect(),
            columns: table.columns.iter().map(ColumnPlan::from).collect(),
            ..Self::default()
        }
    }
}

/// An Arrow type in Delta's words: `long`, `decimal(12,2)`, `array<string>`.
#[must_use]
pub fn lake_type_name(lake_type: &DataType) -> String {
    match lake_type {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 => "byte".to_owned(),
        DataType::Int16 => "short".to_owned(),
        DataType::Int32 => "integer".to_owned(),
        DataType::Int64 => "long".to_owned(),
        DataType::Float32 => "float".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "timestamp".to_owned(),
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp_ntz".to_owned(),
        DataType::List(item) | DataType::LargeList(item) => {
            format!("array<{}>", lake_type_name(item.data_type()))
        }
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| format!("{}: {}", field.name(), lake_type_name(field.data_type())))
                .collect();
            format!("struct<{}>", fields.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => {
                let kinds: Vec<String> = fields
                    .iter()
                    .map(|field| lake_type_name(field.data_type()))
                    .collect();
                format!("map<{}>", kinds.join(", "))
            }
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}

impl PlanReport {
    /// The plan for people, at most `width` columns wide.
    #[must_use]
    pub fn render(&self, width: usize) -> String {
        if let Some(objects) = &self.objects {
            let text = objects.render_plan(width) + &self.warned(width);
            return text + &wrap(&self.memory.describe(), width, 2) + "\n";
        }
        let mut text = wrap(&format!("{} -> {}", self.source, self.lake), width, 2) + "\n\n";
        for table in &self.tables {
            text += &table.render(width);
            text.push('\n');
        }
        for documents in &self.documents {
            text += &documents.render(width);
        }
        text += &self.warned(width);
        text += &(wrap(&self.memory.describe(), width, 2) + "\n");
        if self.tables.is_empty() && !self.documents.is_empty() {
            return text;
        }
        text + &wrap(&self.summary(), width, 2) + "\n"
    }

    fn warned(&self, width: usize) -> String {
        let warnings = self.warnings.iter();
        warnings
            .map(|warning| wrap(&format!("warning: {warning}"), width, 2) + "\n")
            .collect()
    }

    /// The exit code that follows from it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let errors = self.tables.iter().filter_map(|table| table.error.as_ref());
        let objects = self.objects.as_ref().and_then(|all| all.error.as_ref());
        Exit::of_parts(errors.chain(objects).map(|error| error.exit))
    }

    fn summary(&self) -> String {
        let unreadable = self
            .tables
            .iter()
            .filter(|table| table.error.is_some())
            .count();
        let rows = self
            .tables
            .iter()
            .filter_map(|table| table.estimated_rows)
            .sum();
        let bytes = self.tables.iter().map(|table| table.estimated_bytes).sum();
        let splits = self.tables.iter().map(|table| table.splits).sum();
        let mut text = format!(
            "{}, about {}, {} to read in {}",
            units::counted(self.tables.len() as u64, "table"),
            units::counted(rows, "row"),
            units::bytes(bytes),
            units::counted(splits, "split"),
        );
        if unreadable > 0 {
            text += &format!(
                "; {} cannot be read",
                units::counted(unreadable as u64, "table")
            );
        }
        text
    }
}

impl LayoutPlan {
    fn render(&self, width: usize) -> String {
        let has = format!(
            "{}, {}",
            units::counted(self.files, "file"),
            units::bytes(self.bytes)
        );
        let gain = if self.rewritten_files == 0 {
            "nothing to gain".to_owned()
        } else {
            format!(
                "{} ({}) would be rewritten, leaving about {}; files that may hold one value: {} \
                 -> {}",
                units::counted(self.rewritten_files, "file"),
                units::bytes(self.rewritten_bytes),
                units::counted(self.files_after, "file"),
                units::count(self.overlap),
                units::count(self.overlap_after),
            )
        };
        let text = wrap(&format!("{has}: {gain}"), width.saturating_sub(2), 4);
        format!("  {text}\n")
    }
}

impl MemoryPlan {
    fn describe(&self) -> String {
        format!(
            "memory {} ({}): {} fixed, {} for data; {}",
            units::bytes(self.limit_bytes),
            self.origin,
            units::bytes(self.fixed_bytes),
            units::bytes(self.budget_bytes),
            units::counted(self.workers, "worker"),
        )
    }
}

impl TablePlan {
    fn render(&self, width: usize) -> String {
        let mut text = wrap(&self.headline(), width, 2) + "\n";
        if let Some(error) = &self.error {
            let why = wrap(
                &format!("! cannot be read: {}", error.message),
                width.saturating_sub(2),
                4,
            );
            return format!("{text}  {why}\n");
        }
        if let Some(layout) = &self.layout {
            return text + &layout.render(width);
        }
        let mut columns = Columns::new(&[
            ("column", Side::Left),
            ("source type", Side::Left),
            ("lake type", Side::Left),
            ("note", Side::Left),
        ])
        .indented(2);
        for column in &self.columns {
            columns.row([
                column.name.clone(),
                column.source_type.clone(),
                column.lake_type.clone(),
                column.note.clone(),
            ]);
        }
        text += &columns.render(width);
        for line in self.about_method() {
            text += &format!("  {}\n", wrap(&line, width.saturating_sub(2), 4));
        }
        for warning in &self.warnings {
            text += &format!(
                "  {}\n",
                wrap(&format!("! {warning}"), width.saturating_sub(2), 4)
            );
        }
        text
    }

    /// How changes are found, and what that relies on (T8).
    fn about_method(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(method) = self.method {
            let because = self.method_because.as_ref();
            let because = because.map_or(String::new(), |because| format!(" ({because})"));
            lines.push(format!(
                "method {}{because}: {}",
                method.word(),
                method.relies_on()
            ));
        }
        let changes: Vec<String> = self
            .column_changes
            .iter()
            .map(ToString::to_string)
            .collect();
        if !changes.is_empty() {
            lines.push(format!("columns have changed: {}", changes.join(", ")));
        }
        lines
    }

    fn headline(&self) -> String {
        let mut facts = vec![mode_word(self.mode).to_owned()];
        if !self.action.is_empty() {
            facts.push(self.action.clone());
        }
        if self.error.is_none() {
            facts.push(match self.estimated_rows {
                Some(rows) => format!("about {}", units::counted(rows, "row")),
                None => "rows unknown".to_owned(),
            });
            facts.push(format!(
                "{} in {}",
                units::bytes(self.estimated_bytes),
                units::counted(self.splits, "split")
            ));
            facts.push(match self.key.as_slice() {
                [] => "no key".to_owned(),
                key => format!("key {}", key.join(", ")),
            });
        }
        if !self.partition_by.is_empty() {
            facts.push(format!("partitioned by {}", self.partition_by.join(", ")));
        }
        format!("{}: {}", self.name, facts.join("; "))
    }
}
