//! What makes vectors: the model that is built in, or a service.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use highwater::app::{Answer, Exit, Failure, Given, RunContext};
use highwater::run::config::{EndpointConfig, PapersConfig, PdfReader};
use highwater_operators::embed::endpoint::{Endpoint, EndpointOptions};
use highwater_operators::embed::{Embedder, MiniLm, ModelError, ModelFiles, minilm, pull};
use highwater_operators::transform::chunk::TokenCounter;
use highwater_operators::transform::extract::{ExtractOptions, Extractors, Limits, PdfBackend};
use serde_json::json;

use super::memory::Memory;

/// What counts tokens, for all workers.
pub(super) type Tokens = Arc<dyn TokenCounter + Send + Sync>;

/// A model that is opened when it is needed: reading and checking its files takes time.
pub(super) struct Model {
    name: String,
    dimensions: usize,
    model_dir: Option<PathBuf>,
    endpoint: Option<EndpointConfig>,
    opened: Mutex<Option<Opened>>,
}

#[derive(Clone)]
struct Opened {
    embedder: Arc<dyn Embedder>,
    tokens: Tokens,
}

impl Model {
    /// The model that a configuration names.
    pub(super) fn of(papers: &PapersConfig) -> Self {
        let (name, dimensions) = match &papers.endpoint {
            Some(endpoint) => (name_of(endpoint), endpoint.dimensions),
            None => (minilm::name(), minilm::DIMENSIONS),
        };
        Self {
            name,
            dimensions,
            model_dir: papers.model_dir.clone(),
            endpoint: papers.endpoint.clone(),
            opened: Mutex::default(),
        }
    }

    /// Its name: vectors of one name may be compared with each other.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How many numbers a vector has.
    pub(super) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// What makes vectors.
    ///
    /// # Errors
    /// The model's files are not there, or not the published ones.
    pub(super) fn embedder(&self, context: &RunContext) -> Result<Arc<dyn Embedder>, Failure> {
        Ok(self.open(context)?.embedder)
    }

    /// What counts tokens.
    ///
    /// # Errors
    /// As for [`Model::embedder`].
    pub(super) fn tokens(&self, context: &RunContext) -> Result<Tokens, Failure> {
        Ok(self.open(context)?.tokens)
    }

    /// The vector of a few words.
    ///
    /// # Errors
    /// As for [`Model::embedder`]; they cannot be embedded.
    pub(super) fn embed_one(&self, words: &str, context: &RunContext) -> Result<Vec<f32>, Failure> {
        let embedded = self.embedder(context)?.embed(&[words]);
        let embedded = embedded.map_err(|error| match error.passes() {
            true => Failure::retry(error.to_string()),
            false => Failure::failed(error.to_string()),
        })?;
        Ok(embedded.vectors)
    }

    /// What so many tokens cost, where it is known.
    pub(super) fn cost(&self, tokens: u64) -> Option<f64> {
        let price = self.endpoint.as_ref()?.price_per_million_tokens?;
        Some(price * tokens as f64 / 1e6)
    }

    fn open(&self, context: &RunContext) -> Result<Opened, Failure> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = &*opened {
            return Ok(opened.clone());
        }
        let new = match &self.endpoint {
            Some(endpoint) => open_endpoint(endpoint, context)?,
            None => open_minilm(self.model_dir.as_deref())?,
        };
        Ok(opened.insert(new).clone())
    }
}

/// The name of a model of a service: which model of which service, unless the configuration
/// has a name for it.
fn name_of(endpoint: &EndpointConfig) -> String {
    let name = match &endpoint.name {
        Some(name) => name.clone(),
        None => Endpoint::name_of(&endpoint.model, endpoint.url.expose()),
    };
    // Vectors of another length are those of another model.
    format!("{name} ({} dimensions)", endpoint.dimensions)
}

fn open_minilm(model_dir: Option<&Path>) -> Result<Opened, Failure> {
    let files = ModelFiles::find(model_dir).map_err(|error| no_model(&error))?;
    let model = Arc::new(MiniLm::open(&files).map_err(|error| no_model(&error))?);
    Ok(Opened {
        tokens: Arc::new(model.tokens().clone()),
        embedder: model,
    })
}

fn no_model(error: &ModelError) -> Failure {
    Failure::usage(error.to_string()).hint(
        "`paper-index model pull` fetches the files; --model-dir names a folder that has them",
    )
}

