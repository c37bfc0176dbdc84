//! One table: what it is, what is wanted of it, what is to be done.

use arrow::datatypes::{Schema, SchemaRef};
use highwater::app::Failure;
use highwater::dataset::TableName;
use highwater::ledger::{LoggedFile, Rewriter};
use highwater::run::Config;
use highwater::run::config::CompactCommit;
use highwater::run::report::{LayoutPlan, TableOutcome, TablePlan, TableReport};
use highwater::watermark::Mode;
use highwater_operators::sort::{Order, Ranks};

use super::choose::{Choice, choose};
use super::layout::Layout;
use super::tables::Found;

/// One table to lay out anew.
pub(super) struct Job {
    /// Its name.
    pub(super) name: String,
    /// Which table of the lake it is; `None` where the lake is this one table.
    pub(super) in_lake: Option<TableName>,
    /// Its log.
    pub(super) table: Rewriter,
    /// What is wanted.
    pub(super) layout: Layout,
    /// What is rewritten.
    pub(super) choice: Choice,
    /// What is published at once.
    pub(super) commit: CompactCommit,
    /// The columns that are read.
    pub(super) columns: SchemaRef,
    files: Vec<LoggedFile>,
}

impl Job {
    /// Opens the table and chooses what to rewrite.
    pub(super) async fn find(config: &Config, found: &Found) -> Result<Self, Failure> {
        let wanted = config.compact.clone().unwrap_or_default();
        let table = Rewriter::open(found.store.clone()).await?;
        let layout = Layout::new(&wanted, table.partition_columns())?;
        if let Some(head) = table.head()
            && head.watermark.mode == Mode::Mirror
            && layout.order.newest.is_some()
        {
            let what = "the table is a mirror: it has one row for each key already";
            return Err(Failure::usage(what).hint("leave out keep_newest_by"));
        }
        let schema = table.schema()?;
        let columns = match layout.partition_by {
            // Partition columns become columns of the files, or the other way round.
            Some(_) => schema,
            // Their values stay what the log says, to the letter.
            None => without(&schema, table.partition_columns()),
        };
        check(&columns, &layout)?;
        let files = table.files().await?;
        let choice = choose(&files, &layout);
        Ok(Self {
            name: found.name.clone(),
            in_lake: found.in_lake.clone(),
            table,
            layout,
            choice,
            commit: wanted.commit,
            columns,
            files,
        })
    }

    /// Bytes that are rewritten.
    pub(super) fn bytes(&self) -> u64 {
        self.choice
            .sections
            .iter()
            .map(|section| section.bytes())
            .sum()
    }

    /// Rows that are rewritten, as far as the log tells.
    pub(super) fn rows(&self) -> u64 {
        let files = self
            .choice
            .sections
            .iter()
            .flat_map(|section| &section.files);
        files.map(LoggedFile::rows).sum()
    }

    /// How many files are rewritten.
    pub(super) fn rewritten(&self) -> usize {
        self.choice
            .sections
            .iter()
            .map(|section| section.files.len())
            .sum()
    }

    /// What would be done.
    pub(super) fn plan(&self) -> TablePlan {
        let rewritten = self.rewritten() as u64;
        let target = self.layout.target_bytes.max(1);
        let after = self
            .choice
            .sections
            .iter()
            .map(|section| section.bytes().div_ceil(target));
        let files = self.files.len() as u64;
        let sorted = self.layout.lead().is_some();
        let layout = LayoutPlan {
            files,
            bytes: self.files.iter().map(|file| file.bytes).sum(),
            rewritten_files: rewritten,
            rewritten_bytes: self.bytes(),
            files_after: files - rewritten + after.sum::<u64>(),
            overlap: self.choice.overlap,
            overlap_after: if sorted && rewritten > 0 {
                1
            } else {
                self.choice.overlap
            },
        };
        let action = match (rewritten, self.layout.joins()) {
            (0, _) => "nothing to gain".to_owned(),
            (_, true) => "join small files".to_owned(),
            _ => format!("rewrite {}", self.layout.text()),
        };
        let partitions = self.layout.partition_by.as_deref();
        TablePlan {
            name: self.name.clone(),
            mode: self.table.head().map(|head| head.watermark.mode),
            action,
            splits: rewritten,
            estimated_rows: Some(self.rows()),
            estimated_bytes: self.bytes(),
            partition_by: partitions
                .unwrap_or(self.table.partition_columns())
                .to_vec(),
            layout: Some(layout),
            ..TablePlan::default()
        }
    }

    /// A table that is as it should be.
    pub(super) fn unchanged(&self) -> TableReport {
        TableReport {
            name: self.name.clone(),
            mode: self.table.head().map(|head| head.watermark.mode),
            outcome: TableOutcome::Unchanged,
            version: Some(self.table.version()),
            ..TableReport::default()
        }
    }
}

fn without(schema: &SchemaRef, columns: &[String]) -> SchemaRef {
    let kept = schema
        .fields()
        .iter()
        .filter(|field| !columns.contains(field.name()));
    Schema::new(kept.cloned().collect::<Vec<_>>()).into()
}

/// Whether the wanted order exists, before anything is read.
fn check(columns: &SchemaRef, layout: &Layout) -> Result<(), Failure> {
    Order::new(columns, &layout.order, Ranks::default())
        .map(drop)
        .map_err(Failure::usage)
}
