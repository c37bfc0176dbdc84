//! Requests: addressed, signed, sent once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{
    HttpClient, HttpConnector as _, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, ReqwestConnector,
};
use object_store::{ClientConfigKey, ClientOptions};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::super::{ObjectError, ObjectErrorKind, patience};
use super::answer::failure;
use super::is_done;
use crate::store::cloud;
use crate::store::error::{StoreError, StoreErrorKind, without_queries};

/// What stands in an address as it is.
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const IN_PATH: &AsciiSet = &IN_QUERY.remove(b'/');

/// Options that would have to be kept by every request, and are not yet.
const NOT_KEPT: &[&str] = &[
    "server_side_encryption",
    "sse_kms_key_id",
    "sse_bucket_key_enabled",
    "sse_customer_key_base64",
    "s3_express",
    "checksum_algorithm",
];

/// A key as it stands in an address.
pub(super) fn encoded(key: &str) -> String {
    utf8_percent_encode(key, IN_PATH).to_string()
}

/// A text as it stands in a query.
pub(super) fn in_query(text: &str) -> String {
    utf8_percent_encode(text, IN_QUERY).to_string()
}

/// Who sends requests to one bucket.
#[derive(Debug, Clone)]
pub(super) struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    http: HttpClient,
    credentials: Option<AwsCredentialProvider>,
    region: String,
    endpoint: String,
    /// The address of the bucket, without a slash at its end.
    bucket: String,
    user: String,
    sign_payload: bool,
    request_payer: bool,
    url: String,
}

/// One request.
pub(super) struct Ask<'a> {
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
    pub(super) fn new(method: Method, full: &'a str, key: &'a str, doing: &'static str) -> Self {
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

    pub(super) fn query(mut self, name: &str, value: &str) -> Self {
        let separator = if self.query.is_empty() { '?' } else { '&' };
        self.query.push(separator);
        self.query.push_str(name);
        self.query.push('=');
        self.query.extend(utf8_percent_encode(value, IN_QUERY));
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        // What we write ourselves is always valid.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(super) fn headers(mut self, headers: &HeaderMap) -> Self {
        self.headers.extend(
            headers
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        self
    }

    pub(super) fn body(mut self, body: Bytes, sha256: Option<[u8; 32]>) -> Self {
        self.moved_bytes = body.len() as u64;
        self.body = body;
        self.sha256 = sha256;
        self
    }

    /// How many bytes the request moves, here or elsewhere: for its time-out.
    pub(super) fn moving(mut self, bytes: u64) -> Self {
        self.moved_bytes = bytes;
        self
    }
}

/// An answer that is a success, its body not read yet.
pub(super) struct Answer {
    response: HttpResponse,
    key: String,
    doing: String,
    patience: Duration,
}

impl Answer {
    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    pub(super) fn body(self) -> futures::stream::BoxStream<'static, Result<Bytes, ObjectError>> {
        let (key, doing) = (self.key, self.doing);
        let body = self.response.into_body().bytes_stream();
        body.map_err(move |error| broken(&error, &key, &doing))
            .boxed()
    }

    pub(super) async fn text(self) -> Result<String, ObjectError> {
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

fn usage(message: String) -> StoreError {
    StoreError::new(StoreErrorKind::Usage, message)
}

impl Client {
    pub(super) fn open(url: &Url, options: &BTreeMap<String, String>) -> Result<Self, StoreError> {
        if let Some(option) = NOT_KEPT.iter().find(|name| options.contains_key(**name)) {
            let what = format!("option `{option}` is not known to object-sync; leave it out");
            return Err(usage(what));
        }
        let bucket = url.host_str().unwrap_or_default();
        let builder = cloud::s3_builder(options)?.with_bucket_name(bucket);
        let told = |key| builder.get_config_value(&key);
        let is_set = |key| told(key).as_deref() == Some("true");
        let region = told(AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_owned());
        let endpoint = told(AmazonS3ConfigKey::S3Endpoint).or(told(AmazonS3ConfigKey::Endpoint));
        let virtual_hosted = is_set(AmazonS3ConfigKey::VirtualHostedStyleRequest);
        let endpoint_or = |or: String| endpoint.clone().unwrap_or(or);
        let address = match virtual_hosted {
            // An endpoint for it already names the bucket.
            true => endpoint_or(format!("https://{bucket}.s3.{region}.amazonaws.com")),
            false => format!(
                "{}/{bucket}",
                endpoint_or(format!("https://s3.{region}.amazonaws.com")).trim_end_matches('/')
            ),
        };
        let skip = is_set(AmazonS3ConfigKey::SkipSignature);
        let user = told(AmazonS3ConfigKey::AccessKeyId).unwrap_or_default();
        let sign_payload = !is_set(AmazonS3ConfigKey::UnsignedPayload);
        let request_payer = is_set(AmazonS3ConfigKey::RequestPayer);
        let failed = |error: object_store::Error| {
            usage(format!(
                "cannot use {url}: {}",
                without_queries(&error.to_string())
            ))
        };
        let http = ReqwestConnector::default()
            .connect(&client_options(&builder))
            .map_err(failed)?;
        // It only fetches credentials: without need it need not read certificates.
        let known = told(AmazonS3ConfigKey::SecretAccessKey).is_some();
        let none = AmazonS3ConfigKey::Client(ClientConfigKey::NoSystemCertificates);
        let builder = match known {
            true => builder.with_config(none, "true"),
            false => builder,
        };
        let store = builder.build().map_err(failed)?;
        Ok(Self {
            shared: Arc::new(Shared {
                http,
                credentials: (!skip).then(|| Arc::clone(store.credentials())),
                region,
                endpoint: endpoint.unwrap_or_default(),
                bucket: address.trim_end_matches('/').to_owned(),
                user,
                sign_payload,
                request_payer,
                url: url.to_string(),
            }),
        })
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.shared.endpoint
    }

    pub(super) fn user(&self) -> &str {
        &self.shared.user
    }

    /// Sends a request once. An answer that is no success is an error.
    pub(super) async fn send(&self, ask: Ask<'_>) -> Result<Answer, ObjectError> {
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
        if is_done(answer.response.status()) {
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
        let sha256 = match ask.sha256 {
            _ if !self.shared.sign_payload || ask.body.is_empty() => None,
            Some(known) => Some(known),
            None => Some(Sha256::digest(&ask.body).into()),
        };
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
        if let Some(credentials) = &self.shared.credentials {
            let credential = credentials.get_credential().await;
            let credential = credential
                .map_err(|error| ObjectError::from_object_store(&error, key, "get credentials"))?;
            AwsAuthorizer::new(&credential, "s3", &self.shared.region)
                .with_sign_payload(self.shared.sign_payload)
                .with_request_payer(self.shared.request_payer)
                .try_authorize(&mut request, sha256.as_ref().map(<[u8; 32]>::as_slice))
                .map_err(|error| failed(ObjectErrorKind::Failed, error.to_string()))?;
        }
        let sent = self.shared.http.execute(request).await;
        sent.map_err(|error| broken(&error, key, doing))
    }
}

/// The options of the HTTP client, as they were given or found.
fn client_options(builder: &AmazonS3Builder) -> ClientOptions {
    let keys = cloud::HTTP
        .iter()
        .filter(|key| !["timeout", "read_timeout"].contains(key))
        .filter_map(|key| key.parse::<ClientConfigKey>().ok());
    let options = keys.fold(ClientOptions::new(), |options, key| {
        let value = builder.get_config_value(&AmazonS3ConfigKey::Client(key));
        match value {
            Some(value) => options.with_config(key, value),
            None => options,
        }
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