fn open_endpoint(config: &EndpointConfig, context: &RunContext) -> Result<Opened, Failure> {
    let options = EndpointOptions {
        api_key: config.key.clone(),
        dimensions: Some(config.dimensions),
        requests_per_minute: config.requests_per_minute,
        tokens_per_minute: config.tokens_per_minute,
        price_per_million_tokens: config.price_per_million_tokens.unwrap_or(0.0),
        ..EndpointOptions::new(config.url.expose(), &config.model)
    };
    let endpoint = Endpoint::new(options, context.runtime.clone());
    let endpoint = endpoint.map_err(|error| Failure::usage(error.to_string()))?;
    Ok(Opened {
        embedder: Arc::new(endpoint),
        tokens: Arc::new(About),
    })
}

/// Tokens of a model whose tokenizer is elsewhere: rather too many than too few.
struct About;

impl TokenCounter for About {
    fn count(&self, text: &str) -> usize {
        text.len().div_ceil(3)
    }
}

/// What reads PDF.
pub(super) fn pdf_backend(reader: PdfReader) -> PdfBackend {
    match reader {
        PdfReader::Builtin => PdfBackend::Embedded,
        PdfReader::Pdftotext => PdfBackend::Pdftotext,
    }
}

/// What makes text of documents.
///
/// # Errors
/// This program does not know where it is.
pub(super) fn extractors(papers: &PapersConfig, memory: &Memory) -> Result<Extractors, Failure> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::failed("cannot find this program, to start it anew").caused_by(&error)
    })?;
    let options = ExtractOptions {
        children: memory.extractors,
        limits: limits(papers, memory),
        pdf: pdf_backend(papers.pdf),
    };
    Ok(Extractors::new(program, options))
}

/// What one document may cost: what the user says, and no more than a worker has memory
/// for.
pub(super) fn limits(papers: &PapersConfig, memory: &Memory) -> Limits {
    Limits {
        file_bytes: papers.largest.as_u64().min(memory.ahead_bytes),
        text_characters: papers.text_characters,
        time: papers.timeout,
        memory_bytes: memory.extractor_bytes,
        ..Limits::default()
    }
}

/// Answers `model pull` and `model check`.
///
/// # Errors
/// The files cannot be fetched, or are not the published ones.
pub(super) fn manage(given: &Given, context: &RunContext) -> Result<Answer, Failure> {
    let folder = given.one("model-dir").map(PathBuf::from);
    let what = given.one("what").unwrap_or_default();
    let files = match what {
        "pull" => context.runtime.block_on(pull::pull(folder.as_deref())),
        "check" => ModelFiles::find(folder.as_deref()),
        other => {
            let what = format!("model {other}: there is no such thing");
            return Err(Failure::usage(what).hint("write `model pull` or `model check`"));
        }
    };
    let files = files.map_err(|error| no_model(&error))?;
    files.check().map_err(|error| no_model(&error))?;
    let folder = files.directory().display();
    Ok(Answer {
        text: format!(
            "{}: the files in {folder} are the published ones\n",
            minilm::name()
        ),
        json: json!({"model": minilm::name(), "directory": folder.to_string()}),
        exit: Exit::Done,
    })
}

#[cfg(test)]
mod tests {
    use highwater::run::Secret;

    use super::*;

    fn model(url: &str, name: Option<&str>) -> Model {
        Model::of(&PapersConfig {
            endpoint: Some(EndpointConfig {
                url: Secret::new(url),
                model: "small".to_owned(),
                name: name.map(str::to_owned),
                key: None,
                dimensions: 3,
                requests_per_minute: None,
                tokens_per_minute: None,
                price_per_million_tokens: None,
            }),
            ..PapersConfig::default()
        })
    }

    #[test]
    fn a_name_says_whose_model_it_is_unless_it_has_a_name_of_its_own() {
        let (one, other) = (model("https://a/v1", None), model("https://b/v1", None));
        assert_eq!(one.name(), "small at a/v1 (3 dimensions)");
        assert_ne!(one.name(), other.name());
        let moved = model("https://b/v1", Some("small at a/v1"));
        assert_eq!(moved.name(), one.name());
        // For vectors that are called by the model alone, as docs/papers.md says.
        let alone = model("https://b/v1", Some("small"));
        assert_eq!(alone.name(), "small (3 dimensions)");
    }
}
