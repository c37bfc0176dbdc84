//! The configuration of a run: plain nouns with defaults.
//!
//! Loading it from a file (environment, positions of errors) is in
//! [`load_config`](super::load_config); what must hold across fields is in
//! `check`.

mod check;
mod compact;
mod compression;
pub mod duration;
mod objects;
mod papers;
mod partition_by;
pub(crate) mod size;

use std::collections::BTreeMap;
use std::time::Duration;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use check::{MEMORY_FLOOR, Problem, check_memory};
pub use compact::{CompactCommit, CompactConfig, KeepNewest};
pub use compression::Compression;
pub use objects::{Against, Compare, ObjectsConfig, Percent};
pub use papers::{EndpointConfig, InstanceConfig, PapersConfig, PdfReader};
pub use partition_by::PartitionBy;

use super::secret::Secret;
use crate::dataset::TableName;
use crate::source::{Selection, TableOptions};
use crate::watermark::Mode;

/// Everything a run is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// URL of the source: `sqlite:path` or `postgres://user@host/database`; for
    /// `object-sync` a folder or bucket, as in `lake`. Relative paths start at the
    /// current directory. `lake-compact` needs none, nor does `paper-index` with
    /// `[instances]`.
    #[serde(default)]
    pub source: Secret,
    /// URL of the lake: `file:folder`, `s3://bucket/prefix`, `gs://...`, `az://...`.
    /// Relative paths start at the current directory. `object-sync` copies to it;
    /// there it may be called `target`.
    #[serde(alias = "target")]
    pub lake: String,
    /// How tables are kept unless a table says otherwise.
    #[serde(default = "default_mode")]
    pub mode: Mode,
    /// How a mirrored table's changes are found, unless a table says otherwise.
    #[serde(default)]
    pub method: MethodChoice,
    /// How often a mirrored table is compared with its source as a whole, unless
    /// a table says otherwise.
    #[serde(default)]
    pub reconcile: Reconcile,
    /// What happens when columns of the source have changed, unless a table says
    /// otherwise.
    #[serde(default)]
    pub schema: SchemaPolicy,
    /// How far the bound of a `cursor` stays below the oldest open transaction:
    /// what the clocks of a source may differ by, in seconds.
    #[serde(default = "default_cursor_margin_seconds")]
    pub cursor_margin_seconds: u64,
    /// Accepts once that the lake's tables came from another source: all rows are
    /// compared. Better given as `--accept-other-source`.
    #[serde(default)]
    pub accept_other_source: bool,
    /// When `schedule` runs.
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// What `prune` keeps.
    #[serde(default)]
    pub retention: RetentionConfig,
    /// Globs of tables to take (`orders`, `sales.*`); all when absent.
    #[serde(default)]
    pub include: Vec<String>,
    /// Globs of tables to leave out; they win over `include`.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Schemas to look into; all but the system's own when absent.
    #[serde(default)]
    pub schemas: Vec<String>,
    /// Worker threads; the number of cores when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// The memory limit of the whole process, for instance `"512MiB"`; from the
    /// cgroup or the machine when absent.
    #[serde(
        default,
        with = "size::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<size::SizeText>")]
    pub memory: Option<ByteSize>,
    /// What happens to a row that cannot be represented in the lake.
    #[serde(default)]
    pub on_bad_row: OnBadRow,
    /// When an epoch closes.
    #[serde(default)]
    pub epoch: EpochConfig,
    /// How Parquet files are written.
    #[serde(default)]
    pub files: FilesConfig,
    /// How `lake-compact` lays files out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact: Option<CompactConfig>,
    /// How `object-sync` copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<ObjectsConfig>,
    /// How `paper-index` makes documents vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub papers: Option<PapersConfig>,
    /// The instances of `paper-index`, by name; where there is none, `source` is one,
    /// called `documents`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub instances: BTreeMap<String, InstanceConfig>,
    /// Options of the lake's object store (`endpoint`, `region`, `access_key_id`, ...),
    /// by the names that `object_store` knows.
    #[serde(default, alias = "target_store")]
    pub store: BTreeMap<String, Secret>,
    /// The same for the source, where that is a bucket.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub source_store: BTreeMap<String, Secret>,
    /// Options of single tables, by `schema.name` or `name`.
    #[serde(default)]
    pub tables: BTreeMap<String, TableConfig>,
}

