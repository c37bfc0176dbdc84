//! How one table's columns are asked for and decoded.
//!
//! Everything follows from a column's source type and its lake type, so that a
//! plan made elsewhere (another process, an earlier run) reads the same. A
//! source type whose binary form is that of the lake type is sent as it is;
//! everything else is cast by the server to the type that is.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use highwater::dataset::{Column, Table};
use highwater::source::{self, SourceError, TableRead};

use super::decode::Decoder;
use super::error::usage;
use super::query::cursor_value;
use super::quote;
use super::since::Position;

/// What to select, and who decodes it.
pub(super) struct Projection {
    /// The list of expressions.
    pub(super) expressions: String,
    /// One decoder per expression.
    pub(super) decoders: Vec<Decoder>,
    /// Whether `ctid` follows the columns, to name rows that have no key.
    pub(super) located: bool,
    /// The columns of the batches.
    pub(super) schema: SchemaRef,
    /// Positions in them of the key.
    pub(super) key: Vec<usize>,
}

impl Projection {
    /// The columns that `read` asks for, in a snapshot at `now`. `ctid` says
    /// whether the rows have one.
    pub(super) fn of(read: &TableRead, now: Position, ctid: bool) -> Result<Self, SourceError> {
        match &read.projection {
            source::Projection::Rows => Self::rows(&read.table, ctid),
            source::Projection::Keys { tail_from } => {
                Self::keys(read, tail_from.as_deref(), now, ctid)
            }
        }
    }

    /// All columns of `table`.
    pub(super) fn rows(table: &Table, ctid: bool) -> Result<Self, SourceError> {
        let (expressions, decoders) = columns(table, table.columns.iter())?;
        Ok(Self::new(
            expressions,
            decoders,
            table.schema(),
            table.key.clone(),
            ctid,
        ))
    }

    /// The key, the `xmin` that changes whenever a row is written (as text, for
    /// the order of transactions is not that of their 32 bits), and the tail.
    fn keys(
        read: &TableRead,
        tail_from: Option<&str>,
        now: Position,
        ctid: bool,
    ) -> Result<Self, SourceError> {
        let table = &read.table;
        let key = table
            .key
            .iter()
            .filter_map(|&position| table.columns.get(position));
        let (mut expressions, mut decoders) = columns(table, key)?;
        expressions.extend(["xmin::text".to_owned(), tail(read, tail_from, now)?]);
        decoders.extend([Decoder::text(), Decoder::bool()]);
        let key = (0..table.key.len()).collect();
        Ok(Self::new(expressions, decoders, read.schema(), key, ctid))
    }

    fn new(
        mut expressions: Vec<String>,
        decoders: Vec<Decoder>,
        schema: SchemaRef,
        key: Vec<usize>,
        ctid: bool,
    ) -> Self {
        let located = ctid && key.is_empty();
        if located {
            expressions.push("ctid".to_owned());
        }
        Self {
            expressions: expressions.join(", "),
            decoders,
            located,
            schema,
            key,
        }
    }
}

fn columns<'a>(
    table: &Table,
    columns: impl Iterator<Item = &'a Column>,
) -> Result<(Vec<String>, Vec<Decoder>), SourceError> {
    let forms = columns.map(|column| {
        let form = Form::of(&column.source_type, &column.lake_type)
            .ok_or_else(|| unknown(table, column))?;
        Ok((form.expression(&column.name), form.decoder))
    });
    forms.collect()
}

/// Whether a row is at or above where the next run goes on.
fn tail(read: &TableRead, from: Option<&str>, now: Position) -> Result<String, SourceError> {
    Ok(match (from, &read.cursor) {
        (None, _) => "false".to_owned(),
        (Some(from), Some(cursor)) => {
            let above = format!(
                "coalesce({} >= {}, {})",
                quote::identifier(&cursor.column),
                cursor_value(read, cursor, from),
                cursor.nulls
            );
            match &read.since {
                None => above,
                // The next run passes over what was written before this snapshot.
                Some(_) => format!("({above} AND {})", now.wrote_since(now, "xmin")),
            }
        }
        (Some(from), None) => Position::parse(from)?.wrote_since(now, "xmin"),
    })
}

fn unknown(table: &Table, column: &Column) -> SourceError {
    usage(format!(
        "column {} of {}: {} cannot be read as {}",
        column.name, table.name, column.source_type, column.lake_type
    ))
}

/// How one column comes over the wire.
struct Form {
    cast: Option<String>,
    decoder: Decoder,
}

impl Form {
    fn expression(&self, column: &str) -> String {
        let name = quote::identifier(column);
        match &self.cast {
            Some(cast) => format!("{name}::{cast}"),
            None => name,
        }
    }

