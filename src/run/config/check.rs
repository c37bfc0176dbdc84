//! What must hold across the fields of a configuration.

mod papers;
mod schedule;

use bytesize::ByteSize;
use globset::Glob;

use super::super::load_config::element;
use super::{Against, CompactConfig, Config, ObjectsConfig, TableConfig};
use crate::telemetry::units;
use crate::watermark::Mode;

/// The least memory a run is given.
pub const MEMORY_FLOOR: ByteSize = ByteSize::mib(128);

/// Something that is wrong with a configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Keys from the top to the value: `["tables", "orders", "mode"]`; an
    /// element of a list is named by its position, `[0]`.
    pub path: Vec<String>,
    /// What is wrong, starting with the key or the table.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl Problem {
    fn at(path: &[&str], message: impl Into<String>, hint: impl Into<String>) -> Self {
        let path = path.iter().map(|&key| key.to_owned()).collect();
        Self {
            path,
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// Says why `memory` is too little, if it is.
///
/// # Errors
/// What is wrong, in one sentence.
pub fn check_memory(memory: ByteSize) -> Result<(), String> {
    if memory >= MEMORY_FLOOR {
        return Ok(());
    }
    Err(format!(
        "{} of memory is too little: a run needs at least {}",
        units::bytes(memory.0),
        units::bytes(MEMORY_FLOOR.0)
    ))
}

impl Config {
    /// Everything that is wrong with it, in the order of the fields.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        self.check_places(&mut found);
        self.check_globs(&mut found);
        self.check_numbers(&mut found);
        for (name, table) in &self.tables {
            self.check_append(name, table, &mut found);
            check_columns(name, table, &mut found);
        }
        self.check_append_everywhere(&mut found);
        papers::check(self, &mut found);
        schedule::check(self, &mut found);
        found
    }

    fn check_places(&self, found: &mut Vec<Problem>) {
        let source = self.source.expose();
        if source.is_empty() && self.compact.is_none() && self.instances.is_empty() {
            found.push(Problem::at(
                &["source"],
                "`source` is missing",
                super::super::load_config::example_of("source"),
            ));
        } else if !source.is_empty() && !has_scheme(source) {
            found.push(Problem::at(
                &["source"],
                "`source` is no URL",
                "write `sqlite:path/to/file` or `postgres://user@host/database`",
            ));
        }
        if !has_scheme(&self.lake) {
            let hint = if self.lake.is_empty() {
                "write `file:folder`, `s3://bucket/prefix`, `gs://...` or `az://...`".to_owned()
            } else {
                format!("for a local folder write `file:{}`", self.lake)
            };
            found.push(Problem::at(&["lake"], "`lake` is no URL", hint));
        }
    }

    fn check_globs(&self, found: &mut Vec<Problem>) {
        let mut lists = vec![
            (vec!["include"], &self.include),
            (vec!["exclude"], &self.exclude),
        ];
        if let Some(objects) = &self.objects {
            lists.push((vec!["objects", "include"], &objects.include));
            lists.push((vec!["objects", "exclude"], &objects.exclude));
        }
        for (name, instance) in &self.instances {
            lists.push((vec!["instances", name, "include"], &instance.include));
            lists.push((vec!["instances", name, "exclude"], &instance.exclude));
        }
        for (path, globs) in lists {
            let key = path.join(".");
            for (position, glob) in globs.iter().enumerate() {
                if let Err(error) = Glob::new(glob) {
                    let element = element(position);
                    let path: Vec<&str> = path.iter().copied().chain([element.as_str()]).collect();
                    found.push(Problem::at(
                        &path,
                        format!("\"{glob}\" in `{key}` is no glob: {}", error.kind()),
                        "`*` stands for any text, `?` for one letter, `[ab]` for one of them",
                    ));
                }
            }
        }
    }

    fn check_numbers(&self, found: &mut Vec<Problem>) {
        if self.workers == Some(0) {
            found.push(Problem::at(
                &["workers"],
                "`workers` is 0",
                "write at least 1, or leave it out to use all cores",
            ));
        }
        if let Some(Err(message)) = self.memory.map(check_memory) {
            found.push(Problem::at(
                &["memory"],
                format!("`memory`: {message}"),
                "give it more, or leave it out to use what the cgroup or the machine allows",
            ));
        }
        let sizes = [
            ("epoch", "bytes", Some(self.epoch.bytes), ByteSize::kib(64)),
            ("files", "target", self.files.target, ByteSize::kib(64)),
            (
                "files",
                "row_group",
                self.files.row_group,
                ByteSize::kib(64),
            ),
        ];
        for (table, key, size, least) in sizes {
            if let Some(size) = size.filter(|size| *size < least) {
                found.push(Problem::at(
                    &[table, key],
                    format!("`{table}.{key}` is {}", units::bytes(size.0)),
                    format!("write at least {}", units::bytes(least.0)),
                ));
            }
        }
        if let Some(compact) = &self.compact {
            check_compact(compact, found);
        }
        if let Some(objects) = &self.objects {
            check_objects(objects, found);
        }
        if self.epoch.seconds == 0 {
            found.push(Problem::at(
                &["epoch", "seconds"],
                "`epoch.seconds` is 0",
                "write at least 1",
            ));
        }
    }

    fn check_append(&self, name: &str, table: &TableConfig, found: &mut Vec<Problem>) {
        let mode = table.mode.unwrap_or(self.mode);
        match (mode, &table.cursor) {
            (Mode::Append, _) => {
                if let Some(mut problem) = table.append_problem(name) {
                    let key = if table.mode.is_some() {
                        vec!["tables", name, "mode"]
                    } else {
                        vec!["tables", name]
                    };
                    problem.path = key.into_iter().map(str::to_owned).collect();
                    found.push(problem);
                }
            }
            (Mode::Full, Some(cursor)) => found.push(Problem::at(
                &["tables", name, "cursor"],
                format!("table `{name}`: `cursor = \"{cursor}\"` means nothing with mode \"full\""),
                "remove it, or set `mode = \"append\"` for this table",
            )),
            (Mode::Full, None) | (Mode::Mirror, _) => {}
        }
    }

    fn check_append_everywhere(&self, found: &mut Vec<Problem>) {
        if self.mode == Mode::Append && self.tables.is_empty() {
            found.push(Problem::at(
                &["mode"],
                "`mode = \"append\"` needs a cursor column for every table, and no table names one",
                "set `mode` and `cursor` per table: [tables.orders] mode = \"append\", cursor = \"updated_at\"",
            ));
        }
    }
}

impl TableConfig {
    /// Why a table of this name cannot be kept in append mode as configured, if
    /// so. Needed by the plan for tables that the configuration does not list.
    #[must_use]
    pub fn append_problem(&self, name: &str) -> Option<Problem> {
        if self.cursor.is_none() {
            return Some(Problem::at(
                &["tables", name],
                format!(
                    "table `{name}`: mode \"append\" needs `cursor`, the column that only grows"
                ),
                format!(
                    "add `cursor = \"updated_at\"` (or another column) to [tables.{name}], or use mode \"full\""
                ),
            ));
        }
        // T6: a naive cursor exists only behind an explicit word.
        (!self.at_risk).then(|| {
            Problem::at(
                &["tables", name],
                format!(
                    "table `{name}`: mode \"append\" can lose rows: one that commits late, with a cursor \
                     value below what an earlier run has read, is never seen again, and neither are deletes"
                ),
                format!("accept that with `at_risk = true` in [tables.{name}], or use mode \"full\""),
            )
        })
    }
}

fn check_objects(objects: &ObjectsConfig, found: &mut Vec<Problem>) {
    if objects.requests_per_second == Some(0) || objects.bandwidth == Some(ByteSize(0)) {
        found.push(Problem::at(
            &["objects"],
            "`objects.bandwidth` or `objects.requests_per_second` is 0: nothing would ever be copied",
            "write at least 1, or leave it out for no limit",
        ));
    }
    if objects.against == Against::Ledger && !objects.ledger {
        found.push(Problem::at(
            &["objects", "against"],
            "`objects.against = \"ledger\"` needs the record that `ledger = false` leaves out",
            "remove one of them",
        ));
    }
}

fn check_compact(compact: &CompactConfig, found: &mut Vec<Problem>) {
    if !compact.sort_by.is_empty() && !compact.z_order.is_empty() {
        found.push(Problem::at(
            &["compact", "z_order"],
            "`compact.z_order` and `compact.sort_by` are two orders",
            "keep one of them",
        ));
    }
    let sizes = [
        ("target", compact.target),
        ("smaller_than", compact.smaller_than),
    ];
    for (key, size) in sizes {
        let least = ByteSize::kib(64);
        if let Some(size) = size.filter(|size| *size < least) {
            found.push(Problem::at(
                &["compact", key],
                format!("`compact.{key}` is {}", units::bytes(size.0)),
                format!("write at least {}", units::bytes(least.0)),
            ));
        }
    }
    if compact
        .keep_newest_by
        .as_ref()
        .is_some_and(|newest| newest.key.is_empty())
    {
        found.push(Problem::at(
            &["compact", "keep_newest_by", "key"],
            "`compact.keep_newest_by.key` names no column",
            "name the columns that tell one thing from another",
        ));
    }
}

fn check_columns(name: &str, table: &TableConfig, found: &mut Vec<Problem>) {
    if let Some(both) = table
        .columns
        .iter()
        .find(|&column| table.exclude_columns.contains(column))
    {
        found.push(Problem::at(
            &["tables", name, "exclude_columns"],
            format!(
                "table `{name}`: column `{both}` is both in `columns` and in `exclude_columns`"
            ),
            "remove it from one of them",
        ));
    }
    let needed = table
        .cursor
        .iter()
        .map(|column| ("cursor", column.as_str()))
        .chain(
            table
                .partition_by
                .iter()
                .map(|by| ("partition_by", by.column())),
        );
    for (key, column) in needed {
        let left_out = table.exclude_columns.iter().any(|other| other == column)
            || !table.columns.is_empty() && !table.columns.iter().any(|other| other == column);
        if left_out {
            found.push(Problem::at(
                &["tables", name, key],
                format!("table `{name}`: `{key}` uses column `{column}`, which is not taken"),
                "take it: remove it from `exclude_columns`, or add it to `columns`",
            ));
        }
    }
    for (position, by) in table.partition_by.iter().enumerate() {
        if table
            .partition_by
            .iter()
            .take(position)
            .any(|earlier| earlier == by)
        {
            found.push(Problem::at(
                &["tables", name, "partition_by", &element(position)],
                format!("table `{name}`: partition \"{by}\" is named twice"),
                "remove one",
            ));
        }
    }
    if table
        .filter
        .as_deref()
        .is_some_and(|filter| filter.trim().is_empty())
    {
        found.push(Problem::at(
            &["tables", name, "where"],
            format!("table `{name}`: `where` is empty"),
            "write a condition in the source's SQL, or remove it",
        ));
    }
}

fn has_scheme(url: &str) -> bool {
    url.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.len() > 1
            && !rest.is_empty()
            && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}
