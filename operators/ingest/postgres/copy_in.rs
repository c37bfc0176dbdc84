//! `COPY ... FROM STDIN`: rows of Arrow on their way into a table.
//!
//! The binary form is sent where every column has one that follows from its
//! Arrow type. Where a single column is kept as text (intervals, ranges, types of
//! the user, arrays, ...) the whole table is sent in COPY's text form, in which the
//! server itself parses every value: it is as exact, needs no second table for the
//! texts, and each row is written once.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType,
};
use futures::FutureExt as _;
use highwater::source::{SourceError, SourceErrorKind};
use uuid::Uuid;

use super::error::{ServerError, protocol};
use super::literal;
use super::wire::Session;

/// Rows are sent in pieces of about this size.
const PIECE_BYTES: usize = 256 << 10;
/// Signature, flags, length of the extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// From 1970-01-01 to 2000-01-01, where PostgreSQL's time begins.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The binary form of one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Bool,
    Int16,
    Int32,
    Int64,
    Oid,
    Float32,
    Float64,
    Numeric,
    Text,
    Jsonb,
    Uuid,
    Bytea,
    Date,
    Timestamp,
}

impl Binary {
    /// The form of values of `lake` in a column of the system's type `name`.
    pub(super) fn of(name: &str, lake: &DataType) -> Option<Self> {
        Some(match (name, lake) {
            ("bool", DataType::Boolean) => Self::Bool,
            ("int2", DataType::Int16) => Self::Int16,
            ("int4", DataType::Int32) => Self::Int32,
            ("int8", DataType::Int64) => Self::Int64,
            ("oid", DataType::Int64) => Self::Oid,
            ("float4", DataType::Float32) => Self::Float32,
            ("float8", DataType::Float64) => Self::Float64,
            ("numeric", DataType::Decimal128(_, 0..)) => Self::Numeric,
            ("text" | "varchar" | "bpchar" | "name" | "json", DataType::Utf8) => Self::Text,
            ("jsonb", DataType::Utf8) => Self::Jsonb,
            ("uuid", DataType::Utf8) => Self::Uuid,
            ("bytea", DataType::Binary) => Self::Bytea,
            ("date", DataType::Date32) => Self::Date,
            ("timestamp", DataType::Timestamp(TimeUnit::Microsecond, None))
            | ("timestamptz", DataType::Timestamp(TimeUnit::Microsecond, Some(_))) => {
                Self::Timestamp
            }
            _ => return None,
        })
    }

    /// Appends a value that is not NULL, without its length.
    fn encode(self, array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Bool => out.push(array.as_boolean().value(row).into()),
            Self::Int16 => out.extend(array.as_primitive::<Int16Type>().value(row).to_be_bytes()),
            Self::Int32 => out.extend(array.as_primitive::<Int32Type>().value(row).to_be_bytes()),
            Self::Int64 => out.extend(array.as_primitive::<Int64Type>().value(row).to_be_bytes()),
            Self::Oid => {
                let oid = u32::try_from(array.as_primitive::<Int64Type>().value(row)).ok()?;
                out.extend(oid.to_be_bytes());
            }
            Self::Float32 => {
                out.extend(array.as_primitive::<Float32Type>().value(row).to_be_bytes());
            }
            Self::Float64 => {
                out.extend(array.as_primitive::<Float64Type>().value(row).to_be_bytes());
            }
            Self::Numeric => {
                let value = array.as_primitive::<Decimal128Type>();
                numeric(value.value(row), u16::try_from(value.scale()).ok()?, out)?;
            }
            Self::Text => out.extend(array.as_string::<i32>().value(row).as_bytes()),
            Self::Jsonb => {
                // The version of the form.
                out.push(1);
                out.extend(array.as_string::<i32>().value(row).as_bytes());
            }
            Self::Uuid => {
                let uuid = Uuid::parse_str(array.as_string::<i32>().value(row)).ok()?;
                out.extend(uuid.as_bytes());
            }
            Self::Bytea => out.extend(array.as_binary::<i32>().value(row)),
            Self::Date => {
                let days = array.as_primitive::<Date32Type>().value(row);
                out.extend(days.checked_sub(EPOCH_DAYS)?.to_be_bytes());
            }
            Self::Timestamp => {
                let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
                out.extend(micros.checked_sub(EPOCH_MICROS)?.to_be_bytes());
            }
        }
        Some(())
    }
}

