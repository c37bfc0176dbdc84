//! The endpoint: how it is asked once, batches, rates, what was used.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use highwater::cancel::Cancel;
use highwater::run::Secret;
use highwater::store::pace::{Rate, RetryPolicy};
use http::Method;
use serde::Serialize;
use tokio::runtime::Handle;
use url::Url;

use super::answer::{Answer, Encoding};
use super::asking::{Asking, Told};
use super::vectors::Vectors;
use crate::service::{Connection, Credentials, HttpError, HttpErrorKind, JsonClient};

/// The most texts of a request, where nothing else is said.
const BATCH_TEXTS: usize = 128;

/// What a number of an answer takes while it is read: as Base64 or digits, as a list, in
/// its place, in bytes. An estimate.
const BYTES_OF_A_NUMBER: usize = 20;

/// How an endpoint is used.
#[derive(Debug, Clone)]
pub struct EndpointOptions {
    /// Where it is, `/v1` included where it has that: `https://api.example/v1`.
    pub base_url: String,
    /// The model's name there.
    pub model: String,
    /// What says who asks and pays.
    pub api_key: Option<Secret>,
    /// The length of the vectors; `None` takes that of the first answer.
    pub dimensions: Option<usize>,
    /// The most texts of a request.
    pub batch_texts: usize,
    /// The most tokens of a request of more than one text, as estimated from bytes.
    pub batch_tokens: usize,
    /// The most requests a minute.
    pub requests_per_minute: Option<u64>,
    /// The most tokens a minute.
    pub tokens_per_minute: Option<u64>,
    /// Whether vectors are brought to length 1.
    pub normalize: bool,
    /// How numbers arrive.
    pub encoding: Encoding,
    /// What a million tokens cost, in whatever currency.
    pub price_per_million_tokens: f64,
    /// How long one answer may take.
    pub timeout: Duration,
    /// How often a request is tried, and how soon again.
    pub retries: RetryPolicy,
}

impl EndpointOptions {
    /// What most services take, for this model.
    #[must_use]
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            api_key: None,
            dimensions: None,
            batch_texts: BATCH_TEXTS,
            batch_tokens: 64_000,
            requests_per_minute: None,
            tokens_per_minute: None,
            normalize: true,
            encoding: Encoding::Base64,
            price_per_million_tokens: 0.0,
            timeout: Duration::from_secs(120),
            // Limits are by the minute: a service that says no says so for as long.
            retries: RetryPolicy {
                attempts: 12,
                longest_pause: Duration::from_secs(20),
                ..RetryPolicy::default()
            },
        }
    }
}

/// Why there are no vectors.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EndpointError {
    /// The address is none.
    #[error("{url:?} is not the address of an endpoint: {why}; write https://host/v1")]
    Url {
        /// What was written, without secrets.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answers, or nothing of use for as long as was tried.
    #[error("no vectors of model {model:?} from {url}: {source}; run again when it answers")]
    Away {
        /// The endpoint.
        url: String,
        /// The model.
        model: String,
        /// The last failure.
        source: HttpError,
    },
    /// The key is not accepted.
    #[error("{url} refuses model {model:?}: {source}; check the key and what it may do")]
    Refused {
        /// The endpoint.
        url: String,
        /// The model.
        model: String,
        /// What it said.
        source: HttpError,
    },
    /// The request is not accepted.
    #[error(
        "{url} does not embed with model {model:?}: {source}; check the model's name and its limits"
    )]
    Rejected {
        /// The endpoint.
        url: String,
        /// The model.
        model: String,
        /// What it said.
        source: HttpError,
    },
    /// The vectors have another length than before, or than was said.
    #[error(
        "model {model:?} at {url} gives vectors of {found} numbers, not of {expected}: is it another model?"
    )]
    Dimensions {
        /// The endpoint.
        url: String,
        /// The model.
        model: String,
        /// The length so far.
        expected: usize,
        /// The length of what came.
        found: usize,
    },
    /// Nothing more is asked.
    #[error("the run was asked to end: not all texts have a vector")]
    Stopped,
}

impl EndpointError {
    /// Whether the same may go well later, without anybody's doing.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Stopped)
    }
}

