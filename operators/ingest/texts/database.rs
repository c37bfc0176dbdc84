//! Reads a text column of a table of a database, in one snapshot.

use arrow::array::RecordBatch;
use async_trait::async_trait;
use highwater::budget::{MemoryBudget, Permit};
use highwater::source::{
    BadRow, Emit, Selection, SourceError, SourceErrorKind, TableOptions, TableRead,
};
use highwater::watermark::{Bound, Identity};

use super::spool::{Spool, SpoolError, TextColumns, Texts};

/// Bytes of a split and of a batch.
const SPLIT_BYTES: u64 = 64 << 20;
const BATCH_BYTES: u64 = 1 << 20;

/// What a snapshot of a database holds of a text column.
#[derive(Debug)]
pub struct DatabaseTexts {
    /// Who the database is.
    pub identity: Identity,
    /// What the snapshot contains.
    pub bound: Bound,
    /// The texts; `None` where the bound is the one that is known already.
    pub texts: Option<Texts>,
}

/// Reads the texts of `table` of the database at `url`. Where its bound is still at the
/// position `known`, nothing can have changed, and nothing is read.
///
/// # Errors
/// The database cannot be read; the table or a column is not there.
pub async fn read_database(
    url: &str,
    table: &str,
    columns: TextColumns,
    known: Option<&str>,
    budget: &MemoryBudget,
    most_bytes: u64,
) -> Result<DatabaseTexts, SourceError> {
    let source = crate::ingest::open(url)?;
    let identity = source.identity().await?;
    let wanted = columns.key.iter().chain([&columns.text]).cloned().collect();
    let options = TableOptions {
        columns: wanted,
        ..TableOptions::default()
    };
    let selection = Selection {
        include: vec![table.to_owned()],
        tables: [(table.to_owned(), options)].into(),
        ..Selection::default()
    };
    let view = source.view(&selection, &[], 1).await?;
    let bound = view.snapshot.bound().clone();
    if !bound.position.is_empty() && known == Some(bound.position.as_str()) {
        return Ok(DatabaseTexts {
            identity,
            bound,
            texts: None,
        });
    }
    let mut tables = view.tables.into_iter();
    let (Some(found), None) = (tables.next(), tables.next()) else {
        let what = format!("`table = \"{table}\"` is not the name of one table; write schema.name");
        return Err(SourceError::new(SourceErrorKind::Usage, what));
    };
    let read = TableRead::all(found.table?, None);
    let plan = view.snapshot.split(&read, SPLIT_BYTES).await?;
    let mut reader = view.snapshot.reader().await?;
    let mut out = Spooling {
        spool: Spool::new(columns, most_bytes).map_err(refused)?,
        budget: budget.clone(),
    };
    for split in &plan.splits {
        reader.read(&read, split, &mut out).await?;
    }
    Ok(DatabaseTexts {
        identity,
        bound,
        texts: Some(out.spool.finish().map_err(refused)?),
    })
}

fn refused(error: SpoolError) -> SourceError {
    let kind = match error {
        SpoolError::Disk(_) => SourceErrorKind::Failed,
        _ => SourceErrorKind::Usage,
    };
    SourceError::new(kind, error.to_string())
}

/// Where a reader puts rows: on disk, at once.
struct Spooling {
    spool: Spool,
    budget: MemoryBudget,
}

#[async_trait]
impl Emit for Spooling {
    async fn permit(&mut self, bytes: u64) -> Permit {
        self.budget.take(bytes).await
    }

    fn batch_bytes(&self) -> u64 {
        BATCH_BYTES
    }

    async fn batch(&mut self, rows: RecordBatch, _: Permit, _: u64) -> Result<(), SourceError> {
        self.spool.take(&rows).map_err(refused)
    }

    async fn quarantine(&mut self, row: BadRow) -> Result<(), SourceError> {
        let key: Vec<String> = row
            .key
            .iter()
            .map(|(column, value)| format!("{column}={}", value.as_deref().unwrap_or("NULL")))
            .collect();
        let what = format!(
            "row ({}): column {} {}",
            key.join(", "),
            row.column,
            row.reason
        );
        Err(SourceError::new(SourceErrorKind::BadRow, what))
    }
}
