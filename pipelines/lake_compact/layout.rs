//! What is wanted of a table's files, out of the configuration and the table.

use highwater::app::Failure;
use highwater::run::config::CompactConfig;
use highwater_operators::sort::{Newest, OrderSpec, SortColumn};

/// The size of files in bytes, unless the configuration names one.
const FILE_BYTES: u64 = 128 << 20;

/// What is wanted of a table's files.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// The order of rows; empty where files are only joined.
    pub(super) order: OrderSpec,
    /// The partition columns, where they change.
    pub(super) partition_by: Option<Vec<String>>,
    /// The size that files should have, in bytes.
    pub(super) target_bytes: u64,
    /// Files below this size are small, in bytes.
    pub(super) small_bytes: u64,
}

impl Layout {
    /// What `config` wants of a table that is partitioned by `partition_columns`.
    pub(super) fn new(
        config: &CompactConfig,
        partition_columns: &[String],
    ) -> Result<Self, Failure> {
        let target = config.target.map_or(FILE_BYTES, |target| target.as_u64());
        let newest = config.keep_newest_by.as_ref().map(|newest| Newest {
            key: newest.key.clone(),
            version: newest.version.clone(),
        });
        if newest
            .as_ref()
            .is_some_and(|newest| newest.key.is_empty() || newest.version.is_empty())
        {
            return Err(
                Failure::usage("keeping the newest rows needs a key and a version column")
                    .hint("write keep_newest_by = { key = [\"id\"], version = \"updated_at\" }"),
            );
        }
        let mut sort: Vec<SortColumn> = config
            .sort_by
            .iter()
            .map(|text| sort_column(text))
            .collect();
        if let Some(newest) = newest
            .as_ref()
            .filter(|_| sort.is_empty() && config.z_order.is_empty())
        {
            // In some order they must be.
            sort = newest.key.iter().map(|name| sort_column(name)).collect();
        }
        let wanted = config.partition_by.as_deref();
        let partition_by = wanted.filter(|wanted| *wanted != partition_columns);
        if partition_by.is_some_and(|by| !by.is_empty()) && !config.z_order.is_empty() {
            // Rows are cut by partition first, and Z-ordered within a section.
            let what = "a table cannot be partitioned anew and Z-ordered in one run";
            return Err(
                Failure::usage(what).hint("partition it, then run again with the Z-order alone")
            );
        }
        let order = OrderSpec {
            cut: partition_by.map(<[String]>::to_vec).unwrap_or_default(),
            sort,
            z: config.z_order.clone(),
            newest,
        };
        let constant =
            |name: &str| partition_by.is_none() && partition_columns.iter().any(|own| own == name);
        let named = order.sort.iter().map(|column| &column.name).chain(&order.z);
        if let Some(name) = named.into_iter().find(|name| constant(name)) {
            return Err(Failure::usage(format!(
                "the table is partitioned by {name}: it is the same in all rows of a file"
            ))
            .hint("sort by other columns"));
        }
        Ok(Self {
            order,
            partition_by: partition_by.map(<[String]>::to_vec),
            target_bytes: target,
            small_bytes: config
                .smaller_than
                .map_or(target / 2, |small| small.as_u64()),
        })
    }

    /// Whether files are only joined.
    pub(super) fn joins(&self) -> bool {
        self.order == OrderSpec::default()
    }

    /// The order in words, as it stands in the log; empty where files are only
    /// joined.
    pub(super) fn text(&self) -> String {
        let mut parts = Vec::new();
        if !self.order.sort.is_empty() {
            let columns = self.order.sort.iter().map(|column| {
                let direction = if column.descending { " desc" } else { "" };
                format!("{}{direction}", column.name)
            });
            parts.push(format!(
                "sorted by {}",
                columns.collect::<Vec<_>>().join(", ")
            ));
        }
        if !self.order.z.is_empty() {
            parts.push(format!("z-ordered by {}", self.order.z.join(", ")));
        }
        if let Some(newest) = &self.order.newest {
            let key = newest.key.join(", ");
            parts.push(format!("newest {} by {key}", newest.version));
        }
        parts.join("; ")
    }

    /// The column that comes first, where there is one order of its values.
    pub(super) fn lead(&self) -> Option<&SortColumn> {
        self.order.sort.first()
    }
}

/// `name`, `name asc` or `name desc`.
fn sort_column(text: &str) -> SortColumn {
    let (name, descending) = match text.trim().rsplit_once(' ') {
        Some((name, word)) if word.eq_ignore_ascii_case("desc") => (name, true),
        Some((name, word)) if word.eq_ignore_ascii_case("asc") => (name, false),
        _ => (text, false),
    };
    SortColumn {
        name: name.trim().to_owned(),
        descending,
    }
}