/// `numeric` in digits of base 10,000, as `numeric_recv` takes it apart.
fn numeric(value: i128, scale: u16, out: &mut Vec<u8>) -> Option<()> {
    let padding = (4 - usize::from(scale) % 4) % 4;
    let mut digits = value.unsigned_abs().to_string();
    digits.extend(std::iter::repeat_n('0', padding));
    let leading = (4 - digits.len() % 4) % 4;
    let digits = "0".repeat(leading) + &digits;
    let groups = digits.len() / 4;
    let fraction = usize::from(scale).div_ceil(4);
    let weight = i16::try_from(groups).ok()? - i16::try_from(fraction).ok()? - 1;
    let sign: u16 = if value < 0 { 0x4000 } else { 0 };
    out.extend(u16::try_from(groups).ok()?.to_be_bytes());
    out.extend(weight.to_be_bytes());
    out.extend(sign.to_be_bytes());
    out.extend(scale.to_be_bytes());
    for group in digits.as_bytes().chunks(4) {
        let digit = group
            .iter()
            .fold(0_u16, |digit, &byte| digit * 10 + u16::from(byte - b'0'));
        out.extend(digit.to_be_bytes());
    }
    Some(())
}

/// Appends a field in COPY's text form.
fn text(array: &dyn Array, row: usize, whole: bool, out: &mut Vec<u8>) -> Result<(), SourceError> {
    if array.is_null(row) {
        out.extend(b"\\N");
        return Ok(());
    }
    let mut value = literal::text(array, row)
        .map_err(|error| SourceError::new(SourceErrorKind::Failed, error.to_string()))?;
    if whole {
        // An integer that the user keeps as a decimal has digits after the point.
        value = value.split('.').next().unwrap_or_default().to_owned();
    }
    for &byte in value.as_bytes() {
        match byte {
            b'\\' => out.extend(b"\\\\"),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            byte => out.push(byte),
        }
    }
    Ok(())
}

/// How the columns of a table are sent.
#[derive(Debug)]
pub(super) enum Form {
    /// Each in its binary form.
    Binary(Vec<Binary>),
    /// All as text; `true` for integers that the lake keeps as decimals.
    Text(Vec<bool>),
}

impl Form {
    /// The option of `COPY`.
    pub(super) fn option(&self) -> &'static str {
        match self {
            Self::Binary(_) => "binary",
            Self::Text(_) => "text",
        }
    }
}

/// Rows on their way.
pub(super) struct CopyIn {
    form: Form,
    piece: Vec<u8>,
}

impl CopyIn {
    /// Sends `copy` (`COPY ... FROM STDIN`), and rows from now on.
    pub(super) async fn begin(
        session: &mut Session,
        copy: &str,
        form: Form,
    ) -> Result<Self, SourceError> {
        session.send(copy).await?;
        loop {
            let message = session.receive().await?;
            match message.tag {
                b'G' => break,
                b'E' => return Err(refused(session, message.body)),
                b'Z' => return Err(protocol(session.place(), "no COPY where one began")),
                _ => {}
            }
        }
        let piece = match form {
            Form::Binary(_) => HEADER.to_vec(),
            Form::Text(_) => Vec::new(),
        };
        Ok(Self { form, piece })
    }

