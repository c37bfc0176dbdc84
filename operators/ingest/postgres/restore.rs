//! A table of PostgreSQL as the target of a restore, in one transaction: it is
//! created under a temporary name, loaded, read back in the same session by the
//! code that reads sources, and only then takes the place of what was there.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use async_trait::async_trait;
use highwater::dataset::{Column, Table, TableName};
use highwater::source::SourceError;
use uuid::Uuid;

use super::connect::connect;
use super::copy::{BATCH_LIMIT, Copy};
use super::copy_in::{Binary, CopyIn, Form};
use super::decode::Rows;
use super::error::usage;
use super::projection::Projection;
use super::url::Target as Url;
use super::wire::Session;
use super::{PostgresOptions, quote};
use crate::restore::{Restore, Tally, Target, exists, failed};

/// Opens a transaction in which `job`'s table is loaded.
pub(crate) async fn restore_into(url: &str, job: &Restore) -> Result<Box<dyn Target>, SourceError> {
    let target = Url::parse(url, &PostgresOptions::default())?;
    let mut session = connect(&target).await?;
    let replaces = find(&mut session, &job.table.name).await?;
    if replaces && !job.replace {
        let what = format!("table {} in the target", job.table.name);
        return Err(exists(what));
    }
    let mut columns = Vec::new();
    for column in &job.table.columns {
        columns.push(Planned::of(&mut session, &job.origin, column).await?);
    }
    PgTarget::begin(session, job, columns, replaces).await
}

/// Whether there is a table of this name. What is no table is in the way.
async fn find(session: &mut Session, name: &TableName) -> Result<bool, SourceError> {
    let quoted = quote::literal(&quote::table(name));
    let sql = format!("SELECT relkind FROM pg_class WHERE oid = to_regclass({quoted})");
    match session.query(&sql).await?.value(0, 0, 0) {
        None => Ok(false),
        Some("r" | "p") => Ok(true),
        Some(_) => Err(usage(format!(
            "{name} is something else than a table in the target; restore under another name (--as)"
        ))),
    }
}

/// One column as it will be.
struct Planned {
    column: Column,
    binary: Option<Binary>,
    whole: bool,
    note: Option<String>,
}

impl Planned {
    /// The source's own type where the target knows it, else the nearest one.
    async fn of(session: &mut Session, origin: &str, column: &Column) -> Result<Self, SourceError> {
        let mut planned = Self {
            column: column.clone(),
            binary: None,
            whole: false,
            note: None,
        };
        let own = &column.source_type;
        let known = if origin == "postgres" && !own.is_empty() {
            base_type(session, own).await?
        } else {
            None
        };
        let base = match known {
            Some(base) => base,
            None => {
                let nearest = nearest(&column.lake_type)?;
                if origin == "postgres" && !own.is_empty() {
                    planned.note = Some(format!(
                        "column {}: the target has no type {own}, so it is {nearest}",
                        column.name
                    ));
                }
                planned.column.source_type = nearest.clone();
                base_type(session, &nearest).await?.unwrap_or_default()
            }
        };
        planned.binary = Binary::of(&base, &column.lake_type);
        planned.whole = matches!(base.as_str(), "int2" | "int4" | "int8")
            && matches!(column.lake_type, DataType::Decimal128(..));
        Ok(planned)
    }
}

/// The name of a type of the system, empty for another that is known; `None` for
/// what the target does not know.
async fn base_type(session: &mut Session, spelled: &str) -> Result<Option<String>, SourceError> {
    let sql = format!(
        "SELECT CASE WHEN t.typtype = 'b' AND n.nspname = 'pg_catalog' THEN t.typname::text ELSE '' END \
         FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = to_regtype({})",
        quote::literal(spelled)
    );
    // What is no type at all may be an error rather than NULL.
    let found = session.try_query(&sql).await?;
    Ok(found
        .ok()
        .and_then(|found| found.value(0, 0, 0).map(ToOwned::to_owned)))
}

/// The type that holds every value of `lake`, as `format_type` spells it.
fn nearest(lake: &DataType) -> Result<String, SourceError> {
    Ok(match lake {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int16 => "smallint".to_owned(),
        DataType::Int32 => "integer".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::Float32 => "real".to_owned(),
        DataType::Float64 => "double precision".to_owned(),
        DataType::Decimal128(precision, scale) => format!("numeric({precision},{scale})"),
        DataType::Utf8 => "text".to_owned(),
        DataType::Binary => "bytea".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            "timestamp without time zone".to_owned()
        }
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            "timestamp with time zone".to_owned()
        }
        DataType::List(item) => nearest(item.data_type())? + "[]",
        other => return Err(failed(format!("PostgreSQL has no type for {other}"))),
    })
}

/// A table that is being loaded.
struct PgTarget {
    session: Session,
    /// Under its temporary name.
    table: Table,
    schema: SchemaRef,
    name: TableName,
    key: Vec<String>,
    replaces: bool,
    copy: Option<CopyIn>,
    inexact: Vec<String>,
}

