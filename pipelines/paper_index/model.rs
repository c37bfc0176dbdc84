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
    /// What it was called before names said which service a model is of, if it is one's.
    nameless: Option<String>,
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
        let (name, nameless, dimensions) = match &papers.endpoint {
            Some(endpoint) => {
                let (name, nameless) = names(endpoint);
                (name, nameless, endpoint.dimensions)
            }
            None => (minilm::name(), None, minilm::DIMENSIONS),
        };
        Self {
            name,
            nameless,
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

    /// What a table calls it of whose making the watermark says `reading`.
    ///
    /// Rows of before do not say which service made their vectors. The first run that comes
    /// takes them for its own, so that nothing is embedded again where nothing has changed,
    /// and has the watermark say so: to another service they are those of another model.
    pub(super) fn called(&self, reading: &str) -> Called {
        let says = |name: &str| reading.contains(&format!("; {name}; "));
        if let Some(nameless) = &self.nameless {
            let ours = format!("{nameless}, which is {}", self.name);
            let is_claimed = says(&ours);
            if is_claimed || says(nameless) {
                return Called {
                    rows: nameless.clone(),
                    watermark: ours,
                    is_to_be_claimed: !is_claimed,
                };
            }
        }
        Called {
            rows: self.name.clone(),
            watermark: self.name.clone(),
            is_to_be_claimed: false,
        }
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

/// What a table calls a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Called {
    /// The column `model` of its rows.
    pub(super) rows: String,
    /// The watermark, which also says of which service it is where rows do not.
    pub(super) watermark: String,
    /// Whether the watermark does not say so yet.
    pub(super) is_to_be_claimed: bool,
}

/// What a model of a service is called, and what it was called before that named the
/// service; where the configuration has a name, that and nothing else.
fn names(endpoint: &EndpointConfig) -> (String, Option<String>) {
    // Vectors of another length are those of another model.
    let of_length = |name: &str| format!("{name} ({} dimensions)", endpoint.dimensions);
    match &endpoint.name {
        Some(name) => (of_length(name), None),
        None => {
            let name = Endpoint::name_of(&endpoint.model, endpoint.url.expose());
            (of_length(&name), Some(of_length(&endpoint.model)))
        }
    }
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
        // What tables of before are called, and the cache of vectors.
        let before = model("https://b/v1", Some("small"));
        assert_eq!(before.name(), "small (3 dimensions)");
    }

    /// Guards the claim in `Model::called`: without it another service would take over what
    /// the first one has made.
    #[test]
    fn a_table_of_before_is_taken_over_by_one_service() {
        let (one, other) = (model("https://a/v1", None), model("https://b/v1", None));
        let before = "1: 9 characters; small (3 dimensions); [] []";
        let called = one.called(before);
        assert_eq!(called.rows, "small (3 dimensions)");
        assert!(called.is_to_be_claimed);
        let claimed = format!("1: 9 characters; {}; [] []", called.watermark);
        let again = one.called(&claimed);
        assert_eq!(again.rows, called.rows);
        assert!(!again.is_to_be_claimed);
        for reading in [
            claimed.as_str(),
            "",
            "1: 9 characters; tiny (3 dimensions); [] []",
        ] {
            let called = other.called(reading);
            assert_eq!(called.rows, other.name(), "{reading}");
            assert_eq!(called.watermark, other.name(), "{reading}");
            assert!(!called.is_to_be_claimed);
        }
        // Who has named it wants what is called so, and claims nothing.
        let named = model("https://b/v1", Some("small")).called(before);
        assert_eq!(named.rows, "small (3 dimensions)");
        assert_eq!(named.watermark, named.rows);
    }
}