/// What was used so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Requests that were answered, well or with what is of no use.
    pub requests: u64,
    /// Tokens of these, as the service counted them; where it does not say, estimated.
    pub tokens: u64,
    /// What they cost, by the price that was given.
    pub cost: f64,
}

/// An endpoint that embeds. To be shared between threads by `Arc`: they keep to the rates
/// together.
#[derive(Debug)]
pub struct Endpoint {
    options: EndpointOptions,
    /// Of the model, for those who keep vectors.
    name: String,
    http: JsonClient,
    runtime: Handle,
    requests: Option<Rate>,
    tokens: Option<Rate>,
    /// Tokens beyond what was estimated: who asks next waits for them, too.
    owed: AtomicU64,
    dimensions: OnceLock<usize>,
    used: Mutex<Usage>,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'static str,
}

/// Bytes of a token, at least, in most texts: estimates are rather too high.
const TOKEN_BYTES: usize = 3;

/// Host, port and path of an address.
fn place(base_url: &str) -> Option<String> {
    let url = Url::parse(base_url).ok()?;
    let (host, path) = (url.host_str()?, url.path().trim_end_matches('/'));
    Some(match url.port() {
        Some(port) => format!("{host}:{port}{path}"),
        None => format!("{host}{path}"),
    })
}

fn estimated_tokens(text: &str) -> usize {
    text.len().div_ceil(TOKEN_BYTES)
}

fn estimated(texts: &[&str]) -> u64 {
    let tokens = texts.iter().map(|text| estimated_tokens(text));
    tokens.sum::<usize>() as u64
}

