//! A commented configuration for a live source.

use std::fmt::Write as _;

use super::report::lake_type_name;
use super::secret::Secret;
use crate::dataset::{Fidelity, Table};
use crate::source::Discovered;

/// The text of a configuration file: what is usually decided on top, every
/// table with its columns and what they become as comments below.
#[must_use]
pub fn configuration(source: &Secret, tables: &[Discovered]) -> String {
    let url = source.with_password("${PGPASSWORD}");
    let mut text = String::new();
    text += "# Which tables go where. Every key that is left out has a good default;\n";
    text += "# `table-backup schema` prints them all, `plan` shows what a run would do.\n\n";
    let _ = writeln!(text, "source = {}", quoted(&url));
    text += "lake = \"file:./lake\"      # or s3://bucket/prefix, gs://..., az://...\n";
    text += "mode = \"full\"             # each run replaces each table as a whole, atomically\n\n";
    text += "# include = [\"*\"]          # globs of tables; all when absent\n";
    text += "# exclude = [\"*_tmp\"]\n";
    text += "# memory = \"512MiB\"        # of the whole process; found when absent\n";
    text += "# on_bad_row = \"fail\"      # instead of setting the row aside\n\n";
    text += "# [files]\n# compression = \"zstd(1)\"  # or lz4, snappy, none\n\n";
    let _ = writeln!(text, "# {} found in the source:", crate::telemetry::units::counted(tables.len() as u64, "table"));
    for Discovered { name, table } in tables {
        let _ = writeln!(text, "\n# [tables.{}]", quoted(&name.to_string()));
        match table {
            Ok(table) => describe(&mut text, table),
            Err(error) => {
                let _ = writeln!(text, "# cannot be read: {error}");
            }
        }
    }
    text
}

fn describe(text: &mut String, table: &Table) {
    let rows = table.estimated_rows.map_or("unknown".to_owned(), |rows| format!("about {rows}"));
    let key: Vec<&str> = table.key_names().collect();
    let key = if key.is_empty() { "none".to_owned() } else { key.join(", ") };
    let _ = writeln!(text, "# rows: {rows}; key: {key}");
    let width = table.columns.iter().map(|column| column.name.len()).max().unwrap_or(0);
    for column in &table.columns {
        let lake_type = lake_type_name(&column.lake_type);
        let note = match &column.fidelity {
            Fidelity::Exact => String::new(),
            Fidelity::Text(because) => format!(" (as text: {because})"),
            Fidelity::Partial(missing) => format!(" (set aside: {missing})"),
        };
        let _ = writeln!(text, "#   {:width$}  {} -> {lake_type}{note}", column.name, column.source_type);
    }
}

/// A TOML basic string.
fn quoted(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}
