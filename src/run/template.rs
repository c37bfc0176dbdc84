//! The configuration that `init` writes: what was found in the source, and every
//! setting with its default, explained.

use super::report::TablePlan;
use crate::telemetry::units;

/// What a new configuration is made of.
#[derive(Debug, Clone, Copy)]
pub struct Template<'a> {
    /// The binary's name.
    pub pipeline: &'a str,
    /// The source's URL; passwords replaced by `${NAME}`, see
    /// [`Secret::with_password`](super::Secret::with_password).
    pub source: &'a str,
    /// The lake's URL.
    pub lake: &'a str,
    /// The tables that were found.
    pub tables: &'a [TablePlan],
}

/// Lines that start with `#` and a key are settings at their default; lines that
/// start with `# ` are prose.
const SETTINGS: &str = r#"
# How tables are kept. "mirror": after each run the table equals the source; only what has
# changed is written. "full": each run replaces the table as a whole. "append": each run adds
# the rows at or above a cursor (set it per table, below).
#mode = "mirror"
# How changes are found: "auto", "xid", "cursor" or "diff" (see docs/mirror.md), and how often
# all rows are compared whatever the method: "never", "hourly", "daily", "weekly", "always".
#method = "auto"
#reconcile = "daily"
# When columns have changed: "evolve" (add new ones, keep dropped ones as NULL), "rewrite"
# (the table takes the source's columns), "freeze" (refuse, exit code 6).
#schema = "evolve"

# Which tables: globs such as "orders" or "sales.*". All when empty; `exclude` wins.
#include = []
#exclude = []
# Which schemas. All but the system's own when empty.
#schemas = []

# Threads, and the memory limit of the whole process.
# Found from the machine or its cgroup when absent.
#workers = 2
#memory = "512MiB"

# A row that cannot be represented in the lake: "quarantine" sets it aside and goes on
# (exit code 3), "fail" stops.
#on_bad_row = "quarantine"

# A killed load repeats at most one epoch. An epoch ends after so many bytes read, or
# seconds, whichever comes first.
#[epoch]
#bytes = "1GiB"
#seconds = 60

#[files]
# "zstd(1)" to "zstd(22)", "lz4", "snappy" or "none".
#compression = "zstd(1)"
# The size a file should have; found from the table's size when absent. Row groups are
# found from the memory limit.
# target = "128MiB"

# When `schedule` runs: `every`, or `cron` (minute hour day month weekday) in a time zone:
# cron = "0 2 * * *"
#[schedule]
#every = "15m"
#time_zone = "UTC"
# A run starts up to so much later, at random.
#jitter = "30s"
# Runs that were missed: "once" makes up for all of them with one, "skip" does not.
#missed = "once"
# How long a run may take to end after SIGTERM.
#grace = "60s"

# Options of the object store, where the environment does not give them.
#[store]
#endpoint = "http://localhost:9000"
#region = "us-east-1"
#access_key_id = "${AWS_ACCESS_KEY_ID:-}"
#secret_access_key = "${AWS_SECRET_ACCESS_KEY:-}"
"#;

impl Template<'_> {
    /// The text of the configuration.
    #[must_use]
    pub fn render(&self) -> String {
        let name = self.pipeline;
        let source = quoted(self.source);
        let lake = quoted(self.lake);
        format!(
            "# Configuration of {name}. Look at what it would do with `{name} plan FILE`, then do it\n\
             # with `{name} run FILE`. Settings that are commented out show their defaults or an example.\n\
             \n\
             # Where tables come from. ${{NAME}} is taken from the environment, ${{file:path}} from a file.\n\
             source = {source}\n\
             # Where they go: file:folder, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix.\n\
             lake = {lake}\n\
             {SETTINGS}{}",
            self.table_section()
        )
    }

    fn table_section(&self) -> String {
        let mut text = format!(
            "\n# {} in the source (numbers as it estimates them):\n",
            units::counted(self.tables.len() as u64, "table")
        );
        let width = self
            .tables
            .iter()
            .map(|table| table.name.chars().count())
            .max();
        for table in self.tables {
            text += &format!(
                "#   {:width$}  {}\n",
                table.name,
                facts(table),
                width = width.unwrap_or(0)
            );
        }
        let example = self.tables.iter().find(|table| table.error.is_none());
        let Some(example) = example.or(self.tables.first()) else {
            return text;
        };
        let column = example
            .columns
            .last()
            .map_or("updated_at", |column| &column.name);
        text += &format!(
            "\n# What is different for one table:\n\
             #[tables.{}]\n\
             #exclude_columns = []\n\
             # A condition in the source's own SQL.\n\
             #where = \"1 = 1\"\n\
             # Partitions: a column, or year(...), month(...), day(...) of one.\n\
             #partition_by = []\n\
             # Only rows at or above the greatest value so far. Rows that commit late with a lower\n\
             # value are lost; `at_risk` says that you accept it.\n\
             #mode = \"append\"\n\
             #cursor = {}\n\
             #at_risk = true\n",
            quoted(&example.name),
            quoted(column),
        );
        text
    }
}

fn facts(table: &TablePlan) -> String {
    if let Some(error) = &table.error {
        return format!("cannot be read: {}", error.message.replace('\n', " "));
    }
    let rows = table
        .estimated_rows
        .map_or("rows unknown".to_owned(), |rows| {
            units::counted(rows, "row")
        });
    let key = match table.key.as_slice() {
        [] => "no key".to_owned(),
        key => format!("key {}", key.join(", ")),
    };
    format!("{rows}, {}, {key}", units::bytes(table.estimated_bytes))
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;
    use crate::run::config::Config;
    use crate::run::load_config::{Surroundings, parse};
    use crate::run::report::ColumnPlan;

    fn rendered() -> String {
        let orders = TablePlan {
            name: "public.orders".into(),
            estimated_rows: Some(5_000_000),
            estimated_bytes: 1 << 30,
            key: vec!["id".into()],
            columns: vec![ColumnPlan {
                name: "updated \"at\"".into(),
                ..ColumnPlan::default()
            }],
            ..TablePlan::default()
        };
        let log = TablePlan {
            name: "public.log".into(),
            ..TablePlan::default()
        };
        let source = "postgres://ann:${PGPASSWORD}@db/shop";
        Template {
            pipeline: "table-backup",
            source,
            lake: "file:lake",
            tables: &[orders, log],
        }
        .render()
    }

    fn load(text: &str) -> Config {
        let around = Surroundings {
            variable: &|_| Some("x".to_owned()),
            file: &|_| Err(std::io::ErrorKind::NotFound.into()),
        };
        parse(text, Path::new("new.toml"), &around).unwrap()
    }

    #[test]
    fn loads_as_it_is() {
        let text = rendered();
        println!("{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 100),
            "{text}"
        );
        assert_eq!(
            load(&text),
            Config::new("postgres://ann:x@db/shop".into(), "file:lake")
        );
    }

    #[test]
    fn every_setting_works_when_its_comment_sign_goes() {
        let all: Vec<String> = rendered()
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting)
                    if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') =>
                {
                    setting.to_owned()
                }
                _ => line.to_owned(),
            })
            .collect();
        let config = load(&all.join("\n"));
        let defaults = Config::new("postgres://ann:x@db/shop".into(), "file:lake");
        assert_eq!(
            (&config.epoch, &config.files),
            (&defaults.epoch, &defaults.files)
        );
        assert_eq!(
            (config.mode, config.on_bad_row),
            (defaults.mode, defaults.on_bad_row)
        );
        assert_eq!(
            config.tables["public.orders"].cursor.as_deref(),
            Some("updated \"at\"")
        );
    }
}