    fn of(source: &str, lake: &DataType) -> Option<Self> {
        let (is_sent, canonical, decoder) = match lake {
            DataType::Boolean => (source == "boolean", "boolean", Decoder::bool()),
            DataType::Int16 => (source == "smallint", "smallint", Decoder::int16()),
            DataType::Int32 => (source == "integer", "integer", Decoder::int32()),
            DataType::Int64 => (source == "bigint", "bigint", Decoder::int64()),
            DataType::Float32 if is(source, "numeric") => (true, "", Decoder::numeric_as_float32()),
            DataType::Float32 => (source == "real", "real", Decoder::float32()),
            DataType::Float64 if is(source, "numeric") => (true, "", Decoder::numeric_as_float64()),
            DataType::Float64 => (
                source == "double precision",
                "double precision",
                Decoder::float64(),
            ),
            DataType::Decimal128(precision, scale) => (
                is(source, "numeric"),
                "numeric",
                Decoder::decimal(*precision, *scale),
            ),
            DataType::Date32 => (source == "date", "date", Decoder::date()),
            DataType::Timestamp(TimeUnit::Microsecond, None) => (
                is_time(source, "without"),
                "timestamp",
                Decoder::timestamp(),
            ),
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
                (is_time(source, "with"), "timestamptz", Decoder::timestamp())
            }
            DataType::Binary => (source == "bytea", "bytea", Decoder::binary()),
            DataType::Utf8 => return Some(Self::text(source)),
            DataType::List(item) => {
                let element = source.strip_suffix("[]");
                let items = Self::of(element.unwrap_or_default(), item.data_type())?;
                let decoder = Decoder::list(Arc::clone(item), items.decoder);
                return Some(Self {
                    cast: items.cast.map(|cast| cast + "[]"),
                    decoder,
                });
            }
            _ => return None,
        };
        Some(Self {
            cast: (!is_sent).then(|| canonical.to_owned()),
            decoder,
        })
    }

    fn text(source: &str) -> Self {
        let sent_as_text = matches!(source, "text" | "name" | "json" | "bpchar")
            || is(source, "character varying")
            || is(source, "character");
        let (cast, decoder) = match source {
            "jsonb" => (None, Decoder::jsonb()),
            "uuid" => (None, Decoder::uuid()),
            _ if sent_as_text => (None, Decoder::text()),
            _ => (Some("text".to_owned()), Decoder::text()),
        };
        Self { cast, decoder }
    }
}

/// Whether `source` is `name`, with or without a modifier.
pub(super) fn is(source: &str, name: &str) -> bool {
    source
        .strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || (rest.starts_with('(') && rest.ends_with(')')))
}

/// `timestamp without time zone`, `timestamp(3) with time zone`.
fn is_time(source: &str, zone: &str) -> bool {
    source
        .strip_suffix(" time zone")
        .and_then(|rest| rest.strip_suffix(zone))
        .is_some_and(|rest| is(rest.trim_end(), "timestamp"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use arrow::datatypes::Field;

    fn expression(source: &str, lake: &DataType) -> Option<String> {
        Form::of(source, lake).map(|form| form.expression("c"))
    }

    #[test]
    fn what_is_cast_and_what_is_not() {
        let list = |item: DataType| DataType::List(Arc::new(Field::new("element", item, true)));
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        for (source, lake, wanted) in [
            ("integer", DataType::Int32, "\"c\""),
            ("public.posint", DataType::Int32, "\"c\"::integer"),
            ("oid", DataType::Int64, "\"c\"::bigint"),
            ("numeric(12,2)", DataType::Decimal128(12, 2), "\"c\""),
            ("numeric", DataType::Float64, "\"c\""),
            ("bigint", DataType::Decimal128(20, 0), "\"c\"::numeric"),
            ("character varying(20)", DataType::Utf8, "\"c\""),
            ("character(3)", DataType::Utf8, "\"c\""),
            ("jsonb", DataType::Utf8, "\"c\""),
            ("interval", DataType::Utf8, "\"c\"::text"),
            ("numeric[]", DataType::Utf8, "\"c\"::text"),
            ("timestamp(3) with time zone", utc.clone(), "\"c\""),
            ("timestamp without time zone", utc, "\"c\"::timestamptz"),
            ("integer[]", list(DataType::Int32), "\"c\""),
            ("interval[]", list(DataType::Utf8), "\"c\"::text[]"),
            ("public.numbers", list(DataType::Int32), "\"c\"::integer[]"),
        ] {
            assert_eq!(
                expression(source, &lake).as_deref(),
                Some(wanted),
                "{source}"
            );
        }
        assert_eq!(expression("text", &DataType::Int8), None);
    }
}
