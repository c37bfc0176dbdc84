//! `[papers]` and `[instances]`: how `paper-index` makes documents vectors.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{duration, size};
use crate::run::secret::Secret;

/// What all instances share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PapersConfig {
    /// The folder of the model's files; the local cache when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_dir: Option<PathBuf>,
    /// A service that makes the vectors, in place of the model that is built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointConfig>,
    /// The greatest number of tokens of a chunk, without those that the model adds.
    #[schemars(range(min = 16))]
    pub chunk_tokens: usize,
    /// How many tokens of the end of a chunk the next one begins with, about.
    pub overlap_tokens: usize,
    /// What reads PDF.
    pub pdf: PdfReader,
    /// Larger documents are set aside.
    #[serde(with = "size::required")]
    #[schemars(with = "size::SizeText")]
    pub largest: ByteSize,
    /// Of longer texts only the beginning is taken, in characters.
    #[schemars(range(min = 1))]
    pub text_characters: usize,
    /// How long a document may take to become text.
    #[serde(with = "duration::required")]
    #[schemars(with = "duration::DurationText")]
    pub timeout: Duration,
    /// New vectors are written into the lake so often, whatever becomes of their
    /// documents: what a killed run has to embed again.
    #[serde(with = "duration::required")]
    #[schemars(with = "duration::DurationText")]
    pub keep_vectors_every: Duration,
    /// Processes that make text of documents; as many as workers when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extractors: Option<usize>,
    /// What each of them may take; found from the memory limit when absent.
    #[serde(with = "size::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<size::SizeText>")]
    pub extractor_memory: Option<ByteSize>,
}

impl Default for PapersConfig {
    fn default() -> Self {
        Self {
            model_dir: None,
            endpoint: None,
            chunk_tokens: 254,
            overlap_tokens: 32,
            pdf: PdfReader::default(),
            largest: ByteSize::mb(50),
            text_characters: 1_000_000,
            timeout: Duration::from_secs(300),
            keep_vectors_every: Duration::from_secs(10),
            extractors: None,
            extractor_memory: None,
        }
    }
}

/// What reads PDF.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PdfReader {
    /// What is built in.
    #[default]
    Builtin,
    /// The program `pdftotext`, which must be installed.
    Pdftotext,
}

/// A service with the interface of OpenAI's embeddings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// Its address, up to and with `/v1`.
    pub url: Secret,
    /// The model, by the name that the service knows.
    pub model: String,
    /// What its vectors are known by, and no longer by where the service is: for a model that
    /// moves to another address, or is served at several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The key; none is sent when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
    /// How many numbers a vector has.
    #[schemars(range(min = 1))]
    pub dimensions: usize,
    /// At most so many requests a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// At most so many tokens a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// What a million tokens cost, in any currency: for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_per_million_tokens: Option<f64>,
}

/// One source of documents, and where its vectors go.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InstanceConfig {
    /// URL of the documents: a folder or a bucket, as in `lake`; or, with a text column, a
    /// table of a lake (`table:` and its URL) or a database (`postgres://...`, `sqlite:...`).
    pub source: Secret,
    /// Options of the source's object store.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub source_store: BTreeMap<String, Secret>,
    /// Globs of documents to take; all when absent. `*` stands for any text, also with
    /// `/` in it.
    pub include: Vec<String>,
    /// Globs of documents to leave out; they win over `include`.
    pub exclude: Vec<String>,
    /// Of a database: the table, `schema.name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Of a table: the column that holds the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_column: Option<String>,
    /// Of a table: the columns that tell one row from another.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key_columns: Vec<String>,
    /// Larger documents of this instance are set aside; as in `[papers]` when absent.
    #[serde(with = "size::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<size::SizeText>")]
    pub largest: Option<ByteSize>,
    /// Of longer texts of this instance only the beginning is taken; as in `[papers]`
    /// when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_characters: Option<usize>,
    /// How long a document of this instance may take; as in `[papers]` when absent.
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<duration::DurationText>")]
    pub timeout: Option<Duration>,
    /// A Chroma server that gets the vectors, too: `http://host:8000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chroma: Option<Secret>,
    /// The token that the server wants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chroma_token: Option<Secret>,
    /// The collection; the instance's name when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    /// Under `schedule`: this instance is due only when its last run began so long ago;
    /// at each run when absent.
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<duration::DurationText>")]
    pub every: Option<Duration>,
}

impl InstanceConfig {
    /// What holds for this instance: what it says itself, else what all share.
    #[must_use]
    pub fn papers(&self, shared: &PapersConfig) -> PapersConfig {
        PapersConfig {
            largest: self.largest.unwrap_or(shared.largest),
            text_characters: self.text_characters.unwrap_or(shared.text_characters),
            timeout: self.timeout.unwrap_or(shared.timeout),
            ..shared.clone()
        }
    }
}