fn default_mode() -> Mode {
    Mode::Mirror
}

fn default_cursor_margin_seconds() -> u64 {
    1
}

/// How a mirrored table's changes are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MethodChoice {
    /// `cursor` where a cursor column is named and its conditions hold, else
    /// `xid` where the source can, else `diff`.
    #[default]
    Auto,
    /// As [`Method::Xid`].
    Xid,
    /// As [`Method::Cursor`]; a run whose conditions do not hold is refused.
    Cursor,
    /// As [`Method::Diff`].
    Diff,
}

/// How often a table is compared with its source as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reconcile {
    /// Only when something asks for it (a changed schema, another history).
    Never,
    /// In the first run after an hour.
    Hourly,
    /// In the first run after a day.
    #[default]
    Daily,
    /// In the first run after a week.
    Weekly,
    /// In every run.
    Always,
}

impl Reconcile {
    /// The age at which the last comparison is too old; `None` for never.
    #[must_use]
    pub fn period(self) -> Option<Duration> {
        const HOUR: u64 = 3600;
        let hours = match self {
            Self::Never => return None,
            Self::Hourly => 1,
            Self::Daily => 24,
            Self::Weekly => 7 * 24,
            Self::Always => 0,
        };
        Some(Duration::from_secs(hours * HOUR))
    }
}

/// What happens when columns of the source have changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchemaPolicy {
    /// New columns are added, dropped ones are kept as NULL; where a type has
    /// changed the table is written anew.
    #[default]
    Evolve,
    /// The table is not touched; the run ends with exit code 6.
    Freeze,
    /// The table is written anew with the source's columns.
    Rewrite,
}

/// When `schedule` runs. Exactly one of `every` and `cron`; see
/// [`schedule`](super::schedule) for what they promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// The time between the starts of two runs: `"15m"`, `"6h"`, `"30s"`. Counted
    /// from the start of 1970 in UTC, so that a restart shifts nothing.
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<duration::DurationText>")]
    pub every: Option<Duration>,
    /// A cron expression of five fields, or six with seconds first:
    /// `"0 2 * * *"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// The time zone of `cron`: `"Europe/Rome"`.
    pub time_zone: String,
    /// A run starts up to so much later than it is due, at random: `"30s"`.
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<duration::DurationText>")]
    pub jitter: Option<Duration>,
    /// What happens to runs that were missed.
    pub missed: Missed,
    /// How long a run may take to end after SIGTERM before it is abandoned.
    #[serde(with = "duration::required")]
    #[schemars(with = "duration::DurationText")]
    pub grace: Duration,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            every: None,
            cron: None,
            time_zone: "UTC".to_owned(),
            jitter: None,
            missed: Missed::default(),
            grace: Duration::from_secs(60),
        }
    }
}

/// What happens to runs that were missed: due while no daemon was running, while
/// the machine slept, or while the run before was still going.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// One run makes up for all of them, at once.
    #[default]
    Once,
    /// The next run is the next one that is due.
    Skip,
}

/// What `prune` keeps: a version goes when it is both older than `age` and not
/// among the newest `versions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// `"30d"`, `"12h"`.
    #[serde(with = "duration::required")]
    #[schemars(with = "duration::DurationText")]
    pub age: Duration,
    /// How many of the newest versions stay, however old.
    pub versions: u64,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            age: Duration::from_secs(30 * 86_400),
            versions: 10,
        }
    }
}

/// What happens to a row that cannot be represented in the lake.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRow {
    /// It is set aside in `_highwater/quarantine/`, counted, and the run ends
    /// with exit code 3.
    #[default]
    Quarantine,
    /// The run stops.
    Fail,
}