impl PgTarget {
    async fn begin(
        mut session: Session,
        job: &Restore,
        columns: Vec<Planned>,
        replaces: bool,
    ) -> Result<Box<dyn Target>, SourceError> {
        let name = job.table.name.clone();
        let temporary = TableName {
            schema: name.schema.clone(),
            name: format!("highwater_restore_{}", Uuid::now_v7().simple()),
        };
        let definitions: Vec<String> = columns
            .iter()
            .map(|Planned { column, .. }| {
                format!("{} {}", quote::identifier(&column.name), column.source_type)
            })
            .collect();
        let quoted = quote::table(&temporary);
        session.query("BEGIN").await?;
        if let Some(schema) = &name.schema {
            create_schema(&mut session, schema).await?;
        }
        let create = format!("CREATE TABLE {quoted} ({})", definitions.join(", "));
        perform(&mut session, &create, &format!("creating {name}")).await?;
        let binary: Option<Vec<Binary>> = columns.iter().map(|column| column.binary).collect();
        let form = match binary {
            Some(columns) => Form::Binary(columns),
            None => Form::Text(columns.iter().map(|column| column.whole).collect()),
        };
        let copy = format!("COPY {quoted} FROM STDIN (FORMAT {})", form.option());
        let copy = CopyIn::begin(&mut session, &copy, form).await?;
        let inexact = columns.iter().filter_map(|column| column.note.clone());
        Ok(Box::new(Self {
            inexact: inexact.collect(),
            session,
            schema: job.table.schema(),
            key: job.table.key_names().map(ToOwned::to_owned).collect(),
            table: Table {
                name: temporary,
                columns: columns.into_iter().map(|planned| planned.column).collect(),
                key: Vec::new(),
                ..job.table.clone()
            },
            name,
            replaces,
            copy: Some(copy),
        }))
    }
}

/// Only where it is missing: to be told to create it, even if it exists, needs a
/// privilege that whoever restores may not have.
async fn create_schema(session: &mut Session, schema: &str) -> Result<(), SourceError> {
    let found = format!(
        "SELECT 1 FROM pg_namespace WHERE nspname = {}",
        quote::literal(schema)
    );
    if session.query(&found).await?.value(0, 0, 0).is_some() {
        return Ok(());
    }
    let create = format!("CREATE SCHEMA {}", quote::identifier(schema));
    perform(session, &create, &format!("creating schema {schema}")).await
}

async fn perform(session: &mut Session, sql: &str, doing: &str) -> Result<(), SourceError> {
    match session.try_query(sql).await? {
        Ok(_) => Ok(()),
        Err(refusal) => Err(refusal.while_doing(doing)),
    }
}

#[async_trait]
impl Target for PgTarget {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn inexact(&self) -> Vec<String> {
        self.inexact.clone()
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<(), SourceError> {
        match &mut self.copy {
            Some(copy) => copy.rows(&mut self.session, rows).await,
            None => Err(failed("rows after the end of a table; please report this")),
        }
    }

    async fn read_back(&mut self, tally: &mut Tally) -> Result<(), SourceError> {
        if let Some(copy) = self.copy.take() {
            copy.end(&mut self.session).await?;
        }
        let projection = Projection::rows(&self.table, false)?;
        let select = format!(
            "SELECT {} FROM ONLY {}",
            projection.expressions,
            quote::table(&self.table.name)
        );
        let Projection {
            decoders,
            located,
            schema,
            key,
            ..
        } = projection;
        let target = usize::try_from(tally.batch_bytes()).unwrap_or(BATCH_LIMIT);
        let rows = Rows::new(
            schema,
            key,
            decoders,
            located,
            target.min(BATCH_LIMIT),
            None,
        );
        let mut copy = Copy::new(&mut self.session, &self.table.name, rows, tally);
        match copy.run("", &select).await? {
            Ok(()) => Ok(()),
            Err(refusal) => Err(refusal.while_doing(&format!("reading {} back", self.name))),
        }
    }

    async fn publish(mut self: Box<Self>) -> Result<(), SourceError> {
        let (new, old) = (quote::table(&self.table.name), quote::table(&self.name));
        let doing = format!("publishing {}", self.name);
        if self.replaces {
            // Never CASCADE: what depends on the old table is not ours to drop.
            perform(&mut self.session, &format!("DROP TABLE {old}"), &doing).await?;
        }
        let rename = format!(
            "ALTER TABLE {new} RENAME TO {}",
            quote::identifier(&self.name.name)
        );
        perform(&mut self.session, &rename, &doing).await?;
        if !self.key.is_empty() {
            let key: Vec<String> = self
                .key
                .iter()
                .map(|name| quote::identifier(name))
                .collect();
            // After the renaming, so that its index has the name it would have.
            let add = format!("ALTER TABLE {old} ADD PRIMARY KEY ({})", key.join(", "));
            perform(&mut self.session, &add, &doing).await?;
        }
        perform(&mut self.session, "COMMIT", &doing).await
    }
}
