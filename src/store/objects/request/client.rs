//! Requests: addressed, signed, sent once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use object_store::client::{
    HttpClient, HttpConnector as _, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, ReqwestConnector,
};
use object_store::{ClientConfigKey, ClientOptions};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::super::{ObjectError, ObjectErrorKind, patience};
use super::failure::failure;
use super::signer::Signer;
use crate::store::cloud;
use crate::store::error::{StoreError, StoreErrorKind, without_queries};

/// What stands in an address as it is.
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const IN_PATH: &AsciiSet = &IN_QUERY.remove(b'/');

/// A key as it stands in an address.
pub(in super::super) fn encoded(key: &str) -> String {
    utf8_percent_encode(key, IN_PATH).to_string()
}

/// A text as it stands in a query.
pub(in super::super) fn in_query(text: &str) -> String {
    utf8_percent_encode(text, IN_QUERY).to_string()
}

/// Who sends requests to one bucket.
#[derive(Debug, Clone)]
pub(in super::super) struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    http: HttpClient,
    signer: Signer,
    /// The address of the bucket, without a slash at its end.
    bucket: String,
    url: String,
}

/// One request.
pub(in super::super) struct Ask<'a> {
    method: Method,
    full: &'a str,
    key: &'a str,
    doing: &'static str,
    query: String,
    headers: HeaderMap,
    body: Bytes,
    sha256: Option<[u8; 32]>,
    moved_bytes: u64,
}

impl<'a> Ask<'a> {
    pub(in super::super) fn new(
        method: Method,
        full: &'a str,
        key: &'a str,
        doing: &'static str,
    ) -> Self {
        Self {
            method,
            full,
            key,
            doing,
            query: String::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            sha256: None,
            moved_bytes: 0,
        }
    }

    pub(in super::super) fn query(mut self, name: &str, value: &str) -> Self {
        let separator = if self.query.is_empty() { '?' } else { '&' };
        self.query.push(separator);
        self.query.push_str(name);
        self.query.push('=');
        self.query.extend(utf8_percent_encode(value, IN_QUERY));
        self
    }

    pub(in super::super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        // What we write ourselves is always valid.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(in super::super) fn headers(mut self, headers: &HeaderMap) -> Self {
        self.headers.extend(
            headers
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        self
    }

    pub(in super::super) fn body(mut self, body: Bytes, sha256: Option<[u8; 32]>) -> Self {
        self.moved_bytes = body.len() as u64;
        self.body = body;
        self.sha256 = sha256;
        self
    }

    /// How many bytes the request moves, here or elsewhere: for its time-out.
    pub(in super::super) fn moving(mut self, bytes: u64) -> Self {
        self.moved_bytes = bytes;
        self
    }
}

/// An answer that is a success, its body not read yet.
pub(in super::super) struct Answer {
    response: HttpResponse,
    key: String,
    doing: String,
    patience: Duration,
}

impl Answer {
    pub(in super::super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    pub(in super::super) fn body(
        self,
    ) -> futures::stream::BoxStream<'static, Result<Bytes, ObjectError>> {
        let (key, doing) = (self.key, self.doing);
        let body = self.response.into_body().bytes_stream();
        body.map_err(move |error| broken(&error, &key, &doing))
            .boxed()
    }

    pub(in super::super) async fn text(self) -> Result<String, ObjectError> {
        let (key, doing, patience) = (self.key.clone(), self.doing.clone(), self.patience);
        let whole = self
            .body()
            .try_fold(Vec::new(), |mut all, chunk| async move {
                all.extend_from_slice(&chunk);
                Ok(all)
            });
        let whole = tokio::time::timeout(patience, whole).await;
        let whole = whole.map_err(|_| too_slow(&key, &doing, patience))??;
        Ok(String::from_utf8_lossy(&whole).into_owned())
    }
}

impl Client {
    /// A client of the bucket at an address. `told` says what was given or found of
    /// the options of its connections.
    pub(in super::super) fn new(
        url: &Url,
        address: &str,
        signer: Signer,
        told: impl Fn(ClientConfigKey) -> Option<String>,
    ) -> Result<Self, StoreError> {
        let http = ReqwestConnector::default().connect(&client_options(told));
        let http = http.map_err(|error| cannot_use(url, &error))?;
        Ok(Self {
            shared: Arc::new(Shared {
                http,
                signer,
                bucket: address.trim_end_matches('/').to_owned(),
                url: url.to_string(),
            }),
        })
    }