/// When an epoch closes: at whichever comes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EpochConfig {
    /// After so many bytes read from the source.
    #[serde(with = "size::required")]
    #[schemars(with = "size::SizeText")]
    pub bytes: ByteSize,
    /// After so many seconds.
    #[schemars(range(min = 1))]
    pub seconds: u64,
}

impl EpochConfig {
    /// How long an epoch lasts at most.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

impl Default for EpochConfig {
    fn default() -> Self {
        Self {
            bytes: ByteSize::gib(1),
            seconds: 60,
        }
    }
}

/// How Parquet files are written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FilesConfig {
    /// `zstd(1)` to `zstd(22)`, `zstd`, `lz4`, `snappy` or `none`.
    pub compression: Compression,
    /// The size a file should have; when absent 128 MiB, and in mirror mode less
    /// for tables that would fill few such files, so that a change rewrites a
    /// small part of them.
    #[serde(with = "size::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<size::SizeText>")]
    pub target: Option<ByteSize>,
    /// The size of a row group in memory; found from the memory limit when
    /// absent.
    #[serde(with = "size::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<size::SizeText>")]
    pub row_group: Option<ByteSize>,
}

/// What is different for one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TableConfig {
    /// How this table is kept; the top-level `mode` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Columns to take; all when absent.
    pub columns: Vec<String>,
    /// Columns to leave out.
    pub exclude_columns: Vec<String>,
    /// A condition in the source's own SQL that rows must meet.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Lake types by column, where the default is not wanted: `text`,
    /// `decimal(38,9)`, `double`.
    pub types: BTreeMap<String, String>,
    /// How changes are found; the top-level `method` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<MethodChoice>,
    /// How often the whole table is compared; the top-level one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconcile: Option<Reconcile>,
    /// What happens when columns have changed; the top-level one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaPolicy>,
    /// Keeps every version of every row in a second table, `<table>__history`.
    pub history: bool,
    /// In `append` mode: the column that only grows. In `mirror` mode: the column
    /// that the *server* stamps with the time of each change (`DEFAULT now()` and
    /// a trigger, not an application's clock).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Accepts that rows which commit late, with a cursor value below one that
    /// was read before, are lost.
    pub at_risk: bool,
    /// Hive partitions: `status`, `year(created_at)`, `month(...)`, `day(...)`.
    pub partition_by: Vec<PartitionBy>,
}

impl Config {
    /// A configuration of defaults for a source and a lake.
    pub fn new(source: Secret, lake: impl Into<String>) -> Self {
        Self {
            source,
            lake: lake.into(),
            mode: default_mode(),
            method: MethodChoice::default(),
            reconcile: Reconcile::default(),
            schema: SchemaPolicy::default(),
            cursor_margin_seconds: default_cursor_margin_seconds(),
            accept_other_source: false,
            schedule: ScheduleConfig::default(),
            retention: RetentionConfig::default(),
            include: Vec::new(),
            exclude: Vec::new(),
            schemas: Vec::new(),
            workers: None,
            memory: None,
            on_bad_row: OnBadRow::default(),
            epoch: EpochConfig::default(),
            files: FilesConfig::default(),
            compact: None,
            objects: None,
            papers: None,
            instances: BTreeMap::new(),
            store: BTreeMap::new(),
            source_store: BTreeMap::new(),
            tables: BTreeMap::new(),
        }
    }

    /// What is wanted of the source.
    #[must_use]
    pub fn selection(&self) -> Selection {
        Selection {
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            schemas: self.schemas.clone(),
            tables: self
                .tables
                .iter()
                .map(|(name, table)| (name.clone(), table.options()))
                .collect(),
        }
    }

    /// What is asked of one table: by full name, else by its own name. The same
    /// rule as [`Selection::options`].
    #[must_use]
    pub fn table(&self, name: &TableName) -> TableConfig {
        self.tables
            .get(&name.to_string())
            .or_else(|| self.tables.get(&name.name))
            .cloned()
            .unwrap_or_default()
    }

