//! CSV files after RFC 4180: a header, lines that end in CR LF, quotes doubled.
//! NULL is nothing between two commas; a text without characters is `""`. All
//! other values are the exact text that PostgreSQL would print.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch, StringBuilder};
use arrow::datatypes::SchemaRef;
use highwater::source::SourceError;

use super::files::{Format, broken};
use super::{Tally, failed};

pub(super) struct CsvFile {
    out: BufWriter<File>,
    schema: SchemaRef,
}

impl CsvFile {
    pub(super) fn create(file: File, schema: &SchemaRef) -> Result<Self, SourceError> {
        let mut csv = Self {
            out: BufWriter::new(file),
            schema: SchemaRef::clone(schema),
        };
        let names = schema
            .fields()
            .iter()
            .map(|field| Some(field.name().as_str()));
        line(&mut csv.out, names).map_err(|error| unwritten(&error))?;
        Ok(csv)
    }
}

fn unwritten(error: &std::io::Error) -> SourceError {
    failed(format!("cannot write CSV: {error}"))
}

/// One record.
fn line<'a>(
    out: &mut impl Write,
    fields: impl Iterator<Item = Option<&'a str>>,
) -> std::io::Result<()> {
    for (at, field) in fields.enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        match field {
            None => {}
            Some(text) if text.is_empty() || text.contains(['"', ',', '\r', '\n']) => {
                write!(out, "\"{}\"", text.replace('"', "\"\""))?;
            }
            Some(text) => out.write_all(text.as_bytes())?,
        }
    }
    out.write_all(b"\r\n")
}

impl Format for CsvFile {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), SourceError> {
        let columns: Vec<_> = rows
            .columns()
            .iter()
            .map(|c| c.as_string::<i32>())
            .collect();
        for row in 0..rows.num_rows() {
            let fields = columns
                .iter()
                .map(|column| (!column.is_null(row)).then(|| column.value(row)));
            line(&mut self.out, fields).map_err(|error| unwritten(&error))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SourceError> {
        self.out
            .flush()
            .and_then(|()| self.out.get_ref().sync_all())
            .map_err(|error| unwritten(&error))
    }

    fn read_back(&self, path: &Path, tally: &mut Tally) -> Result<(), SourceError> {
        let file = File::open(path).map_err(|error| broken("read", path, &error))?;
        let mut records = Records(BufReader::new(file));
        let torn = |error: std::io::Error| broken("read back", path, &error);
        let header = records.next().map_err(torn)?.unwrap_or_default();
        let names = self
            .schema
            .fields()
            .iter()
            .map(|field| Some(field.name().clone()));
        if header != names.collect::<Vec<_>>() {
            return Err(failed(format!("{} has another header", path.display())));
        }
        let mut page = Vec::new();
        let mut bytes = 0;
        while let Some(record) = records.next().map_err(torn)? {
            bytes += record.iter().flatten().map(String::len).sum::<usize>() + record.len();
            page.push(record);
            if bytes as u64 >= tally.batch_bytes() {
                tally.add(&self.batch(&page)?)?;
                page.clear();
                bytes = 0;
            }
        }
        tally.add(&self.batch(&page)?)
    }
}

impl CsvFile {
    fn batch(&self, page: &[Record]) -> Result<RecordBatch, SourceError> {
        let width = self.schema.fields().len();
        if page.iter().any(|record| record.len() != width) {
            return Err(failed(
                "a record of the CSV file has another number of fields",
            ));
        }
        let columns = (0..width).map(|at| {
            let mut texts = StringBuilder::new();
            for record in page {
                texts.append_option(record.get(at).and_then(Option::as_ref));
            }
            std::sync::Arc::new(texts.finish()) as _
        });
        RecordBatch::try_new(SchemaRef::clone(&self.schema), columns.collect())
            .map_err(|error| failed(format!("the CSV file cannot be read back: {error}")))
    }
}

type Record = Vec<Option<String>>;

/// Reads records.
struct Records<R>(R);

impl<R: BufRead> Records<R> {
    /// The next record.
    fn next(&mut self) -> std::io::Result<Option<Record>> {
        let mut record = Vec::new();
        let (mut text, mut quotes) = (Vec::new(), 0);
        // Lines are joined while a quote is open.
        loop {
            let before = text.len();
            if self.0.read_until(b'\n', &mut text)? == 0 {
                if before == 0 {
                    return Ok(None);
                }
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let line = text.get(before..).unwrap_or_default();
            quotes += line.iter().filter(|&&byte| byte == b'"').count();
            if quotes % 2 == 0 && text.ends_with(b"\r\n") {
                break;
            }
        }
        let text = String::from_utf8(text)
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))?;
        let mut rest = text.strip_suffix("\r\n").unwrap_or(&text);
        loop {
            let (field, after) = field(rest);
            record.push(field);
            match after.strip_prefix(',') {
                Some(after) => rest = after,
                None => return Ok(Some(record)),
            }
        }
    }
}

/// The field that a record begins with, and what comes after it.
fn field(record: &str) -> (Option<String>, &str) {
    let Some(quoted) = record.strip_prefix('"') else {
        let (text, after) = record.split_at(record.find(',').unwrap_or(record.len()));
        return ((!text.is_empty()).then(|| text.to_owned()), after);
    };
    let (mut text, mut rest) = (String::new(), quoted);
    while let Some((part, after)) = rest.split_once('"') {
        text += part;
        match after.strip_prefix('"') {
            Some(after) => {
                text.push('"');
                rest = after;
            }
            None => return (Some(text), after),
        }
    }
    (Some(text + rest), "")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn null_and_the_empty_text_stay_apart() {
        let records: [Record; 4] = [
            vec![None, Some(String::new()), Some("a".into())],
            vec![Some("a,\"b\"\r\n\n".into()), Some("\"".into()), None],
            vec![Some("NULL".into()), Some("\\N".into()), Some(" x ".into())],
            vec![None, None, None],
        ];
        let mut bytes = Vec::new();
        for record in &records {
            line(&mut bytes, record.iter().map(Option::as_deref)).unwrap();
        }
        let mut found = Records(&bytes[..]);
        for record in &records {
            assert_eq!(found.next().unwrap().as_ref(), Some(record));
        }
        assert_eq!(found.next().unwrap(), None);
    }
}