    /// Sends a request once. An answer that is no success is an error.
    pub(in super::super) async fn send(&self, ask: Ask<'_>) -> Result<Answer, ObjectError> {
        let patience = patience(ask.moved_bytes);
        let doing = match ask.key {
            "" => format!("{} {}", ask.doing, self.shared.url),
            key => format!("{} {key:?} of {}", ask.doing, self.shared.url),
        };
        let key = ask.key.to_owned();
        let sent = tokio::time::timeout(patience, self.exchange(ask, &key, &doing)).await;
        let response = sent.map_err(|_| too_slow(&key, &doing, patience))??;
        let answer = Answer {
            response,
            key,
            doing,
            patience,
        };
        if answer.response.status().is_success() {
            return Ok(answer);
        }
        let (status, headers) = (answer.response.status(), answer.headers().clone());
        let (key, doing) = (answer.key.clone(), answer.doing.clone());
        let text = answer.text().await.unwrap_or_default();
        Err(failure(status, &headers, &text, &key, &doing))
    }

    async fn exchange(
        &self,
        ask: Ask<'_>,
        key: &str,
        doing: &str,
    ) -> Result<HttpResponse, ObjectError> {
        let failed =
            |kind, what: String| ObjectError::new(kind, key, format!("cannot {doing}: {what}"));
        let path = utf8_percent_encode(ask.full, IN_PATH);
        let slash = if ask.full.is_empty() { "" } else { "/" };
        let address = format!("{}{slash}{path}{}", self.shared.bucket, ask.query);
        let length = ask.body.len();
        let with_body = ask.method == Method::PUT || ask.method == Method::POST;
        let mut request: HttpRequest = http::Request::builder()
            .method(ask.method)
            .uri(address)
            .body(HttpRequestBody::from(ask.body))
            .map_err(|error| failed(ObjectErrorKind::Impossible, error.to_string()))?;
        *request.headers_mut() = ask.headers;
        if with_body {
            request
                .headers_mut()
                .insert(http::header::CONTENT_LENGTH, length.into());
        }
        let signed = self.shared.signer.sign(&mut request, ask.sha256, key).await;
        signed?;
        let sent = self.shared.http.execute(request).await;
        sent.map_err(|error| broken(&error, key, doing))
    }
}

/// Says that a place cannot be opened with what was given.
pub(in super::super) fn cannot_use(url: &Url, error: &object_store::Error) -> StoreError {
    let what = format!("cannot use {url}: {}", without_queries(&error.to_string()));
    StoreError::new(StoreErrorKind::Usage, what)
}

/// The options of the HTTP client, as they were given or found.
fn client_options(told: impl Fn(ClientConfigKey) -> Option<String>) -> ClientOptions {
    let keys = cloud::HTTP
        .iter()
        .filter(|key| !["timeout", "read_timeout"].contains(key))
        .filter_map(|key| key.parse::<ClientConfigKey>().ok());
    let options = keys.fold(ClientOptions::new(), |options, key| match told(key) {
        Some(value) => options.with_config(key, value),
        None => options,
    });
    // Each request has a time-out of its own, by what it moves.
    options.with_timeout_disabled()
}

fn too_slow(key: &str, doing: &str, after: Duration) -> ObjectError {
    let what = format!("cannot {doing}: no answer within {} s", after.as_secs());
    ObjectError::new(ObjectErrorKind::Slow, key, what)
}

fn broken(error: &HttpError, key: &str, doing: &str) -> ObjectError {
    let kind = match error.kind() {
        HttpErrorKind::Timeout => ObjectErrorKind::Slow,
        HttpErrorKind::Unknown
        | HttpErrorKind::Connect
        | HttpErrorKind::Request
        | HttpErrorKind::Interrupted
        | HttpErrorKind::Decode => ObjectErrorKind::Broken,
        _ => ObjectErrorKind::Failed,
    };
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let part = next.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = next.source();
    }
    let text = without_queries(&text);
    // A certificate or a scheme that is refused is refused every time.
    let kind = match text.contains("URL scheme is not allowed") || text.contains("certificate") {
        true => ObjectErrorKind::NoSuchPlace,
        false => kind,
    };
    let why = match error.kind() {
        HttpErrorKind::Connect => "the store cannot be reached: ",
        _ => "",
    };
    ObjectError::new(kind, key, format!("cannot {doing}: {why}{text}"))
}