    /// How one table is kept.
    #[must_use]
    pub fn mode_of(&self, name: &TableName) -> Mode {
        self.table(name).mode.unwrap_or(self.mode)
    }

    /// `text` without any secret of this configuration.
    #[must_use]
    pub fn scrub(&self, text: &str) -> String {
        let mut clean = self.source.scrub(text);
        let stores = self.instances.values().flat_map(|one| &one.source_store);
        for (name, secret) in self.store.iter().chain(&self.source_store).chain(stores) {
            if names_a_secret(name) {
                clean = secret.scrub(&clean);
            }
        }
        let endpoint = self
            .papers
            .as_ref()
            .and_then(|papers| papers.endpoint.as_ref());
        let endpoint = endpoint
            .into_iter()
            .flat_map(|one| [Some(&one.url), one.key.as_ref()]);
        let instances = self.instances.values();
        let instances = instances.flat_map(|one| {
            [
                Some(&one.source),
                one.chroma.as_ref(),
                one.chroma_token.as_ref(),
            ]
        });
        for secret in endpoint.chain(instances).flatten() {
            clean = secret.scrub(&clean);
        }
        clean
    }
}

/// Whether a store option holds a secret, rather than a place such as `region`
/// or `endpoint`, which messages must be able to name.
fn names_a_secret(option: &str) -> bool {
    let option = option.to_ascii_lowercase();
    ["secret", "key", "token", "password", "credential", "sas"]
        .iter()
        .any(|word| option.contains(word))
}

impl TableConfig {
    fn options(&self) -> TableOptions {
        TableOptions {
            columns: self.columns.clone(),
            exclude_columns: self.exclude_columns.clone(),
            filter: self.filter.clone(),
            types: self.types.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(schema: Option<&str>, name: &str) -> TableName {
        TableName {
            schema: schema.map(str::to_owned),
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_table_is_found_by_full_name_before_its_own() {
        let mut config = Config::new("sqlite:x".into(), "file:lake");
        let by_name = TableConfig {
            mode: Some(Mode::Append),
            ..Default::default()
        };
        config.tables.insert("orders".into(), by_name);
        config
            .tables
            .insert("sales.orders".into(), TableConfig::default());
        assert_eq!(config.mode_of(&name(Some("sales"), "orders")), Mode::Mirror);
        assert_eq!(config.mode_of(&name(Some("old"), "orders")), Mode::Append);
        assert_eq!(config.mode_of(&name(None, "items")), Mode::Mirror);
    }

    #[test]
    fn selection_carries_what_sources_need() {
        let mut config = Config::new("sqlite:x".into(), "file:lake");
        config.exclude = vec!["tmp_*".into()];
        let orders = TableConfig {
            filter: Some("id > 3".into()),
            ..Default::default()
        };
        config.tables.insert("orders".into(), orders);
        let selection = config.selection();
        assert_eq!(selection.exclude, ["tmp_*"]);
        let options = selection.options(&name(None, "orders"));
        assert_eq!(options.filter.as_deref(), Some("id > 3"));
    }

    #[test]
    fn scrubbing_hides_keys_but_not_places() {
        let mut config = Config::new("postgres://a:canary@h/d".into(), "s3://b/l");
        config
            .store
            .insert("secret_access_key".into(), "hidden-thing".into());
        config.store.insert("region".into(), "eu-west-1".into());
        assert_eq!(
            config.scrub("canary, hidden-thing at eu-west-1"),
            "***, *** at eu-west-1"
        );
    }

    #[test]
    fn nothing_serialised_holds_a_secret() {
        let mut config = Config::new("postgres://a:canary@h/d".into(), "s3://b/l");
        config
            .store
            .insert("secret_access_key".into(), "hidden-thing".into());
        let json = serde_json::to_string(&config).unwrap();
        assert!(
            !json.contains("canary") && !json.contains("hidden"),
            "{json}"
        );
    }
}