impl Endpoint {
    /// Prepares to ask an endpoint; sends nothing. Requests run on `runtime`.
    ///
    /// # Errors
    /// [`EndpointError::Url`]; [`EndpointError::Rejected`] where the key is no header.
    pub fn new(options: EndpointOptions, runtime: Handle) -> Result<Self, EndpointError> {
        let url = |why: String| EndpointError::Url {
            url: Secret::new(options.base_url.as_str()).to_string(),
            why,
        };
        let base = Url::parse(&options.base_url).map_err(|error| url(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.query().is_some() {
            return Err(url("neither http nor https, or with a query".to_owned()));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(url("a key belongs into an option of its own".to_owned()));
        }
        let connection = Connection {
            base,
            credentials: options.api_key.clone().map(Credentials::Bearer),
            timeout: options.timeout,
        };
        let http = JsonClient::new(connection).map_err(|source| EndpointError::Rejected {
            url: options.base_url.clone(),
            model: options.model.clone(),
            source,
        })?;
        Ok(Self {
            name: Self::name_of(&options.model, &options.base_url),
            http,
            runtime,
            requests: options.requests_per_minute.map(Rate::per_minute),
            tokens: options.tokens_per_minute.map(Rate::per_minute),
            owed: AtomicU64::new(0),
            dimensions: options
                .dimensions
                .map_or_else(OnceLock::new, OnceLock::from),
            used: Mutex::default(),
            options,
        })
    }

    /// The length of the vectors, as far as it is known.
    #[must_use]
    pub fn dimensions(&self) -> Option<usize> {
        self.dimensions.get().copied()
    }

    /// The name of a model of the service at `base_url`, by which its vectors may be known:
    /// two services may have one name for two models. Of the address it says host, port and
    /// path, and nothing that may be secret; of what is none, nothing.
    #[must_use]
    pub fn name_of(model: &str, base_url: &str) -> String {
        match place(base_url) {
            Some(place) => format!("{model} at {place}"),
            None => model.to_owned(),
        }
    }

    /// The model and the service.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What was used so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What one request takes while its answer is read, for vectors of so many numbers, in
    /// bytes. An estimate, for requests of as many texts as [`EndpointOptions::new`] says.
    #[must_use]
    pub fn request_bytes(dimensions: usize) -> u64 {
        (BATCH_TEXTS * dimensions * BYTES_OF_A_NUMBER) as u64
    }

    /// A vector for each text, in their order. Blocks the thread: for threads that are
    /// not the runtime's own.
    ///
    /// # Errors
    /// [`EndpointError`], also where one text is refused; then there are no vectors.
    pub fn embed(&self, texts: &[&str]) -> Result<Vectors, EndpointError> {
        let until = Cancel::new();
        let mut asking = Asking::new(texts, &until);
        let mut vectors = Vectors::default();
        while let Some(told) = self.next(&mut asking)? {
            match told {
                Told::Made(more) => vectors.append(&more),
                Told::Refused(error) => return Err(self.failed(error)),
            }
        }
        vectors.took(asking.take_tokens());
        Ok(vectors)
    }

    /// What becomes of the next texts of a window. Blocks the thread, too.
    ///
    /// # Errors
    /// [`EndpointError`]; what was told before holds.
    pub(super) fn next(&self, asking: &mut Asking<'_>) -> Result<Option<Told>, EndpointError> {
        self.runtime.block_on(asking.next(self))
    }

    /// How a request is repeated.
    pub(super) fn retries(&self) -> RetryPolicy {
        self.options.retries
    }

    /// How many of the first texts make a batch.
    pub(super) fn batch(&self, texts: &[&str]) -> usize {
        let mut tokens = 0;
        let fits = texts
            .iter()
            .take(self.options.batch_texts)
            .take_while(|text| {
                tokens += estimated_tokens(text);
                tokens <= self.options.batch_tokens
            });
        fits.count().max(1)
    }

    /// Waits until the rates allow a request for these texts.
    pub(super) async fn turn(&self, texts: &[&str]) {
        if let Some(requests) = &self.requests {
            requests.take(1).await;
        }
        if let Some(tokens) = &self.tokens {
            let owed = self.owed.swap(0, Ordering::Relaxed);
            tokens.take(estimated(texts) + owed).await;
        }
    }

    /// Asks once. What the answer took is added to `tokens`: it is paid for, even if it is
    /// of no use.
    ///
    /// # Errors
    /// [`HttpError`].
    pub(super) async fn ask(&self, texts: &[&str], tokens: &mut u64) -> Result<Vectors, HttpError> {
        let request = Request {
            model: &self.options.model,
            input: texts,
            encoding_format: self.options.encoding.name(),
        };
        let body = serde_json::to_vec(&request)
            .map_err(|error| HttpError::new(HttpErrorKind::Unusable, error.to_string()))?;
        let sent = self
            .http
            .send(Method::POST, "embeddings", Bytes::from(body));
        let answer: Result<Answer, HttpError> = sent.await;
        if let Some(counted) = counted(&answer, estimated(texts)) {
            *tokens += counted;
            self.count(counted, estimated(texts));
        }
        let mut vectors = answer?.into_vectors(texts.len())?;
        if self.options.normalize {
            vectors.normalize()?;
        }
        Ok(vectors)
    }

    fn count(&self, tokens: u64, estimated: u64) {
        let beyond = tokens.saturating_sub(estimated);
        self.owed.fetch_add(beyond, Ordering::Relaxed);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.requests += 1;
        used.tokens += tokens;
        used.cost = used.tokens as f64 / 1e6 * self.options.price_per_million_tokens;
    }

    /// The same vectors, if they have the length that all have.
    ///
    /// # Errors
    /// [`EndpointError::Dimensions`].
    pub(super) fn of_one_length(&self, found: Vectors) -> Result<Vectors, EndpointError> {
        let expected = *self.dimensions.get_or_init(|| found.dimensions());
        if expected != found.dimensions() {
            return Err(EndpointError::Dimensions {
                url: self.options.base_url.clone(),
                model: self.options.model.clone(),
                expected,
                found: found.dimensions(),
            });
        }
        Ok(found)
    }

    /// What a failure means for all texts.
    pub(super) fn failed(&self, source: HttpError) -> EndpointError {
        let (url, model) = (self.options.base_url.clone(), self.options.model.clone());
        match source.kind {
            HttpErrorKind::Refused => EndpointError::Refused { url, model, source },
            _ if source.passes() => EndpointError::Away { url, model, source },
            _ => EndpointError::Rejected { url, model, source },
        }
    }
}

/// The tokens of an answer; `None` where there was none.
fn counted(answer: &Result<Answer, HttpError>, estimated: u64) -> Option<u64> {
    match answer {
        Ok(answer) => Some(answer.tokens().unwrap_or(estimated)),
        // An answer it was, but nobody can read what it took.
        Err(error) => (error.kind == HttpErrorKind::Nonsense).then_some(estimated),
    }
}