    /// Sends rows.
    pub(super) async fn rows(
        &mut self,
        session: &mut Session,
        rows: &RecordBatch,
    ) -> Result<(), SourceError> {
        for row in 0..rows.num_rows() {
            match &self.form {
                Form::Binary(columns) => binary_row(columns, rows, row, &mut self.piece)?,
                Form::Text(whole) => text_row(whole, rows, row, &mut self.piece)?,
            }
            if self.piece.len() >= PIECE_BYTES {
                self.send(session).await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self, session: &mut Session) -> Result<(), SourceError> {
        session.put(b'd', &self.piece).await?;
        self.piece.clear();
        self.piece.shrink_to(2 * PIECE_BYTES);
        // The server says at once what it does not take, and reads on.
        while let Some(filled) = session.fill().now_or_never() {
            filled?;
            while let Some(message) = session.next()? {
                if message.tag == b'E' {
                    return Err(refused(session, message.body));
                }
            }
        }
        Ok(())
    }

    /// Ends it. Returns how many rows the server has taken.
    pub(super) async fn end(mut self, session: &mut Session) -> Result<u64, SourceError> {
        if matches!(self.form, Form::Binary(_)) {
            self.piece.extend((-1_i16).to_be_bytes());
        }
        self.send(session).await?;
        session.put(b'c', &[]).await?;
        let mut rows = 0;
        loop {
            let message = session.receive().await?;
            match message.tag {
                b'E' => return Err(refused(session, message.body)),
                b'C' => {
                    let tag = String::from_utf8_lossy(session.inbox().body(message.body));
                    let count = tag.trim_end_matches('\0').strip_prefix("COPY ");
                    rows = count.and_then(|count| count.parse().ok()).unwrap_or(0);
                }
                b'Z' => return Ok(rows),
                _ => {}
            }
        }
    }
}

fn refused(session: &mut Session, body: std::ops::Range<usize>) -> SourceError {
    ServerError::parse(session.inbox().body(body)).while_doing("the target does not take the rows")
}

fn binary_row(
    columns: &[Binary],
    rows: &RecordBatch,
    row: usize,
    out: &mut Vec<u8>,
) -> Result<(), SourceError> {
    let unfit = |at: usize| {
        let name = rows
            .schema_ref()
            .fields()
            .get(at)
            .map(|field| field.name().clone());
        let what = format!(
            "a value of column {} does not fit its type",
            name.unwrap_or_default()
        );
        SourceError::new(SourceErrorKind::Failed, what)
    };
    out.extend(u16::try_from(columns.len()).unwrap_or(0).to_be_bytes());
    for (at, (form, array)) in columns.iter().zip(rows.columns()).enumerate() {
        if array.is_null(row) {
            out.extend((-1_i32).to_be_bytes());
            continue;
        }
        let start = out.len();
        out.extend([0; 4]);
        form.encode(array.as_ref(), row, out)
            .ok_or_else(|| unfit(at))?;
        let length = i32::try_from(out.len() - start - 4).map_err(|_| unfit(at))?;
        if let Some(place) = out.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
    Ok(())
}

fn text_row(
    whole: &[bool],
    rows: &RecordBatch,
    row: usize,
    out: &mut Vec<u8>,
) -> Result<(), SourceError> {
    for (at, (whole, array)) in whole.iter().zip(rows.columns()).enumerate() {
        if at > 0 {
            out.push(b'\t');
        }
        text(array.as_ref(), row, *whole, out)?;
    }
    out.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn numerics_in_digits_of_ten_thousand() {
        for (value, scale, wanted) in [
            (0, 0, [1, 0, 0, 0, 0].as_slice()),
            (12_345, 0, &[2, 1, 0, 0, 1, 2345]),
            (-1, 2, &[1, 65535, 0x4000, 2, 100]),
            (12_345_678, 5, &[3, 0, 0, 5, 123, 4567, 8000]),
        ] {
            let mut out = Vec::new();
            numeric(value, scale, &mut out).unwrap();
            let words: Vec<u16> = out
                .chunks(2)
                .map(|word| u16::from_be_bytes(word.try_into().unwrap()))
                .collect();
            assert_eq!(words, wanted, "{value} {scale}");
        }
    }

    #[test]
    fn texts_keep_the_signs_of_copy() {
        let texts = arrow::array::StringArray::from(vec![Some("\\N"), None, Some("a\tb\nc\r\\.")]);
        let mut out = Vec::new();
        for row in 0..3 {
            text(&texts, row, false, &mut out).unwrap();
            out.push(b'|');
        }
        assert_eq!(out, b"\\\\N|\\N|a\\tb\\nc\\r\\\\.|");
    }
}
